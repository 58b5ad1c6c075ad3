"""What we set: named experiments, each a function returning an Experiment, as differences from the defaults.

    birdnet-fs train config.py:birds10 data.root=../shared/data
    birdnet-fs cv    config.py:birds10 data.root=../shared/data --seeds 0,1,2
    birdnet-fs train config.py:birdclef2025 data.root=FOLDER training.batch_size=64 --cfg
    birdnet-fs train config.py:fewshot_v2 data.root=../shared/data
    birdnet-fs tune  config.py:birds10_cnn data.root=../shared/data data.val_fraction=0.2 --workers 2

What can be set, with unit and default: birdnet_fs/schema/.
"""

from dataclasses import replace
from typing import Any

from birdnet_fs.frontend import preset
from birdnet_fs.schema import (
    AnimalSpot,
    Augmentation,
    Categorical,
    Checkpoints,
    Data,
    Episodes,
    Experiment,
    FeatureNoise,
    Float,
    FrontEnd,
    Int,
    Levels,
    Loss,
    Masks,
    Mixup,
    Model,
    Noise,
    Optimizer,
    Schedule,
    Space,
    Training,
)

# songs, not hum: 500 Hz up; the segment's own level and spread are removed
SONGS = FrontEnd(preset="songs", segment_s=4.0, n_mels=80, fmin_hz=500.0, normalize="z_score", normalize_eps=1e-6)

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
            loss=Loss(label_smoothing=0.1),
            optimizer=Optimizer(weight_decay=0.01),
            schedule=Schedule(warmup_epochs=2),
        ),
    )


def space_birds10_cnn() -> Space:
    """What birds10_cnn was set by hand. Launch: birdnet-fs tune config.py:birds10_cnn data.val_fraction=0.2"""
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
    """167 species, one recording each: no classifier, but a start for others. birds10's four species are out."""
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
    """Ten species started from xc171. Launch: birdnet-fs cv config.py:birds10 data.root=../shared/data --seeds 0,1

    Of birds10_cnn's augmentation mixup and noise are left, which helped (README); frames of 32 ms take half the time.
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
    """Ten species heard together in a forest, mixed on the fly from clips that no test soundscape holds."""
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
    """Ten species in soundscapes, 5 s windows. Launch: birdnet-fs train config.py:soundscapes data.root=../shared/data

    Started from birds10_mixed: the soundscapes that are trained on hold few clips, each many times.
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


def xc171_episodes(*, quick: bool = False) -> Experiment:
    """xc171 in episodes, a start for new species. Launch: birdnet-fs train config.py:xc171_episodes

    Support and query are parts of one recording, each augmented by itself: little but the species is left in common.
    PCEN and a strong equalizer take the recording's background and microphone away too; training is short, since the
    recordings themselves are learned soon.
    """
    first = xc171()
    return replace(
        first,
        name="xc171_episodes",
        frontend=SONGS_PCEN,
        model=Model("cnn/small", dropout=0.0, head="prototypes", distance="cosine", logit_scale=10.0),
        augmentation=replace(EVERYTHING, mixup=Mixup(), eq_db=12.0),
        training=replace(
            first.training,
            epochs=1 if quick else 4,
            learning_rate=3e-3,
            loss=replace(first.training.loss, label_smoothing=0.0),
            schedule=replace(first.training.schedule, warmup_epochs=1),
        ),
        episodes=Episodes(
            n_way=20, n_shot=1, n_query=1, n_train=5 if quick else 40, n_val=0, n_test=0, same_recording=True
        ),
    )


def bengalese_finch(*, quick: bool = False) -> Experiment:
    """Five syllables of one bird in episodes, to tell its others from one each (`birdnet-fs fewshot-eval`).

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
            normalize="z_score",
            normalize_eps=1e-6,
        ),
        model=Model("cnn/small", dropout=0.0, head="prototypes", distance="cosine", logit_scale=10.0),
        augmentation=Augmentation(noise=Noise(0.5, snr_db=(10.0, 30.0)), eq_db=6.0, freq_shift=3, freq_masks=Masks(1)),
        training=Training(
            epochs=1 if quick else 2,
            learning_rate=1e-3,
            optimizer=Optimizer(weight_decay=0.01),
            schedule=Schedule(warmup_epochs=0.5),
        ),
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
        training=replace(
            v2.training,
            optimizer=replace(v2.training.optimizer, clip_norm=0.0),
            schedule=replace(v2.training.schedule, name="step", step_epochs=10, step_factor=0.65),
        ),
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
        model=Model("prototypical/v2", dropout=0.0, head="prototypes", distance="learned"),
        augmentation=Augmentation(
            time_masks=Masks(2, fill="zero", per="batch"),
            freq_masks=Masks(2, fill="zero", per="batch"),
            feature_noise=FeatureNoise(0.3, deviation=0.01),
        ),
        training=Training(
            epochs=1 if quick else 50,
            learning_rate=1e-3,
            optimizer=Optimizer(weight_decay=1e-4, clip_norm=1.0),
            schedule=Schedule(min_learning_rate=1e-5, warmup_epochs=0),
            checkpoints=Checkpoints(select="best", patience=10, n_best=3),
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
            epochs=2 if quick else 10,
            batch_size=32,
            learning_rate=5e-4,
            optimizer=Optimizer(weight_decay=1e-5),
            schedule=Schedule(warmup_epochs=0),
        ),
        debug=quick,
    )


def space_birdclef2025() -> Space:
    """The search of the BirdCLEF 2025 plan. Launch: birdnet-fs tune config.py:birdclef2025 data.val_fraction=0.2

    Learning rate, batch size, dropout, optimizer and schedule, 50 random trials. The plan's exponential schedule is a
    step after every epoch; how fast it falls is not said there, and here it reaches a hundredth after the last.
    RMSprop smooths by .9, as it does in Keras.
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


# ANIMAL-SPOT's defaults before its fork, beside the fork's (the preset): longer windows, coarser in time
ANIMAL_SPOT_FIRST = replace(
    preset("animal_spot"),
    preset="animal_spot_first",
    segment_s=1.28,
    n_fft=4096,
    win_length=4096,
    hop_length=441,
    keep_frames=128,
)


def animal_spot(*, quick: bool = False) -> Experiment:
    """ANIMAL-SPOT's ResNet-18 on its fork's defaults. Launch: birdnet-fs train config.py:animal_spot data.root=FOLDER

    FOLDER holds LABEL-INFO_ID_YEAR_TAPE_STARTms_ENDms.wav. Their learning rate is for one clip and multiplied by the
    batch size (`_of_one_clip`); their plateau looks every second epoch, ours after each: patiences are in epochs.
    """
    return Experiment(
        name="animal_spot",
        data=Data(root="clips", layout="animal_spot", split="70/15/15"),
        frontend=preset("animal_spot"),
        model=Model("resnet/18", dropout=0.0),
        augmentation=Augmentation(animal_spot=AnimalSpot(p=1.0)),
        training=Training(
            epochs=2 if quick else 150,
            batch_size=8,
            learning_rate=_of_one_clip(5e-6, batch_size=8),
            optimizer=Optimizer("adam", weight_decay=0.0, beta1=0.5, clip_norm=0.0),
            schedule=Schedule("plateau", plateau_factor=0.5, plateau_patience=8, warmup_epochs=0),
            checkpoints=Checkpoints(select="best", patience=20),
        ),
        debug=quick,
    )


def animal_spot_first(*, quick: bool = False) -> Experiment:
    """ANIMAL-SPOT as before its fork: the same on windows of 1.28 s and an FFT of 4096."""
    return replace(animal_spot(quick=quick), name="animal_spot_first", frontend=ANIMAL_SPOT_FIRST)


def animal_spot_convnext(*, quick: bool = False) -> Experiment:
    """The fork's best: ConvNeXt-Tiny, slower, rare classes drawn more often, smoothed labels."""
    resnet = animal_spot(quick=quick)
    return replace(
        resnet,
        name="animal_spot_convnext",
        model=Model("convnext/tiny", dropout=0.0),
        training=replace(
            resnet.training,
            learning_rate=_of_one_clip(1e-6, batch_size=8),
            loss=replace(resnet.training.loss, label_smoothing=0.1),
            optimizer=replace(resnet.training.optimizer, beta1=0.9),
            schedule=replace(resnet.training.schedule, plateau_patience=10),
            sampling=replace(resnet.training.sampling, name="inverse"),
        ),
    )


def _of_one_clip(learning_rate: float, *, batch_size: int) -> float:
    """The learning rate of a batch, as ANIMAL-SPOT scales that of one clip."""
    return learning_rate * batch_size


def call_or_noise(*, quick: bool = False) -> Experiment:
    """A detector of target against noise. Launch: birdnet-fs train config.py:call_or_noise data.root=FOLDER

    FOLDER holds clips by label (folders, a table, ANIMAL-SPOT names): any label is a call, but for noise, nocall, ...
    """
    return Experiment(
        name="call_or_noise",
        data=Data(root="clips", multi_label=True, binary_label="call", split="70/15/15"),
        frontend=SONGS,
        model=Model("cnn/small", dropout=0.3),
        augmentation=EVERYTHING,
        training=Training(
            epochs=2 if quick else 30, batch_size=32, learning_rate=2e-3, optimizer=Optimizer(weight_decay=0.01)
        ),
        debug=quick,
    )


def space_animal_spot() -> Space:
    """The search of the fork. Launch: birdnet-fs tune config.py:animal_spot training.epochs=30 data.root=FOLDER

    training.learning_rate is drawn for one clip and multiplied by the batch size, as there; the hop gives 128 frames.
    `pretrained` is left out: published weights are a file that fits one of the two networks. To search it, keep one
    network and add "model.weights": Categorical(("", FILE)).
    """
    return Space(
        {
            "model": Categorical(("resnet/18", "convnext/tiny")),
            "training.learning_rate": Float(1e-6, 1e-3, log=True),
            "training.batch_size": Categorical((8, 16, 32)),
            "frontend.segment_s": Float(0.3, 1.5, step=0.1),
            "frontend.n_fft": Categorical((512, 1024, 2048, 4096)),
            "frontend.n_mels": Categorical((128, 256, 512)),
            "frontend.bands": Categorical(("linear", "mel_htk")),
            "training.sampling": Categorical(("all", "inverse")),  # `weighted`
            "augmentation.animal_spot.p": Categorical((0.0, 1.0)),  # `augment`
            "training.optimizer.beta1": Float(0.5, 0.95),
        },
        derive=_of_animal_spot,
        n_trials=50,
        pruner="median",
        n_startup_trials=5,
        n_warmup_epochs=10,
    )


def _of_animal_spot(drawn: dict[str, Any], experiment: Experiment) -> dict[str, Any]:
    n_samples = drawn["frontend.segment_s"] * experiment.frontend.sample_rate_hz
    return {
        "training.learning_rate": drawn["training.learning_rate"] * drawn["training.batch_size"],
        "frontend.hop_length": round(n_samples / 128),
        "frontend.keep_frames": 128,
        "frontend.win_length": drawn["frontend.n_fft"],
    }
