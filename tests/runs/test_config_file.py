"""config.json of this version, of an earlier one and of a newer one."""

import json
import re
import shutil
from pathlib import Path

import pytest

from birdnet_fs import __version__
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import write_json
from birdnet_fs.core.renamed import SETTINGS, VALUES
from birdnet_fs.core.settings import flat, to_dict
from birdnet_fs.runs.config_file import read_experiment
from birdnet_fs.runs.run import load_run
from birdnet_fs.schema import (
    Checkpoints,
    Data,
    Experiment,
    Finetuning,
    FrontEnd,
    Loss,
    Model,
    Optimizer,
    PseudoLabels,
    Sampling,
    Schedule,
    Training,
)

MAJOR, MINOR, PATCH = (int(number) for number in __version__.split(".")[:3])
# written by `to_dict` of commit dd03f5a, in which training was one flat group
EARLIER = Path(__file__).with_name("config_of_0_1.json")
FIRST = Experiment(
    name="first",
    frontend=FrontEnd(n_mels=64),
    model=Model("cnn/small", distance="learned", quantized=True, weights="runs/float"),
    data=Data(val_fraction=0.2),
    training=Training(
        epochs=4,
        loss=Loss("focal"),
        optimizer=Optimizer("adam", amsgrad=True, swa_epochs=3),
        schedule=Schedule("plateau"),
        sampling=Sampling("inverse"),
        precision="float32",
    ),
)
SAME = Experiment(
    name="earlier",
    seed=7,
    pretrain=FIRST,
    data=Data(root="recordings", multi_label=True, binary_label="call", val_fraction=0.2),
    frontend=FrontEnd(
        normalize="z_score", normalize_when="first", normalize_eps=1e-6, keep_from="center", keep_frames=100
    ),
    model=Model("cnn/small", head="sed"),
    training=Training(
        epochs=12,
        batch_size=16,
        learning_rate=2e-3,
        loss=Loss(
            "bce",
            focal_gamma=3.0,
            margin=0.2,
            label_smoothing=0.05,
            class_weights="effective",
            rare_class_weight=2.0,
            frame_loss=0.3,
        ),
        optimizer=Optimizer("sgd", weight_decay=0.02, beta1=0.8, beta2=0.99, clip_norm=0.5, accumulate=2, ema=0.9),
        schedule=Schedule(
            "step",
            warmup_epochs=2.0,
            min_learning_rate=1e-5,
            step_epochs=7,
            step_factor=0.5,
            plateau_factor=0.4,
            plateau_patience=6,
        ),
        sampling=Sampling(crops_per_clip=2, min_clips_per_class=3, max_clips_per_class=50),
        finetuning=Finetuning(freeze_blocks=2, unfreeze_epoch=3, layer_decay=0.9),
        checkpoints=Checkpoints("best", patience=5, n_best=4),
        threads=1,
        workers=2,
        track="mlflow",
    ),
    pseudo_labels=PseudoLabels(
        "runs/pseudo.csv", threshold=0.2, floor=0.1, power=2.0, weight="sum", amount=1.0, mix=0.25
    ),
)


def leaves(node: dict, prefix: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in node.items():
        found |= leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found


def test_a_config_of_the_version_before_opens_as_the_same_experiment() -> None:
    assert read_experiment(EARLIER) == SAME


def test_that_config_holds_every_renamed_setting_and_value_not_as_its_default() -> None:
    old, new, default = leaves(json.loads(EARLIER.read_text(encoding="utf-8"))), flat(SAME), flat(Experiment())
    for before, now in SETTINGS.items():
        assert before in old and f"pretrain.{before}" in old
        assert default[now] != new[now] or default[now] != new[f"pretrain.{now}"], before
    written = {
        f"{SETTINGS.get(own, own)}={value}" for key, value in old.items() if (own := key.removeprefix("pretrain."))
    }
    assert set(VALUES) <= written


def test_a_config_of_this_version_opens(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", to_dict(SAME))
    assert read_experiment(tmp_path / "config.json") == SAME


def make_run(folder: Path, version: object) -> Path:
    folder.mkdir()
    shutil.copy(EARLIER, folder / "config.json")
    (folder / "classes.txt").write_text("call\n")
    (folder / "weights.safetensors").write_bytes(b"")
    write_json(folder / "versions.json", {"birdnet_fs": version})
    return folder


@pytest.mark.parametrize("version", [__version__, "0.0.9", "unknown", None, f"{__version__}.dev3"])
def test_a_run_of_an_earlier_version_opens(tmp_path: Path, version: object) -> None:
    run = load_run(make_run(tmp_path / "run", version))
    assert run.experiment == SAME and run.classes == ("call",)


@pytest.mark.parametrize("version", ["9.9.0", f"{MAJOR}.{MINOR + 9}.0", f"{MAJOR}.{MINOR}.{PATCH + 1}rc1"])
def test_a_run_of_a_newer_version_is_refused_with_that_version(tmp_path: Path, version: str) -> None:
    folder = make_run(tmp_path / "run", version)
    with pytest.raises(
        UserError, match=rf"^{re.escape(str(folder))} was written by birdnet_fs {version}, and this is "
    ):
        load_run(folder)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not readable JSON"),
        ("[]", "must hold a JSON object of settings"),
        ('{"training": {"lookahead": 3}}', "Unknown setting 'training.lookahead'"),
        ('{"training": {"epochs": "x"}}', "training.epochs must be a whole number"),
        (
            '{"training": {"views": 2, "sampling": {"crops_per_clip": 2}}}',
            "given twice, under its old and its new name",
        ),
    ],
)
def test_a_config_that_cannot_be_read_is_named(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "config.json"
    file.write_text(text)
    with pytest.raises(UserError, match=re.escape(words)) as caught:
        read_experiment(file)
    assert str(caught.value).startswith(str(file)) and "\n" not in str(caught.value)


def test_an_artifact_keeps_the_keys_that_readers_on_devices_know() -> None:
    earlier = json.loads(EARLIER.read_text(encoding="utf-8"))["frontend"]
    assert SAME.frontend.to_artifact() == earlier
    assert FrontEnd.from_artifact(earlier) == SAME.frontend
