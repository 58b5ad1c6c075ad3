"""Score a recording with an exported TFLite network: NumPy and one runtime, nothing else.

    python run_tflite.py MODEL.tflite AUDIO.wav [--top 5] [--json]

Beside MODEL.tflite lie MODEL.json (how to feed it), MODEL_Labels.txt and, for a network that reads features,
MODEL_frontend.npz. The runtime is ai-edge-litert, or tflite-runtime where only that exists. WAV is read with the
standard library; other formats need soundfile, another sample rate needs soxr. Copy this file anywhere.
"""

import argparse
import hashlib
import json
import sys
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


class Refused(Exception):
    """What the user gave cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class Artefact:
    """An exported network, ready to run."""

    sidecar: dict[str, Any]
    labels: list[str]
    constants: dict[str, np.ndarray]
    interpreter: Any


def load(model: Path, *, verify: bool = True) -> Artefact:
    """Open MODEL.tflite with the files beside it; `verify` compares its SHA-256 with the sidecar's."""
    if model.suffix.lower() != ".tflite":
        raise Refused(f"MODEL must be a .tflite file. Received: {model}")
    stem = model.with_suffix("")
    for path in (model, beside(stem, ".json"), beside(stem, "_Labels.txt")):
        if not path.is_file():
            raise Refused(f"{path} is missing; copy the network together with the files named after it.")
    try:
        sidecar = json.loads(beside(stem, ".json").read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise Refused(f"{beside(stem, '.json')} is damaged; copy it again.") from None
    if sidecar.get("format") != 1 or sidecar.get("output") != "logits":
        raise Refused(f"{beside(stem, '.json')} is of a format this reader does not know; take a newer run_tflite.py.")
    if verify and hashlib.sha256(model.read_bytes()).hexdigest() != sidecar.get("sha256"):
        raise Refused(f"{model} is not the file its sidecar describes (SHA-256 differs); copy both again.")
    labels = beside(stem, "_Labels.txt").read_text(encoding="utf-8").splitlines()
    constants = {}
    if sidecar["input"] == "features":
        file = beside(stem, "_frontend.npz")
        if not file.is_file():
            raise Refused(f"{file} is missing; a network that reads features needs it.")
        with np.load(file, allow_pickle=False) as stored:
            constants = {key: stored[key].astype(np.float64) for key in stored.files}
    interpreter = open_runtime(model)
    shape = [int(n) for n in interpreter.get_input_details()[0]["shape"]]
    widths = [int(output["shape"][-1]) for output in interpreter.get_output_details()]
    n_classes, second = widths[0], sidecar.get("embeddings")
    if second and (len(widths) <= second["output"] or widths[second["output"]] != second["width"]):
        raise Refused(f"{model} does not give the embeddings its sidecar describes: the files do not belong together.")
    if shape != sidecar["input_shape"] or n_classes != len(labels) or n_classes != len(sidecar["classes"]):
        raise Refused(
            f"{model} reads {shape} and gives {n_classes} classes, but its sidecar says {sidecar['input_shape']} and "
            f"{len(sidecar['classes'])}, and {len(labels)} labels lie beside it: the files do not belong together."
        )
    return Artefact(sidecar, labels, constants, interpreter)


def open_runtime(model: Path) -> Any:
    """An interpreter for the file, on whichever runtime is installed."""
    try:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        extra: dict[str, Any] = {}
    except ImportError:
        try:
            from tflite_runtime.interpreter import Interpreter, OpResolverType
        except ImportError:
            raise Refused("A TFLite runtime is needed: pip install ai-edge-litert") from None
        # its default delegate is wrong, without a word, for convolutions whose stride is larger than their kernel
        extra = {"experimental_op_resolver_type": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES}
    interpreter = Interpreter(model_path=str(model), num_threads=1, **extra)
    interpreter.allocate_tensors()
    return interpreter


def logits_of(artefact: Artefact, segment: np.ndarray) -> np.ndarray:
    """Logits [n_classes] of one segment, a waveform float32 [n_samples] in +-1."""
    return answers_of(artefact, segment)[0]


def answers_of(artefact: Artefact, segment: np.ndarray) -> list[np.ndarray]:
    """Every output of the network for one segment: logits [n_classes] and, where it gives them, embeddings [width]."""
    if not np.isfinite(segment).all():
        raise Refused("The recording holds NaN or infinite samples; a network gives no meaning to those.")
    value = segment
    if artefact.sidecar["input"] == "features":
        value = log_mel(segment, artefact.sidecar["frontend"], artefact.constants)
        value = np.repeat(value[..., None], artefact.sidecar["frontend"]["n_channels"], axis=-1)
    given, wanted = artefact.interpreter.get_input_details()[0], artefact.interpreter.get_output_details()
    artefact.interpreter.set_tensor(given["index"], np.ascontiguousarray(value[None], np.float32))
    artefact.interpreter.invoke()
    return [artefact.interpreter.get_tensor(output["index"])[0].copy() for output in wanted]


def log_mel(waveform: np.ndarray, spec: dict[str, Any], constants: dict[str, np.ndarray]) -> np.ndarray:
    """Features float32 [n_frames, n_mels] of a waveform [n_samples], step by step as the sidecar's "frontend" says."""
    x = waveform.astype(np.float64)
    if spec["preemphasis"]:
        x = np.concatenate([x[:1], x[1:] - spec["preemphasis"] * x[:-1]])
    if spec["pad_mode"] != "none":
        x = np.pad(x, spec["n_fft"] // 2, mode=spec["pad_mode"])
    frames = np.lib.stride_tricks.sliding_window_view(x, spec["n_fft"])[:: spec["hop_length"]]
    power = np.abs(np.fft.rfft(frames * constants["window"], axis=-1)) ** 2
    x = compress(power @ constants["bands"].T, spec)
    if spec["normalise_when"] == "first":
        x = normalise(x, spec)
    if spec["keep_frames"]:
        x = keep(x, spec["keep_frames"], spec["keep_from"])
    if spec["normalise"] == "min_max":
        x = x - x.min()  # min_max undoes it; without it the rounding of a resize would fill a silent segment
    if "resize_frames" in constants:
        x = constants["resize_frames"] @ x
    if "resize_bands" in constants:
        x = x @ constants["resize_bands"].T
    if spec["normalise_when"] == "last":
        x = normalise(x, spec)
    return x.astype(np.float32)


def compress(x: np.ndarray, spec: dict[str, Any]) -> np.ndarray:
    """Band energies -> dB or natural log: floor, reference, limit below the segment's maximum; or PCEN."""
    if spec["compression"] == "none":
        return x
    if spec["compression"] == "pcen":
        return pcen(x, spec)
    if spec["compression"] not in ("db", "log"):
        raise Refused(f"This reader does not know the compression {spec['compression']!r}; take a newer run_tflite.py.")
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
    """Band energies [n_frames, n_mels] over their running mean, then a root; as librosa.pcen (Wang et al. 2017)."""
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


def normalise(x: np.ndarray, spec: dict[str, Any]) -> np.ndarray:
    """Over one segment: min_max, z_score, db_range or nothing. A constant segment becomes 0, or stays for z_score."""
    eps = spec["normalise_eps"]
    if spec["normalise"] == "min_max":
        return (x - x.min()) / max(x.max() - x.min() + eps, 1e-12)
    if spec["normalise"] == "z_score":
        centred = x - x.min()  # a constant segment is then exactly 0
        centred = centred - centred.mean()
        deviation = np.sqrt(np.mean(centred**2))
        return centred / max(deviation, 1e-12) if deviation > eps else x
    if spec["normalise"] == "db_range":
        return np.clip((x + 80) / 100, 0, 1)
    return x


def keep(x: np.ndarray, n_frames: int, side: str) -> np.ndarray:
    """The first or the middle `n_frames`; fewer are padded with zeros on the right, or on both sides."""
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


def read_audio(path: Path, sample_rate_hz: int) -> np.ndarray:
    """A recording as mono float32 [n_samples] in +-1 at the rate the network was trained for."""
    if not path.is_file():
        raise Refused(f"{path} does not exist.")
    try:
        import soundfile

        samples, rate = soundfile.read(str(path), dtype="float32", always_2d=True)
    except ImportError:
        samples, rate = _read_wav(path)
    except RuntimeError as error:
        raise Refused(f"{path} cannot be read as audio: {error}") from None
    if not len(samples):
        raise Refused(f"{path} holds no samples.")
    mono = mixed(samples)
    if rate == sample_rate_hz:
        return mono
    try:
        import soxr
    except ImportError:
        raise Refused(
            f"{path} has {rate} Hz and the network was trained on {sample_rate_hz} Hz; "
            "pip install soxr, or convert the recording first."
        ) from None
    return soxr.resample(mono, rate, sample_rate_hz, quality="HQ").astype(np.float32)


def mixed(samples: np.ndarray) -> np.ndarray:
    """The mean of the channels of [n_samples, n_channels], or the loudest where they cancel each other."""
    mono, n_channels = samples.mean(axis=1, dtype=np.float32), samples.shape[1]
    power = np.square(samples, dtype=np.float64).sum(axis=0)
    if n_channels > 1 and np.square(mono, dtype=np.float64).sum() < 0.1 * power.sum() / n_channels**2:
        return np.ascontiguousarray(samples[:, power.argmax()])
    return mono


def _read_wav(path: Path) -> tuple[np.ndarray, int]:
    """PCM WAV with the standard library: float32 [n_samples, n_channels] and the rate."""
    try:
        with wave.open(str(path), "rb") as file:
            width, n_channels, rate = file.getsampwidth(), file.getnchannels(), file.getframerate()
            raw = file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise Refused(f"{path} is not a PCM WAV file ({error}); pip install soundfile reads other formats.") from None
    raw = raw[: len(raw) // (width * n_channels) * (width * n_channels)]
    if width == 1:
        samples = (np.frombuffer(raw, np.uint8).astype(np.float32) - 128) / 128
    else:
        wide = np.zeros((len(raw) // width, 4), np.uint8)
        wide[:, 4 - width :] = np.frombuffer(raw, np.uint8).reshape(-1, width)
        samples = (wide.view("<i4")[:, 0] / 2**31).astype(np.float32)
    return samples.reshape(-1, n_channels), rate


def score(artefact: Artefact, waveform: np.ndarray) -> list[tuple[float, float, np.ndarray]]:
    """(start_s, end_s, logits) of segment after segment."""
    return [(start, end, logits_of(artefact, segment)) for start, end, segment in segments(artefact, waveform)]


def segments(artefact: Artefact, waveform: np.ndarray) -> Iterator[tuple[float, float, np.ndarray]]:
    """(start_s, end_s, waveform [n_samples]), one after the other; the last one is zero-padded."""
    rate, segment_s = artefact.sidecar["sample_rate_hz"], artefact.sidecar["segment_s"]
    n_samples = round(segment_s * rate)
    for start in range(0, len(waveform), n_samples):
        segment = waveform[start : start + n_samples]
        segment = np.pad(segment, (0, n_samples - len(segment)))
        yield start / rate, (start + n_samples) / rate, segment


def as_json(labels: list[str], rows: list[tuple[float, float, np.ndarray]]) -> dict[str, Any]:
    """Labels and every logit of every segment."""
    found = [{"start_s": a, "end_s": b, "logits": [float(v) for v in row]} for a, b, row in rows]
    return {"labels": labels, "segments": found}


def as_text(labels: list[str], rows: list[tuple[float, float, np.ndarray]], activation: str, top: int) -> Iterator[str]:
    """A line for each segment: its times and its `top` best classes."""
    for start, end, row in rows:
        chances = probabilities(row, activation)
        best = np.argsort(-chances, kind="stable")[: max(1, top)]
        names = ", ".join(f"{labels[i].partition('_')[2]} {chances[i]:.3f}" for i in best)
        yield f"{start:8.2f} {end:8.2f}  {names}"


def beside(stem: Path, ending: str) -> Path:
    """The file of an artefact that ends so."""
    return stem.with_name(stem.name + ending)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Score a recording with an exported TFLite network.")
    parser.add_argument("model", type=Path, help="MODEL.tflite, with the files named after it beside it")
    parser.add_argument("audio", type=Path, help="recording; WAV, or anything soundfile reads")
    parser.add_argument("--top", type=int, default=5, help="classes shown per segment")
    parser.add_argument("--json", action="store_true", help="all logits, as JSON")
    given = parser.parse_args()
    try:
        artefact = load(given.model)
        rows = score(artefact, read_audio(given.audio, artefact.sidecar["sample_rate_hz"]))
    except Refused as error:
        print(f"run_tflite.py: {error}", file=sys.stderr)
        return 2
    if given.json:
        print(json.dumps(as_json(artefact.labels, rows)))
        return 0
    for line in as_text(artefact.labels, rows, artefact.sidecar["activation"], given.top):
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
