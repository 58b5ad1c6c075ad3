"""The network and its head; `models.check_model` refuses options that a network does not have."""

from dataclasses import dataclass, field
from typing import Literal

from birdnet_fs.schema.checks import check, check_largest
from birdnet_fs.schema.encoder_head import EncoderHead

MAX_CHANNELS = 4096  # of one block, four times the widest published variant; two such blocks have 150 million weights
MAX_BLOCKS = 16
ON_ENCODER = ("mlp", "probe", "attentive", "auto")  # heads that read the embeddings of model.encoder only
WITH_OWN_SCORES = ("linear", "mlp")  # heads that can read the scores of an encoder beside its embedding
LARGEST = {"channels": MAX_CHANNELS, "logit_scale": 1e30}  # a fitted scale may be any number


@dataclass(frozen=True)
class Model:
    """The network: architecture, head and initial weights."""

    name: str = "cnn/small"  # family or family/variant; `birdnet-fs models` lists them
    dropout: float = 0.2  # dropout rate before the last layer, 0 to below 1
    head: Literal["linear", "sed", "cosine", "prototypes", "mlp", "probe", "attentive", "auto"] = "linear"
    # sed: attention pooling over time, with logits for every step; cosine: logits are logit_scale x cosine
    # prototypes: logits are negative distances (or cosines) to one prototype per class
    # with model.encoder also mlp: one hidden layer; probe: several learned prototypes of a class; attentive: attention
    # over the tokens of an encoder that has them; auto: the best of all, chosen on grouped training folds
    logit_scale: float = 0.0  # factor of the logits; 0 = default: head=cosine 30 (80 with loss=circle), prototypes 1
    distance: Literal["euclidean", "cosine", "learned"] = "euclidean"  # head=prototypes; euclidean: squared distance
    unknown: bool = False  # head=prototypes: the last class is "none of the others"; set by enrollment
    channels: tuple[int, ...] = ()  # channels of the blocks of prototypical/*, as [128,256,512,1024]; () = default
    block_dropout: float = 0.1  # prototypical/v2: rate of spatial dropout in blocks and before the embedding, below 1
    trainable_mel: Literal["none", "log", "linear"] = "none"  # tilenet: a mel matrix that is trained with the network
    # needs frontend.bands=spectrum and compression=none; log: the logarithm of its energies is taken; linear: it is not
    weights: str = ""  # initial weights: run folder or published file (.h5, .weights.h5, .keras, .pth); empty = random
    encoder: str = ""  # file of a foreign encoder (.tflite, .onnx), or a run, instead of a network; several by commas
    encoder_card: str = ""  # what the encoder reads and gives (`birdnet-fs encoders`); empty = found by its content
    encoder_head: EncoderHead = field(default_factory=EncoderHead)  # how a head on model.encoder is fitted
    quantized: bool = False  # quantization-aware training (int8) from model.weights; set by `birdnet-fs quantize`

    def __post_init__(self) -> None:
        check(0 <= self.dropout < 1, "model.dropout must be in [0, 1)", self.dropout)
        check(self.logit_scale >= 0, "model.logit_scale must be 0 (default) or more", self.logit_scale)
        check(
            len(self.channels) <= MAX_BLOCKS and all(n >= 1 for n in self.channels),
            f"model.channels must be up to {MAX_BLOCKS} whole numbers of 1 or more",
            list(self.channels),
        )
        check_largest(self, "model.", LARGEST)
        check(0 <= self.block_dropout < 1, "model.block_dropout must be in [0, 1)", self.block_dropout)
        check(
            bool(self.encoder) or self.head not in ON_ENCODER,
            f"model.head={self.head} needs the embeddings of an encoder; set model.encoder=FILE, or another head",
            self.head,
        )
        check(
            not self.encoder or self.head != "sed",
            "model.head=sed needs frames of a network; with model.encoder use linear, cosine, prototypes, "
            f"{', '.join(ON_ENCODER)}",
            self.head,
        )
        check(
            self.encoder_head.own_scores == "none" or self.head in WITH_OWN_SCORES,
            f"model.encoder_head.own_scores needs model.head={' or '.join(WITH_OWN_SCORES)}, whose last layer is "
            "dense; set it to none, or choose that head",
            self.head,
        )
        check(
            bool(self.encoder) or not self.encoder_card,
            "model.encoder_card describes model.encoder, which is empty; set model.encoder=FILE",
            self.encoder_card,
        )
        check(
            bool(self.encoder) or not self.encoder_head.smote,
            "model.encoder_head.smote makes points between the embeddings of an encoder, and a network has none that "
            "stay: set model.encoder=FILE, or training.sampling or training.loss.class_weights for rare classes",
            self.encoder_head.smote,
        )
        check(
            not (self.encoder and self.quantized),
            "model.quantized trains a network in 8 bits; with model.encoder only the head is fitted; set it to false",
            self.quantized,
        )
        other = "or export the float run without further training: birdnet-fs export RUN --precision int8"
        check(not self.quantized or self.head == "linear", f"model.quantized needs head=linear; {other}", self.head)
