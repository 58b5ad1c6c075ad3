"""Settings of an experiment with `model.encoder`: the window of the encoder instead of a front-end, and no network.

Any experiment can be given an encoder. Its recordings, labels, split, seed and class weights stay; what describes a
network and its training has no effect and is reset, so that two runs are equal when their heads are.
"""

import dataclasses
from collections.abc import Sequence

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.settings import flat
from birdnet_fs.inference.encoder_features import features_of_settings

PRESET = "encoder"
FMIN_HZ, FMAX_HZ = 50.0, 15_000.0  # of spectrograms in pages and tables; no encoder of the field reads more
# settings that a head uses, and groups that have no effect whatever they hold
_MODEL = ("encoder", "encoder_card", "encoder_head", "head", "logit_scale", "dropout")
_LOSS = ("class_weights", "rare_class_weight", "label_smoothing")
_TRAINING = ("device", "threads", "workers", "track")
_GROUPS = ("frontend", "pretrain", "episodes", "distillation")
# augmentations of waveforms, which views of clips have (training/on_encoders/clip_views.py); a mixup of features, or
# one that a batch shares, is none of them
_OF_WAVEFORMS = ("stretch", "pitch", "mixup", "shift", "noise", "filters", "eq_db", "gain_db", "pad_p")


def with_encoder(experiment: schema.Experiment, given: Sequence[str] = ()) -> schema.Experiment:
    """The experiment as a head on its encoder is fitted; experiments without an encoder are returned as they are.

    UserErrors of `features_of_settings` are passed on: the encoder is missing or damaged, or its card is unclear.

    Args:
        experiment: The experiment.
        given: `key=value` settings of the command, which are refused where they have no effect. Default: ().

    Returns:
        The experiment with the sample rate and window of the encoder, and the defaults of what is not used.

    Raises:
        UserError: A setting of the command has no effect with an encoder, or contradicts it.
    """
    if not experiment.model.encoder:
        return experiment
    features = features_of_settings(experiment.model)
    spec = schema.FrontEnd(
        preset=PRESET,
        sample_rate_hz=features.sample_rate_hz,
        segment_s=features.segment_s,
        fmin_hz=min(FMIN_HZ, features.sample_rate_hz / 8),
        fmax_hz=min(FMAX_HZ, features.sample_rate_hz / 2),
    )
    own, training = experiment.model, experiment.training
    loss = schema.Loss(**{name: getattr(training.loss, name) for name in _LOSS})
    neutral = {name: getattr(training, name) for name in _TRAINING}
    found = dataclasses.replace(
        experiment,
        frontend=spec,
        model=schema.Model(**{name: getattr(own, name) for name in _MODEL}),
        augmentation=_of_views(experiment),
        training=schema.Training(loss=loss, **neutral),
        distillation=schema.Distillation(),
        pretrain=None,
        episodes=None,
    )
    data, after = found.data, flat(found)
    used = data.multi_label or data.noise_label == "class" or found.augmentation.uses_background
    if (
        data.background
        and not used
        and any(setting.partition("=")[0].strip() == "data.background" for setting in given)
    ):
        raise UserError(
            "data.background has no effect on a head that gives each clip one label: set data.noise_label=class, which "
            "makes these recordings a class of their own, or mix them into augmented views of the clips "
            "(model.encoder_head.n_views and augmentation.noise.p)."
        )
    reset = (
        *_GROUPS,
        *(f"augmentation.{name}" for name in _unused_augmentations(found)),
        *(key for key, value in flat(experiment).items() if after.get(key) != value),
    )
    for setting in given:
        key = setting.partition("=")[0].strip()
        if any(each == key or each.startswith(f"{key}.") or key.startswith(f"{each}.") for each in reset):
            if key.split(".")[0] == "augmentation":
                raise UserError(_why_not_augmented(key, found.model.encoder_head.n_views))
            raise UserError(
                f"{key} has no effect with model.encoder: {', '.join(each.name for each in features.facts)} reads "
                f"waveforms of {features.segment_s:g} s at {features.sample_rate_hz} Hz, and only a head is fitted. "
                "Leave it out."
            )
    return found


def _of_views(experiment: schema.Experiment) -> schema.Augmentation:
    """The augmentations that views have: those of waveforms, where there are views."""
    given = experiment.augmentation
    if not experiment.model.encoder_head.n_views:
        return schema.Augmentation()
    kept = {name: getattr(given, name) for name in _OF_WAVEFORMS}
    if given.mixup.on != "waveform" or given.mixup.per != "segment":
        del kept["mixup"]
    return schema.Augmentation(**kept)


def _unused_augmentations(experiment: schema.Experiment) -> list[str]:
    """Fields of the augmentation without effect, whatever they hold."""
    names = [field.name for field in dataclasses.fields(schema.Augmentation)]
    return [name for name in names if not (experiment.model.encoder_head.n_views and name in _OF_WAVEFORMS)]


def _why_not_augmented(key: str, n_views: int) -> str:
    """Reason for a setting of the augmentation that has no effect on a head."""
    if not n_views:
        return (
            f"{key} has no effect with model.encoder unless there are augmented views of the training clips: set "
            "model.encoder_head.n_views, for example to 4, or leave it out."
        )
    none = f"{key} has no effect on augmented views of clips (model.encoder_head.n_views)"
    if key.startswith("augmentation.mixup"):
        return (
            f"{none}, which are mixed as waveforms, each for itself; set augmentation.mixup.on=waveform and "
            "augmentation.mixup.per=segment, or leave it out."
        )
    return (
        f"{none}, which are whole clips, changed before the encoder; the settings with an effect are "
        f"augmentation.{', '.join(_OF_WAVEFORMS)}. Leave it out."
    )
