"""The state of an unfinished training on disk, from which the same command goes on to the same run.

It holds everything that the next step depends on: weights, optimizer, loss scaling, averages of weights, sums of the
open epoch, the schedule that follows the validation, early stopping, the weights that are kept so far, random state,
and the place in the epoch. Order, crops and augmentation are drawn from (seed, epoch, place), so a place is enough for
them. On a CPU the run is equal to that of an undisturbed training to the last bit.

Tensors are in safetensors and the rest in JSON; the folder is replaced as a whole, so that a state that was being
written when the process was killed leaves the one before.
"""

import hashlib
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from birdnet_fs import __version__, schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import describe_os_error, write_json
from birdnet_fs.core.folders import atomic_folder
from birdnet_fs.core.json_file import read_json
from birdnet_fs.core.progress import say
from birdnet_fs.core.settings import flat
from birdnet_fs.core.text import escaped
from birdnet_fs.data.partition import Partition
from birdnet_fs.runs.history import Row, Weights
from birdnet_fs.runs.inputs import clips_digest
from birdnet_fs.runs.resolve import comparable
from birdnet_fs.runs.run import UNFINISHED
from birdnet_fs.training.training_state import TrainingState

STATE = f"{UNFINISHED}/state"  # folder in a run folder
TENSORS, FACTS = "tensors.safetensors", "state.json"
FORMAT = 1
EVERY_S = 60.0  # shortest time between two states that are written without a signal
MOST_TIME = 0.05  # share of the time that writing them may take
REMEDY = "give another folder with -o, or delete it to start anew"


@dataclass
class EpochProgress:
    """Where the loop over epochs is, beside the state of the network.

    Attributes:
        best: Largest monitored value so far.
        n_waited: Epochs since.
        n_undefined: Epochs in which it was undefined.
        stopped: Whether the training stops early.
        open_row: Row of the epoch whose steps are done and whose validation is not; None else.
        seconds: Time spent in earlier processes.
        kept: Weights that are kept so far; {} before there are any.
        history: Rows of all finished epochs.
    """

    best: float = -math.inf
    n_waited: int = 0
    n_undefined: int = 0
    stopped: bool = False
    open_row: Row | None = None
    seconds: float = 0.0
    kept: Weights = field(default_factory=dict)
    history: list[Row] = field(default_factory=list)


class ResumeState:
    """Writes and reads the state of one training.

    Args:
        folder: Folder of the state, STATE in the run folder.
        identity: What the training depends on, as JSON; a state of another one is refused by the names of its keys.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self.folder, self.identity = folder, dict(identity)
        self._saved, self._took, self._failed = time.monotonic(), 0.0, False

    def exists(self) -> bool:
        """Whether there is a state."""
        return (self.folder / FACTS).is_file()

    def history(self) -> list[Row]:
        """Rows of the epochs that an earlier process has finished; a UserError says that the state is damaged."""
        if not self.exists():
            return []
        try:
            return [_with_nan(row) for row in self._facts()["history"]]
        except (KeyError, TypeError, AttributeError) as error:
            raise self._damaged(str(error)) from None

    def maybe_save(self, state: TrainingState, progress: EpochProgress) -> None:
        """Save at the end of a batch or an epoch, unless the last time is too short ago."""
        if time.monotonic() - self._saved >= max(EVERY_S, self._took / MOST_TIME):
            self.save(state, progress)

    def save(self, state: TrainingState, progress: EpochProgress) -> None:
        """Save between two steps; an error of the file system is reported once and stops nothing.

        Args:
            state: State of the network and its optimizer.
            progress: Place in the epochs.
        """
        started = time.monotonic()
        tensors, facts = _collected(state, progress)
        try:
            with atomic_folder(self.folder) as part:
                from safetensors.torch import save

                (part / TENSORS).write_bytes(save(tensors))
                write_json(part / FACTS, {"format": FORMAT, "identity": self.identity, **facts})
        except OSError as error:
            if not self._failed:
                say(
                    f"The state of the training could not be written to {escaped(self.folder)} "
                    f"({describe_os_error(error)}); training continues, and starts anew if it is stopped now."
                )
            self._failed = True
        self._saved = time.monotonic()
        self._took = self._saved - started

    def check(self) -> bool:
        """Check that a state, if there is one, is that of this training, before anything is decoded.

        Returns:
            Whether there is one.

        Raises:
            UserError: It is damaged, of another version, or of a training with other settings or recordings.
        """
        if not self.exists():
            return False
        facts = self._facts()
        found = facts["identity"]
        other = [key for key in {**self.identity, **found} if found.get(key) != self.identity.get(key)]
        if other:
            shown = ", ".join(
                f"{key}={_short(found.get(key))}, not {_short(self.identity.get(key))}" for key in sorted(other)[:3]
            )
            more = f" and {len(other) - 3} more" if len(other) > 3 else ""
            raise UserError(f"{escaped(self.folder)} holds the state of another training ({shown}{more}); {REMEDY}.")
        return True

    def load(self, state: TrainingState) -> EpochProgress | None:
        """Load the state into a network and its optimizer, before the first step.

        Args:
            state: A new state of the same training.

        Returns:
            The place in the epochs; None where there is no state.

        Raises:
            UserError: As `check`.
        """
        if not self.check():
            return None
        try:
            from safetensors.torch import load

            tensors = load((self.folder / TENSORS).read_bytes())
            return _restored(state, tensors, self._facts())
        except UserError:
            raise
        except OSError as error:
            raise self._damaged(describe_os_error(error)) from None
        except Exception as error:  # the reader of safetensors has errors of its own
            raise self._damaged(f"{type(error).__name__}: {error}") from None

    def _facts(self) -> dict[str, Any]:
        facts: Any = read_json(self.folder / FACTS, REMEDY)
        if not isinstance(facts, dict) or not isinstance(facts.get("identity"), dict):
            raise self._damaged("state.json has another form")
        if facts.get("format") != FORMAT:
            raise UserError(f"{escaped(self.folder)} was written by another version of birdnet_fs; {REMEDY}.")
        return facts

    def _damaged(self, why: str) -> UserError:
        return UserError(f"{escaped(self.folder)} holds a damaged state of a training ({escaped(why)}); {REMEDY}.")


def training_identity(
    experiment: schema.Experiment, parts: Partition, made_from: Mapping[str, Any], generation: int
) -> dict[str, str]:
    """What the weights of a training depend on, by name.

    Args:
        experiment: The resolved settings.
        parts: The divided clips.
        made_from: Recordings and other inputs, from `inputs.training_inputs`.
        generation: Number of generations before it in self-distillation.

    Returns:
        Settings by their keys, hashes of clips and recordings, and the version of the package.
    """
    found = {key: str(value) for key, value in flat(comparable(experiment)).items()}
    inputs = json.dumps(made_from, sort_keys=True).encode()
    return {
        **found,
        "generation": str(generation),
        "labels and splits": clips_digest(parts),
        "recordings": hashlib.sha256(inputs).hexdigest(),
        "birdnet_fs": __version__,
    }


def _collected(state: TrainingState, progress: EpochProgress) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Everything the next step depends on, as tensors and JSON."""
    lists = {
        "weight": [v.value for v in state.model.weights],
        "own": list(state.parameters[state.n_model_parameters :]),
        "average": state.average,
        "swa": state.swa.tensors if state.average is not state.swa.tensors else [],
        "gradient": [p.grad for p in state.parameters] if state.in_accumulation else [],
    }
    tensors = {
        f"{name}/{i}": _stored(tensor)
        for name, found in lists.items()
        for i, tensor in enumerate(found)
        if tensor is not None
    }
    numbers: dict[str, dict[str, Any]] = {}
    for index, values in state.optimizer.state_dict()["state"].items():
        for key, value in values.items():
            if isinstance(value, torch.Tensor):
                tensors[f"optimizer/{index}/{key}"] = _stored(value)
            else:
                numbers.setdefault(str(index), {})[key] = value
    for name, weights in (("last_good", state.last_good), ("kept", progress.kept)):
        tensors |= {f"{name}/{path}": torch.from_numpy(np.array(value, order="C")) for path, value in weights.items()}
    tensors["random/cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors |= {f"random/cuda/{i}": found for i, found in enumerate(torch.cuda.get_rng_state_all())}
    sums, n_sums = state.objective.distillation.open_sums() if state.objective.distillation else ({}, 0)
    tensors |= {f"sum/{name}": _stored(value) for name, value in sums.items()}
    if (counts := state.accuracy.open_counts()) is not None:
        tensors["counts"] = _stored(counts)
    facts = {
        "weights": [v.path for v in state.model.weights],
        "n_steps": state.n_steps,
        "n_epochs": state.n_epochs,
        "skipped": state.skipped,
        "rate": state.rate,
        "losses": state.losses,
        "scaler": state.scaler.state_dict(),
        "optimizer": numbers,
        "swa": state.swa.n,
        "plateau": [state.plateau.scale, _finite(state.plateau.best), state.plateau.n_waited],
        "sums": n_sums,
        "ranges": state.ranges.n_seen() if state.ranges else [],
        "best": _finite(progress.best),
        "n_waited": progress.n_waited,
        "n_undefined": progress.n_undefined,
        "stopped": progress.stopped,
        "open_row": _without_nan(progress.open_row),
        "seconds": progress.seconds,
        "history": [_without_nan(row) for row in progress.history],
    }
    return tensors, facts


def _restored(state: TrainingState, tensors: dict[str, torch.Tensor], facts: Mapping[str, Any]) -> EpochProgress:
    """Set a new state to the stored one."""
    history = [_with_nan(row) for row in facts["history"]]
    state.n_steps, state.n_epochs = int(facts["n_steps"]), int(facts["n_epochs"])
    open_row = None if facts["open_row"] is None else _with_nan(facts["open_row"])
    state.unfreeze_as_after(len(history) + (open_row is not None))
    if facts["weights"] != [v.path for v in state.model.weights]:
        raise ValueError("the network has other weights")

    def listed(name: str) -> list[torch.Tensor]:
        n = sum(key.startswith(f"{name}/") for key in tensors)
        return [tensors[f"{name}/{i}"] for i in range(n)]

    with torch.no_grad():
        for variable, value in zip(state.model.weights, listed("weight"), strict=True):
            variable.value.copy_(value)
        for parameter, value in zip(state.parameters[state.n_model_parameters :], listed("own"), strict=True):
            parameter.copy_(value)
    state.average = [value.to(state.device) for value in listed("average")]
    state.swa.n = int(facts["swa"])
    state.swa.tensors = [value.to(state.device) for value in listed("swa")]
    if state.swa.n and not state.swa.tensors:
        state.swa.tensors = state.average  # the mean of the last epochs is what is kept
    for i, parameter in enumerate(state.parameters):
        if f"gradient/{i}" in tensors:
            parameter.grad = torch.empty_like(parameter).copy_(tensors[f"gradient/{i}"])  # in the parameter's layout
    parameters = [p.detach() for group in state.optimizer.param_groups for p in group["params"]]
    stored: dict[int, dict[str, Any]] = {int(i): dict(values) for i, values in facts["optimizer"].items()}
    for name, value in tensors.items():
        if name.startswith("optimizer/"):
            _, index, key = name.split("/")
            like = parameters[int(index)]
            same = value.shape == like.shape and value.dtype == like.dtype
            stored.setdefault(int(index), {})[key] = torch.empty_like(like).copy_(value) if same else value
    whole = state.optimizer.state_dict()
    state.optimizer.load_state_dict({**whole, "state": stored})
    if facts["scaler"]:
        state.scaler.load_state_dict(facts["scaler"])
    scale, best, n_waited = facts["plateau"]
    state.plateau.scale, state.plateau.best, state.plateau.n_waited = float(scale), _infinite(best), int(n_waited)
    state.skipped, state.rate, state.losses = int(facts["skipped"]), float(facts["rate"]), list(facts["losses"])
    state.accuracy.set_counts(tensors["counts"].to(state.device) if "counts" in tensors else None)
    if state.ranges:
        state.ranges.set_n_seen(facts["ranges"])
    if state.objective.distillation:
        sums = {name.removeprefix("sum/"): v.to(state.device) for name, v in tensors.items() if name[:4] == "sum/"}
        state.objective.distillation.set_sums(sums, int(facts["sums"]))

    def weights_of(name: str) -> Weights:
        found = ((key, value) for key, value in tensors.items() if key.startswith(f"{name}/"))
        return {key.removeprefix(f"{name}/"): value.numpy() for key, value in found}

    state.last_good = weights_of("last_good")
    torch.set_rng_state(tensors["random/cpu"])
    cuda = listed("random/cuda")
    if cuda and len(cuda) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(cuda)
    return EpochProgress(
        best=_infinite(facts["best"]),
        n_waited=int(facts["n_waited"]),
        n_undefined=int(facts["n_undefined"]),
        stopped=bool(facts["stopped"]),
        open_row=open_row,
        seconds=float(facts["seconds"]),
        kept=weights_of("kept"),
        history=history,
    )


def _stored(tensor: torch.Tensor) -> torch.Tensor:
    """A copy in memory, as safetensors takes it."""
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _infinite(value: float | None) -> float:
    return -math.inf if value is None else float(value)


def _without_nan(row: Row | None) -> dict[str, float | None] | None:
    return None if row is None else {key: None if math.isnan(value) else float(value) for key, value in row.items()}


def _with_nan(row: Mapping[str, float | None]) -> Row:
    return {key: math.nan if value is None else value for key, value in row.items()}


def _short(value: Any) -> str:
    text = escaped(str(value))
    return text if len(text) <= 60 else f"{text[:57]}..."
