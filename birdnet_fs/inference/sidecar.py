"""The sidecar `X.json` of an exported file, which may come from a stranger: every value is checked before use."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from birdnet_fs import __version__, schema
from birdnet_fs.core.class_names import check_class_names
from birdnet_fs.core.errors import UserError, shown
from birdnet_fs.core.files import sha256
from birdnet_fs.core.json_file import read_json
from birdnet_fs.core.text import escaped
from birdnet_fs.inference.activations import ACTIVATIONS
from birdnet_fs.inference.calibration.stored import Calibration, parse_calibration
from birdnet_fs.runs.classes_file import MAX_CLASSES
from birdnet_fs.runs.config_file import newer_sentence, newer_version

FORMAT = 1
_TYPES: dict[str, type | tuple[type, ...]] = {
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
_OPTIONS = {
    "input": ("waveform", "features"),
    "output": ("logits", "probabilities"),
    "activation": ACTIVATIONS,
}
AXES = ("time_first", "mel_first")  # of features; a file without the key has the first


@dataclass(frozen=True)
class Sidecar:
    """Content of a sidecar.

    Attributes:
        sha256: SHA-256 of the file, lower case.
        classes: Class names in the order of the scores.
        frontend: The front-end.
        input: "waveform" or "features".
        output: "logits" or "probabilities".
        activation: "softmax" or "sigmoid".
        mel_first: Whether features are [n_mels, n_frames] instead of [n_frames, n_mels].
        one_label: Whether a clip has one label.
        embedding_width: Number of values of the embeddings, the second output; 0 = the file gives none.
        calibration: Calibration of the output, which is not in the file itself; None = none.
    """

    sha256: str
    classes: tuple[str, ...]
    frontend: schema.FrontEnd
    input: str
    output: str
    activation: str
    mel_first: bool
    one_label: bool
    embedding_width: int
    calibration: Calibration | None = None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the input for one segment."""
        if self.input == "waveform":
            return (self.frontend.n_samples,)
        n_frames, n_mels = self.frontend.shape
        return (*((n_mels, n_frames) if self.mel_first else (n_frames, n_mels)), self.frontend.n_channels)


def read_sidecar(model: Path) -> Sidecar:
    """Read and check the sidecar of an exported file.

    Args:
        model: `X.tflite` or `X.onnx`.

    Returns:
        The checked values of `X.json`.

    Raises:
        UserError: The sidecar is missing or damaged, or a value is missing or wrong; where a newer version wrote the
            sidecar, the message names the version.
    """
    path = model.with_suffix(".json")
    if not path.is_file():
        raise UserError(
            f"{escaped(model)} needs its sidecar {escaped(path.name)} in the same folder; copy it from where it was "
            "exported."
        )
    values = read_json(path, "copy it again")
    try:
        return _checked(path, values)
    except UserError as error:
        newer = newer_version(values.get("versions") if isinstance(values, dict) else None)
        raise UserError(f"{newer_sentence(path, newer)} ({str(error).rstrip('.')}).") if newer else error from None


def check_hash(model: Path, sidecar: Sidecar) -> str:
    """Check that a file is the one that its sidecar describes.

    Args:
        model: The file.
        sidecar: Sidecar of the file.

    Returns:
        SHA-256 of the file, 64 hexadecimal digits.

    Raises:
        UserError: The hash differs.
    """
    found = sha256(model)
    if found != sidecar.sha256:
        raise UserError(f"{escaped(model)} is not the file its sidecar describes (SHA-256 differs); copy both again.")
    return found


def _checked(path: Path, values: Any) -> Sidecar:
    for key, kind in _TYPES.items():
        value = values.get(key) if isinstance(values, dict) else None
        if not isinstance(value, kind) or isinstance(value, bool):
            raise UserError(f"{escaped(path)}: {key!r} is missing or of the wrong type; export the run again.")
    if values["format"] != FORMAT:
        raise UserError(
            f"{escaped(path)}: 'format' must be {FORMAT}. Received: {values['format']}; this is birdnet_fs "
            f"{__version__}: install a newer version, or export the run again."
        )
    for key, known in _OPTIONS.items():
        if values[key] not in known:
            raise UserError(f"{escaped(path)}: {key!r} must be {' or '.join(known)}. Received: {shown(values[key])}")
    axes = values.get("axes", AXES[0])
    if axes not in AXES or (axes == AXES[1] and values["input"] == "waveform"):
        raise UserError(
            f"{escaped(path)}: 'axes' must be {' or '.join(AXES)}, and {AXES[1]} needs 'input' features. Received: "
            f"{shown(axes)} with {values['input']}"
        )
    one_label = values.get("one_label", False)
    if not isinstance(one_label, bool):
        raise UserError(f"{escaped(path)}: 'one_label' must be true or false. Received: {shown(one_label)}")
    second = values.get("embeddings") or {}
    width = second.get("width", 0) if isinstance(second, dict) else None
    if type(width) is not int or width < 0:
        raise UserError(f"{escaped(path)}: 'embeddings' must have a 'width'. Received: {shown(second)}")
    names = values["classes"]
    if not names or not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
        raise UserError(f"{escaped(path)}: 'classes' must name one or more classes, each once.")
    try:
        if len(names) > MAX_CLASSES:
            raise UserError(f"there must be {MAX_CLASSES:,} classes or fewer. Received: {len(names):,}")
        check_class_names(names)
        spec = schema.FrontEnd.from_artifact(values["frontend"])
    except UserError as error:
        raise UserError(f"{escaped(path)}: {error}") from None
    if (spec.sample_rate_hz, spec.segment_s) != (values["sample_rate_hz"], float(values["segment_s"])):
        raise UserError(f"{escaped(path)} gives two sample rates or segment lengths; export the run again.")
    return Sidecar(
        sha256=values["sha256"].lower(),
        classes=tuple(names),
        frontend=spec,
        input=values["input"],
        output=values["output"],
        activation=values["activation"],
        mel_first=axes == AXES[1],
        # a softmax may be exported as log-odds, which a sigmoid turns into its probabilities
        one_label=values["activation"] == "sigmoid" and one_label,
        embedding_width=width,
        calibration=parse_calibration(values["calibration"], path, names) if "calibration" in values else None,
    )
