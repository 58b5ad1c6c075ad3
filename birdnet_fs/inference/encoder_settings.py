"""Settings of an experiment with `model.encoder`: the window of the encoder instead of a front-end, and no network.

Any experiment can be given an encoder. Its recordings, labels, split, seed and class weights stay; what describes a
network and its training has no effect and is reset, so that two runs are equal when their heads are.
"""

import dataclasses
from collections.abc import Sequence

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.inference.encoder_features import features_of_settings

PRESET = "encoder"
FMIN_HZ, FMAX_HZ = 50.0, 15_000.0  # of spectrograms in pages and tables; no encoder of the field reads more
_OF_A_NETWORK = ("frontend.", "pretrain", "episodes", "distillation.", "model.weights", "model.name", "model.channels")


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
    for setting in given:
        key = setting.partition("=")[0].strip()
        if key.startswith(_OF_A_NETWORK) and not key.startswith("model.encoder"):
            raise UserError(
                f"{key} has no effect with model.encoder: {', '.join(each.name for each in features.facts)} reads "
                f"waveforms of {features.segment_s:g} s at {features.sample_rate_hz} Hz, and only a head is fitted. "
                "Leave it out."
            )
    spec = schema.FrontEnd(
        preset=PRESET,
        sample_rate_hz=features.sample_rate_hz,
        segment_s=features.segment_s,
        fmin_hz=min(FMIN_HZ, features.sample_rate_hz / 8),
        fmax_hz=min(FMAX_HZ, features.sample_rate_hz / 2),
    )
    own, training = experiment.model, experiment.training
    kept = ("encoder", "encoder_card", "encoder_head", "head", "logit_scale", "dropout")
    loss = schema.Loss(class_weights=training.loss.class_weights, rare_class_weight=training.loss.rare_class_weight)
    neutral = {name: getattr(training, name) for name in ("device", "threads", "workers", "track")}
    return dataclasses.replace(
        experiment,
        frontend=spec,
        model=schema.Model(**{name: getattr(own, name) for name in kept}),
        augmentation=schema.Augmentation(),
        training=schema.Training(loss=loss, **neutral),
        distillation=schema.Distillation(),
        pretrain=None,
        episodes=None,
    )
