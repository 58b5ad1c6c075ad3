"""Exact resume of `keras.Model.fit` on the torch backend: a callback, with batches of `training.fit.batches`.

    batches = KeyedBatches(ArrayBatches(x, y, batch_size=32, seed=7))
    resume = ExactResume("state", batches, [keras.callbacks.EarlyStopping(patience=3)])
    model.fit(batches, epochs=30, callbacks=[resume])

The same lines, started again after the process was stopped or killed, go on to the same weights, on a CPU to the last
bit. `keras.callbacks.BackupAndRestore` saves weights and optimizer only: random state, order of the data, metrics of
the open epoch and the state of other callbacks are lost.
"""

import inspect
import random
import shutil
import signal
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import keras
import numpy as np
import torch

from birdnet_fs.core import stopping
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import describe_os_error, write_json
from birdnet_fs.core.folders import atomic_folder
from birdnet_fs.core.json_file import read_json
from birdnet_fs.core.progress import say
from birdnet_fs.core.text import escaped
from birdnet_fs.training.fit.batches import KeyedBatches

TENSORS, FACTS = "tensors.safetensors", "state.json"
REMEDY = "give another folder, or delete it to start anew"
EVERY_S = 60.0  # shortest time between two states within an epoch
# attributes of Keras' callbacks that change during `fit`; those without any have no state
CALLBACKS: dict[type, tuple[str, ...]] = {
    keras.callbacks.EarlyStopping: ("wait", "stopped_epoch", "best", "best_epoch", "best_weights"),
    keras.callbacks.ReduceLROnPlateau: ("wait", "cooldown_counter", "best"),
    keras.callbacks.ModelCheckpoint: ("best",),
    keras.callbacks.LearningRateScheduler: (),
    keras.callbacks.TerminateOnNaN: (),
}


_FACTS = {"identity", "epoch", "n_batches", "stop", "callbacks", "history", "epochs", "numpy", "python"}


class ExactResume(keras.callbacks.Callback):
    """Save the whole state of a `fit` now and then and when a signal stops it, and go on from it.

    The state holds weights, optimizer (with its loss scale), seed generators, metrics of the open epoch, random state
    of Python, NumPy and torch, the history, the state of the other callbacks, and the place in the epoch. SIGTERM,
    SIGUSR1, SIGHUP and Ctrl-C let the batch end, save, and raise KeyboardInterrupt; a second one stops at once. A
    finished `fit` removes its state. A state that cannot be written (a full disk) is reported once and stops nothing;
    the earlier one stays.

    Args:
        folder: Folder of the state; created, and replaced as a whole.
        batches: Data given to `fit`.
        callbacks: All other callbacks, which must be of the kinds in CALLBACKS; they are called by this one, which is
            the only one to give to `fit`. Default: ().
        every_s: Seconds between two states within an epoch, 0 or more; one is saved at the end of each epoch, too.
            Default: 60.

    Raises:
        UserError: The backend is not torch, or the state of a callback cannot be restored.
    """

    def __init__(
        self,
        folder: Path | str,
        batches: KeyedBatches,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        *,
        every_s: float = EVERY_S,
    ) -> None:
        super().__init__()
        if keras.backend.backend() != "torch":
            raise UserError(f"ExactResume needs KERAS_BACKEND=torch. Received: {keras.backend.backend()}")
        for callback in callbacks:
            if type(callback) not in CALLBACKS:
                raise UserError(
                    f"The state of the callback {type(callback).__name__} cannot be restored; ExactResume takes "
                    f"{', '.join(kind.__name__ for kind in CALLBACKS)}."
                )
            if isinstance(callback, keras.callbacks.ModelCheckpoint) and callback.save_freq != "epoch":
                raise UserError("ModelCheckpoint must have save_freq='epoch': its count of batches cannot be restored.")
        self.folder, self.batches, self.callbacks, self.every_s = Path(folder), batches, list(callbacks), every_s
        self._handlers: dict[int, Any] = {}
        self._signal, self._failed = 0, False
        self._random: dict[str, Any] | None = None
        self._row: dict[str, float] = {}
        self._pending: tuple[dict[str, np.ndarray], dict[str, Any]] | None = None

    def set_model(self, model: keras.Model) -> None:
        """Set the model of all callbacks."""
        super().set_model(model)
        for callback in self.callbacks:
            callback.set_model(model)

    def set_params(self, params: dict[str, Any]) -> None:
        """Set the parameters of `fit` of all callbacks."""
        super().set_params(params)
        for callback in self.callbacks:
            callback.set_params(params)

    def on_train_begin(self, logs: Any = None) -> None:
        """Load the state, if there is one.

        Args:
            logs: Not used.

        Raises:
            UserError: The state is damaged or of another training, or this `fit` cannot be resumed.
        """
        self._check_fit()
        self._call("on_train_begin", logs)
        self._saved, self._epoch, self._n_batches, self._random = time.monotonic(), 0, 0, None
        if (self.folder / FACTS).is_file():
            self._load()
        self._listen()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Go to the place in the data, and restore the metrics of an open epoch."""
        self._epoch, self._n_batches = epoch, 0
        if self._pending is not None:
            self._n_batches = int(self._pending[1]["n_batches"])
            if self._n_batches:
                self._assign("metric", self.model.metrics_variables, self._pending[0])
            self._pending = None
        self.batches.go_to(epoch, self._n_batches)
        self._call("on_epoch_begin", epoch, logs)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Restore the random state after the loader has begun an epoch, since it draws from it."""
        if self._random is not None:
            _set_random_state(self._random)
            self._random = None
        self._call("on_train_batch_begin", batch, logs)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Save when it is time, or stop for a signal."""
        self._call("on_train_batch_end", batch, logs)
        self._n_batches += 1
        if self._n_batches == len(self.batches.batches):
            self._random = _random_state()  # what comes between two epochs does not change the draws of the next
            return  # saved at the end of the epoch
        if self._signal or time.monotonic() - self._saved >= self.every_s:
            self._save(self._epoch, self._n_batches)
        self._stop_if_asked()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Save with what the other callbacks have decided."""
        self._call("on_epoch_end", epoch, logs)
        self._row = {name: float(value) for name, value in (logs or {}).items()}
        self._save(epoch + 1, 0)
        self._stop_if_asked()

    def on_train_end(self, logs: Any = None) -> None:
        """Remove the state of a training that has ended."""
        self._unlisten()
        self._call("on_train_end", logs)
        self.model._initial_epoch = None
        shutil.rmtree(self.folder, ignore_errors=True)

    def _call(self, hook: str, *arguments: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, hook)(*arguments)

    def _check_fit(self) -> None:
        if self.model.steps_per_execution != 1:
            raise UserError(f"steps_per_execution must be 1. Received: {self.model.steps_per_execution}")
        if self.params.get("steps") not in (None, len(self.batches.batches)):
            raise UserError("steps_per_epoch cannot be restored; leave it out.")
        without = [metric.name for metric in self.model.metrics if not metric.variables]
        if without:
            raise UserError(f"The metric {without[0]!r} keeps no variables, so it cannot be restored within an epoch.")
        warnings.filterwarnings("ignore", "Your input ran out of data", UserWarning)  # of the rest of an epoch

    def _variables(self) -> dict[str, list[Any]]:
        return {"variable": list(self.model.variables), "optimizer": list(self.model.optimizer.variables)}

    def _identity(self) -> dict[str, Any]:
        # without names: Keras numbers the layers of a second model of a process
        shapes = [[v.dtype, list(v.shape)] for found in self._variables().values() for v in found]
        return {"variables": shapes, "batches": len(self.batches.batches)}

    def _save(self, epoch: int, n_batches: int) -> None:
        """Save the state before a batch of an epoch."""
        lists = {**self._variables(), "metric": list(self.model.metrics_variables)}
        tensors = {
            f"{name}/{i}": np.array(keras.ops.convert_to_numpy(v), order="C")
            for name, found in lists.items()
            for i, v in enumerate(found)
        }
        draws = self._random or _random_state()
        tensors["random/torch"] = draws["torch"]
        others: list[dict[str, Any]] = []
        for number, callback in enumerate(self.callbacks):
            values = {name: getattr(callback, name, None) for name in CALLBACKS[type(callback)]}
            for i, weight in enumerate(values.pop("best_weights", None) or []):
                tensors[f"best_weights/{number}/{i}"] = np.array(weight, order="C")
            others.append({name: None if value is None else float(value) for name, value in values.items()})
        history = {k: [float(v) for v in values] for k, values in self.model.history.history.items()}
        epochs = list(self.model.history.epoch)
        if n_batches == 0 and len(epochs) < epoch:  # the history is written after this callback
            epochs.append(epoch - 1)
            for name, value in self._row.items():
                history.setdefault(name, []).append(value)
        facts = {
            "identity": self._identity(),
            "epoch": epoch,
            "n_batches": n_batches,
            "stop": bool(self.model.stop_training),
            "callbacks": others,
            "history": history,
            "epochs": epochs,
            "numpy": draws["numpy"],
            "python": draws["python"],
        }
        from safetensors.numpy import save

        try:
            with atomic_folder(self.folder) as part:
                (part / TENSORS).write_bytes(save(tensors))
                write_json(part / FACTS, facts)
        except OSError as error:
            if not self._failed:
                say(f"The state of fit could not be written ({describe_os_error(error)}); fit continues.")
            self._failed = True
        self._saved = time.monotonic()

    def _load(self) -> None:
        from safetensors.numpy import load

        facts = read_json(self.folder / FACTS, REMEDY)
        if not isinstance(facts, dict) or not facts.keys() >= _FACTS:
            raise UserError(
                f"{escaped(self.folder)} holds a damaged state of fit ({FACTS} has another form); {REMEDY}."
            )
        if facts["identity"] != self._identity():
            raise UserError(
                f"{escaped(self.folder)} holds the state of another training (other weights or number of batches); "
                f"{REMEDY}."
            )
        try:
            tensors = load((self.folder / TENSORS).read_bytes())
        except OSError as error:
            raise UserError(f"The state of fit cannot be read ({describe_os_error(error)}); {REMEDY}.") from None
        except Exception as error:  # the reader of safetensors has errors of its own
            raise UserError(
                f"{escaped(self.folder)} holds a damaged state of fit ({escaped(str(error))}); {REMEDY}."
            ) from None
        for name, variables in self._variables().items():
            self._assign(name, variables, tensors)
        for number, (callback, values) in enumerate(zip(self.callbacks, facts["callbacks"], strict=True)):
            for name, value in values.items():
                whole = name in ("wait", "stopped_epoch", "best_epoch", "cooldown_counter")
                setattr(callback, name, int(value) if whole and value is not None else value)
            prefix = f"best_weights/{number}/"
            n = sum(key.startswith(prefix) for key in tensors)
            if n:
                callback.best_weights = [tensors[f"{prefix}{i}"] for i in range(n)]
        self.model.history.history = {name: list(values) for name, values in facts["history"].items()}
        self.model.history.epoch = list(facts["epochs"])
        self._pending = (tensors, facts)
        self._random = {"torch": tensors["random/torch"], "numpy": facts["numpy"], "python": facts["python"]}
        self.model._initial_epoch = self.params["epochs"] if facts["stop"] else int(facts["epoch"])
        place = f"epoch {facts['epoch'] + 1} after {facts['n_batches']} batches"
        say(f"fit goes on in {place}, from the state in {escaped(self.folder)}.")

    @staticmethod
    def _assign(name: str, variables: Sequence[Any], tensors: dict[str, np.ndarray]) -> None:
        for i, variable in enumerate(variables):
            variable.assign(tensors[f"{name}/{i}"])

    def _listen(self) -> None:
        self._signal = 0
        for name in stopping.SIGNALS:
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                self._handlers[number] = signal.signal(number, self._note)

    def _unlisten(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if not _in_fit(frame):  # an error has ended `fit`, of which Keras informs no callback
            self._unlisten()
            signal.raise_signal(number)
            return
        if self._signal:
            self._unlisten()
            raise KeyboardInterrupt
        self._signal = number

    def _stop_if_asked(self) -> None:
        if self._signal:
            number = self._signal
            self._unlisten()
            there = (self.folder / FACTS).is_file()
            how = f"go on from {escaped(self.folder)}" if there else "start anew, since no state could be written"
            say(f"stopped by {signal.Signals(number).name}; the same lines {how}.")
            stopping.stop(number)


def _in_fit(frame: FrameType | None) -> bool:
    """Whether `fit` of Keras is among the callers of a frame."""
    code = inspect.unwrap(keras.Model.fit).__code__
    while frame is not None:
        if frame.f_code is code:
            return True
        frame = frame.f_back
    return False


def _random_state() -> dict[str, Any]:
    """State of the global generators of torch, NumPy and Python."""
    kind, keys, *rest = np.random.get_state(legacy=True)
    version, words, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state().numpy().copy(),
        "numpy": [kind, np.asarray(keys).tolist(), *rest],
        "python": [version, list(words), gauss],
    }


def _set_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(torch.from_numpy(state["torch"].copy()))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, np.array(keys, np.uint32), *rest))
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
