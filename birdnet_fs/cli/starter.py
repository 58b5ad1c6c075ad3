"""Your experiments: functions that return an Experiment, as differences from the defaults.

    birdnet-fs train config.py:my_recordings data.root=path/to/recordings
    birdnet-fs train config.py:my_recordings quick=true                 # two epochs, to check the setup
    birdnet-fs train config.py:my_recordings training.epochs=50 --cfg   # print the settings without training
    birdnet-fs tune config.py:my_recordings data.val_fraction=0.2       # search for better settings

`birdnet-fs train ... --cfg` prints all settings; birdnet_fs/schema/ documents each with its unit and default.
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
    """Clips in one folder per species below data.root.

    Launch: birdnet-fs train config.py:my_recordings data.root=FOLDER
    """
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
    """Search space of my_recordings.

    Launch: birdnet-fs tune config.py:my_recordings data.root=FOLDER data.val_fraction=0.2
    """
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
    """Synthetic recordings of `birdnet-fs quickstart`, whose labels are known exactly."""
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
        # one thread: a second one does not speed up a network this small, and is slower on a busy machine
        training=Training(
            epochs=1 if quick else 15, batch_size=8, learning_rate=3e-3, threads=1, sampling=Sampling(crops_per_clip=2)
        ),
        debug=quick,
    )
