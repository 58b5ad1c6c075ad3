"""Named experiments: functions that return an Experiment, as differences from the defaults.

    birdnet-fs train config.py:birds10 data.root=../shared/data
    birdnet-fs cv    config.py:birds10 data.root=../shared/data --seeds 0,1,2
    birdnet-fs train config.py:birdclef2025 data.root=FOLDER training.batch_size=64 --cfg
    birdnet-fs train config.py:fewshot_v2 data.root=../shared/data
    birdnet-fs tune  config.py:birds10_cnn data.root=../shared/data data.val_fraction=0.2 --workers 2

All settings with unit, range and default: birdnet_fs/schema/.
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

# bird songs: from 500 Hz, above most low-frequency noise; every segment has mean 0 and standard deviation 1
SONGS = FrontEnd(preset="songs", segment_s=4.0, n_mels=80, fmin_hz=500.0, normalize="z_score", normalize_eps=1e-6)

# the same with PCEN, which removes the stationary background and the level of a recording
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


def xc171_episodes(*, quick: bool = False) -> Experiment:
    """Few-shot training in episodes on xc171, for enrolling new species.

    Launch: birdnet-fs train config.py:xc171_episodes data.root=../shared/data

    Support and query are parts of one recording, augmented independently, so that they have little in common besides
    the species. PCEN and a strong equalizer remove the background and the microphone of the recording. Training is
    short, since the network would otherwise learn to recognize the recordings.
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
    """Five syllables of one Bengalese finch in episodes, for 1-shot classification of its other syllables.

    Launch: birdnet-fs train config.py:bengalese_finch data.root=../shared/data
    Evaluate: birdnet-fs fewshot-eval RUN ../shared/data/annotations.csv data.where=FILTER

    Syllables last 0.02 to 0.14 s: a segment contains the longest, the hop is 4 ms, and values more than 40 dB below
    the maximum are clipped. Training is short: the five syllables are separated soon, and the accuracy on new ones
    decreases with further training.
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
    """Prototypical network V1.

    Launch: birdnet-fs train config.py:fewshot_v1 data.root=../shared/data
    """
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
    """Prototypical network V2.

    Launch: birdnet-fs train config.py:fewshot_v2 data.root=../shared/data

    The original data set (DCASE few-shot) has many clips per recording; xc171 has one recording per species. Hence
    same_recording is set, and the accuracy partly reflects the recording.
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


# defaults of the original ANIMAL-SPOT (the preset has those of its fork): longer segments, coarser in time
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
    """ResNet-18 of ANIMAL-SPOT with the defaults of its fork.

    Launch: birdnet-fs train config.py:animal_spot data.root=FOLDER

    FOLDER holds files LABEL-INFO_ID_YEAR_TAPE_STARTms_ENDms.wav. The learning rate of ANIMAL-SPOT is per clip and is
    multiplied by the batch size. ANIMAL-SPOT validates every second epoch; the patience here is in epochs.
    """
    return Experiment(
        name="animal_spot",
        data=Data(root="clips", layout="animal_spot", split="70/15/15", noise_label="class"),
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
    """The original ANIMAL-SPOT: as animal_spot, with segments of 1.28 s and an FFT of 4096 samples.

    Launch: birdnet-fs train config.py:animal_spot_first data.root=FOLDER
    """
    return replace(animal_spot(quick=quick), name="animal_spot_first", frontend=ANIMAL_SPOT_FIRST)


def animal_spot_convnext(*, quick: bool = False) -> Experiment:
    """Best model of the fork of ANIMAL-SPOT: ConvNeXt-Tiny, lower learning rate, class-balanced sampling, smoothing.

    Launch: birdnet-fs train config.py:animal_spot_convnext data.root=FOLDER
    """
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
    """Learning rate of a batch from that of one clip, as ANIMAL-SPOT scales it."""
    return learning_rate * batch_size


def call_or_noise(*, quick: bool = False) -> Experiment:
    """Binary detector of calls against noise.

    Launch: birdnet-fs train config.py:call_or_noise data.root=FOLDER

    FOLDER holds labeled clips (folders, a table, or ANIMAL-SPOT names); every label but noise, nocall, ... is a call.
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
    """Search space of the fork of ANIMAL-SPOT.

    Launch: birdnet-fs tune config.py:animal_spot data.root=FOLDER training.epochs=30

    training.learning_rate is drawn per clip and multiplied by the batch size, as in ANIMAL-SPOT; the hop is chosen to
    give 128 frames. Its option `pretrained` is not included, since a file of published weights fits only one of the two
    networks. To search it, keep one network and add "model.weights": Categorical(("", FILE)).
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
            "training.sampling": Categorical(("all", "inverse")),  # `weighted` in ANIMAL-SPOT
            "augmentation.animal_spot.p": Categorical((0.0, 1.0)),  # `augment` in ANIMAL-SPOT
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
