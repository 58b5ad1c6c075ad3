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
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from birdnet_fs import __version__, schema
from birdnet_fs.core.distributed import group
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import describe_os_error, write_json
from birdnet_fs.core.folders import atomic_folder
from birdnet_fs.core.json_file import read_json
from birdnet_fs.core.progress import say
from birdnet_fs.core.settings import flat
from birdnet_fs.core.text import escaped
from birdnet_fs.data.partition import Partition
from birdnet_fs.runs.history import Row
from birdnet_fs.runs.inputs import clips_digest
from birdnet_fs.runs.resolve import comparable
from birdnet_fs.runs.run import UNFINISHED
from birdnet_fs.training.resume.contents import EpochProgress, collected, restored, with_nan
from birdnet_fs.training.training_state import TrainingState

STATE = f"{UNFINISHED}/state"  # folder in a run folder
TENSORS, FACTS = "tensors.safetensors", "state.json"
FORMAT = 1
EVERY_S = 60.0  # shortest time between two states that are written without a signal
MOST_TIME = 0.05  # share of the time that writing them may take
REMEDY = "give another folder with -o, or delete it to start anew"


class ResumeState:
    """Writes and reads the state of one training.

    Args:
        folder: Folder of the state, STATE in the run folder.
        identity: JSON object of the settings and inputs that the weights depend on, from `training_identity`; a stored
            state with other values is refused by the names of the keys that differ.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self.folder, self.identity = folder, dict(identity)
        self._saved, self._took, self._failed = time.monotonic(), 0.0, False
        self._n_steps = 0  # of the state on disk, once it was read or written

    def exists(self) -> bool:
        """Whether there is a state."""
        return (self.folder / FACTS).is_file()

    def history(self) -> list[Row]:
        """Rows of the epochs that an earlier process has finished; UserError is raised when the state is damaged."""
        if not self.exists():
            return []
        try:
            return [with_nan(row) for row in self._facts()["history"]]
        except (KeyError, TypeError, AttributeError) as error:
            raise self._damaged(str(error)) from None

    def maybe_save(self, state: TrainingState, progress: EpochProgress) -> None:
        """Save at the end of a batch or an epoch, unless the last time is too short ago; errors are printed once."""
        if time.monotonic() - self._saved < max(EVERY_S, self._took / MOST_TIME):
            return
        failure = self.save(state, progress)
        if failure and not self._failed:
            say(f"{failure} Training continues; stopped before the next state, it {self.next_start()}.")
        self._failed = self._failed or bool(failure)

    def save(self, state: TrainingState, progress: EpochProgress) -> str:
        """Save between two steps.

        Of several processes that train together, the main one saves; the state holds nothing that differs between them.

        Args:
            state: State of the network and its optimizer.
            progress: Place in the epochs.

        Returns:
            "", or a sentence with the error of the file system, which leaves the earlier state.
        """
        if not group.is_main():
            return ""
        started, failure = time.monotonic(), ""
        tensors, facts = collected(state, progress)
        try:
            with atomic_folder(self.folder) as part:
                from safetensors.torch import save

                (part / TENSORS).write_bytes(save(tensors))
                write_json(part / FACTS, {"format": FORMAT, "identity": self.identity, **facts})
            self._n_steps = state.n_steps
        except OSError as error:
            failure = f"The state after {state.n_steps} steps could not be written ({describe_os_error(error)})."
        self._saved = time.monotonic()
        self._took = self._saved - started
        return failure

    def next_start(self) -> str:
        """Clause on where the same command begins: "goes on after 12 steps" or "starts anew"."""
        return f"goes on after {self._n_steps} steps" if self._n_steps else "starts anew"

    def check(self) -> bool:
        """Check that a state, if there is one, is that of this training, before anything is decoded.

        Returns:
            Whether there is one.

        Raises:
            UserError: The state is damaged, of another version, or of a training with other settings or recordings.
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
            UserError: The state is damaged, of another version, or of a training with other settings or recordings.
        """
        if not self.check():
            return None
        try:
            from safetensors.torch import load

            tensors = load((self.folder / TENSORS).read_bytes())
            progress = restored(state, tensors, self._facts())
            self._n_steps = state.n_steps
            return progress
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
    """Settings and inputs that the weights of a training depend on, by name.

    Args:
        experiment: The resolved settings.
        parts: The divided clips.
        made_from: Recordings and other inputs, from `inputs.training_inputs`.
        generation: Number of generations before it in self-distillation.

    Returns:
        Settings by their keys, hashes of clips and recordings, and the version of the package.
    """
    names = ("name", "pretrain.name")  # a trial that is tried again has another one
    found = {key: str(value) for key, value in flat(comparable(experiment)).items() if key not in names}
    inputs = json.dumps(made_from, sort_keys=True).encode()
    return {
        **found,
        "generation": str(generation),
        "labels and splits": clips_digest(parts),
        "recordings": hashlib.sha256(inputs).hexdigest(),
        "birdnet_fs": __version__,
    }


def _short(value: Any) -> str:
    text = escaped(str(value))
    return text if len(text) <= 60 else f"{text[:57]}..."
