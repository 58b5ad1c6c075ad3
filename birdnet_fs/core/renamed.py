"""Names of earlier versions and their replacements: one table, which docs/renamed.md repeats.

A renamed setting, value, verb or option is refused with its new name. Only the settings in run folders of an earlier
version are translated (`translated`), so that those runs can be opened.
"""

import re
from collections.abc import Mapping
from typing import Any

from birdnet_fs.core.errors import UserError

# old -> new dotted key, as on the command line and in config.json
SETTINGS = {
    "training.focal_gamma": "training.loss.focal_gamma",
    "training.margin": "training.loss.margin",
    "training.label_smoothing": "training.loss.label_smoothing",
    "training.class_weights": "training.loss.class_weights",
    "training.rare_boost": "training.loss.rare_class_weight",
    "training.frame_loss": "training.loss.frame_loss",
    "training.weight_decay": "training.optimizer.weight_decay",
    "training.beta1": "training.optimizer.beta1",
    "training.beta2": "training.optimizer.beta2",
    "training.amsgrad": "training.optimizer.amsgrad",
    "training.clip_norm": "training.optimizer.clip_norm",
    "training.accumulate": "training.optimizer.accumulate",
    "training.ema": "training.optimizer.ema",
    "training.swa_epochs": "training.optimizer.swa_epochs",
    "training.warmup_epochs": "training.schedule.warmup_epochs",
    "training.min_learning_rate": "training.schedule.min_learning_rate",
    "training.step_epochs": "training.schedule.step_epochs",
    "training.step_factor": "training.schedule.step_factor",
    "training.plateau_factor": "training.schedule.plateau_factor",
    "training.plateau_patience": "training.schedule.plateau_patience",
    "training.views": "training.sampling.crops_per_clip",
    "training.at_least": "training.sampling.min_clips_per_class",
    "training.at_most": "training.sampling.max_clips_per_class",
    "training.freeze_blocks": "training.finetuning.freeze_blocks",
    "training.unfreeze_epoch": "training.finetuning.unfreeze_epoch",
    "training.layer_decay": "training.finetuning.layer_decay",
    "training.keep": "training.checkpoints.select",
    "training.patience": "training.checkpoints.patience",
    "training.checkpoints": "training.checkpoints.n_best",
    "data.detect": "data.binary_label",
    "model.quantised": "model.quantized",
    "frontend.normalise": "frontend.normalize",
    "frontend.normalise_when": "frontend.normalize_when",
    "frontend.normalise_eps": "frontend.normalize_eps",
    "pseudo.table": "pseudo_labels.table",
    "pseudo.threshold": "pseudo_labels.threshold",
    "pseudo.floor": "pseudo_labels.floor",
    "pseudo.power": "pseudo_labels.power",
    "pseudo.weight": "pseudo_labels.weight",
    "pseudo.amount": "pseudo_labels.amount",
    "pseudo.mix": "pseudo_labels.mix",
}
# old -> new value of a setting, under the current key
VALUES = {
    "frontend.keep_from=centre": "frontend.keep_from=center",
    "model.distance=learnt": "model.distance=learned",
}
VERBS = {
    "pseudo": "pseudo-label",
    "fewshot": "fewshot-eval",
    "quantise": "quantize",
}
OPTIONS = {
    "export --licence": "export --license",
    "show --draws": "show --n_draws",
    "tune --keep": "tune --n_best",
}
# classes of birdnet_fs.schema, which a config.py imports
CLASSES = {
    "Choice": "Categorical",
    "Pseudo": "PseudoLabels",
}
TABLES = {"Settings": SETTINGS, "Values": VALUES, "Verbs": VERBS, "Options": OPTIONS, "Schema classes": CLASSES}
_NESTED = "pretrain."  # prefix of the keys of a nested experiment; may be repeated


def refuse_setting(key: str, value: object = None) -> None:
    """Refuse a setting, or a value of a setting, that has been renamed.

    Args:
        key: Dotted key, as "training.views" or "pretrain.training.views".
        value: The value received, as text; None = only the key is checked.

    Raises:
        UserError: The key or the value was renamed; the message gives the new one.
    """
    nested, own = _split(key)
    new = _new_name(own)
    if new:
        raise UserError(f"The setting {key} was renamed; use {nested}{new} instead.")
    new = VALUES.get(f"{own}={value}")
    if new:
        raise UserError(f"The value {key}={value} was renamed; use {nested}{new} instead.")


def refuse_verb(name: str) -> None:
    """Refuse a verb that has been renamed.

    Args:
        name: Verb as on the command line, with its group, as "motifs extract".

    Raises:
        UserError: The verb was renamed; the message gives the new one.
    """
    if name in VERBS:
        raise UserError(f"The verb `{name}` was renamed; use `birdnet-fs {VERBS[name]}` instead.")


def refuse_option(verb: str, argument: str) -> None:
    """Refuse an option that has been renamed.

    Args:
        verb: Name of the verb, such as "export" or "motifs extract".
        argument: Text of the command line, such as "--licence" or "--licence=CC0".

    Raises:
        UserError: The option was renamed; the message gives the new one.
    """
    name = argument.partition("=")[0]
    new = OPTIONS.get(f"{verb} {name}")
    if new is not None:
        raise UserError(f"The option {name} of `birdnet-fs {verb}` was renamed; use {new.split()[-1]} instead.")


def in_python(error: Exception) -> str:
    """Explain an exception that a renamed setting or class causes in a config.py.

    Args:
        error: TypeError for a keyword that a class of birdnet_fs.schema no longer has, or ImportError, AttributeError
            or NameError for a renamed class.

    Returns:
        One sentence with the new name; "" when the exception has another cause.
    """
    keyword = re.match(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", str(error))
    if keyword and isinstance(error, TypeError):
        group, name = {"FrontEnd": "frontend"}.get(keyword[1], keyword[1].lower()), keyword[2]
        old = name if group == "experiment" else f"{group}.{name}"
        new = _new_name(old)
        return f"The setting {old} was renamed; use {new} instead." if new else ""
    if isinstance(error, (ImportError, AttributeError, NameError)):
        for old, new in CLASSES.items():
            if f"'{old}'" in str(error):
                return f"birdnet_fs.schema.{old} was renamed; use {new} instead."
    return ""


def translated(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Translate the settings of an experiment written by an earlier version to the current names.

    Args:
        settings: Nested settings, as config.json holds them.

    Returns:
        Nested settings under the current names; settings that were not renamed are unchanged. A setting present under
        both its old and its new name is refused with a UserError.
    """
    new: dict[str, Any] = {}
    for key, value in _leaves(settings):
        nested, own = _split(key)
        own = SETTINGS.get(own, own)
        written = VALUES.get(f"{own}={value}") if isinstance(value, str) else None
        _put(new, (nested + own).split("."), written.partition("=")[2] if written else value, key)
    return new


def _new_name(key: str) -> str | None:
    """Current name of a renamed setting or group; None when it was not renamed."""
    groups = {old.split(".")[0]: new.split(".")[0] for old, new in SETTINGS.items()}
    new = {**groups, **SETTINGS}.get(key)
    return None if new == key else new


def _split(key: str) -> tuple[str, str]:
    """Split a dotted key into the path of its (nested) experiment and the key within that experiment."""
    own = key
    while own.startswith(_NESTED):
        own = own.removeprefix(_NESTED)
    return key.removesuffix(own), own


def _leaves(node: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found = []
    for name, value in node.items():
        if isinstance(value, Mapping) and value:
            found += _leaves(value, f"{prefix}{name}.")
        else:
            found.append((prefix + name, value))
    return found


def _put(node: dict[str, Any], names: list[str], value: Any, key: str) -> None:
    *groups, last = names
    for group in groups:
        if not isinstance(node.get(group, {}), dict):  # "training.loss": "focal" is short for its name
            node[group] = {"name": node[group]}
        node = node.setdefault(group, {})
    if isinstance(node.get(last), dict):
        node, last = node[last], "name"
    if last in node:
        raise UserError(f"The setting {key} is given twice, under its old and its new name; remove one of them.")
    node[last] = value
