"""Output of a joined encoder for each window, and its conversion to the input of the head.

The encoder ends with the values that the head needs, and with no others: its embedding, and behind it its own scores of
the classes that it shares with the head; or its tokens. The head reads scores as logits
(`encoders.open.Encoder.embed_and_logits`), and of the tokens of a time step the mean over frequency
(`encoders.tokens`), so the graph converts both.
"""

import math
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
        tokens: Whether the head reads tokens, the shape of which the card states. Default: False.
    """

    card: EncoderCard
    own_columns: tuple[int, ...] = ()
    tokens: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the output for one window: (width + own scores,), or that of the tokens."""
        return self.card.tokens if self.tokens else (self.card.width + len(self.own_columns),)

    def features(self, x: Any) -> Any:
        """Input of the head, as `EncoderFeatures.features` gives it.

        Args:
            x: Output of the encoder [batch, *shape], a tensor of the Keras backend or a symbolic one.

        Returns:
            Features [batch, *input_shape] of the head.
        """
        from keras import ops

        if self.tokens:
            n_tokens, width = self.card.tokens[0], self.card.tokens[-1]
            return ops.mean(ops.reshape(x, (-1, n_tokens, math.prod(self.card.tokens[1:-1]), width)), axis=2)
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
        job: The job; uses "own_columns" (default: none) and "tokens" (default: False).

    Returns:
        The output.
    """
    return EncoderOutput(card, tuple(job.get("own_columns", ())), bool(job.get("tokens")))
