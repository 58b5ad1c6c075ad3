"""A recipe for each family of networks on the ten species of birds10: distilled from an encoder, pretrained on xc171.

    birdnet-fs train config.py:xc171 data.root=../shared/data model.encoder=FILE -o runs/xc171_birdnet
    birdnet-fs cv config.py:birds10_birdnet data.root=../shared/data model.encoder=FILE -o runs/birds10_birdnet
    birdnet-fs cv config.py:birds10_resnet_18 data.root=../shared/data distillation.teacher=runs/birds10_birdnet
        pretrain.distillation.teacher=runs/xc171_birdnet

The two teachers are heads on FILE, for example BirdNET_GLOBAL_6K_V2.4_Model_FP32.tflite (`birdnet-fs encoders` names
its source), and every network learns their embeddings and probabilities of the training clips besides the labels.
Without teachers the recipes train on the labels alone. `python benchmarks/families.py` tunes and compares the recipes.
"""

from dataclasses import dataclass, replace
from typing import Literal

from birdnet_fs.schema import Distillation, Experiment, Float, Model, Optimizer, Schedule, Space, Training
from experiments.birds import birds10


@dataclass(frozen=True)
class Recipe:
    """Settings that differ between families. The learning rate was found by tuning; the others were not searched.

    Attributes:
        network: Network as "family/variant".
        learning_rate: Highest learning rate of the finetuning, above 0.
        pretrain_rate: Highest learning rate of the pretraining, above 0.
        pretrain_epochs: Epochs of the pretraining, 1 or more.
        epochs: Epochs of the finetuning, 1 or more.
        precision: Precision of the training; bfloat16 where it is faster on a CPU.
    """

    network: str
    learning_rate: float = 1e-3
    pretrain_rate: float = 2e-3
    pretrain_epochs: int = 14
    epochs: int = 30
    precision: Literal["float32", "bfloat16"] = "float32"


RECIPES = {
    "birds10_cnn_tiny": Recipe("cnn/tiny", 2e-3, pretrain_epochs=24, precision="bfloat16"),
    "birds10_cnn_small": Recipe("cnn/small", 0.00182994, pretrain_epochs=24, precision="bfloat16"),
    "birds10_efficientnet_b0": Recipe("efficientnet/b0"),
    "birds10_efficientnet_v2_b0": Recipe("efficientnet_v2/b0", 0.000873027, epochs=12),
    "birds10_ghost_efficientnet_v2": Recipe("ghost_efficientnet_v2/0.75", pretrain_epochs=8, epochs=15),
    "birds10_mobilenet_v1": Recipe("panns/mobilenet_v1", pretrain_rate=1e-3, precision="bfloat16"),
    "birds10_mobilenet_v2": Recipe("panns/mobilenet_v2", precision="bfloat16"),
    "birds10_cnn14": Recipe("panns/cnn14", 5e-4, 1e-3, pretrain_epochs=4, epochs=8, precision="bfloat16"),
    "birds10_resnet_18": Recipe("resnet/18", pretrain_rate=1e-3, precision="bfloat16"),
    "birds10_rnn_lstm": Recipe("rnn/lstm", 2e-3, pretrain_epochs=20),
    "birds10_rnn_gru": Recipe("rnn/gru", 2e-3, pretrain_epochs=20),
    "birds10_vit_tiny": Recipe("vit/tiny", 3e-4, 5e-4),
    "birds10_convnext_tiny": Recipe("convnext/tiny", 3e-4, 5e-4, pretrain_epochs=6, epochs=10),
}


def birds10_cnn_tiny(*, quick: bool = False) -> Experiment:
    """The smallest network, distilled and pretrained.

    Launch: birdnet-fs cv config.py:birds10_cnn_tiny data.root=../shared/data
    """
    return _experiment("birds10_cnn_tiny", quick=quick)


def birds10_cnn_small(*, quick: bool = False) -> Experiment:
    """The default network, distilled and pretrained.

    Launch: birdnet-fs cv config.py:birds10_cnn_small data.root=../shared/data
    """
    return _experiment("birds10_cnn_small", quick=quick)


def birds10_efficientnet_b0(*, quick: bool = False) -> Experiment:
    """EfficientNet-B0, distilled and pretrained.

    Launch: birdnet-fs cv config.py:birds10_efficientnet_b0 data.root=../shared/data
    """
    return _experiment("birds10_efficientnet_b0", quick=quick)


def birds10_efficientnet_v2_b0(*, quick: bool = False) -> Experiment:
    """EfficientNetV2-B0, distilled and pretrained.

    Launch: birdnet-fs cv config.py:birds10_efficientnet_v2_b0 data.root=../shared/data
    """
    return _experiment("birds10_efficientnet_v2_b0", quick=quick)


def birds10_ghost_efficientnet_v2(*, quick: bool = False) -> Experiment:
    """EfficientNetV2 with ghost modules, of width 0.75, distilled and pretrained.

    Launch: birdnet-fs cv config.py:birds10_ghost_efficientnet_v2 data.root=../shared/data
    """
    return _experiment("birds10_ghost_efficientnet_v2", quick=quick)


def birds10_mobilenet_v1(*, quick: bool = False) -> Experiment:
    """MobileNetV1 of PANNs, distilled and pretrained.

    Launch: birdnet-fs cv config.py:birds10_mobilenet_v1 data.root=../shared/data
    """
    return _experiment("birds10_mobilenet_v1", quick=quick)


def birds10_mobilenet_v2(*, quick: bool = False) -> Experiment:
    """MobileNetV2 of PANNs, distilled and pretrained.

    Launch: birdnet-fs cv config.py:birds10_mobilenet_v2 data.root=../shared/data
    """
    return _experiment("birds10_mobilenet_v2", quick=quick)


def birds10_cnn14(*, quick: bool = False) -> Experiment:
    """CNN14 of PANNs, distilled and pretrained.

    Launch: birdnet-fs cv config.py:birds10_cnn14 data.root=../shared/data
    """
    return _experiment("birds10_cnn14", quick=quick)


def birds10_resnet_18(*, quick: bool = False) -> Experiment:
    """ResNet-18, distilled and pretrained.

    Launch: birdnet-fs cv config.py:birds10_resnet_18 data.root=../shared/data
    """
    return _experiment("birds10_resnet_18", quick=quick)


def birds10_rnn_lstm(*, quick: bool = False) -> Experiment:
    """Two layers of LSTM, distilled and pretrained.

    Launch: birdnet-fs cv config.py:birds10_rnn_lstm data.root=../shared/data
    """
    return _experiment("birds10_rnn_lstm", quick=quick)


def birds10_rnn_gru(*, quick: bool = False) -> Experiment:
    """Two layers of GRU, distilled and pretrained.

    Launch: birdnet-fs cv config.py:birds10_rnn_gru data.root=../shared/data
    """
    return _experiment("birds10_rnn_gru", quick=quick)


def birds10_vit_tiny(*, quick: bool = False) -> Experiment:
    """ViT-Tiny, distilled and pretrained.

    Launch: birdnet-fs cv config.py:birds10_vit_tiny data.root=../shared/data
    """
    return _experiment("birds10_vit_tiny", quick=quick)


def birds10_convnext_tiny(*, quick: bool = False) -> Experiment:
    """ConvNeXt-T, distilled and pretrained.

    Launch: birdnet-fs cv config.py:birds10_convnext_tiny data.root=../shared/data
    """
    return _experiment("birds10_convnext_tiny", quick=quick)


def space_birds10_families() -> Space:
    """Search space of `python benchmarks/families.py`, on a part of the training clips of one fold."""
    return Space(
        {"training.learning_rate": Float(3e-4, 3e-3, log=True)},
        n_trials=2,
        pruner="none",
        sampler="random",
    )


def _experiment(name: str, *, quick: bool) -> Experiment:
    """The recipe of a name as an experiment."""
    recipe, base = RECIPES[name], birds10(quick=quick)
    first = base.pretrain
    assert first is not None
    spec = replace(base.frontend, segment_s=3.0, n_mels=64)  # 94 frames of 32 ms
    model = Model(recipe.network, dropout=0.2)
    distilled = Distillation(alpha=0.5, temperature=3.0, features=10.0)

    def training(rate: float, epochs: int) -> Training:
        return Training(
            epochs=1 if quick else epochs,
            batch_size=8,
            learning_rate=rate,
            optimizer=Optimizer(weight_decay=0.01),
            schedule=Schedule(warmup_epochs=1.0),
            precision=recipe.precision,
            threads=1,
        )

    return replace(
        base,
        name=name,
        frontend=spec,
        model=model,
        training=training(recipe.learning_rate, recipe.epochs),
        distillation=distilled,
        pretrain=replace(
            first,
            name=name.replace("birds10", "xc171"),
            frontend=spec,
            model=model,
            augmentation=base.augmentation,
            training=training(recipe.pretrain_rate, recipe.pretrain_epochs),
            distillation=distilled,
        ),
    )
