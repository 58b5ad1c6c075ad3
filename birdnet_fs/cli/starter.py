"""Your experiments: functions that return an Experiment, as differences from the defaults.

    birdnet-fs train config.py:my_recordings data.root=path/to/recordings
    birdnet-fs train config.py:my_recordings_encoder data.root=path/to/recordings model.encoder=FILE  # BirdNET, Perch
    birdnet-fs train config.py:my_recordings quick=true                 # two epochs, to check the setup
    birdnet-fs train config.py:my_recordings training.epochs=50 --cfg   # print and check the settings without training
    birdnet-fs tune config.py:my_recordings data.val_fraction=0.2       # search for better settings

`birdnet-fs train ... --cfg` prints and checks all settings; birdnet_fs/schema/ documents each with unit and default.
"""

from dataclasses import replace

from birdnet_fs.frontend import preset
from birdnet_fs.schema import (
    Augmentation,
    Categorical,
    Data,
    Experiment,
    Float,
    Masks,
    Mixup,
    Model,
    Noise,
    Optimizer,
    Sampling,
    Schedule,
    Space,
    Training,
)

# 144,000 samples, which BirdNET's programs pass to a network; frames of 32 ms, a third of the preset's, train faster
FRONTEND = replace(preset("birdnet_3s_48k"), preset="my_recordings", hop_length=1536, normalize="z_score")


def my_recordings(*, quick: bool = False) -> Experiment:
    """Clips in one folder per species below data.root, from three recordings of each.

    Launch: birdnet-fs train config.py:my_recordings data.root=FOLDER

    A few recordings are repeated, cropped and mixed anew up to 400 steps (a few minutes); with many, an epoch draws
    part of their crops, so that 4000 steps are never exceeded. The numbers of the report are of the recordings of one
    fold, which are not trained on; data.fold=-1 trains on all of them, without a report.
    """
    return Experiment(
        name="my_recordings",
        data=Data(root="recordings"),
        frontend=FRONTEND,
        model=Model("cnn/tiny"),  # cnn/small: for many species or hundreds of recordings, about four times as long
        augmentation=Augmentation(crop="active", mixup=Mixup(0.5, alpha=1.0), noise=Noise(0.5, exponent=(0.0, 2.0))),
        training=Training(
            epochs=2 if quick else 40,
            min_steps=0 if quick else 400,
            max_steps=4000,
            batch_size=16,
            learning_rate=3e-3,
            optimizer=Optimizer(weight_decay=0.01),
            schedule=Schedule(warmup_epochs=0.1 if quick else 2),
            sampling=Sampling(seconds_per_crop=3.0),
        ),
        debug=quick,
    )


def my_recordings_encoder(*, quick: bool = False) -> Experiment:
    """A head on the embeddings of a pretrained encoder, for the same recordings: seconds instead of minutes.

    Launch: birdnet-fs train config.py:my_recordings_encoder data.root=FOLDER model.encoder=FILE

    `birdnet-fs encoders` lists known encoders (BirdNET, Perch), their licenses, and where a user gets the files.
    """
    return Experiment(name="my_recordings_encoder", data=Data(root="recordings"), debug=quick)


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
