"""The head on a foreign encoder: how its numbers are fitted; used with `model.encoder` only."""

from dataclasses import dataclass
from typing import Literal

from birdnet_fs.schema.checks import check, check_largest

LARGEST = {"l2": 1e6, "hidden": 8192, "n_prototypes": 64, "n_queries": 64, "epochs": 100_000, "n_views": 1000}


@dataclass(frozen=True)
class EncoderHead:
    """Fitting of a head on embeddings that stay as the encoder gives them."""

    transform: Literal["auto", "none", "sqrt"] = "auto"  # sqrt: of embeddings without negative values; auto: if so
    combine: Literal["concatenate", "average"] = "concatenate"  # embeddings of several encoders
    l2: float = 0.0  # head=linear: weight of half the squared weights; 0 = chosen on grouped training folds
    hidden: int = 256  # head=mlp: units of the hidden layer
    n_prototypes: int = 4  # head=probe: prototypes of a class
    n_queries: int = 4  # head=attentive: learned queries, each of which pools the tokens in its own way
    epochs: int = 50  # head=mlp, attentive: passes over the training windows
    learning_rate: float = 1e-2  # head=mlp, attentive: highest rate, of AdamW
    mixup: float = 0.4  # head=mlp, attentive: alpha of mixup on embeddings; 0 = none
    n_views: int = 0  # augmented copies of each training clip, by the settings of augmentation that change waveforms
    smote: bool = False  # synthetic clips of rarer classes, up to the clips of the most frequent one; one label a clip
    own_scores: Literal["none", "blend", "features"] = "none"  # scores of the encoder for classes of its labels
    # blend: weighted mean of the logits of both, calibrated; the weight is chosen on grouped training folds
    # features: inputs of the last layer beside the embedding, and fitted with it
    labels: str = ""  # file with the names of the encoder's own classes, one a line; empty = beside the encoder

    def __post_init__(self) -> None:
        at_least = {"l2": 0, "hidden": 1, "n_prototypes": 1, "n_queries": 1, "epochs": 1, "mixup": 0, "n_views": 0}
        for name, least in at_least.items():
            check(
                getattr(self, name) >= least,
                f"model.encoder_head.{name} must be {least} or more",
                getattr(self, name),
            )
        check(
            0 < self.learning_rate <= 1, "model.encoder_head.learning_rate must be above 0, up to 1", self.learning_rate
        )
        check_largest(self, "model.encoder_head.", LARGEST)
