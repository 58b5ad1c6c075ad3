"""The encoder in front of the head of a run, as an export joins it to the head: one file of another project.

The encoder is joined as it is. So it must be a TFLite file for a target that loads TFLite, and an ONNX file for one
that loads ONNX; how many windows it takes per call stays as well.
"""

from dataclasses import dataclass
from pathlib import Path

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.text import escaped
from birdnet_fs.encoders.cards import EncoderCard
from birdnet_fs.encoders.labels import NO_CLASSES, OwnClasses
from birdnet_fs.encoders.open import fixed_batch
from birdnet_fs.encoders.reference import read_encoders
from birdnet_fs.inference.embedder import inspected
from birdnet_fs.inference.encoder_features import open_features
from birdnet_fs.runs.run import Run


@dataclass(frozen=True)
class EncoderPart:
    """The encoder that is joined in front of a head.

    Attributes:
        path: File of the encoder.
        card: Card of the file: rate, window, normalization and embedding.
        license: License of the encoder; "" for an exported file of this package.
        format: Format of the file, "tflite" or "onnx".
        sha256: SHA-256 of the file, 64 hexadecimal digits.
        batch: Windows per call that it takes; None = any number.
        own: The encoder's own scores that the head reads.
        tokens: Whether the head reads the tokens of the encoder.
    """

    path: Path
    card: EncoderCard
    license: str
    format: str
    sha256: str
    batch: int | None
    own: OwnClasses = NO_CLASSES
    tokens: bool = False

    @property
    def title(self) -> str:
        """Name of the encoder, printable."""
        return escaped(self.card.title)

    @property
    def license_sentence(self) -> str:
        """Sentence on the license for an export; "" for an exported file of this package."""
        if not self.license:
            return ""
        return (
            f"The file contains the encoder {self.title}, whose license is {escaped(self.license)}: pass it on as that "
            "license allows."
        )


def encoder_part(run: Run) -> EncoderPart | None:
    """The encoder of a run.

    UserErrors of `open_features` are passed on: the encoder was moved, or has changed since the training.

    Args:
        run: Any run.

    Returns:
        The encoder, or None for a network of this package.

    Raises:
        UserError: The encoder cannot be joined: there are several, it is a run, or it takes several windows per call
            and no other number.
    """
    if not run.experiment.model.encoder:
        return None
    features = open_features(run)
    names = ", ".join(escaped(each.name) for each in features.facts)
    if len(features.facts) > 1:
        raise UserError(
            f"A run on one encoder can be exported as one file; {escaped(run.path)} reads {len(features.facts)} "
            f"({names}): train the head on one of them (model.encoder=FILE)."
        )
    [facts], [place] = features.facts, features.places
    if facts.described is None:
        raise UserError(
            f"The encoder of {escaped(run.path)} is a run ({escaped(place)}); export that run as a file (birdnet-fs "
            "export RUN --embeddings), and train the head on the file."
        )
    file, card = inspected(place, facts.described)
    size = fixed_batch(file)
    if size > 1:
        raise UserError(
            f"The encoder of {escaped(run.path)} ({escaped(place)}) takes {size} windows per call and no other number, "
            "and programs pass one or any number: convert the encoder again with an open batch."
        )
    [stored] = read_encoders(run.path).encoders
    return EncoderPart(
        place, card, stored.license, file.format, file.sha256, size or None, features.own, features.n_tokens > 0
    )
