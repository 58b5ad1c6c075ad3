"""encoder.json of a run folder: the foreign encoders in front of its head, as references with hash and card.

The file of an encoder stays where the user has it. A copy in RUN/encoder, under the name of the file, is used instead
where there is one; whether it may be passed on is a question of its license, which encoder.json states.
"""

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from birdnet_fs import __version__
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import write_json
from birdnet_fs.core.json_file import read_json
from birdnet_fs.core.text import escaped

ENCODER, COPIES = "encoder.json", "encoder"  # file, and folder of copied encoders, in a run folder
FORMAT = 1
MAX_BYTES = 1_000_000
# settings that may be left to a choice on the training clips
CHOSEN = ("model.head", "model.logit_scale", "model.encoder_head.transform", "model.encoder_head.l2")
MAX_ENCODERS, MAX_SIZE = 16, 2**20  # encoders of a run; tokens x width of the input of a head


@dataclass(frozen=True)
class EncoderReference:
    """One encoder of a run.

    Attributes:
        name: Name of its card, or of an experiment for a run of this package.
        path: File or run folder where it was at the time of the training, absolute.
        card: Fields of its card as JSON; {} for a run folder.
        identity: Text that changes when an embedding does (SHA-256 of the file and of the card).
        license: License of the file; "" for a run or an exported file of this package.
        sample_rate_hz: Samples per second of the waveforms.
        segment_s: Length of a window in seconds.
        width: Number of values of an embedding.
    """

    name: str
    path: str
    card: dict[str, Any]
    identity: str
    license: str
    sample_rate_hz: int
    segment_s: float
    width: int


@dataclass(frozen=True)
class RunEncoders:
    """The encoders of a run, and what its head reads.

    Attributes:
        encoders: One or more.
        input_shape: Shape of the input of the head without the batch: (width,), or (n_tokens, width).
        own_classes: Class of each of the encoder's own scores that the head reads, behind the embedding, named as in
            the encoder's labels. Default: ().
        own_columns: Their places among the encoder's own scores. Default: ().
        asked: Settings, by key, that the experiment left to a choice on the training clips, as {"model.head": "auto"};
            config.json holds what was chosen. Default: {}.
        choices: The candidates of each choice and their scores, as JSON. Default: {}.
    """

    encoders: tuple[EncoderReference, ...]
    input_shape: tuple[int, ...]
    own_classes: tuple[str, ...] = ()
    own_columns: tuple[int, ...] = ()
    asked: dict[str, Any] = field(default_factory=dict)
    choices: dict[str, Any] = field(default_factory=dict)


def encoder_paths(encoder: str) -> tuple[str, ...]:
    """The paths in a setting `model.encoder`: one, or several separated by commas.

    >>> encoder_paths("a.tflite, b.onnx")
    ('a.tflite', 'b.onnx')
    """
    if encoder and Path(encoder).exists():
        return (encoder,)
    return tuple(path.strip() for path in encoder.split(",") if path.strip())


def write_encoders(folder: Path, found: RunEncoders) -> None:
    """Write the encoder.json of a run."""
    write_json(folder / ENCODER, {"format": FORMAT, "birdnet_fs": __version__, **dataclasses.asdict(found)})


def read_encoders(folder: Path) -> RunEncoders:
    """Read the encoder.json of a run.

    Args:
        folder: The run folder.

    Returns:
        The encoders.

    Raises:
        UserError: The file is missing, damaged or of a newer format.
    """
    file = folder / ENCODER
    again = "copy the run again"
    if not file.is_file():
        raise UserError(f"{escaped(folder)} is a run on an encoder, and its {ENCODER} is missing; {again}.")
    found = read_json(file, again, max_bytes=MAX_BYTES)
    if not isinstance(found, dict) or type(found.get("format")) is not int:
        raise UserError(f"{escaped(file)} does not describe encoders; {again}.")
    if found["format"] > FORMAT:
        raise UserError(f"{escaped(file)} has format {found['format']}, of a newer birdnet_fs; update birdnet_fs.")
    rows, shape, names, columns = (found.get(k) for k in ("encoders", "input_shape", "own_classes", "own_columns"))
    if not (isinstance(rows, list) and 1 <= len(rows) <= MAX_ENCODERS):
        raise UserError(f"{escaped(file)}: 'encoders' must list 1 to {MAX_ENCODERS} encoders; {again}.")
    right = isinstance(shape, list) and len(shape) in (1, 2) and all(type(n) is int and n > 0 for n in shape)
    if not isinstance(shape, list) or not right or math.prod(shape) > MAX_SIZE:
        raise UserError(f"{escaped(file)}: 'input_shape' must be [width] or [n_tokens, width]; {again}.")
    names, columns = names or [], columns or []
    right = isinstance(names, list) and isinstance(columns, list) and len(names) == len(columns)
    if not right or not all(isinstance(n, str) for n in names) or not all(type(c) is int and c >= 0 for c in columns):
        raise UserError(f"{escaped(file)}: 'own_classes' and 'own_columns' must be lists of one length; {again}.")
    encoders = tuple(_reference(file, row) for row in rows)
    asked, choices = found.get("asked") or {}, found.get("choices") or {}
    if not isinstance(asked, dict) or not isinstance(choices, dict) or not set(asked) <= set(CHOSEN):
        raise UserError(f"{escaped(file)}: 'asked' and 'choices' must be JSON objects of settings; {again}.")
    return RunEncoders(encoders, tuple(shape), tuple(names), tuple(columns), asked, choices)


def _reference(file: Path, row: Any) -> EncoderReference:
    kinds: dict[str, Any] = {"card": dict, "sample_rate_hz": int, "width": int, "segment_s": (int, float)}
    for each in dataclasses.fields(EncoderReference):
        value = row.get(each.name) if isinstance(row, dict) else None
        right = isinstance(value, kinds.get(each.name, str)) and not isinstance(value, bool)
        if not right or (isinstance(value, int | float) and not 0 < value < 1e7):
            raise UserError(f"{escaped(file)}: {each.name!r} is missing or wrong; copy the run again.")
    return EncoderReference(**{each.name: row[each.name] for each in dataclasses.fields(EncoderReference)})


def place_of(run: Path, encoder: EncoderReference) -> Path:
    """The file or folder of an encoder: the copy in the run where there is one, else where it was.

    Args:
        run: The run folder.
        encoder: One of its encoders.

    Returns:
        An existing path.

    Raises:
        UserError: The encoder is in neither place.
    """
    copy = run / COPIES / Path(encoder.path).name
    for place in (copy, Path(encoder.path)):
        if place.exists() and not (place == copy and place.is_symlink()):
            return place
    raise UserError(
        f"The encoder of {escaped(run)} ({escaped(encoder.name)}) was {escaped(encoder.path)}, and is not there any "
        f"more; put the file back, or copy it to {escaped(copy)}."
    )
