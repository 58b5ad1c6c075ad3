"""ANIMAL-SPOT (Bergler et al. 2022) and its fork, on clips named by their labels."""

from dataclasses import replace
from typing import Any

from birdnet_fs.frontend import preset
from birdnet_fs.schema import (
    AnimalSpot,
    Augmentation,
    Categorical,
    Checkpoints,
    Data,
    Experiment,
    Float,
    FrontEnd,
    Model,
    Optimizer,
    Schedule,
    Space,
    Training,
)

CONVNEXT_WEIGHTS = "convnext_tiny-983f1562.pth"  # torchvision's file, in the folder of the command
# defaults of the original ANIMAL-SPOT (the preset has those of its fork): longer segments, coarser in time
ANIMAL_SPOT_OLD = replace(
    preset("animal_spot"),
    preset="animal_spot_old",
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
            schedule=Schedule("plateau", plateau_factor=0.5, plateau_patience=8, warmup_epochs=0, peak_factor=10.0),
            checkpoints=Checkpoints(select="best", patience=20),
        ),
        debug=quick,
    )


def animal_spot_resnet18_1000ms(*, quick: bool = False) -> Experiment:
    """The script train_resnet18 with the default segment of the fork, 1000 ms; equal to animal_spot.

    Launch: birdnet-fs train config.py:animal_spot_resnet18_1000ms data.root=FOLDER
    """
    return replace(animal_spot(quick=quick), name="animal_spot_resnet18_1000ms")


def animal_spot_resnet18_500ms(*, quick: bool = False) -> Experiment:
    """The script train_resnet18 as it is in the fork: segments of 500 ms, 128 frames.

    Launch: birdnet-fs train config.py:animal_spot_resnet18_500ms data.root=FOLDER
    """
    longer = animal_spot(quick=quick)
    return replace(longer, name="animal_spot_resnet18_500ms", frontend=_of_500_ms(longer.frontend))


def animal_spot_resnet18_old(*, quick: bool = False) -> Experiment:
    """The original ANIMAL-SPOT ("old default"): segments of 1280 ms, an FFT of 4096 samples, a hop of 441.

    Launch: birdnet-fs train config.py:animal_spot_resnet18_old data.root=FOLDER
    """
    return replace(animal_spot(quick=quick), name="animal_spot_resnet18_old", frontend=ANIMAL_SPOT_OLD)


def animal_spot_resnet18_optimized(*, quick: bool = False) -> Experiment:
    """The fork's "ResNet-18 + Optimizations": balanced sampling, one cycle 3e-4 to 3e-3 to 3e-6, label smoothing.

    Launch: birdnet-fs train config.py:animal_spot_resnet18_optimized data.root=FOLDER

    The rate of one cycle is not multiplied by the batch size in the fork.
    """
    plain = animal_spot_resnet18_500ms(quick=quick)
    return replace(
        plain,
        name="animal_spot_resnet18_optimized",
        training=replace(
            plain.training,
            learning_rate=3e-4,
            loss=replace(plain.training.loss, label_smoothing=0.1, rare_class_weight=1.5),
            schedule=Schedule("onecycle", warmup_epochs=0, peak_factor=10.0, div=10.0, final_div=100.0),
            sampling=replace(plain.training.sampling, name="sqrt_inverse"),
        ),
    )


def animal_spot_convnext(*, quick: bool = False) -> Experiment:
    """ConvNeXt-Tiny of the fork from random weights: lower learning rate, class-balanced sampling, smoothing.

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


def animal_spot_convnext_pretrained(*, quick: bool = False) -> Experiment:
    """The script train_convnext_pretrained, the best model of the fork: from ImageNet weights, segments of 500 ms.

    Launch: birdnet-fs train config.py:animal_spot_convnext_pretrained data.root=FOLDER model.weights=FILE

    FILE: torchvision's convnext_tiny (docs/weights.md). Clips are drawn by the square root of the inverse frequency of
    their class, those of classes with under 5 % of the clips 1.5 times as often.
    """
    scratch = animal_spot_convnext(quick=quick)
    return replace(
        scratch,
        name="animal_spot_convnext_pretrained",
        frontend=_of_500_ms(scratch.frontend),
        model=replace(scratch.model, weights=CONVNEXT_WEIGHTS),
        training=replace(
            scratch.training,
            loss=replace(scratch.training.loss, rare_class_weight=1.5),
            sampling=replace(scratch.training.sampling, name="sqrt_inverse"),
        ),
    )


def _of_500_ms(frontend: FrontEnd) -> FrontEnd:
    return replace(frontend, preset="animal_spot_500ms", segment_s=0.5, keep_frames=128)


def _of_one_clip(learning_rate: float, *, batch_size: int) -> float:
    """Learning rate of a batch from that of one clip, as ANIMAL-SPOT scales it."""
    return learning_rate * batch_size


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
