"""Experiments of the documents: the values that the documents give, and a step of training of each kind."""

import contextlib
import operator
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import keras
import pytest
from reduced import reduced

from birdnet_fs import models, schema
from birdnet_fs.cli.experiment import load_experiment
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.settings import override

CONFIG = Path(__file__).parents[1] / "config.py"
RECIPE = {  # of Project Echo's torch_impl, in the words of its config.yaml: optimizer, scheduler, training, data
    "training.optimizer.name": "adamw",
    "training.learning_rate": 1e-3,
    "training.optimizer.weight_decay": 0.1,
    "training.optimizer.clip_norm": 1.0,
    "training.optimizer.accumulate": 1,
    "training.schedule.name": "cosine",
    "training.schedule.min_learning_rate": 1e-6,
    "training.epochs": 100,
    "training.batch_size": 64,
    "training.checkpoints.patience": 5,
    "data.split": "80/20",
    "seed": 0,
    "augmentation.stretch.rate": (0.8, 1.25),
    "augmentation.pitch.semitones": 4.0,
    "augmentation.noise.p": 0.2,
    "augmentation.features_p": 0.5,
    "augmentation.time_masks.lengths": (0, 80),
    "augmentation.freq_masks.lengths": (0, 30),
    "augmentation.freq_masks.n": 2,
}
TORCH = {"frontend.preset": "torch_impl", "frontend.shape": (261, 260)}
PANNS = {"frontend.preset": "panns", "frontend.n_mels": 64}
DISTILLED = {"distillation.alpha": 0.5, "distillation.temperature": 3.0}
SPOT = {"training.batch_size": 8, "training.optimizer.name": "adam", "data.split": "70/15/15"}
RESNET = {"model.name": "resnet/18", "training.learning_rate": 4e-5, "training.optimizer.beta1": 0.5}
BIRDCLEF = {"training.optimizer.weight_decay": 1e-5, "data.n_folds": 5, "seed": 42, "data.multi_label": True}
DOCUMENTED = {
    "efficientnet_v2": RECIPE | TORCH | {"model.name": "efficientnet_v2/s_torch", "model.head": "linear"},
    "efficientnet_v2_arcface": RECIPE
    | TORCH
    | {"model.head": "cosine", "logit_scale": 30.0, "training.loss.name": "arcface", "training.loss.margin": 0.5},
    "ghost_efficientnet_v2": RECIPE | TORCH | {"model.name": "ghost_efficientnet_v2/0.75", "model.dropout": 0.1},
    "panns_cnn14": RECIPE | PANNS | {"model.name": "panns/cnn14"},
    "panns_mobilenetv1": RECIPE | PANNS | {"model.name": "panns/mobilenet_v1"},
    "panns_mobilenetv2": RECIPE | PANNS | {"model.name": "panns/mobilenet_v2"},
    "panns_mobilenetv1_from_cnn14": RECIPE | PANNS | DISTILLED | {"model.name": "panns/mobilenet_v1"},
    "panns_mobilenetv2_from_cnn14": RECIPE | PANNS | DISTILLED | {"model.name": "panns/mobilenet_v2"},
    "efficientnet_v2_from_cnn14": RECIPE | TORCH | DISTILLED | {"model.name": "efficientnet_v2/s_torch"},
    "ghost_efficientnet_v2_from_efficientnet_v2": RECIPE | TORCH | DISTILLED,
    "birdclef2025_rnn": BIRDCLEF | {"frontend.shape": (256, 128), "model.name": "rnn/lstm", "model.dropout": 0.3},
    "birdclef2025_vit": BIRDCLEF | {"frontend.shape": (256, 256), "model.name": "vit/small"},
    "animal_spot_resnet18_500ms": SPOT | RESNET | {"frontend.segment_s": 0.5, "frontend.shape": (128, 256)},
    "animal_spot_resnet18_1000ms": SPOT | RESNET | {"frontend.segment_s": 1.0, "frontend.shape": (256, 256)},
    "animal_spot_resnet18_old": SPOT
    | RESNET
    | {"frontend.n_fft": 4096, "frontend.hop_length": 441, "frontend.segment_s": 1.28, "frontend.shape": (128, 256)},
    "animal_spot_resnet18_optimized": SPOT
    | {"training.learning_rate": 3e-4, "training.highest_learning_rate": 3e-3, "training.sampling.name": "sqrt_inverse"}
    | {"training.loss.label_smoothing": 0.1, "training.schedule.final_div": 100.0},
    "animal_spot_convnext_pretrained": SPOT
    | {"model.name": "convnext/tiny", "training.learning_rate": 8e-6, "training.optimizer.beta1": 0.9}
    | {"training.schedule.plateau_patience": 10, "training.checkpoints.patience": 20}
    | {"training.sampling.name": "sqrt_inverse", "training.loss.rare_class_weight": 1.5},
}
QAT = [
    f"{name}_qat" for name, values in DOCUMENTED.items() if RECIPE.items() <= values.items() and "_from_" not in name
]
QAT.remove("efficientnet_v2_arcface_qat")


@pytest.mark.parametrize("name", DOCUMENTED)
def test_experiment_has_the_values_of_its_document(name: str) -> None:
    experiment = load_experiment(f"{CONFIG}:{name}")
    found = {key: operator.attrgetter(key)(experiment) for key in DOCUMENTED[name]}
    assert found == {key: pytest.approx(v) if isinstance(v, float) else v for key, v in DOCUMENTED[name].items()}


@pytest.mark.parametrize("name", QAT)
def test_8_bit_experiment_starts_from_the_float_one(name: str) -> None:
    rounded, plain = load_experiment(f"{CONFIG}:{name}"), load_experiment(f"{CONFIG}:{name.removesuffix('_qat')}")
    assert rounded.model.quantized and rounded.pretrain == plain and rounded.frontend == plain.frontend
    assert rounded.training.epochs == 5 and rounded.training.precision == "float32"


@pytest.mark.parametrize("name", [*DOCUMENTED, *QAT])
def test_network_of_the_experiment_can_be_built_for_its_features(name: str) -> None:
    experiment = load_experiment(f"{CONFIG}:{name}")
    shape = (*experiment.frontend.shape, experiment.frontend.n_channels)
    own = experiment.model
    with keras.device("meta"), reduced(models.resolve(own.name)):
        model = models.build(own.name, input_shape=shape, n_classes=13, dropout=own.dropout, head=own.head)
    assert model.output_shape == (None, 13)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from birdnet_fs.data.synthetic.aviary import make_aviary

    folder = tmp_path_factory.mktemp("aviary")
    make_aviary(folder, n_species=3, clips_per_species=8, n_soundscapes=0)
    return folder


@contextlib.contextmanager
def narrow(*names: str) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for name in names:
            stack.enter_context(reduced(name))
        yield


def small(name: str, recordings: Path, *settings: str) -> schema.Experiment:
    """The experiment for one epoch of a few steps on the aviary."""
    given = [f"data.root={recordings}", "data.table=metadata.csv", "data.audio=audio", "data.where=set=aviary"]
    given += ["data.layout=auto", "training.epochs=1", "training.batch_size=8", "training.threads=1", *settings]
    experiment = load_experiment(f"{CONFIG}:{name}")
    if experiment.data.split == "80/20":  # 24 clips are too few groups for a tenth of 80 %
        given += ["data.split=70/15/15", "data.val_fraction=0"]
    return override(experiment, given)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("efficientnet_v2_arcface", []),
        ("birdclef2025_vit", []),
        ("animal_spot_resnet18_optimized", []),
        ("animal_spot_convnext_pretrained", ["model.weights="]),
        pytest.param("birdclef2025_rnn", [], marks=pytest.mark.slow),
        pytest.param("ghost_efficientnet_v2", [], marks=pytest.mark.slow),
        pytest.param("panns_cnn14", [], marks=pytest.mark.slow),
        pytest.param("animal_spot_resnet18_500ms", [], marks=pytest.mark.slow),
    ],
)
def test_experiment_trains_an_epoch(name: str, settings: list[str], recordings: Path, tmp_path: Path) -> None:
    from birdnet_fs.training.trainer import train

    experiment = small(name, recordings, *settings)
    with narrow(models.resolve(experiment.model.name)):
        run = train(experiment, tmp_path / "run")
    assert run.experiment.model == experiment.model and len(run.classes) == 3


def test_8_bit_experiment_trains_the_float_network_first(recordings: Path, tmp_path: Path) -> None:
    from birdnet_fs.runs.run import load_run
    from birdnet_fs.training.trainer import train

    experiment = replace(small("panns_mobilenetv2_qat", recordings), pretrain=small("panns_mobilenetv2", recordings))
    with narrow("panns/mobilenet_v2"):
        run = train(experiment, tmp_path / "run")
        assert run.experiment.model.quantized and not load_run(tmp_path / "run" / "pretrain").experiment.model.quantized


def test_pair_needs_its_teacher_and_learns_from_it(recordings: Path, tmp_path: Path) -> None:
    from birdnet_fs.training.trainer import train

    student = small("panns_mobilenetv1_from_cnn14", recordings)
    with narrow("panns/cnn14", "panns/mobilenet_v1"):
        with pytest.raises(UserError, match=r"distillation\.teacher must be a run folder.*runs/panns_cnn14"):
            train(student, tmp_path / "student")
        teacher = train(small("panns_cnn14", recordings), tmp_path / "teacher")
        run = train(override(student, [f"distillation.teacher={teacher.path}"]), tmp_path / "student")
    assert run.classes == teacher.classes


def test_experiment_from_published_weights_asks_for_the_file(recordings: Path, tmp_path: Path) -> None:
    from birdnet_fs.training.trainer import train

    with pytest.raises(UserError, match=r"must be a file or a run folder that exists.*convnext_tiny-983f1562\.pth"):
        train(small("animal_spot_convnext_pretrained", recordings), tmp_path / "run")
