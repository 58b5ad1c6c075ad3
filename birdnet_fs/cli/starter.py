"""Your experiments: each a function that returns an Experiment, as differences from the defaults.

    birdnet-fs train config.py:my_recordings data.root=path/to/recordings
    birdnet-fs train config.py:my_recordings quick=true              # two epochs, to see that all is in place
    birdnet-fs train config.py:my_recordings training.epochs=50 --cfg   # print the settings, train nothing

`birdnet-fs train` shows every key with `--cfg`; birdnet_fs/schema.py explains each with its unit and default.
"""

from birdnet_fs.frontend import preset
from birdnet_fs.schema import Augmentation, Data, Experiment, Masks, Mixup, Model, Noise, Training


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
        training=Training(epochs=2 if quick else 40, batch_size=16, learning_rate=2e-3, label_smoothing=0.1),
        debug=quick,
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
        training=Training(epochs=1 if quick else 15, batch_size=8, views=2, learning_rate=3e-3, threads=1),
        debug=quick,
    )
