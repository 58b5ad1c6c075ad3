"""Read a recording, compute features, run an exported network and print its scores, with NumPy only.

Shared by run_tflite.py and run_onnx.py, which add their runtime; this file must be in the same folder. WAV is read with
the standard library; other formats need soundfile, another sample rate needs soxr. Files may come from a stranger:
sizes are bounded, all values are checked before they are used, and nothing in a file is executed.

It is one file, though longer than those of the package may be, because it is copied by hand: a device that has it has
everything, and of one version. For the same reason enroll_tflite.py holds all of its command.
"""

import argparse
import hashlib
import json
import math
import os
import sys
import unicodedata
import wave
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

DEBUG = "BIRDNET_FS_DEBUG"  # environment variable: an unexpected error is shown in full
# upper bounds; birdnet-fs has the same
MAX_JSON, MAX_NETWORK, MAX_ARRAYS = 8_000_000, 2_000_000_000, 500_000_000  # bytes of a file, or of all its arrays
MAX_SAMPLES, MAX_FEATURES, MAX_STFT = 2**23, 2**22, 2**26  # of a segment; the last is frames x n_fft
MAX_NUMBERS = 2**28  # of one tensor
# values of the sidecar: a type, or the options
SIDECAR: dict[str, Any] = {
    "sha256": str,
    "classes": list,
    "sample_rate_hz": int,
    "segment_s": float,
    "input": ("waveform", "features"),
    "input_shape": list,
    "output": ("logits", "probabilities"),
    "activation": ("sigmoid", "softmax"),
    "frontend": dict,
}
# values of its "frontend" that are read here: the options, or the lowest and highest value of a whole or real number
FRONTEND: dict[str, Any] = {
    "preemphasis": (float, -1, 1),
    "n_fft": (int, 16, 131_072),
    "hop_length": (int, 1, MAX_SAMPLES),
    "pad_mode": ("constant", "reflect", "none"),
    "amin": (float, 1e-37, 1e9),
    "ref": ("one", "max"),
    "top_db": (float, 0, 1000),
    "pcen_gain": (float, 0, 2),
    "pcen_bias": (float, 1e-30, 1e9),
    "pcen_power": (float, 0, 2),
    "pcen_time_constant_s": (float, 1e-9, 3600),
    "pcen_eps": (float, 1e-30, 1e9),
    "pcen_scale": (float, 1e-30, 2.0**64),
    "pcen_start": ("one", "first"),
    "normalise": ("none", "min_max", "z_score", "db_range"),
    "normalise_when": ("last", "first", "clip"),
    "min_clip_s": (float, 0, 3600),
    "normalise_eps": (float, 0, 1e9),
    "keep_frames": (int, 0, 1_048_576),
    "keep_from": ("start", "centre"),
    "n_channels": (int, 1, 16),
}


class InputError(Exception):
    """Invalid input; the message gives the reason and the remedy."""


class Network(NamedTuple):
    """A file opened by a runtime."""

    shape: list[int | None]  # of its input; a leading None means any batch
    widths: list[int]  # of its outputs
    forward: Callable[[np.ndarray], list[np.ndarray]]  # float32 [batch, ...] -> each output [batch, width]


class Recording(NamedTuple):
    """A decoded recording."""

    waveform: np.ndarray  # float32 [n_samples], mono, ±1, at the sample rate of the network
    duration_s: float  # of the file; the resampled waveform may be up to half a sample longer


@dataclass(frozen=True)
class Artifact:
    """An exported network with its sidecars, ready to run."""

    sidecar: dict[str, Any]
    labels: list[str]  # lines of the labels file, in the form that other programs read
    constants: dict[str, np.ndarray]
    network: Network

    @property
    def classes(self) -> list[str]:
        """Class names as they were trained."""
        return [str(name) for name in self.sidecar["classes"]]

    @property
    def names(self) -> list[str]:
        """Names to show: the common name where the labels file has a scientific one too, else the whole class name."""
        pairs = [line.partition("_")[::2] for line in self.labels]
        return [
            second if " " in first and second not in ("", first) and "_" not in second else name
            for name, (first, second) in zip(self.classes, pairs, strict=True)
        ]


def open_artifact(model: Path, suffix: str, open_runtime: Callable[[Path], Network], *, verify: bool) -> Artifact:
    """Open MODEL with its sidecars.

    Args:
        model: The file, whose name ends in `suffix`.
        suffix: ".tflite" or ".onnx".
        open_runtime: Opens the file with a runtime.
        verify: Compare its SHA-256 with that in the sidecar.

    Returns:
        The network, ready to run.

    Raises:
        InputError: A file is missing or damaged, or the files do not belong together.
    """
    if model.suffix.lower() != suffix:
        raise InputError(f"MODEL must be a {suffix} file. Received: {model}")
    stem = model.with_suffix("")
    for path in (model, companion_file(stem, ".json"), companion_file(stem, "_Labels.txt")):
        if not path.is_file():
            raise InputError(f"{path} is missing; copy the network together with the files named after it.")
    sidecar = read_sidecar(companion_file(stem, ".json"))
    if model.stat().st_size > MAX_NETWORK:
        raise InputError(f"{model} must have {MAX_NETWORK:,} bytes or fewer; copy it again.")
    if verify and sha256(model) != sidecar["sha256"]:
        raise InputError(f"{model} is not the file its sidecar describes (SHA-256 differs); copy both again.")
    labels = read_labels(companion_file(stem, "_Labels.txt"))
    constants = {}
    if sidecar["input"] == "features":
        file = companion_file(stem, "_frontend.npz")
        if not file.is_file():
            raise InputError(f"{file} is missing; a network that reads features needs it.")
        constants = {key: as_floats(file, key, value) for key, value in read_arrays(file).items()}
        check_constants(file, sidecar, constants)
    network = open_runtime(model)
    n_classes, second = network.widths[0] if network.widths else 0, sidecar.get("embeddings")
    if second and (len(network.widths) <= second["output"] or network.widths[second["output"]] != second["width"]):
        raise InputError(f"{model} lacks the embeddings its sidecar describes: the files do not belong together.")
    shape = network.shape
    if any((n or 1) < 1 for n in shape) or math.prod(n or 1 for n in shape) > MAX_NUMBERS:
        raise InputError(
            f"{model} reads {shape}, which is empty or more than {MAX_NUMBERS:,} numbers; export it again."
        )
    if shape != sidecar["input_shape"] or n_classes != len(labels) or n_classes != len(sidecar["classes"]):
        raise InputError(
            f"{model} reads {shape} and gives {n_classes} classes, but its sidecar has {sidecar['input_shape']} and "
            f"{len(sidecar['classes'])}, and its labels file {len(labels)}: the files do not belong together."
        )
    return Artifact(sidecar, labels, constants, network)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: The file.

    Returns:
        The object.

    Raises:
        InputError: The file is missing, too large, or no JSON object of finite numbers.
    """

    def refuse(name: str) -> float:
        raise ValueError(f"{name} is no number in JSON")

    def whole(digits: str) -> int:
        if len(digits) > 20:  # int() takes minutes for a million digits
            raise ValueError(f"a number has {len(digits)} digits")
        return int(digits)

    try:
        with open(path, "rb") as file:
            data = file.read(MAX_JSON + 1)
        if len(data) > MAX_JSON:
            raise ValueError(f"it has more than {MAX_JSON:,} bytes")
        value = json.loads(data.decode("utf-8"), parse_constant=refuse, parse_int=whole)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); copy it again.") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged ({first_line(error)}); copy it again.") from None
    if not isinstance(value, dict):
        raise InputError(f"{path} must hold a JSON object; copy it again.")
    return value


def read_sidecar(path: Path) -> dict[str, Any]:
    """Read MODEL.json and check every value that this script reads.

    Args:
        path: The file.

    Returns:
        Its content.

    Raises:
        InputError: The file is damaged, of a format of another version, or a value is missing or wrong.
    """
    sidecar = read_json(path)
    if sidecar.get("format") != 1:
        versions = sidecar.get("versions")
        written = f", written by birdnet_fs {versions.get('birdnet_fs')}," if isinstance(versions, dict) else ""
        raise InputError(f"{path}{written} has a format this reader does not support; use a newer reading.py.")
    for key, kind in SIDECAR.items():
        value = sidecar.get(key)
        fits = value in kind if isinstance(kind, tuple) and isinstance(value, str) else is_a(value, kind)
        if not fits:
            what = f"one of {', '.join(kind)}" if isinstance(kind, tuple) else f"of type {kind.__name__}"
            raise InputError(f"{path}: {key!r} must be {what}; use a newer reading.py, or export the run again.")
    rate, n_samples = sidecar["sample_rate_hz"], sidecar["segment_s"] * sidecar["sample_rate_hz"]
    if not 1000 <= rate <= 1_000_000 or not 1 <= n_samples <= MAX_SAMPLES:
        raise InputError(f"{path}: sample_rate_hz and segment_s are out of range ({rate} Hz); export the run again.")
    sizes = sidecar["input_shape"]
    if not sizes or not all(size is None or is_a(size, int) for size in sizes):
        raise InputError(f"{path}: 'input_shape' must be a list of sizes; export the run again.")
    if not sidecar["classes"] or not all(isinstance(name, str) for name in sidecar["classes"]):
        raise InputError(f"{path}: 'classes' must be a list of names; export the run again.")
    if not is_a(sidecar.get("n_constant", 0), int):
        raise InputError(f"{path}: 'n_constant' must be a number; export the run again.")
    if sidecar["input"] == "features":
        check_frontend(path, sidecar["frontend"])
    if "calibration" in sidecar:
        check_calibration(path, sidecar)
    second = sidecar.get("embeddings")
    if second is not None:
        fits = isinstance(second, dict) and is_a(second.get("output"), int) and is_a(second.get("width"), int)
        described = second.get("enrolment") if fits else {}
        texts = ("sha256", "encoder", "distance")
        if described is not None:
            fits = fits and isinstance(described, dict) and all(isinstance(described.get(key), str) for key in texts)
        if not fits or not 0 < second["output"] < 100:
            raise InputError(f"{path}: 'embeddings' is damaged; export the run again.")
    return sidecar


def check_frontend(path: Path, spec: dict[str, Any]) -> None:
    """Check the settings of the front-end.

    Args:
        path: The sidecar, for messages.
        spec: Mapping of the settings, "frontend" of the sidecar.

    Raises:
        InputError: A setting is missing or out of range.
    """
    if not isinstance(spec.get("compression"), str):
        raise InputError(f"{path}: 'frontend' must have 'compression'; export the run again.")
    for key, limits in FRONTEND.items():
        if key.startswith("pcen_") and spec["compression"] != "pcen":
            continue  # not used, and files of earlier versions lack it
        if key == "min_clip_s" and spec.get("normalise_when") != "clip":
            continue
        value = spec.get(key)
        if isinstance(limits[0], str):
            fits, what = value in limits, f"one of {', '.join(limits)}"
        else:
            kind, low, high = limits
            fits, what = is_a(value, kind) and low <= value <= high, f"a number in {low:g}..{high:g}"
        if not fits:
            raise InputError(f"{path}: 'frontend' must have {key!r}, {what}; export the run again.")


def check_constants(file: Path, sidecar: dict[str, Any], constants: dict[str, np.ndarray]) -> None:
    """Check that the arrays of MODEL_frontend.npz give the features that the network reads.

    Args:
        file: The file, for messages.
        sidecar: Content of MODEL.json.
        constants: Arrays of the file: window [n_fft], bands [n_mels, n_bins], and matrices [n_out, n_in] that resize.

    Raises:
        InputError: An array is missing or has another shape, or the features would be too large.
    """
    spec = sidecar["frontend"]
    n_fft, hop = spec["n_fft"], spec["hop_length"]
    n_samples = round(sidecar["segment_s"] * sidecar["sample_rate_hz"])
    n_frames = (1 + (n_samples - n_fft) // hop) if spec["pad_mode"] == "none" else 1 + n_samples // hop
    bands = constants.get("bands", np.empty(0))
    fits = constants.get("window", np.empty(0)).shape == (n_fft,) and bands.ndim == 2
    fits = fits and 0 < n_frames <= MAX_STFT // n_fft and bands.shape[1] == n_fft // 2 + 1
    shape = [spec["keep_frames"] or n_frames, len(bands)]
    for axis, name in enumerate(("resize_frames", "resize_bands")):
        if fits and name in constants:
            matrix = constants[name]
            fits = matrix.ndim == 2 and matrix.shape[1] == shape[axis]
            shape[axis] = len(matrix)
    sizes = [*(reversed(shape) if sidecar.get("axes") == "mel_first" else shape), spec["n_channels"]]
    if not fits or math.prod(sizes) > MAX_FEATURES or sizes != sidecar["input_shape"][1:]:
        raise InputError(
            f"{file} does not give the features of shape {sidecar['input_shape'][1:]} that the network reads; copy the "
            "network together with the files named after it."
        )


def is_a(value: object, kind: type) -> bool:
    """Whether a JSON value is of a type; a float may be written as a whole number, and is finite."""
    if isinstance(value, bool):
        return kind is bool
    if kind is float:
        return isinstance(value, (int, float)) and abs(value) < 1e300
    return isinstance(value, kind)


def read_labels(path: Path) -> list[str]:
    """Read MODEL_Labels.txt.

    Args:
        path: The file.

    Returns:
        Its lines.

    Raises:
        InputError: The file is too large, not UTF-8, or a line holds control characters.
    """
    with open(path, "rb") as file:
        data = file.read(MAX_JSON + 1)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} must be UTF-8 text ({error}); copy it again.") from None
    labels = text.splitlines()
    if len(data) > MAX_JSON or any(unicodedata.category(c) == "Cc" for label in labels for c in label):
        raise InputError(f"{path} must have {MAX_JSON:,} bytes or fewer, without control characters; copy it again.")
    return labels


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read an .npz, whose sizes are compared with those of its file before any array is made.

    Args:
        path: The file.

    Returns:
        Array of any shape [...] by name.

    Raises:
        InputError: The file is missing, damaged, too large when unpacked, or holds objects.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if len(members) > 1000 or sum(member.file_size for member in members) > MAX_ARRAYS:
                raise ValueError(f"unpacked, it has more than {MAX_ARRAYS:,} bytes")
            for member in members:
                with archive.open(member) as file:
                    version = np.lib.format.read_magic(file)
                    header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
                    shape, _, dtype = header[version](file)
                if dtype.hasobject or math.prod(shape) * dtype.itemsize > member.file_size:
                    raise ValueError(f"{member.filename} holds objects, or is shorter than its header states")
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except Exception as error:  # a damaged file fails in zipfile, zlib or NumPy, each in its own way
        raise InputError(
            f"{path} is missing or damaged ({first_line(error)}); copy the network together with the files named after "
            "it."
        ) from None


def as_floats(path: Path, name: str, value: np.ndarray) -> np.ndarray:
    """Convert an array of an .npz to float64.

    Args:
        path: The file, for messages.
        name: Name of the array.
        value: The array [...].

    Returns:
        float64 [...].

    Raises:
        InputError: The array is not of finite numbers.
    """
    if value.dtype.kind not in "fiu" or not np.isfinite(value).all():
        raise InputError(f"{path}: {name!r} must be finite numbers; copy it again.")
    return value.astype(np.float64)


def sha256(path: Path) -> str:
    """The SHA-256 of a file as hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def first_line(error: Exception) -> str:
    """The first line of an error, without control characters."""
    return printable((str(error).strip().splitlines() or [type(error).__name__])[0][:300])


def printable(text: object) -> str:
    """A text for the terminal: control characters and line breaks become backslash escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(text))


def guarded(script: str, command: Callable[[], int]) -> int:
    """Run a command line; an error becomes one sentence on stderr and exit status 2.

    Args:
        script: Name of the script.
        command: The command.

    Returns:
        The exit status.
    """
    try:
        return command()
    except (InputError, OSError) as error:
        said = str(error)
    except Exception as error:  # a defect of the script; with DEBUG it is shown in full
        if os.environ.get(DEBUG):
            raise
        said = f"unexpected {type(error).__name__} ({first_line(error)}); {DEBUG}=1 shows the full text, to report it."
    print(f"{script}: {printable(said)}", file=sys.stderr)
    return 2


def scores_of(artifact: Artifact, segment: np.ndarray) -> np.ndarray:
    """Scores [n_classes] of one segment, float32 [n_samples] in ±1: of the kind given by "output" in the sidecar."""
    return outputs_of(artifact, segment)[0]


def outputs_of(artifact: Artifact, segment: np.ndarray) -> list[np.ndarray]:
    """All outputs of the network for one segment.

    Args:
        artifact: The network.
        segment: Waveform, float32 [n_samples] in ±1.

    Returns:
        Scores [n_classes] and, for a network with embeddings, the embedding [width].

    Raises:
        InputError: The segment holds NaN or infinite samples, or the output of the network has another shape than its
            sidecar states, or NaN.
    """
    if not np.isfinite(segment).all():
        raise InputError("The recording holds NaN or infinite samples, for which no score is defined.")
    value = segment
    if artifact.sidecar["input"] == "features":
        value = log_mel(segment, artifact.sidecar["frontend"], artifact.constants)
        value = value.T if artifact.sidecar.get("axes") == "mel_first" else value
        value = np.repeat(value[..., None], artifact.sidecar["frontend"]["n_channels"], axis=-1)
    batch = artifact.network.shape[0] or 1
    rows = np.zeros((batch, *value.shape), np.float32)  # a fixed batch is filled with silence
    rows[0] = value
    try:
        outputs = [np.asarray(output) for output in artifact.network.forward(rows)]
    except Exception as error:  # each runtime raises classes of its own
        raise InputError(f"The network cannot be run ({first_line(error)}); export the run again.") from None
    shapes, wanted = [output.shape for output in outputs], [(batch, width) for width in artifact.network.widths]
    if shapes != wanted or any(output.dtype != np.float32 for output in outputs):
        raise InputError(f"The network must give float32 {wanted}, and gave {shapes}; export the run again.")
    if not all(np.isfinite(output[0]).all() for output in outputs):
        raise InputError("The network gave NaN or infinity, for which no score is defined; export the run again.")
    return [output[0].copy() for output in outputs]


def log_mel(waveform: np.ndarray, spec: dict[str, Any], constants: dict[str, np.ndarray]) -> np.ndarray:
    """Compute the features of a segment.

    Args:
        waveform: float32 [n_samples] in ±1. With "normalise_when" "clip", samples at its end that are exactly 0 are
            padding.
        spec: Settings, "frontend" of the sidecar.
        constants: Arrays of `<model>_frontend.npz`, float64.

    Returns:
        float32 [n_frames, n_mels].
    """
    x = waveform.astype(np.float64)
    if spec["preemphasis"]:
        x = np.concatenate([x[:1], x[1:] - spec["preemphasis"] * x[:-1]])
    if spec["pad_mode"] != "none":
        x = np.pad(x, spec["n_fft"] // 2, mode=spec["pad_mode"])
    frames = np.lib.stride_tricks.sliding_window_view(x, spec["n_fft"])[:: spec["hop_length"]]
    power = np.abs(np.fft.rfft(frames * constants["window"], axis=-1)) ** 2
    x = power @ constants["bands"].T
    behind = np.zeros((0, x.shape[1]))  # frames of padding
    if spec["normalise_when"] == "clip":
        last = np.flatnonzero(waveform)[-1] + 1 if waveform.any() else 0
        n_own = 1 + max(last, round(spec["min_clip_s"] * spec["sample_rate_hz"])) // spec["hop_length"]
        x, behind = x[:n_own], np.zeros_like(x[n_own:])
    x = compress(x, spec)
    if spec["normalise_when"] != "last":
        x = np.concatenate([normalize(x, spec), behind])
    if spec["keep_frames"]:
        x = keep_range(x, spec["keep_frames"], spec["keep_from"])
    if spec["normalise"] == "min_max":
        x = x - x.min()  # no effect on min_max, but keeps rounding errors of a resize out of a silent segment
    if "resize_frames" in constants:
        x = constants["resize_frames"] @ x
    if "resize_bands" in constants:
        x = x @ constants["resize_bands"].T
    if spec["normalise_when"] == "last":
        x = normalize(x, spec)
    return x.astype(np.float32)


def compress(x: np.ndarray, spec: dict[str, Any]) -> np.ndarray:
    """Compress band energies to dB or natural logarithm (floor, reference, range below the maximum), or by PCEN.

    Args:
        x: Band energies, float64 [n_frames, n_mels].
        spec: Settings, "frontend" of the sidecar.

    Returns:
        float64 [n_frames, n_mels].

    Raises:
        InputError: The compression is not supported.
    """
    if spec["compression"] == "none":
        return x
    if spec["compression"] == "pcen":
        return pcen(x, spec)
    if spec["compression"] not in ("db", "log"):
        raise InputError(
            f"This reader does not support the compression {spec['compression']!r}; use a newer reading.py."
        )
    x = np.log(np.maximum(x, spec["amin"]))
    unit = 10 / np.log(10)  # dB in one natural logarithm
    limit = spec["top_db"]
    if spec["compression"] == "db":
        x = x * unit
    else:
        limit = limit / unit
    if spec["ref"] == "max":
        x = x - x.max()
    return np.maximum(x, x.max() - limit) if spec["top_db"] else x


def pcen(x: np.ndarray, spec: dict[str, Any]) -> np.ndarray:
    """PCEN of band energies [n_frames, n_mels], as librosa.pcen (Wang et al. 2017, https://arxiv.org/abs/1607.05666)."""
    x = x * spec["pcen_scale"]
    frames = spec["pcen_time_constant_s"] * spec["sample_rate_hz"] / spec["hop_length"]
    rate = 2 / (1 + np.sqrt(1 + 4 * frames**2))
    mean = np.ones_like(x[0]) if spec["pcen_start"] == "one" else x[0]
    levels = np.empty_like(x)
    for t, row in enumerate(x):
        mean = levels[t] = (1 - rate) * mean + rate * row
    x = x * (levels + spec["pcen_eps"]) ** -spec["pcen_gain"]
    if spec["pcen_power"] == 0:
        return np.log1p(x)
    return spec["pcen_bias"] ** spec["pcen_power"] * np.expm1(spec["pcen_power"] * np.log1p(x / spec["pcen_bias"]))


def normalize(x: np.ndarray, spec: dict[str, Any]) -> np.ndarray:
    """Normalize one segment [n_frames, n_mels]; a constant segment becomes 0, or is unchanged by z_score."""
    eps = spec["normalise_eps"]
    if spec["normalise"] == "min_max":
        return (x - x.min()) / max(x.max() - x.min() + eps, 1e-12)
    if spec["normalise"] == "z_score":
        centered = x - x.min()  # a constant segment is then exactly 0
        centered = centered - centered.mean()
        deviation = np.sqrt(np.mean(centered**2))
        return centered / max(deviation, 1e-12) if deviation > eps else x
    if spec["normalise"] == "db_range":
        return np.clip((x + 80) / 100, 0, 1)
    return x


def keep_range(x: np.ndarray, n_frames: int, side: str) -> np.ndarray:
    """Keep a number of frames; a shorter segment is padded with zeros on the right, or on both sides for "centre".

    Args:
        x: Features [n_frames_in, n_mels].
        n_frames: Number of frames to keep.
        side: "start", or "centre" for the middle.

    Returns:
        [n_frames, n_mels].
    """
    start = max(0, len(x) - n_frames) // 2 if side == "centre" else 0
    x = x[start : start + n_frames]
    missing = n_frames - len(x)
    before = missing // 2 if side == "centre" else 0
    return np.pad(x, [(before, missing - before), (0, 0)])


def probabilities(logits: np.ndarray, activation: str) -> np.ndarray:
    """Probabilities of logits [..., n_classes]: "sigmoid" per class, "softmax" over the classes."""
    x = logits.astype(np.float64)
    if activation == "sigmoid":
        return 0.5 * (1 + np.tanh(0.5 * x))
    x = np.exp(x - x.max(axis=-1, keepdims=True))
    return x / x.sum(axis=-1, keepdims=True)


def calibrated(scores: np.ndarray, sidecar: dict[str, Any]) -> np.ndarray:
    """Calibrated probabilities of scores [..., n_classes], by the calibration in the sidecar.

    Args:
        scores: [..., n_classes], output of the network, logits or probabilities.
        sidecar: Content of MODEL.json, with "calibration".

    Returns:
        float64 [..., n_classes] in 0..1.
    """
    if sidecar["output"] == "logits" and sidecar["activation"] == "sigmoid":
        x = scores.astype(np.float64)
    else:
        p = scores if sidecar["output"] == "probabilities" else probabilities(scores, sidecar["activation"])
        p = p.astype(np.float64)
        x = np.log(np.maximum(p, 2.0**-126)) - np.log(np.maximum(1 - p, 2.0**-26))
    found = np.empty_like(x)
    for c, one in enumerate(sidecar["calibration"]["maps"]):
        if "slope" in one:
            found[..., c] = one["slope"] * x[..., c] + one["offset"]
        else:  # steps of isotonic regression, and a small slope that keeps different scores different
            found[..., c] = np.interp(x[..., c], one["from"], one["to"]) + 1e-3 * x[..., c]
    return probabilities(found, "sigmoid")


def check_calibration(path: Path, sidecar: dict[str, Any]) -> None:
    """Check the calibration in a sidecar.

    Args:
        path: The sidecar, for messages.
        sidecar: Content of MODEL.json.

    Raises:
        InputError: A value that `calibrated` reads is missing or wrong.
    """
    stored = sidecar["calibration"]
    maps = stored.get("maps") if isinstance(stored, dict) else None
    if not isinstance(maps, list) or stored.get("format") != 1 or len(maps) != len(sidecar["classes"]):
        raise InputError(f"{path}: 'calibration' is damaged or of another format; calibrate the file again.")
    if not all(_is_map(one) for one in maps):
        raise InputError(f"{path}: 'calibration' is damaged; calibrate the file again.")


def _is_map(one: Any) -> bool:
    """Whether a JSON value is the map of a class: a slope above 0 and an offset, or ascending steps."""
    if not isinstance(one, dict):
        return False
    if "slope" in one:
        return is_a(one["slope"], float) and one["slope"] > 0 and is_a(one.get("offset"), float)
    given, to = one.get("from"), one.get("to")
    if not (isinstance(given, list) and isinstance(to, list) and 1 <= len(given) == len(to)):
        return False
    if not all(is_a(number, float) for number in (*given, *to)):
        return False
    return bool((np.diff(given) > 0).all() and (np.diff(to) >= 0).all())


def read_audio(path: Path, sample_rate_hz: int) -> Recording:
    """Read a recording as mono.

    Args:
        path: WAV file, or any format of soundfile where that is installed.
        sample_rate_hz: Sample rate to resample to, that of the network.

    Returns:
        The recording.

    Raises:
        InputError: The file is missing, is not audio or has no samples, or soxr is needed and missing.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist.")
    try:
        import soundfile

        samples, rate = soundfile.read(str(path), dtype="float32", always_2d=True)
    except ImportError:
        samples, rate = _read_wav(path)
    except RuntimeError as error:
        raise InputError(f"{path} cannot be read as audio: {error}") from None
    if not len(samples):
        raise InputError(f"{path} holds no samples.")
    mono, duration_s = mix_to_mono(samples), len(samples) / rate
    if rate == sample_rate_hz:
        return Recording(mono, duration_s)
    try:
        import soxr
    except ImportError:
        raise InputError(
            f"{path} has {rate} Hz and the network was trained on {sample_rate_hz} Hz; "
            "pip install soxr, or convert the recording first."
        ) from None
    return Recording(soxr.resample(mono, rate, sample_rate_hz, quality="HQ").astype(np.float32), duration_s)


def mix_to_mono(samples: np.ndarray) -> np.ndarray:
    """Mean [n_samples] of the channels [n_samples, n_channels], or the loudest where they cancel each other."""
    mono, n_channels = samples.mean(axis=1, dtype=np.float32), samples.shape[1]
    power = np.square(samples, dtype=np.float64).sum(axis=0)
    if n_channels > 1 and np.square(mono, dtype=np.float64).sum() < 0.1 * power.sum() / n_channels**2:
        return np.ascontiguousarray(samples[:, power.argmax()])
    return mono


def _read_wav(path: Path) -> tuple[np.ndarray, int]:
    """Read PCM WAV with the standard library: float32 [n_samples, n_channels] in ±1, and the sample rate."""
    try:
        with wave.open(str(path), "rb") as file:
            width, n_channels, rate = file.getsampwidth(), file.getnchannels(), file.getframerate()
            raw = file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise InputError(
            f"{path} is not a PCM WAV file ({error}); pip install soundfile reads other formats."
        ) from None
    raw = raw[: len(raw) // (width * n_channels) * (width * n_channels)]
    if width == 1:
        samples = (np.frombuffer(raw, np.uint8).astype(np.float32) - 128) / 128
    else:
        wide = np.zeros((len(raw) // width, 4), np.uint8)
        wide[:, 4 - width :] = np.frombuffer(raw, np.uint8).reshape(-1, width)
        samples = (wide.view("<i4")[:, 0] / 2**31).astype(np.float32)
    return samples.reshape(-1, n_channels), rate


def score(artifact: Artifact, recording: Recording) -> list[tuple[float, float, np.ndarray]]:
    """(start_s, end_s, scores [n_classes]) of all segments in order."""
    return [(start, end, scores_of(artifact, segment)) for start, end, segment in cut_segments(artifact, recording)]


def cut_segments(artifact: Artifact, recording: Recording) -> Iterator[tuple[float, float, np.ndarray]]:
    """(start_s, end_s, waveform [n_samples]) of all segments in order; `end_s` is limited to the recording."""
    rate = artifact.sidecar["sample_rate_hz"]
    n_samples = round(artifact.sidecar["segment_s"] * rate)
    for start, n_real in cut_windows(len(recording.waveform), n_samples, n_samples, rate):
        end_s = min((start + n_real) / rate, recording.duration_s)
        yield start / rate, end_s, pad_to(recording.waveform[start : start + n_real], n_samples)


def cut_windows(n_total: int, n_samples: int, hop: int, sample_rate_hz: int) -> list[tuple[int, int]]:
    """Positions of the windows of a recording, by the same rule as in birdnet-fs.

    Window k starts at sample k * hop. Samples at the end that no whole window covers give one more window, padded with
    zeros, when they last at least min(1 s, half a window); fewer are dropped. Something shorter than one window gives
    one padded window.

    Args:
        n_total: Length of the recording in samples.
        n_samples: Length of a window in samples.
        hop: Samples from one window to the next, 1 to `n_samples`.
        sample_rate_hz: Rate of the recording.

    Returns:
        (first sample, number of real samples) of each window.
    """
    n_whole = max(0, (n_total - n_samples) // hop + 1)
    found = [(k * hop, n_samples) for k in range(n_whole)]
    start = n_whole * hop
    rest = n_total - (start - hop + n_samples if found else 0)
    if rest >= (min(sample_rate_hz, (n_samples + 1) // 2) if found else 1):
        found.append((start, n_total - start))
    return found


def pad_to(waveform: np.ndarray, n_samples: int) -> np.ndarray:
    """Pad a waveform [n] of at most `n_samples` with zeros on the right to [n_samples]."""
    return np.pad(waveform, (0, n_samples - len(waveform)))


def as_json(classes: list[str], rows: list[tuple[float, float, np.ndarray]], kind: str = "logits") -> dict[str, Any]:
    """All scores as JSON values.

    Args:
        classes: Class names.
        rows: (start_s, end_s, scores [n_classes]) of every segment.
        kind: Key of the scores, "logits" or "probabilities". Default: "logits".

    Returns:
        {"labels": [...], "segments": [{"start_s", "end_s", kind}, ...]}.
    """
    found = [{"start_s": a, "end_s": b, kind: [float(v) for v in row]} for a, b, row in rows]
    return {"labels": classes, "segments": found}


def as_text(names: list[str], rows: list[tuple[float, float, np.ndarray]], activation: str, top: int) -> Iterator[str]:
    """One line per segment with its times and best classes.

    Args:
        names: Names of the classes; control characters in them are escaped.
        rows: (start_s, end_s, scores [n_classes]) of every segment.
        activation: "sigmoid" or "softmax"; "" where the scores are probabilities.
        top: Number of classes per segment.

    Yields:
        The lines.
    """
    for start, end, row in rows:
        scores = probabilities(row, activation) if activation else row
        best = np.argsort(-scores, kind="stable")[: max(1, top)]
        shown = ", ".join(f"{printable(names[i])} {scores[i]:.3f}" for i in best)
        yield f"{start:8.2f} {end:8.2f}  {shown}"


def companion_file(stem: Path, ending: str) -> Path:
    """The sidecar of an artifact with this ending, such as "_Labels.txt"."""
    return stem.with_name(stem.name + ending)


def score_command(script: str, load: Callable[[Path], Artifact]) -> int:
    """Run the command line of run_tflite.py or run_onnx.py and return the exit status."""
    parser = argparse.ArgumentParser(prog=script, description="Score a recording with an exported network.")
    parser.add_argument("model", type=Path, help="the network, with the files named after it in its folder")
    parser.add_argument("audio", type=Path, help="recording: WAV, or any format of soundfile")
    parser.add_argument("--top", type=int, default=5, help="classes shown per segment")
    parser.add_argument("--json", action="store_true", help="all scores, as JSON")
    given = parser.parse_args()
    return guarded(script, lambda: _score_and_print(given, load))


def _score_and_print(given: argparse.Namespace, load: Callable[[Path], Artifact]) -> int:
    artifact = load(given.model)
    rows = score(artifact, read_audio(given.audio, artifact.sidecar["sample_rate_hz"]))
    kind = artifact.sidecar["output"]
    if "calibration" in artifact.sidecar:
        scores = calibrated(np.stack([row for _, _, row in rows]), artifact.sidecar)
        rows = [(start, end, row) for (start, end, _), row in zip(rows, scores, strict=True)]
        kind = "probabilities"
    if given.json:
        print(json.dumps(as_json(artifact.classes, rows, kind)))
        return 0
    activation = artifact.sidecar["activation"] if kind == "logits" else ""
    for line in as_text(artifact.names, rows, activation, given.top):
        print(line)
    return 0
