"""The head of a run on foreign encoders, and what few-shot methods compare: embeddings as the head transforms them."""

from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np

from birdnet_fs.core.errors import UserError
from birdnet_fs.data.manifest import Clip
from birdnet_fs.encoders.reference import RunEncoders, read_encoders
from birdnet_fs.inference.activations import to_probabilities
from birdnet_fs.inference.calibration.apply import calibrated_function
from birdnet_fs.inference.calibration.stored import Calibration, read_calibration
from birdnet_fs.inference.embed import Embedder
from birdnet_fs.inference.encode_clips import encode_clips
from birdnet_fs.inference.encoder_features import open_features
from birdnet_fs.inference.engine import NumpyFunction, build_on_device, lowered_network
from birdnet_fs.runs.run import Run


@dataclass(frozen=True, eq=False)
class OpenedHead:
    """The head of a run, ready to score embeddings.

    Attributes:
        classes: Class names in model order.
        activation: "softmax" or "sigmoid"; the latter for a calibrated head.
        encoders: The encoders in front of it, the shape of its input and the own scores that it reads.
        logits: Features float32 [n, *input_shape] -> logits float32 [n, n_classes].
        calibration: The calibration behind these logits; None = none.
    """

    classes: tuple[str, ...]
    activation: str
    encoders: RunEncoders
    logits: NumpyFunction
    calibration: Calibration | None = None

    @property
    def identity_of_encoder(self) -> str:
        """Identity of the one encoder in front of the head.

        Raises:
            UserError: There are several.
        """
        if len(self.encoders.encoders) > 1:
            raise UserError("The head reads the embeddings of several encoders, and a store holds those of one.")
        return self.encoders.encoders[0].identity

    @property
    def width(self) -> int:
        """Number of values of an embedding."""
        return self.encoders.input_shape[-1]

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """`logits` through the activation.

        Args:
            features: float32 [n, *input_shape].

        Returns:
            float32 [n, n_classes] in 0..1.
        """
        return to_probabilities(self.logits(features), self.activation).astype(np.float32)


def open_head(run: Run, *, threads: int = 0) -> OpenedHead:
    """Open the head of a run, without its encoders; UserErrors of `read_encoders` and `build_model` are passed on.

    Args:
        run: A run on encoders.
        threads: CPU threads of torch. Default: 0, left as they are.

    Returns:
        The head.

    Raises:
        UserError: The run is a network of its own, without an encoder.
    """
    if not run.experiment.model.encoder:
        raise UserError(f"{run.path} is a network of its own, not a head on an encoder (model.encoder).")
    logits_of, activation = lowered_network(build_on_device(run, threads=threads)), run.activation
    if (calibration := read_calibration(run.path, run.classes)) is not None:
        logits_of, activation = calibrated_function(logits_of, activation, calibration), "sigmoid"
    return OpenedHead(run.classes, activation, read_encoders(run.path), logits_of, calibration)


def run_embedder(run: Run, model: keras.Model) -> Embedder:
    """The embedder of a run; of a head on encoders, their embeddings as the head transforms them.

    Args:
        run: The run.
        model: Network of the run, from `run.build_model`.

    Returns:
        The embedder.
    """
    if not run.experiment.model.encoder:
        return Embedder(model, run.frontend)
    features, hop_s = open_features(run, own_scores=False), run.experiment.data.clip_hop_s

    def kept(clips: Sequence[Clip]) -> tuple[np.ndarray, np.ndarray]:
        encoded = encode_clips(features, clips, hop_s=hop_s)
        return encoded.features, encoded.n_windows

    return Embedder(model, run.frontend, features.features, kept)
