"""Settings of a Tile2Vec training, and the experiment that its run holds."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.settings import from_dict, to_dict
from birdnet_fs.frontend.presets import preset
from birdnet_fs.motifs.triplet_loss import L2, MARGIN
from birdnet_fs.schema import networks
from birdnet_fs.schema.checks import check
from birdnet_fs.schema.networks import embedding_width

FAMILY = "tilenet"
OTHER_FRONT_END = "cnn_32k"  # of networks other than TileNet
HOP_LENGTH = {"v2": 2474, "v4": 2474, "v5": 1227}  # of the published front-ends; the others are those of the preset


@dataclass(frozen=True)
class Tile2VecSettings:
    """Settings of the training of a TileNet on triplets; the defaults are the document's unless stated."""

    variant: Literal["v2", "v4", "v5"] = "v2"  # sizes of models/tilenet.py
    compression: Literal["log", "none"] = "log"  # of the mel energies; none: linear power, as in the document
    seed: int = 42  # seed of all random streams
    epochs: int = 20  # largest number of epochs
    n_batches: int = (
        500  # batches of an epoch, whatever the number of recordings; the document's number depended on time
    )
    batch_size: int = 64  # triplets of a batch, 2 or more
    learning_rate: float = 1e-3  # at the start, above 0
    schedule: Literal["step", "cosine", "constant", "onecycle"] = "step"  # course of the learning rate
    step_factor: float = 0.1  # schedule=step: factor after every step_epochs epochs
    step_epochs: int = 1  # schedule=step: epochs between two steps
    mel_rate: float = 0.01  # learning rate of the mel matrix, as a factor; the document's is 1
    beta1: float = 0.5  # of AdamW
    beta2: float = 0.999  # of AdamW
    weight_decay: float = 0.01  # of AdamW, torch's default
    margin: float = MARGIN  # of the triplet loss
    l2: float = L2  # weight of the norms in the loss
    patience: int = 3  # epochs without a lower validation loss after which training stops; 0 = never
    val_fraction: float = 0.1  # recordings held out for the validation loss, 0 to below 1
    shift_s: float = 1.0  # largest time shift of a segment in either direction, seconds
    augment: bool = True  # gain, noise and pitch of anchors and neighbors
    background: str = ""  # folder of recordings without calls, for the noise; empty = colored noise
    distant: Literal["row", "batch"] = "row"  # distant segments: row: one for each anchor, as in the document
    # batch: anchors and neighbors of all rows of other recordings, whose embeddings are there already
    network: str = ""  # another network instead of TileNet, as cnn/small, on its fixed log-mel features
    n_queue: int = 32  # recordings whose rows are mixed at a time
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # auto: bfloat16 on a GPU that has it, else float32
    threads: int = 0  # CPU threads of torch; 0 = torch's default

    def __post_init__(self) -> None:
        for name in ("epochs", "n_batches", "n_queue", "step_epochs"):
            check(getattr(self, name) >= 1, f"{name} must be 1 or more", getattr(self, name))
        check(2 <= self.batch_size <= 65_536, "batch_size must be 2 to 65536 triplets", self.batch_size)
        for name in ("learning_rate", "mel_rate", "step_factor"):
            check(0 < getattr(self, name) <= 1e3, f"{name} must be above 0", getattr(self, name))
        for name in ("beta1", "beta2", "val_fraction"):
            check(0 <= getattr(self, name) < 1, f"{name} must be in [0, 1)", getattr(self, name))
        for name in ("weight_decay", "margin", "l2", "patience", "shift_s", "threads"):
            check(getattr(self, name) >= 0, f"{name} must be 0 or more", getattr(self, name))
        if self.network:
            networks.resolve(self.network)
        check(0 <= self.seed < 2**32, "seed must be in 0..4294967295", self.seed)

    @property
    def frontend(self) -> schema.FrontEnd:
        """The power spectrum that the trainable mel matrix reads; log-mel features for another network."""
        if self.network:
            return preset(OTHER_FRONT_END)
        published = preset(FAMILY)
        return dataclasses.replace(
            published,
            preset="custom",
            hop_length=HOP_LENGTH[self.variant],
            bands="spectrum",
            n_mels=published.n_fft // 2 + 1,
            compression="none",
        )

    @property
    def width(self) -> int:
        """Width of the embedding."""
        return embedding_width(self.network or f"{FAMILY}/{self.variant}")

    def experiment(self, name: str) -> schema.Experiment:
        """The experiment of a run of this name: network and front-end, from which the run is opened."""
        return schema.Experiment(
            name=name,
            seed=self.seed,
            frontend=self.frontend,
            model=schema.Model(name=self.network, head="prototypes")
            if self.network
            else schema.Model(
                name=f"{FAMILY}/{self.variant}",
                trainable_mel="log" if self.compression == "log" else "linear",
                head="prototypes",
            ),
        )

    def same_training(self, other: "Tile2VecSettings") -> bool:
        """Whether another training has the same result; the number of threads does not count."""
        return dataclasses.replace(self, threads=0) == dataclasses.replace(other, threads=0)

    def to_json(self) -> dict[str, Any]:
        """The settings as plain JSON values."""
        return to_dict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Tile2VecSettings":
        """Settings from the output of `to_json`; an unknown key or a wrong value raises UserError."""
        return from_dict(cls, value, "tile2vec.")


def variant_of_width(variant: str | None, width: int | None) -> Literal["v2", "v4", "v5"]:
    """Choose a variant by name, by the width of its embedding, or both.

    Args:
        variant: "v2", "v4" or "v5"; None: the smallest of this width.
        width: Width of the embedding; None: that of the variant.

    Returns:
        The variant; v2 where nothing is given.

    Raises:
        UserError: There is no such variant, or none of this width.
    """
    names: tuple[Literal["v2"], Literal["v4"], Literal["v5"]] = ("v2", "v4", "v5")
    widths = {name: embedding_width(f"{FAMILY}/{name}") for name in names}
    for name in names:
        if variant in (None, name) and width in (None, widths[name]):
            return name
    known = ", ".join(f"{name} has {n}" for name, n in widths.items())
    raise UserError(f"--variant and --dim must fit: {known} dimensions. Received: {variant or 'any'} with {width}")
