import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.settings import from_dict, override, show, to_dict
from birdnet_fs.schema import Data, Experiment, FrontEnd, Training


def test_settings_are_applied_by_type() -> None:
    e = override(
        Experiment(),
        [
            "model=efficientnet_v2",
            "training.batch_size=32",
            "training.learning_rate=1e-4",
            "frontend.resize=[256, 256]",
            "data.multi_label=true",
            "name=0123",
        ],
    )
    assert (e.model.name, e.training.batch_size, e.training.learning_rate) == ("efficientnet_v2", 32, 1e-4)
    assert e.frontend.resize == (256, 256)
    assert e.data.multi_label is True
    assert e.name == "0123"  # text stays text
    assert e.augmentation == Experiment().augmentation


def test_checks_that_span_settings_wait_for_all_of_them() -> None:
    settings = ["frontend.fmax_hz=20000", "frontend.sample_rate_hz=48000"]
    assert override(Experiment(), settings) == override(Experiment(), settings[::-1])
    assert (
        override(
            Experiment(), ["training.checkpoints.select=best", "data.val_fraction=0.2"]
        ).training.checkpoints.select
        == "best"
    )


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("trainig.batch_size=3", "Did you mean 'training.batch_size'"),
        ("training.batchsize=3", "Did you mean 'training.batch_size'"),
        ("training.epochs=many", "training.epochs must be a whole number. Received: 'many'"),
        ("training.epochs=0", "training.epochs must be 1 or more. Received: 0"),
        ("training.epochs=2.5", "must be a whole number"),
        ("training=3", "'training' is a group of settings"),
        ("seed", "A setting must be key=value. Received: 'seed'"),
        ("training.optimizer.swa_epochs=-1", "training.optimizer.swa_epochs must be 0 or more epochs. Received: -1"),
        ("training.finetuning.unfreeze_epoch=-1", "training.finetuning.unfreeze_epoch must be 0 or more epochs"),
        ("training.schedule.plateau_patience=-1", "training.schedule.plateau_patience must be 0 or more epochs"),
        ("training.checkpoints.select=bets", "Did you mean 'best'?"),
        ("training.checkpoints.select=best", "set data.val_fraction"),
        ("training.epochs=1e999", "training.epochs must be a whole number"),
        ("training.learning_rate=inf", "training.learning_rate must be a number"),
        ("seed=-1", "seed must be in 0..4294967295. Received: -1"),
        ("data.limit=-5", "data.limit must be 0"),
        ("augmentation.noise.snr_db=[20,0]", "noise.snr_db must be [lowest, highest]. Received: [20.0, 0.0]"),
        ("augmentation.pitch.p=1.5", "augmentation.pitch.p must be in [0, 1]. Received: 1.5"),
        ("augmentation.time_masks.n=-1", "augmentation.time_masks.n must be 0 or more"),
        ("augmentation.time_masks.lengths=[5,999]", "lengths must be 313 or less, the time axis of the features"),
        ("augmentation.freq_masks.lengths=[-5,9]", "augmentation.freq_masks.lengths must be 0 or more"),
        ("augmentation.stretch.rate=[0,1]", "augmentation.stretch.rate must be above 0"),
        ("augmentation.mixup.alpha=0", "augmentation.mixup.alpha must be above 0"),
        ("augmentation.warp.time=0.5", "augmentation.warp.time must be below 0.5"),
        ("augmentation.pitch.semitones=40", "augmentation.pitch.semitones must be 24 or less"),
        ("augmentation.mixup=0.5", "'augmentation.mixup' is a group of settings; set one of them: p, alpha, on"),
        ("augmentation.mixup_p=0.5", "Did you mean 'augmentation.mixup.p'?"),
        ("data.multi_label=yes", "must be true or false"),
        ("data.fold.x=1", "'data.fold' holds one value"),
        ("frontend.resize=[1]", "must be a list [a whole number, a whole number]"),
        ("frontend.fmax_hz=20000", "16000 Hz"),
        ("pretrain.seed=1", "'pretrain' holds one value"),
        ("model.head=cosin", "Did you mean 'cosine'? Received: 'cosin'"),
        ("model.logit_scale=-1", "model.logit_scale must be 0"),
        ("training.loss=arcfac", "Did you mean 'arcface'?"),
        ("training.loss=circle", "training.loss=circle needs model.head=cosine. Received: 'linear'"),
        ("training.loss=bce", "training.loss=bce needs data.multi_label=true"),
        ("training.loss.margin=1", "training.loss.margin must be in [0, 1)"),
        (
            "training.checkpoints.patience=2",
            "training.checkpoints.patience and training.schedule=plateau need validation clips",
        ),
        ("training.schedule.min_learning_rate=1", "must be in [0, 0.001] (training.learning_rate). Received: 1.0"),
        ("training.schedule.step_factor=0", "training.schedule.step_factor must be in (0, 1]"),
        ("training.schedule=cosin", "Did you mean 'cosine'?"),
    ],
)
def test_wrong_settings_get_one_sentence(setting: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        override(Experiment(), [setting])
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["animal_spot.p=1", "pitch.p=0.1"], "augmentation.animal_spot changes time and pitch by itself; set"),
        (
            ["filters.low_pass_p=1", "filters.high_pass_p=1", "filters.high_pass_hz=[100,5000]"],
            "augmentation.filters.high_pass_hz must lie below low_pass_hz",
        ),
        (["filters.low_pass_p=1", "filters.low_pass_hz=[100,20000]"], "must be 16000 Hz (half of the rate)"),
    ],
)
def test_augmentations_that_exclude_each_other(settings: list[str], words: str) -> None:
    with pytest.raises(UserError) as caught:
        override(Experiment(), [f"augmentation.{setting}" for setting in settings])
    assert words in str(caught.value)
    with pytest.raises(UserError, match=r"data\.background gives recorded noise; set one of them"):
        override(Experiment(), ["augmentation.noise.exponent=[1,2]", "data.background=set=night"])
    assert override(Experiment(), ["augmentation.noise.exponent=[1,2]"]).augmentation.noise.exponent == (1.0, 2.0)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (
            "augmentation.mixup.p=0.5",
            "needs one class a clip, not a mixture; set augmentation.mixup.p=0. Received: 'augmentation.mixup.p'",
        ),
        ("data.multi_label=true", "training.loss=arcface needs data.multi_label=false"),
        ("model.head=sed", "training.loss=arcface needs model.head=cosine. Received: 'sed'"),
    ],
)
def test_losses_on_cosines_say_what_they_need(setting: str, words: str) -> None:
    arcface = override(Experiment(), ["training.loss=arcface", "model.head=cosine"])
    with pytest.raises(UserError) as caught:
        override(arcface, [setting])
    assert words in str(caught.value)
    with pytest.raises(UserError, match=r"training\.loss=ce needs data\.multi_label=false"):
        override(Experiment(), ["training.loss=ce", "data.multi_label=true"])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["model.head=linear"], "Episodes need model.head=prototypes. Received: 'linear'"),
        (["data.multi_label=true"], "Episodes need data.multi_label=false"),
        (["augmentation.mixup.p=0.5"], "Episodes need one class a clip, not a mixture; set augmentation.mixup.p=0."),
        (["augmentation.cutmix.p=0.5"], "Episodes need one class a clip, not a mixture; set augmentation.cutmix.p=0."),
        (
            ["data.split=folds"],
            "on classes that are not trained on; set data.split=classes or table, or episodes.n_val",
        ),
        (["episodes=none"], "data.split=classes holds out whole classes"),
        (["training.checkpoints.select=best", "episodes.n_val=0"], "need validation episodes: set episodes.n_val"),
        (["training.checkpoints.patience=3", "episodes.n_val=0"], "need validation episodes: set episodes.n_val"),
        (["episodes.n_way=1"], "episodes.n_way must be 2 or more. Received: 1"),
        (["training.finetuning.freeze_blocks=-1", "model.weights=run"], "leaves nothing to learn in episodes"),
    ],
)
def test_episodes_say_what_they_need(settings: list[str], words: str) -> None:
    few_shot = Experiment(data=Data(split="classes"), model=schema.Model(head="prototypes"), episodes=schema.Episodes())
    with pytest.raises(UserError) as caught:
        override(few_shot, settings)
    assert words in str(caught.value)
    assert override(few_shot, ["episodes.n_val=0", "episodes.n_test=0", "data.split=folds"]).episodes.n_train == 2000
    assert schema.debugged(override(few_shot, ["debug=true"])).episodes == schema.Episodes(
        n_train=20, n_val=20, n_test=20
    )


@pytest.mark.parametrize(
    ("settings", "scale"),
    [
        ([], 1.0),
        (["model.logit_scale=7"], 1.0),
        (["model.head=sed"], 1.0),
        (["model.head=cosine"], 30.0),
        (["model.head=cosine", "data.multi_label=true"], 30.0),
        (["model.head=cosine", "training.loss=arcface"], 30.0),
        (["model.head=cosine", "training.loss=circle"], 80.0),
        (["model.head=cosine", "training.loss=circle", "model.logit_scale=64"], 64.0),
    ],
)
def test_the_scale_of_the_logits(settings: list[str], scale: float) -> None:
    assert override(Experiment(), settings).logit_scale == scale


def test_groups_are_set_by_name_and_pretrain_can_be_dropped() -> None:
    e = override(
        Experiment(pretrain=Experiment(name="first")), ["frontend=x"], {"frontend": lambda n: FrontEnd(preset=n)}
    )
    assert e.frontend.preset == "x"
    assert override(e, ["pretrain.training.epochs=3"]).pretrain.training.epochs == 3
    assert override(e, ["pretrain=none"]).pretrain is None


def test_an_experiment_survives_json() -> None:
    e = Experiment(pretrain=Experiment(name="first"), training=Training(epochs=3), frontend=FrontEnd(resize=(4, 5)))
    assert from_dict(Experiment, to_dict(e)) == e
    with pytest.raises(UserError, match="Did you mean 'training'"):
        from_dict(Experiment, {"trainin": {}})
    with pytest.raises(UserError, match=r"training\.epochs must be a whole number"):
        from_dict(Experiment, {"training": {"epochs": "x"}})


def test_shown_settings_can_be_given_back() -> None:
    e = Experiment(name="a=b", seed=3, data=Data(where="set=x,role=a|b"), frontend=FrontEnd(resize=(4, 5)))
    assert override(Experiment(), show(e).splitlines()) == e


def test_debug_cuts_down() -> None:
    e = schema.debugged(Experiment(debug=True, data=Data(fold=3), pretrain=Experiment()))
    assert (e.data.limit, e.data.fold, e.training.epochs, e.pretrain.training.epochs) == (1000, 3, 2, 2)
    assert schema.debugged(Experiment()) == Experiment()


def test_groups_of_settings_say_what_they_are() -> None:
    files = sorted(Path(schema.__file__).parent.glob("*.py"))
    for cls in (FrontEnd, Data, schema.Model, schema.Augmentation, Training, Experiment):
        assert not (cls.__doc__ or "").startswith(f"{cls.__name__}(")  # what dataclass writes by itself
        lines = next(
            text for file in files if f"class {cls.__name__}:" in (text := file.read_text("utf-8"))
        ).splitlines()
        for f in dataclasses.fields(cls):
            line = next(line for line in lines if line.startswith(f"    {f.name}: "))
            explained = "#" in line or "Literal" in line
            plain = f.name.removesuffix("_hz").removesuffix("_s").removesuffix("_column")
            assert explained or len(plain) >= 4, f"{cls.__name__}.{f.name} has neither a comment nor a telling name"


def test_schema_needs_the_standard_library_only() -> None:
    code = (
        "import sys, birdnet_fs.schema; print({m for m in sys.modules} & {'numpy', 'torch', 'keras', 'typer', 'tqdm'})"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["training.loss=asymmetric"], "training.loss=asymmetric needs data.multi_label=true"),
        (["training.loss=soft_auc"], "training.loss=soft_auc needs data.multi_label=true"),
        (["training.loss.frame_loss=0.5"], "training.loss.frame_loss needs model.head=sed"),
        (
            ["training.sampling=inverse", "training.sampling.min_clips_per_class=5"],
            "training.sampling draws clips by the weight",
        ),
        (
            ["training.sampling.min_clips_per_class=9", "training.sampling.max_clips_per_class=5"],
            "training.sampling.min_clips_per_class must not be above max_clips_per_class",
        ),
        (
            ["training.schedule=plateau"],
            "training.checkpoints.patience and training.schedule=plateau need validation clips",
        ),
        (
            ["training.optimizer.swa_epochs=2", "training.optimizer.ema=0.9"],
            "training.optimizer.swa_epochs and training.optimizer.ema are two averages",
        ),
        (
            ["training.finetuning.unfreeze_epoch=2"],
            "training.finetuning.unfreeze_epoch needs training.finetuning.freeze_blocks",
        ),
        (
            ["training.optimizer=sgd", "training.optimizer.amsgrad=true"],
            "amsgrad needs training.optimizer=adamw or adam",
        ),
        (["training.loss.focal_gamma=0.5"], "training.loss.focal_gamma must be 1 or more"),
        (
            ["model.head=cosine", "training.loss=arcface", "training.loss.class_weights=inverse"],
            "training.loss=arcface takes no training.loss.class_weights; use training.sampling",
        ),
    ],
)
def test_losses_and_sampling_that_do_not_go_together(settings: list[str], words: str) -> None:
    with pytest.raises(UserError, match=re.escape(words)):
        override(schema.Experiment(), settings)
