"""Check of a whole experiment, with its pretraining, as the option `--cfg` makes it."""

from birdnet_fs import schema
from birdnet_fs.core.text import count
from birdnet_fs.inference.encoder_settings import with_encoder
from birdnet_fs.runs.resolve import pretraining
from birdnet_fs.training.checks.network import check_network_training
from birdnet_fs.training.distributed.checks import check_experiment
from birdnet_fs.training.on_encoders.training import check_head_training


def check_training(experiment: schema.Experiment) -> str:
    """Refuse what `train` refuses before it decodes a recording, in the same sentences.

    UserErrors of the checks are passed on. Whether recordings can be read, copies of recordings among the parts, and
    what is in the output folder are not checked.

    Args:
        experiment: Settings.

    Returns:
        A sentence with the numbers of clips, classes and parameters.
    """
    check_experiment(experiment)
    if experiment.model.encoder:
        experiment, parts, features = check_head_training(with_encoder(experiment))
        network = f"a head on {count(len(features.places), 'encoder')}"
    else:
        checked = check_network_training(experiment)
        first = pretraining(experiment)
        if first is not None and checked.pretrained is None:
            check_training(first)
        experiment, parts, network = checked.experiment, checked.parts, f"{checked.n_parameters:,} parameters"
    return (
        f"{experiment.name} can be trained with these settings: {count(len(parts.train), 'clip')}, "
        f"{len(parts.classes)} classes, {network}; {count(len(parts.val), 'clip')} for validation, "
        f"{len(parts.held_out)} held out."
    )
