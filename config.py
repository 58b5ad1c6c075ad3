"""What we set: named experiments, each a function returning an Experiment, as differences from the defaults.

    birdnet-fs train config.py:birds10 data.root=../shared/data
    birdnet-fs cv    config.py:birds10 data.root=../shared/data --seeds 0,1,2
    birdnet-fs train config.py:birdclef2025 data.root=FOLDER training.batch_size=64 --cfg
    birdnet-fs train config.py:fewshot_v2 data.root=../shared/data

What can be set, with unit and default: birdnet_fs/schema/.
"""

from dataclasses import replace

from birdnet_fs.frontend import preset
from birdnet_fs.schema import (
    Augmentation,
    Data,
    Episodes,
    Experiment,
    FeatureNoise,
    FrontEnd,
    Levels,
    Masks,
    Mixup,
    Model,
    Noise,
    Training,
)

# songs, not hum: 500 Hz up; the segment's own level and spread are removed
SONGS = FrontEnd(preset="songs", segment_s=4.0, n_mels=80, fmin_hz=500.0, normalise="z_score", normalise_eps=1e-6)

# the same with PCEN, which takes a recording's steady background and its loudness away
SONGS_PCEN = replace(SONGS, preset="songs_pcen", compression="pcen", top_db=0.0)

EVERYTHING = Augmentation(
    crop="active",
    mixup=Mixup(0.5, alpha=1.0),
    noise=Noise(0.5),
    eq_db=6.0,
    freq_shift=2,
    time_masks=Masks(2),
    freq_masks=Masks(2),
)


def birds10_cnn(*, quick: bool = False) -> Experiment:
    """Ten North American species from scratch. Launch: birdnet-fs cv config.py:birds10_cnn data.root=../shared/data"""
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
            weight_decay=0.01,
            warmup_epochs=2,
            label_smoothing=0.1,
        ),
    )


def xc171(*, quick: bool = False) -> Experiment:
    """167 species, one recording each: no classifier, but a start for others. birds10's four species are out."""
    scratch = birds10_cnn()
    return replace(
        scratch,
        name="xc171",
        data=replace(scratch.data, where="set=xc171,role=base|val|novel", fold=-1),
        training=replace(scratch.training, epochs=1 if quick else 40, batch_size=32, views=2),
    )


def birds10(*, quick: bool = False) -> Experiment:
    """birds10_cnn started from xc171. Launch: birdnet-fs cv config.py:birds10 data.root=../shared/data --seeds 0,1,2"""
    return replace(birds10_cnn(quick=quick), name="birds10", pretrain=xc171(quick=quick))


def xc171_episodes(*, quick: bool = False) -> Experiment:
    """xc171 in episodes, a start for new species. Launch: birdnet-fs train config.py:xc171_episodes

    Support and query are parts of one recording, each augmented by itself: little but the species is left in common.
    PCEN and a strong equaliser take the recording's background and microphone away too; training is short, since the
    recordings themselves are learnt soon.
    """
    first = xc171()
    return replace(
        first,
        name="xc171_episodes",
        frontend=SONGS_PCEN,
        model=Model("cnn/small", dropout=0.0, head="prototypes", distance="cosine", logit_scale=10.0),
        augmentation=replace(EVERYTHING, mixup=Mixup(), eq_db=12.0),
        training=replace(
            first.training, epochs=1 if quick else 4, learning_rate=3e-3, warmup_epochs=1, label_smoothing=0.0
        ),
        episodes=Episodes(
            n_way=20, n_shot=1, n_query=1, n_train=5 if quick else 40, n_val=0, n_test=0, same_recording=True
        ),
    )


def bengalese_finch(*, quick: bool = False) -> Experiment:
    """Five syllables of one bird in episodes, to tell its others from one each (`birdnet-fs fewshot`).

    Launch: birdnet-fs train config.py:bengalese_finch data.root=../shared/data

    Syllables last .02-.14 s: a segment holds the longest, its frames are 4 ms apart, and what lies 40 dB below the
    loudest is dropped. Training is short: the five are told apart soon, and new ones worse the longer it goes on.
    """
    return Experiment(
        name="bengalese_finch",
        seed=0,
        data=Data(
            root="../shared/data",
            table="annotations.csv",
            audio="audio",
            where="set=bf_bird0,split=train,label=bird0_0|bird0_1|bird0_2|bird0_5|bird0_6",
            fold=-1,
        ),
        frontend=FrontEnd(
            preset="syllables",
            segment_s=0.16,
            n_fft=256,
            win_length=256,
            hop_length=128,
            n_mels=48,
            fmin_hz=500.0,
            top_db=40.0,
            normalise="z_score",
            normalise_eps=1e-6,
        ),
        model=Model("cnn/small", dropout=0.0, head="prototypes", distance="cosine", logit_scale=10.0),
        augmentation=Augmentation(noise=Noise(0.5, snr_db=(10.0, 30.0)), eq_db=6.0, freq_shift=3, freq_masks=Masks(1)),
        training=Training(epochs=1 if quick else 2, learning_rate=1e-3, weight_decay=0.01, warmup_epochs=0.5),
        episodes=Episodes(n_way=5, n_shot=1, n_query=5, n_train=5 if quick else 100, n_val=0, n_test=0),
    )


def fewshot_v1(*, quick: bool = False) -> Experiment:
    """Prototypical network V1. Launch: birdnet-fs train config.py:fewshot_v1 data.root=../shared/data"""
    v2 = fewshot_v2(quick=quick)
    return replace(
        v2,
        name="fewshot_v1",
        model=replace(v2.model, name="prototypical/v1", distance="euclidean"),
        augmentation=Augmentation(),
        training=replace(v2.training, schedule="step", step_epochs=10, step_factor=0.65, clip_norm=0.0),
    )


def fewshot_v2(*, quick: bool = False) -> Experiment:
    """Prototypical network V2. Launch: birdnet-fs train config.py:fewshot_v2 data.root=../shared/data

    Its own data set (DCASE few-shot) has many clips of a recording; xc171 has one recording of each species, so
    same_recording is set, and what it measures is in part the recording.
    """
    n_train, n_val, n_test = (5, 5, 5) if quick else (2000, 200, 200)
    return Experiment(
        name="fewshot_v2",
        seed=1234,
        data=Data(
            root="../shared/data",
            table="metadata.csv",
            audio="audio",
            where="set=xc171,role=base|val|novel",
            split="table",
            split_column="role",
        ),
        frontend=preset("fewshot"),
        model=Model("prototypical/v2", dropout=0.0, head="prototypes", distance="learnt"),
        augmentation=Augmentation(
            time_masks=Masks(2, fill="zero", per="batch"),
            freq_masks=Masks(2, fill="zero", per="batch"),
            feature_noise=FeatureNoise(0.3, deviation=0.01),
        ),
        training=Training(
            epochs=1 if quick else 50,
            learning_rate=1e-3,
            min_learning_rate=1e-5,
            weight_decay=1e-4,
            warmup_epochs=0,
            clip_norm=1.0,
            keep="best",
            patience=10,
            checkpoints=3,
        ),
        episodes=Episodes(
            n_way=10, n_shot=5, n_query=5, n_train=n_train, n_val=n_val, n_test=n_test, same_recording=True
        ),
    )


def birdclef2025(*, quick: bool = False) -> Experiment:
    """EfficientNet-B0, Kaggle's BirdCLEF 2025. Launch: birdnet-fs train config.py:birdclef2025 data.root=FOLDER"""
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
            epochs=2 if quick else 10, batch_size=32, learning_rate=5e-4, weight_decay=1e-5, warmup_epochs=0
        ),
        debug=quick,
    )
