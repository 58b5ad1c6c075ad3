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
_GROUPS = ("frontend", "pretrain", "episodes", "distillation", "augmentation")


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
        augmentation=schema.Augmentation(),
        training=schema.Training(loss=loss, **neutral),
        distillation=schema.Distillation(),
        pretrain=None,
        episodes=None,
    )
    reset = _GROUPS + tuple(key for key, value in flat(experiment).items() if flat(found).get(key) != value)
    for setting in given:
        key = setting.partition("=")[0].strip()
        if any(each == key or each.startswith(f"{key}.") or key.startswith(f"{each}.") for each in reset):
            raise UserError(
                f"{key} has no effect with model.encoder: {', '.join(each.name for each in features.facts)} reads "
                f"waveforms of {features.segment_s:g} s at {features.sample_rate_hz} Hz, and only a head is fitted. "
                "Leave it out."
            )
    return found
