"""Literal commands of the programs that this package replaces: each word is answered by the line to type here."""

import re
import shlex
from pathlib import Path

import pytest
from command_line import ROOT, birdnet_fs

from birdnet_fs.cli.document_words import EXPERIMENTS, WORDS, refuse_document_groups, refuse_document_words
from birdnet_fs.cli.experiment import load_experiment
from birdnet_fs.core.errors import UserError

CONFIG = str(ROOT / "config.py")
# (arguments after the verb, what is to be typed instead)
COMMANDS = [
    ("arch=v2", ["birdnet-fs train config.py:fewshot_v1, or config.py:fewshot_v2"]),
    (
        "arch=v2 train=false test=true arch.training.load_weight_from=epoch_050.ckpt",
        ["birdnet-fs evaluate RUN", "model.weights=RUN"],
    ),
    ("arch=v2 arch.training.learning_rate=0.0005", ["training.learning_rate=RATE"]),
    (
        "arch=v2 arch.augmentation.time_mask_pct=0.2 arch.augmentation.freq_mask_pct=0.2",
        ["augmentation.time_masks.longest=FRACTION", "augmentation.freq_masks.longest=FRACTION"],
    ),
    ("arch=v2 arch.model.channels=[128,256,512,1024]", ["model.channels=["]),
    ("arch=v2 arch.training.max_epochs=100", ["training.epochs=N"]),
    ("arch=v2 exp_name=v2_experiment_1", ["-o runs/NAME"]),
    ("arch=v2 arch.training.gradient_clip_val=0.5", ["training.optimizer.clip_norm=NORM"]),
    ("arch=v2 arch.model.dropout=0.2", ["model.block_dropout=RATE"]),
    ("run.train=false run.test=true run.checkpoint_path=path/to/model.pth", ["birdnet-fs evaluate RUN"]),
    (
        "model=efficientnet_v2_qat run.quantise=true",
        ["config.py:efficientnet_v2_qat as the first", "birdnet-fs quantize RUN -o OUTPUT"],
    ),
    ("model=panns_cnn14", ["config.py:panns_cnn14 as the first argument"]),
    ("model.params.pretrained=false", ["model.weights=FILE", "random weights: model.weights="]),
    ("pretrained=true", ["docs/weights.md"]),
    (
        "model=resnet/50 model.pretrained=true",
        ["resnet/50 takes torchvision's resnet50-11ad3fa6.pth", "model.weights="],
    ),
    ("model.name=vit/base arch.pretrained=true", ["vit/base takes timm's", "keras_hub's model.weights.h5 of"]),
    (f"{CONFIG}:panns_cnn14 model.params.pretrained=true", ["panns/cnn14 takes PANNs' Cnn14_mAP=0.431.pth (AudioSet)"]),
    ("model=cnn/small pretrained=true", ["cnn/small takes a run folder of cnn/small (none are published)"]),
    (
        "model=efficientnet_v2 training.batch_size=32",
        ["train config.py:NAME model=efficientnet_v2 training.batch_size"],
    ),
    ("v2", ["birdnet-fs train config.py:fewshot_v1, or config.py:fewshot_v2"]),
    ("config.py:birds10 +env=server", ["os.environ"]),
    ("config.py:birds10 data.num_workers=4 training.pin_memory=true", ["training.workers=N", "leave it out"]),
    ("config.py:birds10 --multirun", ["birdnet-fs tune FILE:NAME"]),
    ("augmentations.audio.transforms[0].p=0.5", ["augmentation.noise.p=0.5"]),
    ("teacher_model=panns_cnn14", ["distillation.teacher=RUN"]),
    ("config.py:animal_spot --cfg job", ["type --cfg alone"]),
    ("--n_fft 4096 --hop_length 441 --sequence_len 1280", ["frontend.n_fft=", "frontend.hop_length=", "segment_s="]),
    (
        "--backbone convnext --pretrained",
        ["config.py:animal_spot_convnext_pretrained", "convnext_tiny-983f1562.pth", "model.weights=FILE"],
    ),
    (
        "--weighted_sampling --sampling_strategy sqrt_inverse_freq",
        ["training.sampling=NAME with inverse"],
    ),
    ("--scheduler onecycle --lr 3e-4", ["training.schedule=NAME with onecycle", "training.learning_rate=RATE"]),
    ("--label_smoothing 0.1", ["training.loss.label_smoothing=FRACTION"]),
    ("--cache_dir ./cache --num_workers 8", ["data.cache=FOLDER", "training.workers=N"]),
    ("--backbone resnet --resnet 18 --batch_size 8 --lr 5e-6 --num_classes 13", ["model=resnet/18", "leave it out"]),
    ("--data_dir ./data --n_trials 50 --max_epochs 30", ["data.root=FOLDER", "--trials N", "training.epochs=N"]),
]


@pytest.mark.parametrize(("arguments", "lines"), COMMANDS, ids=[command for command, _ in COMMANDS])
def test_words_of_the_documents_are_answered_by_the_line_to_type(arguments: str, lines: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        refuse_document_words("train", shlex.split(arguments))
    assert all(line in str(caught.value) for line in lines), str(caught.value)


def test_every_setting_that_an_answer_names_exists() -> None:
    values = {"N": "2", "RATE": "0.1", "FRACTION": "0.1", "NORM": "1", "SECONDS": "1"}
    named = {found for line in WORDS.values() for found in re.findall(r"type ([a-z_.]+=(?:\[[\d,]+\]|[\w/]+))", line)}
    assert len(named) >= 15
    for setting in named:
        key, _, value = setting.partition("=")
        value = "1024" if key.startswith("frontend") and value == "N" else value
        value = {"training.sampling": "sqrt_inverse", "training.schedule": "onecycle"}.get(key, value)
        if value not in ("FOLDER", "RUN", "FILE"):
            name = "fewshot_v2" if key.startswith("model") else "xc171"
            load_experiment(f"{CONFIG}:{name}", [f"{key}={values.get(value, value)}"])


def test_experiments_that_answers_name_exist() -> None:
    named = {name for line in WORDS.values() for name in re.findall(r"config\.py:(\w+)", line)}
    for name in named | set(EXPERIMENTS):
        assert load_experiment(f"{CONFIG}:{name}").name == name


@pytest.mark.parametrize("verb", ["train", "cv", "tune"])
def test_settings_of_this_package_are_no_words_of_others(verb: str) -> None:
    refuse_document_words(verb, ["config.py:animal_spot", "model=resnet/18", "training.epochs=3", "--cfg", "-o", "x"])
    refuse_document_words("analyze", ["--batch_size", "8"])


def test_dropout_of_a_finished_embedding_is_refused_by_the_setting_that_is_meant() -> None:
    with pytest.raises(UserError, match=r"type model.block_dropout=0.2 for dropout inside the network"):
        load_experiment(f"{CONFIG}:fewshot_v2", ["model.dropout=0.2"])
    assert load_experiment(f"{CONFIG}:fewshot_v2", ["model.block_dropout=0.2"]).model.block_dropout == 0.2
    assert load_experiment(f"{CONFIG}:fewshot_v2", ["model.dropout=0"]).model.dropout == 0


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("motif extract", "type birdnet-fs motifs extract RECORDINGS -o MOTIFS."),
        ("motif extract --output FOLDER", "type birdnet-fs motifs extract RECORDINGS --output FOLDER."),
        ("motif motif-track --input MOTIFS t.wav", "type birdnet-fs motifs motif-track --input MOTIFS t.wav."),
        ("motif extract-triplets a.parquet", "type birdnet-fs motifs extract-triplets a.parquet RECORDINGS."),
        ("embed fit a.parquet b --name x", "type birdnet-fs motifs embed fit a.parquet b --name x."),
    ],
)
def test_groups_of_the_documents_are_answered_by_the_line_to_type(command: str, line: str) -> None:
    with pytest.raises(UserError) as caught:
        refuse_document_groups(shlex.split(command))
    assert line in str(caught.value)


def test_a_model_that_is_named_as_a_verb_of_the_documents_is_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fit").mkdir()
    refuse_document_groups(["embed", "fit", "recordings"])
    refuse_document_groups(["motifs", "extract", "recordings"])


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("train", "Type birdnet-fs train CONFIG:NAME."),
        ("tune", "Type birdnet-fs tune CONFIG:NAME."),
        ("motifs generate-triplets --samples 10000", "Type birdnet-fs motifs generate-triplets TABLE."),
        ("motifs extract --cens-sr 10", "Type birdnet-fs motifs extract RECORDINGS... --output OUTPUT."),
        ("classify train", "Type birdnet-fs classify train OUTPUT --motif-root MOTIF_ROOT."),
    ],
)
def test_a_missing_argument_is_answered_by_the_whole_line(tmp_path: Path, command: str, line: str) -> None:
    done = birdnet_fs(*command.split(), cwd=tmp_path, check=False)
    assert done.returncode == 2 and line in done.stderr
