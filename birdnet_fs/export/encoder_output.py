"""What a joined encoder gives for each window, and how it becomes what the head reads.

The encoder ends with the values that the head needs, and with no others: its embedding, and behind it its own scores of
the classes that the head knows by them. The head reads these as logits (`encoders.open.Encoder.embed_and_logits`), so
the graph converts those of an encoder that gives probabilities.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from birdnet_fs.encoders.cards import EncoderCard
from birdnet_fs.encoders.open import SMALLEST


@dataclass(frozen=True)
class EncoderOutput:
    """The one output of a joined encoder.

    Attributes:
        card: Card of the encoder.
        own_columns: Places among the encoder's own scores of those that the head reads. Default: (), none.
    """

    card: EncoderCard
    own_columns: tuple[int, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the output for one window: (width + own scores,)."""
        return (self.card.width + len(self.own_columns),)

    def features(self, x: Any) -> Any:
        """What the head reads, as `EncoderFeatures.features` gives it.

        Args:
            x: Output of the encoder [batch, *shape], a tensor of the Keras backend or a symbolic one.

        Returns:
            Features [batch, *input_shape] of the head.
        """
        from keras import ops

        if not self.own_columns or self.card.activation == "logits":
            return x
        embedding, p = x[:, : self.card.width], x[:, self.card.width :]
        logits = ops.log(ops.maximum(p, SMALLEST))
        if self.card.activation == "sigmoid":
            logits = logits - ops.log(ops.maximum(1.0 - p, SMALLEST))
        return ops.concatenate([embedding, logits], axis=1)


def encoder_output(card: EncoderCard, job: Mapping[str, Any]) -> EncoderOutput:
    """The output of the encoder in a job of conversion.json.

    Args:
        card: Card of the encoder.
        job: The job; uses "own_columns". Default: none.

    Returns:
        The output.
    """
    return EncoderOutput(card, tuple(job.get("own_columns", ())))
