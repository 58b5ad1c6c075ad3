"""What scores waveforms: a run folder (torch), an ensemble of runs, or a TFLite artefact, behind one `Engine`.

An engine holds everything a caller needs to know about the model (classes, what it listens to, activation) and
one function from waveforms to logits. A run is lowered to flat torch calls; the artefact runs on
`ai_edge_litert`, or on `tflite_runtime` where only that is installed (the older devices).
"""

import importlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from birdnet_fs import schema
from birdnet_fs.plumbing.errors import UserError
from birdnet_fs.plumbing.files import sha256

if TYPE_CHECKING:
    from birdnet_fs.training.run_folder import Run

INTERPRETERS = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter")  # in order of preference
_SIDECAR: dict[str, type | tuple[type, ...]] = {
    "format": int,
    "sha256": str,
    "classes": list,
    "sample_rate_hz": int,
    "segment_s": (int, float),
    "input": str,
    "output": str,
    "activation": str,
    "frontend": dict,
}


class Listens(Protocol):
    """What a caller has to know of a front-end; a `schema.FrontEnd` says it, and so does an ensemble's `Span`."""

    @property
    def sample_rate_hz(self) -> int: ...
    @property
    def segment_s(self) -> float: ...
    @property
    def n_samples(self) -> int: ...
    @property
    def fmin_hz(self) -> float: ...
    @property
    def fmax_hz(self) -> float: ...


@dataclass(frozen=True)
class Engine:
    """A model ready to score.

    Attributes:
        classes: Class names in model order.
        frontend: The front-end; gives sample rate, segment length and frequency range.
        activation: "softmax" or "sigmoid", what turns logits into probabilities.
        identity: Text that changes when the model does (SHA-256 of its files).
        forward: float32 waveforms [n, n_samples] -> float32 logits [n, n_classes], for one batch.
        ranks: Whether the scores rank clips by class and are no probabilities (an ensemble's mean ranks).
        one_label: Whether a clip has one label although the activation is "sigmoid" (ranks of softmax scores).
    """

    classes: tuple[str, ...]
    frontend: Listens
    activation: str
    identity: str
    forward: Callable[[np.ndarray], np.ndarray]
    ranks: bool = False
    one_label: bool = False

    @property
    def multi_label(self) -> bool:
        """Whether a clip may have any number of labels."""
        return self.activation == "sigmoid" and not self.one_label

    @property
    def sample_rate_hz(self) -> int:
        """Samples per second of the waveforms."""
        return self.frontend.sample_rate_hz

    @property
    def segment_s(self) -> float:
        """Length of one waveform in seconds."""
        return self.frontend.segment_s

    @property
    def n_samples(self) -> int:
        """Length of one waveform in samples."""
        return self.frontend.n_samples

    def logits(self, waveforms: np.ndarray, *, batch_size: int = 32) -> np.ndarray:
        """Score waveforms, `batch_size` at a time.

        Args:
            waveforms: float32 [n, n_samples], +-1, at `sample_rate_hz`.
            batch_size: How many the model is given at once.

        Returns:
            float32 [n, n_classes].

        Raises:
            UserError: The shape is another, a sample is not finite, or the model answers with NaN or infinity.
        """
        if waveforms.ndim != 2 or waveforms.shape[1] != self.n_samples:
            raise UserError(f"Waveforms must be [n, {self.n_samples}]. Received shape: {list(waveforms.shape)}")
        # a model may run over NaN and answer with plausible numbers
        if not np.isfinite(waveforms).all():
            raise UserError("The waveform holds samples that are NaN or infinite; repair the recording.")
        waveforms = np.ascontiguousarray(waveforms, np.float32)
        found = np.empty((len(waveforms), len(self.classes)), np.float32)
        for start in range(0, len(waveforms), batch_size):
            found[start : start + batch_size] = self.forward(waveforms[start : start + batch_size])
        if not np.isfinite(found).all():
            raise UserError("The model answered with NaN or infinity for this recording; its scores cannot be used.")
        return found

    def probabilities(self, waveforms: np.ndarray, *, batch_size: int = 32) -> np.ndarray:
        """`logits` through the activation: float32 [n, n_classes] in 0..1."""
        return activate(self.logits(waveforms, batch_size=batch_size), self.activation)


def activate(logits: np.ndarray, activation: str) -> np.ndarray:
    """Logits [n, n_classes] -> float32 probabilities, by "softmax" over the classes or "sigmoid" each.

    >>> activate(np.zeros((1, 4), np.float32), "softmax").tolist()
    [[0.25, 0.25, 0.25, 0.25]]
    """
    if activation == "softmax":
        raised = np.exp(logits - logits.max(axis=1, keepdims=True))
        return (raised / raised.sum(axis=1, keepdims=True)).astype(np.float32)
    # exp of a negative number only, so nothing overflows
    small = np.exp(-np.abs(logits))
    return (np.where(logits >= 0, 1.0, small) / (1.0 + small)).astype(np.float32)


def open_engine(path: Path | str, *, threads: int = 0) -> Engine:
    """Open what scores: a run folder, an ensemble of runs, or `X.tflite` with the `X.json` the exporter wrote.

    Args:
        path: Folder or file.
        threads: CPU threads the model may use; 0 leaves it to the runtime.

    Raises:
        UserError: None of the three, damaged, or the runtime for it is not installed.
    """
    path = Path(path)
    if threads < 0:
        raise UserError(f"threads must be 0 (the runtime decides) or more. Received: {threads}")
    if path.is_dir():
        from birdnet_fs.scoring.ensemble import open_ensemble
        from birdnet_fs.training.ensemble_folder import is_ensemble

        return open_ensemble(path, threads=threads) if is_ensemble(path) else _open_run(path, threads)
    if path.suffix.lower() == ".tflite" and path.is_file():
        return _open_artefact(path, threads)
    what = "no such file or folder" if not path.exists() else "another kind of file"
    raise UserError(f"A model must be a run folder (birdnet-fs train) or a .tflite file. Received: {path}, {what}.")


def _open_run(path: Path, threads: int) -> Engine:
    from birdnet_fs.training import run_folder

    run = run_folder.load_run(path)
    network = network_of(run, threads=threads)

    def forward(waveforms: np.ndarray) -> np.ndarray:
        return network(_features(waveforms, run.frontend))

    identity = f"{sha256(path / run_folder.WEIGHTS)} {sha256(path / run_folder.CONFIG)}"
    return Engine(run.classes, run.frontend, run.activation, identity, forward)


def network_of(run: "Run", *, threads: int = 0) -> Callable[[np.ndarray], np.ndarray]:
    """The network of a run: float32 features [n, n_frames, n_mels, n_channels] -> float32 logits [n, n_classes].

    Args:
        run: What `load_run` gave.
        threads: CPU threads torch may use; 0 leaves them as they are.
    """
    import keras
    import torch

    from birdnet_fs.models.lowering import lower

    if threads:
        torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with keras.device(device):
        network = lower(run.build_model(), fold=True)

    def logits(features: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            found = network(torch.from_numpy(features).to(device), training=False)
        return found.float().cpu().numpy()

    return logits


def _features(waveforms: np.ndarray, spec: schema.FrontEnd) -> np.ndarray:
    """Waveforms [n, n_samples] -> what a network reads, float32 [n, n_frames, n_mels, n_channels]."""
    from birdnet_fs.frontend.in_numpy import log_mel, network_input

    return network_input(log_mel(waveforms, spec), spec)


def _open_artefact(path: Path, threads: int) -> Engine:
    sidecar = _read_sidecar(path)
    spec = schema.FrontEnd.from_dict(sidecar["frontend"])
    if (spec.sample_rate_hz, spec.segment_s) != (sidecar["sample_rate_hz"], float(sidecar["segment_s"])):
        raise UserError(f"{path.with_suffix('.json')} gives two sample rates or segment lengths; export the run again.")
    identity = sha256(path)
    if identity != sidecar["sha256"].lower():
        raise UserError(f"{path} is not the file its sidecar describes (SHA-256 differs); copy both again.")
    try:
        interpreter = _interpreter()(model_path=str(path), num_threads=threads or None)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise UserError(f"{path} does not load in this TFLite runtime ({str(error).splitlines()[0]}).") from None
    given, answer = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    wanted = (spec.n_samples,) if sidecar["input"] == "waveform" else (*spec.shape, spec.n_channels)
    classes = tuple(sidecar["classes"])
    if tuple(given["shape"][1:]) != wanted or answer["shape"][-1] != len(classes):
        raise UserError(
            f"{path} must take [n, {', '.join(map(str, wanted))}] and give [n, {len(classes)}]; it takes "
            f"{given['shape'].tolist()} and gives {answer['shape'].tolist()}; export the run again."
        )
    if given["dtype"] != np.float32 or answer["dtype"] != np.float32:
        raise UserError(f"{path} must take and give float32; it takes {given['dtype'].__name__}; export it again.")
    fixed = int(given.get("shape_signature", given["shape"])[0])  # -1 where the batch may be any

    def invoke(batch: np.ndarray) -> np.ndarray:
        if tuple(interpreter.get_input_details()[0]["shape"]) != batch.shape:
            interpreter.resize_tensor_input(given["index"], batch.shape)
            interpreter.allocate_tensors()
        interpreter.set_tensor(given["index"], batch)
        interpreter.invoke()
        return interpreter.get_tensor(answer["index"])

    def forward(waveforms: np.ndarray) -> np.ndarray:
        inputs = waveforms if sidecar["input"] == "waveform" else _features(waveforms, spec)
        if fixed == -1:
            return invoke(inputs)
        short = -len(inputs) % fixed
        padded = np.concatenate([inputs, np.zeros((short, *inputs.shape[1:]), np.float32)])
        found = [invoke(padded[start : start + fixed]) for start in range(0, len(padded), fixed)]
        return np.concatenate(found)[: len(inputs)]

    return Engine(classes, spec, sidecar["activation"], identity, forward)


def _read_sidecar(model: Path) -> dict[str, Any]:
    path = model.with_suffix(".json")
    if not path.is_file():
        raise UserError(
            f"{model} needs its sidecar {path.name} in the same folder; copy it from where it was exported."
        )
    try:
        sidecar = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not readable JSON ({error}); copy it again.") from None
    for key, kind in _SIDECAR.items():
        value = sidecar.get(key) if isinstance(sidecar, dict) else None
        if not isinstance(value, kind):
            raise UserError(f"{path}: {key!r} is missing or of the wrong type; export the run again.")
    options = {"format": (1,), "input": ("waveform", "features"), "output": ("logits",)}
    options["activation"] = ("softmax", "sigmoid")
    for key, known in options.items():
        if sidecar[key] not in known:
            raise UserError(f"{path}: {key!r} must be {' or '.join(map(str, known))}. Received: {sidecar[key]!r}")
    names = sidecar["classes"]
    if not names or not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
        raise UserError(f"{path}: 'classes' must name one or more classes, each once.")
    return sidecar


def _interpreter() -> Any:
    for name in INTERPRETERS:
        try:
            return importlib.import_module(name).Interpreter
        except ImportError:
            continue
    raise UserError('A .tflite model needs a TFLite runtime; install one with `pip install "birdnet_fs[export]"`.')
