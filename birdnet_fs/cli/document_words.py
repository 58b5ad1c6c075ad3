"""Words of the commands that this package replaces, each with the line to type here.

The sources are the few-shot prototypical networks (`archs/train.py`, Hydra keys under `arch.`), the torch
implementation of audio classifiers (`main.py`, Hydra keys), the ConvNeXt fork of ANIMAL-SPOT (`main.py`, options) and
the notes on BirdCLEF 2022 (`birdclef.workflows`, whose verbs of motifs are `birdnet-fs motifs`). A word is refused
rather than taken for the setting of the most similar name, which may mean something else. docs/from_the_documents.md
has all commands of these sources.
"""

import contextlib
import os
import re
import shlex
from collections.abc import Sequence
from itertools import pairwise

from birdnet_fs.core.errors import UserError, shown
from birdnet_fs.schema.networks import resolve

MODEL = ("model", "model.name")
VERBS = ("train", "cv", "tune", "quantize")  # verbs that take settings of an experiment
PRETRAINED = r"(arch\.|arch\.model\.|model\.|model\.params\.)?pretrained|--pretrained"
# names of the torch implementation's files config/model/*.yaml that are experiments here and no networks
EXPERIMENTS = (
    "panns_cnn14",
    "panns_mobilenetv1",
    "panns_mobilenetv2",
    "efficientnet_v2_qat",
    "ghost_efficientnet_v2_qat",
    "panns_cnn14_qat",
    "panns_mobilenetv1_qat",
    "panns_mobilenetv2_qat",
)
SETTING = re.compile(r"[a-z_.]+=")
_EVALUATE = "test a finished run with: birdnet-fs evaluate RUN"
# pattern of a whole key or option -> the line to type
WORDS = {
    # few-shot prototypical networks
    r"arch": "the experiment is the first argument: birdnet-fs train config.py:fewshot_v1, or config.py:fewshot_v2",
    r"(run\.)?train": f"`birdnet-fs train` always trains; {_EVALUATE}",
    r"(run\.)?test": _EVALUATE,
    r"(arch\.training\.)?load_weight_from|run\.checkpoint_path": (
        f"{_EVALUATE}; start a training from its weights with model.weights=RUN"
    ),
    r"arch\.training\.max_epochs": "type training.epochs=N",
    r"arch\.training\.learning_rate": "type training.learning_rate=RATE",
    r"arch\.training\.gradient_clip_val": "type training.optimizer.clip_norm=NORM",
    r"arch\.training\.(\w+)": "settings of the training are named training.NAME; --cfg prints them",
    r"arch\.model\.dropout": ("type model.block_dropout=RATE; model.dropout is that of the finished embedding"),
    r"arch\.model\.channels": "type model.channels=[64,128,256,512]",
    r"arch\.augmentation\.time_mask_pct": "type augmentation.time_masks.longest=FRACTION",
    r"arch\.augmentation\.freq_mask_pct": "type augmentation.freq_masks.longest=FRACTION",
    r"arch\..*": "settings have no prefix `arch.`; --cfg prints their names",
    r"v1|v2": "type birdnet-fs train config.py:fewshot_v1, or config.py:fewshot_v2",
    r"exp_name": "name the folder of the run with -o: birdnet-fs train config.py:fewshot_v2 -o runs/NAME",
    # the torch implementation
    r"run\.quantise": "quantize a finished run with: birdnet-fs quantize RUN -o OUTPUT",
    r"run\..*": f"`birdnet-fs train` trains, {_EVALUATE}, export it with birdnet-fs export RUN",
    PRETRAINED: (
        "nothing is downloaded; type model.weights=FILE, the file of published weights (docs/weights.md; random "
        "weights: model.weights=)"
    ),
    r"model\.params\..*": "settings of a network are named model.NAME; --cfg prints them",
    r"augmentations\..*": (
        "type augmentation.noise.p=0.5 or augmentation.gain_db=6: every augmentation is a setting of its own; --cfg "
        "prints them"
    ),
    r"(\w+\.)?num_workers": "type training.workers=N",
    r"(\w+\.)?pin_memory": "batches are pinned wherever a GPU trains; leave it out",
    r"--multirun|hydra\..*": "a sweep is a search: birdnet-fs tune FILE:NAME",
    r"\+\w+.*": (
        "there are no groups that differ between machines: config.py is Python, where os.environ can be read, and the "
        "shell sets values, as data.root=$DATA"
    ),
    r"teacher_model": (
        "a teacher is a finished run: train it first, as config.py:panns_cnn14, then type "
        "config.py:panns_mobilenetv2_from_cnn14 and distillation.teacher=RUN"
    ),
    # ANIMAL-SPOT
    r"--backbone": (
        "type config.py:animal_spot (ResNet-18), config.py:animal_spot_convnext or, from published weights, "
        "config.py:animal_spot_convnext_pretrained as the first argument"
    ),
    r"--resnet": "type model=resnet/18",
    r"--weighted_sampling|--sampling_strategy": (
        "type training.sampling=NAME with inverse, sqrt_inverse or effective (inverse_freq, ..., effective_num)"
    ),
    r"--scheduler": "type training.schedule=NAME with onecycle, plateau, cosine, step or constant",
    r"--lr": "type training.learning_rate=RATE",
    r"--label_smoothing": "type training.loss.label_smoothing=FRACTION",
    r"--cache_dir": "type data.cache=FOLDER (docs/cache.md)",
    r"--num_workers": "type training.workers=N",
    r"--batch_size": "type training.batch_size=N",
    r"--max_epochs|--max_train_epochs": "type training.epochs=N",
    r"--n_fft": ("type frontend.n_fft=N and frontend.win_length=N (earlier: config.py:animal_spot_resnet18_old)"),
    r"--hop_length": "type frontend.hop_length=N (earlier: config.py:animal_spot_resnet18_old)",
    r"--sequence_len": "type frontend.segment_s=SECONDS, as 1.28 for 1280 ms",
    r"--num_classes": "classes are counted in the labels; leave it out",
    r"--data_dir": "type data.root=FOLDER",
    r"--n_trials": "type --trials N",
}


# beginning of a command -> the line to type, {} for the other words
GROUPS = {
    ("motif", "extract"): "birdnet-fs motifs extract RECORDINGS {}",
    ("motif", "consolidate"): "birdnet-fs motifs consolidate MOTIFS {}",
    ("motif", "generate-triplets"): "birdnet-fs motifs generate-triplets MOTIFS/motif-consolidated.parquet {}",
    ("motif", "extract-triplets"): "birdnet-fs motifs extract-triplets {} RECORDINGS",
    ("motif", "extract-top-motif"): "birdnet-fs motifs extract-top-motif MOTIFS {}",
    ("motif",): "birdnet-fs motifs {}",
    ("embed", "fit"): "birdnet-fs motifs embed fit {}",
    ("embed", "summary"): "birdnet-fs motifs embed summary {}",
}


def refuse_document_groups(arguments: Sequence[str]) -> None:
    """Refuse the groups of verbs of `birdclef.workflows` that have another place here.

    Args:
        arguments: Words of the command line after `birdnet-fs`.

    Raises:
        UserError: The words begin with such a group; the message gives the line to type.
    """
    for words, line in GROUPS.items():
        if tuple(arguments[: len(words)]) == words and not os.path.exists(arguments[len(words) - 1]):
            rest = list(map(shlex.quote, arguments[len(words) :]))
            if words[-1] == "extract" and not {"-o", "--output"} & set(rest):
                rest += ["-o", "MOTIFS"]
            typed = " ".join(line.format(" ".join(rest)).split())
            raise UserError(f"`{' '.join(words)}` has another place here; type {typed}.")


def refuse_document_words(verb: str, arguments: Sequence[str]) -> None:
    """Refuse words of the commands that this package replaces.

    Args:
        verb: Verb of the command line, as "train".
        arguments: Arguments of the verb, as `key=value` and options.

    Raises:
        UserError: Arguments are such words; the message gives for each the line to type.
    """
    if verb not in VERBS:
        return
    lines = [
        f"{shown(argument)}: {line}"
        for argument, following in pairwise([*arguments, ""])
        if (line := _line(argument, following, arguments))
    ]
    if lines:
        raise UserError(f"Not in the words of birdnet-fs {verb}. {'. '.join(dict.fromkeys(lines))}.")
    first = arguments[0] if arguments else ""
    if verb != "quantize" and SETTING.match(first) and not os.path.exists(first.rpartition(":")[0] or first):
        raise UserError(
            "The experiment is missing; it is the first argument. Type birdnet-fs "
            f"{verb} config.py:NAME {' '.join(map(shlex.quote, arguments))}."
        )


def _line(argument: str, following: str, arguments: Sequence[str]) -> str:
    """The line to type instead of one of the arguments; "" for one that is none of these words."""
    key, equals, value = argument.partition("=")
    if argument == "--cfg" and following == "job":
        return "type --cfg alone, without a value"
    if key in MODEL and value in EXPERIMENTS:
        quantized = (
            "; quantize a finished run with: birdnet-fs quantize RUN -o OUTPUT" if value.endswith("_qat") else ""
        )
        return f"type config.py:{value} as the first argument{quantized}"
    if re.fullmatch(PRETRAINED, key) and value.lower() in ("", "true", "1", "yes"):
        return _published(arguments) or WORDS[PRETRAINED]
    if not equals and not key.startswith("--") and key not in ("v1", "v2"):
        return ""
    return next((line for pattern, line in WORDS.items() if re.fullmatch(pattern, key)), "")


def _published(arguments: Sequence[str]) -> str:
    """The published files of the network that the arguments choose; "" where they choose none."""
    from birdnet_fs.cli.experiment import load_experiment
    from birdnet_fs.schema.published_weights import wanted

    name = ""
    with contextlib.suppress(UserError):
        for argument, following in pairwise([*arguments, ""]):
            key, _, value = argument.partition("=")
            if argument == "--backbone":
                name = following
            elif key in MODEL:
                name = value
            elif not name and ".py:" in argument and not argument.startswith("-") and "=" not in argument:
                name = load_experiment(argument).model.name
        files = wanted(name) if name else ""
        return f"nothing is downloaded; {resolve(name)} takes {files}: type model.weights=FILE" if files else ""
    return ""
