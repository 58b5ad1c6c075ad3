"""Contents of the stored state of a training: everything that the next step depends on, as tensors and JSON."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from birdnet_fs.runs.history import Row, Weights
from birdnet_fs.training.training_state import TrainingState


@dataclass
class EpochProgress:
    """Place in the loop over epochs, beside the state of the network.

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


def collected(state: TrainingState, progress: EpochProgress) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Collect the contents between two steps.

    Args:
        state: State of the network and its optimizer.
        progress: Place in the epochs.

    Returns:
        Tensors of any shape [...] by name, and a JSON object.
    """
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


def restored(state: TrainingState, tensors: dict[str, torch.Tensor], facts: Mapping[str, Any]) -> EpochProgress:
    """Set a new state to the stored one.

    Args:
        state: A new state of the same training; set in place.
        tensors: Tensors of any shape [...] by name, returned by `collected`.
        facts: JSON object returned by `collected`.

    Returns:
        The place in the epochs.

    Raises:
        ValueError: The network has other weights than the stored one.
    """
    history = [with_nan(row) for row in facts["history"]]
    state.n_steps, state.n_epochs = int(facts["n_steps"]), int(facts["n_epochs"])
    open_row = None if facts["open_row"] is None else with_nan(facts["open_row"])
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
    """A row for JSON; whole numbers, as the epoch, stay whole numbers."""
    if row is None:
        return None
    whole = {key: value if isinstance(value, int) else float(value) for key, value in row.items()}
    return {key: None if math.isnan(value) else value for key, value in whole.items()}


def with_nan(row: Mapping[str, float | None]) -> Row:
    """A row of the history from JSON, where undefined metrics are null."""
    return {key: math.nan if value is None else value for key, value in row.items()}
