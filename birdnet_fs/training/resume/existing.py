"""Contents of a run folder before a training: its finished run, one of other settings, or an unfinished training."""

from pathlib import Path

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.progress import say
from birdnet_fs.runs.checkpoints import LAST
from birdnet_fs.runs.history import HISTORY, read_history
from birdnet_fs.runs.inputs import input_changes
from birdnet_fs.runs.resolve import differing_settings, has_settings, is_finished, resolved
from birdnet_fs.runs.run import CHECKPOINTS, CONFIG, INTERRUPTED
from birdnet_fs.training.resume.state import STATE


def holds_run(folder: Path, experiment: schema.Experiment) -> bool:
    """Check whether a folder already holds the finished run of an experiment.

    Args:
        folder: Run folder, which may not exist.
        experiment: The experiment.

    Returns:
        True when the folder holds a run with the same settings, labels and recordings, False when it holds none.

    Raises:
        UserError: The folder holds a run with other settings, or of other labels or recordings.
    """
    way = "give another folder with -o, or --overwrite to replace it."
    if has_settings(folder, experiment):
        changes = input_changes(folder, resolved(experiment))
        if changes:
            raise UserError(f"{folder} holds a run of other labels or recordings ({', '.join(changes)}); {way}")
        say(f"{folder} already holds this run; it is kept (--overwrite trains it again).")
        return True
    if (folder / CONFIG).is_file():
        try:
            found = differing_settings(folder, experiment)
        except UserError as error:
            raise UserError(f"{folder} holds a run that cannot be read ({error}); {way}") from None
        others = f"; {len(found) - 1} more" if found[1:] else ""
        raise UserError(f"{folder} holds a run with other settings ({''.join(found[:1])}{others}); {way}")
    return False


def check_unfinished(folder: Path, experiment: schema.Experiment) -> None:
    """Refuse to replace the checkpoints of an unfinished training with other settings, which may be the result of days.

    Those of the same training are named, unless it goes on from its state: it starts anew, and they stay until its run
    is whole.

    Args:
        folder: Run folder.
        experiment: The experiment to train.

    Raises:
        UserError: The folder holds checkpoints of an unfinished training with other settings.
    """
    for left in (folder / CHECKPOINTS / LAST, folder / INTERRUPTED):
        if (folder / CONFIG).is_file() or not (left / CONFIG).is_file():
            continue
        if not is_finished(left, experiment):
            raise UserError(
                f"{folder} holds weights of an unfinished training with other settings ({left}); give another folder "
                f"with -o (model.weights={left} starts from them), or --overwrite to replace them."
            )
        if (folder / STATE).is_dir():
            return
        say(
            f"{left} holds weights of an earlier attempt, after {len(read_history(left / HISTORY))} epochs. Training "
            f"starts anew; they stay until it is finished (model.weights={left} in another folder starts from them)."
        )
        return
