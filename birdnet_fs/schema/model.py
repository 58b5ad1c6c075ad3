"""The network and its head; what a network does not have is refused by `models.check_model`."""

from dataclasses import dataclass
from typing import Literal

from birdnet_fs.schema.checks import check


@dataclass(frozen=True)
class Model:
    """The network."""

    name: str = "cnn/small"  # family or family/variant; `birdnet-fs models` lists them
    dropout: float = 0.2  # before the last layer
    head: Literal["linear", "sed", "cosine", "prototypes"] = "linear"
    # sed: attention over time, with logits of every step; cosine: logits are logit_scale x cosine
    # prototypes: logits fall with the distance to a point for each class
    logit_scale: float = 0.0  # of cosine and prototypes; 0 = that of training.loss (30, circle 80), prototypes 1
    distance: Literal["euclidean", "cosine", "learned"] = "euclidean"  # of head=prototypes; euclidean is squared
    unknown: bool = False  # of head=prototypes: the last class is "none of the others"; enrollment sets it
    channels: tuple[int, ...] = ()  # of the blocks of prototypical/*, as [128,256,512,1024]; () = those of the variant
    block_dropout: float = 0.1  # of prototypical/v2: of whole maps in a block, and in front of the embedding
    weights: str = ""  # a run folder or published weights (.h5, .weights.h5, .keras, .pth) to start from; empty = none
    quantized: bool = False  # learns as int8 computes, from model.weights on; `birdnet-fs quantize` sets it

    def __post_init__(self) -> None:
        check(0 <= self.dropout < 1, "model.dropout must be in [0, 1)", self.dropout)
        check(self.logit_scale >= 0, "model.logit_scale must be 0 (that of the loss) or more", self.logit_scale)
        check(0 <= self.block_dropout < 1, "model.block_dropout must be in [0, 1)", self.block_dropout)
        other = "export the float run without training: birdnet-fs export RUN --precision int8, dynamic or fp16"
        check(not self.quantized or self.head == "linear", f"model.quantized needs head=linear; {other}", self.head)
