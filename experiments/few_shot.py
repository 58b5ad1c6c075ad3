"""Training in episodes, for new classes from a few clips."""

from dataclasses import replace

from birdnet_fs.frontend import preset
from birdnet_fs.schema import (
    Augmentation,
    Checkpoints,
    Data,
    Episodes,
    Experiment,
    FeatureNoise,
    FrontEnd,
    Masks,
    Mixup,
    Model,
    Noise,
    Optimizer,
    Schedule,
    Training,
)
from experiments.birds import xc171
from experiments.songs import EVERYTHING, SONGS_PCEN


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


def fewshot_v2_conv_gate(*, quick: bool = False) -> Experiment:
    """Prototypical network V2 with the gate of its published code: the 3.0 million parameters (11 MB) of its document.

    Launch: birdnet-fs train config.py:fewshot_v2_conv_gate data.root=../shared/data

    The text of the document names self-attention with 8 heads, which `fewshot_v2` has (3.2 million parameters).
    """
    return _v2_as("fewshot_v2_conv_gate", "prototypical/v2_conv_gate", quick)


def fewshot_v2_wide(*, quick: bool = False) -> Experiment:
    """Prototypical network V2 with the wide channels of its document, 64 to 512, and embeddings of 2048.

    Launch: birdnet-fs train config.py:fewshot_v2_wide data.root=../shared/data

    10.3 million parameters with self-attention over time; the document reduced it for GPUs with 8 GB.
    """
    return _v2_as("fewshot_v2_wide", "prototypical/v2_wide", quick)


def fewshot_v1_mlflow(*, quick: bool = False) -> Experiment:
    """Prototypical network V1 tracked by MLflow, as in its document; needs pip install 'birdnet_fs[track]'.

    Launch: birdnet-fs train config.py:fewshot_v1_mlflow data.root=../shared/data
    """
    return _tracked(fewshot_v1(quick=quick))


def fewshot_v2_mlflow(*, quick: bool = False) -> Experiment:
    """Prototypical network V2 tracked by MLflow, as in its document; needs pip install 'birdnet_fs[track]'.

    Launch: birdnet-fs train config.py:fewshot_v2_mlflow data.root=../shared/data

    The training prints the `mlflow ui` command that shows it: a plain `mlflow ui` reads another database.
    """
    return _tracked(fewshot_v2(quick=quick))


def _v2_as(name: str, model: str, quick: bool) -> Experiment:
    v2 = fewshot_v2(quick=quick)
    return replace(v2, name=name, model=replace(v2.model, name=model))


def _tracked(experiment: Experiment) -> Experiment:
    name = f"{experiment.name}_mlflow"
    return replace(experiment, name=name, training=replace(experiment.training, track="mlflow"))
