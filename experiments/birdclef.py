"""BirdCLEF 2025 on Kaggle."""

from dataclasses import replace
from typing import Any

from birdnet_fs.frontend import preset
from birdnet_fs.schema import (
    Augmentation,
    Categorical,
    Data,
    Experiment,
    Float,
    Levels,
    Masks,
    Mixup,
    Model,
    Optimizer,
    Schedule,
    Space,
    Training,
)


def birdclef2025(*, quick: bool = False) -> Experiment:
    """EfficientNet-B0 for the BirdCLEF 2025 competition on Kaggle.

    Launch: birdnet-fs train config.py:birdclef2025 data.root=FOLDER
    """
    return Experiment(
        name="birdclef2025",
        seed=42,
        data=Data(root="birdclef-2025", table="train.csv", layout="birdclef", multi_label=True, n_folds=5, fold=0),
        frontend=preset("birdclef2025"),
        model=Model("efficientnet/b0", dropout=0.2),
        augmentation=Augmentation(
            features_p=0.5,
            time_masks=Masks(3, lengths=(5, 20), fewer=True, p=0.5, fill="zero"),
            freq_masks=Masks(3, lengths=(5, 20), fewer=True, p=0.5, fill="zero"),
            levels=Levels(0.5, gain=(0.8, 1.2), bias=(-0.1, 0.1)),
            mixup=Mixup(0.5, alpha=0.5, on="features", labels="shares", per="batch"),
        ),
        training=Training(
            epochs=2 if quick else 10,
            batch_size=32,
            learning_rate=5e-4,
            optimizer=Optimizer(weight_decay=1e-5),
            schedule=Schedule(warmup_epochs=0),
        ),
        debug=quick,
    )


def birdclef2025_rnn(*, quick: bool = False) -> Experiment:
    """Two layers of LSTM (256, 128) on 256 frames of 128 mels, for the same competition.

    Launch: birdnet-fs train config.py:birdclef2025_rnn data.root=FOLDER

    The document also names GRU and three layers: model=rnn/gru, model=rnn/lstm3.
    """
    b0 = birdclef2025(quick=quick)
    return replace(
        b0,
        name="birdclef2025_rnn",
        frontend=replace(b0.frontend, preset="birdclef2025_rnn", resize=(256, 128)),
        model=Model("rnn/lstm", dropout=0.3),
    )


def birdclef2025_vit(*, quick: bool = False) -> Experiment:
    """Vision Transformer on 256 x 256, patches of 16, for the same competition.

    Launch: birdnet-fs train config.py:birdclef2025_vit data.root=FOLDER

    The document starts from weights of ImageNet: model.weights=FILE (docs/weights.md), of vit/base also those of
    torchvision and keras_hub. It gives no learning rate; that of efficientnet/b0 is too high for attention.
    """
    b0 = birdclef2025(quick=quick)
    return replace(
        b0,
        name="birdclef2025_vit",
        model=Model("vit/small", dropout=0.2),
        training=replace(b0.training, learning_rate=1e-4, schedule=Schedule(warmup_epochs=1)),
    )


def space_birdclef2025() -> Space:
    """Search space of the BirdCLEF 2025 design document: 50 random trials.

    Launch: birdnet-fs tune config.py:birdclef2025 data.root=FOLDER data.val_fraction=0.2

    Learning rate, batch size, dropout, optimizer and schedule. The exponential schedule of the document is a step after
    every epoch; its rate is not specified there, and is chosen to reach 1/100 after the last epoch. RMSprop uses a
    decay of 0.9, the default of Keras.
    """
    return Space(
        {
            "training.learning_rate": Float(1e-5, 1e-2, log=True),
            "training.batch_size": Categorical((16, 32, 64)),
            "model.dropout": Float(0.1, 0.5),
            "training.optimizer": Categorical(("adam", "adamw", "rmsprop")),
            "training.schedule": Categorical(("cosine", "step")),
        },
        derive=_of_birdclef2025,
        n_trials=50,
        sampler="random",
    )


def _of_birdclef2025(drawn: dict[str, Any], experiment: Experiment) -> dict[str, Any]:
    smoothing = {"training.optimizer.beta2": 0.9} if drawn["training.optimizer"] == "rmsprop" else {}
    if drawn["training.schedule"] == "cosine":
        return smoothing
    factor = round(0.01 ** (1 / experiment.training.epochs), 4)
    return {**smoothing, "training.schedule.step_epochs": 1, "training.schedule.step_factor": factor}
