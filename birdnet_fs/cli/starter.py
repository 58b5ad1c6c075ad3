"""Your experiments: each a function that returns an Experiment, as differences from the defaults.

    birdnet-fs train config.py:my_recordings data.root=path/to/recordings
    birdnet-fs train config.py:my_recordings quick=true              # two epochs, to see that all is in place
    birdnet-fs train config.py:my_recordings training.epochs=50 --cfg   # print the settings, train nothing
    birdnet-fs tune config.py:my_recordings data.val_fraction=0.2       # look for better settings

`birdnet-fs train` shows every key with `--cfg`; birdnet_fs/schema/ explains each with its unit and default.
"""

from birdnet_fs.frontend import preset
from birdnet_fs.schema import (
    Augmentation,
    Categorical,
    Data,
    Experiment,
    Float,
    Loss,
    Masks,
    Mixup,
    Model,
    Noise,
    Sampling,
    Space,
    Training,
)


def my_recordings(*, quick: bool = False) -> Experiment:
    """One folder per species below data.root. Launch: birdnet-fs train config.py:my_recordings data.root=FOLDER"""
    return Experiment(
        name="my_recordings",
        data=Data(root="recordings"),
        frontend=preset("birdnet_3s_48k"),
        model=Model("cnn/small"),
        augmentation=Augmentation(
            crop="active",
            mixup=Mixup(0.5),
            noise=Noise(0.3),
            eq_db=6,
            gain_db=6,
            freq_shift=2,
            time_masks=Masks(2),
            freq_masks=Masks(2),
        ),
        training=Training(epochs=2 if quick else 40, batch_size=16, learning_rate=2e-3, loss=Loss(label_smoothing=0.1)),
        debug=quick,
    )


def space_my_recordings() -> Space:
    """What to search. Launch: birdnet-fs tune config.py:my_recordings data.root=FOLDER data.val_fraction=0.2"""
    return Space(
        {
            "training.learning_rate": Float(2e-4, 1e-2, log=True),
            "training.batch_size": Categorical((16, 32)),
            "training.loss.label_smoothing": Float(0.0, 0.2, step=0.05),
            "model.dropout": Float(0.0, 0.5, step=0.1),
            "augmentation.mixup.p": Float(0.0, 1.0, step=0.25),
        },
        n_trials=30,
    )


def aviary(*, quick: bool = False) -> Experiment:
    """The synthetic aviary of `birdnet-fs quickstart`: audio the package makes itself, so every answer is known."""
    return Experiment(
        name="aviary",
        data=Data(
            root="quickstart/recordings",
            table="metadata.csv",
            audio="audio",
            where="set=aviary",
            background="set=aviary_background",
        ),
        frontend=preset("birdnet_3s_48k"),
        model=Model("cnn/tiny"),
        augmentation=Augmentation(crop="active", noise=Noise(0.5), gain_db=6, time_masks=Masks(1), freq_masks=Masks(1)),
        # one thread: a network this small gains nothing from a second, and loses much on a busy machine
        training=Training(
            epochs=1 if quick else 15, batch_size=8, learning_rate=3e-3, threads=1, sampling=Sampling(crops_per_clip=2)
        ),
        debug=quick,
    )
