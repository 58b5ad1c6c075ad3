"""Bird songs: ten species from clips and in soundscapes, and the networks they start from."""

from dataclasses import replace

from birdnet_fs.schema import (
    Augmentation,
    Data,
    Experiment,
    Float,
    Int,
    Loss,
    Mixup,
    Model,
    Noise,
    Optimizer,
    Schedule,
    Space,
    Training,
)
from experiments.songs import EVERYTHING, SONGS


def birds10_cnn(*, quick: bool = False) -> Experiment:
    """Ten North American species, from random weights.

    Launch: birdnet-fs cv config.py:birds10_cnn data.root=../shared/data
    """
    return Experiment(
        name="birds10_cnn",
        seed=0,
        data=Data(
            root="../shared/data", table="metadata.csv", audio="audio", where="set=birds10", background="set=jura24h"
        ),
        frontend=SONGS,
        model=Model("cnn/small", dropout=0.3),
        augmentation=EVERYTHING,
        training=Training(
            epochs=2 if quick else 40,
            batch_size=20,
            learning_rate=2e-3,
            loss=Loss(label_smoothing=0.1),
            optimizer=Optimizer(weight_decay=0.01),
            schedule=Schedule(warmup_epochs=2),
        ),
    )


def space_birds10_cnn() -> Space:
    """Search space of birds10_cnn, whose own values were chosen by hand.

    Launch: birdnet-fs tune config.py:birds10_cnn data.root=../shared/data data.val_fraction=0.2
    """
    return Space(
        {
            "training.learning_rate": Float(3e-4, 1e-2, log=True),
            "training.optimizer.weight_decay": Float(1e-4, 1e-1, log=True),
            "training.loss.label_smoothing": Float(0.0, 0.2, step=0.05),
            "model.dropout": Float(0.0, 0.5, step=0.1),
            "augmentation.mixup.p": Float(0.0, 1.0, step=0.25),
            "augmentation.freq_shift": Int(0, 4),
        },
        n_trials=40,
        n_warmup_epochs=10,
    )


def xc171(*, quick: bool = False) -> Experiment:
    """167 species with one recording each, for pretraining; the four species shared with birds10 are excluded.

    Launch: birdnet-fs train config.py:xc171 data.root=../shared/data
    """
    scratch = birds10_cnn()
    return replace(
        scratch,
        name="xc171",
        data=replace(scratch.data, where="set=xc171,role=base|val|novel", fold=-1),
        training=replace(
            scratch.training,
            epochs=1 if quick else 40,
            batch_size=32,
            sampling=replace(scratch.training.sampling, crops_per_clip=2),
        ),
    )


def birds10(*, quick: bool = False) -> Experiment:
    """Ten North American species, pretrained on xc171.

    Launch: birdnet-fs cv config.py:birds10 data.root=../shared/data --seeds 0,1

    Of the augmentation of birds10_cnn only mixup and noise are used, which improved accuracy (docs/results.md); a hop
    of 32 ms halves the training time.
    """
    scratch, first = birds10_cnn(quick=quick), xc171(quick=quick)
    spec = replace(SONGS, hop_length=1024)
    return replace(
        scratch,
        name="birds10",
        frontend=spec,
        augmentation=Augmentation(mixup=Mixup(0.5, alpha=1.0), noise=Noise(0.5)),
        training=replace(scratch.training, loss=replace(scratch.training.loss, label_smoothing=0.0)),
        pretrain=replace(first, frontend=spec),
    )


def birds10_mixed(*, quick: bool = False) -> Experiment:
    """Ten species in mixtures of clips with forest background, generated in training; pretraining for soundscapes.

    Launch: birdnet-fs train config.py:birds10_mixed data.root=../shared/data

    The clips are those of the splits train and val, which no test soundscape contains.
    """
    clips = birds10_cnn(quick=quick)
    first = xc171(quick=quick)
    data = replace(clips.data, background="set=jura24h,split=train")
    return replace(
        clips,
        name="birds10_mixed",
        data=replace(data, where="set=birds10,split=train|val", multi_label=True, fold=-1),
        frontend=replace(SONGS, segment_s=5.0),
        augmentation=replace(EVERYTHING, mixup=Mixup(0.7, alpha=1.0), noise=Noise(0.9, snr_db=(-5.0, 20.0))),
        training=replace(
            clips.training,
            loss=replace(clips.training.loss, label_smoothing=0.0),
            sampling=replace(clips.training.sampling, crops_per_clip=3),
        ),
        pretrain=replace(first, data=replace(first.data, background=data.background)),
    )


def soundscapes(*, quick: bool = False) -> Experiment:
    """Ten species in soundscapes, 5 s windows, pretrained on birds10_mixed.

    Launch: birdnet-fs train config.py:soundscapes data.root=../shared/data

    The training soundscapes contain few different clips, each many times; hence the pretraining.
    """
    first = birds10_mixed(quick=quick)
    return replace(
        first,
        name="soundscapes",
        data=replace(
            first.data,
            table="windows_5s.csv",
            label_column="labels",
            where="set=soundscape_mix",
            background="set=soundscape_mix,split=train,labels=nocall",
            split="table",
            fold=0,
        ),
        augmentation=replace(first.augmentation, mixup=Mixup(0.5, alpha=1.0), noise=Noise(0.5)),
        training=replace(
            first.training,
            epochs=2 if quick else 12,
            learning_rate=1e-3,
            schedule=replace(first.training.schedule, warmup_epochs=1),
            sampling=replace(first.training.sampling, crops_per_clip=1),
        ),
        pretrain=first,
    )
