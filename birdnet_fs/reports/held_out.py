"""Score the clips that a run held out, and write `scores.csv`, `metrics.json` and `report.html`.

The held-out clips are those of the `partition.csv` of the run, checkpoint or ensemble.
"""

from pathlib import Path
from typing import Any

from birdnet_fs.batches.cache.waveforms import waveform_reader
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.progress import say
from birdnet_fs.data.partition import HELD_OUT, PARTITION, read_partition
from birdnet_fs.data.score_table import ScoreTable, read_scores
from birdnet_fs.data.targets import clip_targets
from birdnet_fs.inference.clips import score_clips
from birdnet_fs.inference.open import open_engine
from birdnet_fs.reports.evaluate import HELD_OUT_LEDGER, SCORES, report_on_scores, write_evaluation
from birdnet_fs.reports.few_shot import report_on_episodes
from birdnet_fs.reports.stored_scores import ABOUT_SCORES, has_scores, write_model_scores
from birdnet_fs.runs.ensemble import Ensemble, is_ensemble, load_ensemble
from birdnet_fs.runs.history import HISTORY, read_history
from birdnet_fs.runs.provenance import held_out_clips
from birdnet_fs.runs.run import Run, load_run
from birdnet_fs.training.tracking.tracker import Tracking, metrics_for_tracking


def report_on_held_out(run: Run, output: Path | None = None) -> dict[str, Any]:
    """Score the held-out clips of a run and write its report; held-out classes are evaluated over episodes.

    The numbers are also sent to the trackers of the training (`tracking.json`).

    Args:
        run: A finished run or a checkpoint, whose recordings are still in place.
        output: Folder to write to. Default: None, the run folder.

    Returns:
        The content of `metrics.json`; empty when nothing was held out.
    """
    metrics = report_on_episodes(run, output) if _in_episodes(run) else _report_on_clips(run, output)
    if metrics and output is None:
        Tracking.of_run(run.path).report(metrics_for_tracking(metrics), len(read_history(run.path / HISTORY)))
    return metrics


def evaluate_again(folder: Path, output: Path | None = None) -> dict[str, Any]:
    """Write the report of a run again: from its `scores.csv` if it is of the weights and clips there, else by scoring.

    Args:
        folder: A run, a checkpoint, or an ensemble (the clips that all its members held out).
        output: Folder to write to. Default: None, the folder itself.

    Returns:
        The content of `metrics.json`.

    Raises:
        UserError: The folder is no run, or it does not state which clips were held out.
    """
    if is_ensemble(folder):
        return _report_on_ensemble(load_ensemble(folder), output)
    run = load_run(folder)
    if not _in_episodes(run):
        if has_scores(folder):
            return report_on_scores(folder, output)
        _say_scored_again(folder)
        if not (folder / PARTITION).is_file():
            raise UserError(
                f"{folder} holds no {PARTITION}, so its held-out clips are unknown; give labeled recordings, and -o "
                "FOLDER for the results."
            )
    metrics = report_on_held_out(run, output)
    if not metrics:
        raise UserError(f"{folder} held nothing out to evaluate on; give labeled recordings, and -o FOLDER.")
    return metrics


def _say_scored_again(folder: Path) -> None:
    if (folder / SCORES).is_file():
        say(
            f"{folder / SCORES} is not known to be the scores of these weights and held-out clips ({ABOUT_SCORES} is "
            "missing or names others): the clips are scored again."
        )


def _in_episodes(run: Run) -> bool:
    return run.experiment.episodes is not None and run.experiment.data.split in ("classes", "table")


def _report_on_clips(run: Run, output: Path | None) -> dict[str, Any]:
    clips = held_out_clips(run)
    if not clips:
        say("Nothing was held out, so there is nothing to evaluate on.")
        return {}
    folder = output or run.path
    scored = score_clips(open_engine(run.path), clips, waveform_reader(run.experiment.data))
    scored.ledger.write(folder / HELD_OUT_LEDGER)
    if scored.ledger.counts()["quarantined"]:
        say(f"held out: {scored.ledger.summary()}")
    targets = clip_targets(scored.clips, run.classes, multi_label=run.multi_label)
    table = ScoreTable.from_clips(scored.clips, scored.probabilities, targets, run.classes)
    write_model_scores(folder, table, run.path)
    return report_on_scores(run.path, output, scores=folder / SCORES)


def _report_on_ensemble(found: Ensemble, output: Path | None) -> dict[str, Any]:
    folder = output or found.path
    scores = found.path / SCORES
    if not has_scores(found.path):
        _say_scored_again(found.path)
        listed = found.path / PARTITION
        clips = read_partition(listed, HELD_OUT) if listed.is_file() else ()
        if not clips:
            raise UserError(
                f"No clip was held out of all members of {found.path} (of folds none is: their scores out of fold are "
                "in the folder of `cv`); give labeled recordings, and -o FOLDER."
            )
        scored = score_clips(open_engine(found.path), clips)
        scored.ledger.write(folder / HELD_OUT_LEDGER)
        if scored.ledger.counts()["quarantined"]:
            say(f"held out: {scored.ledger.summary()}")
        targets = clip_targets(scored.clips, found.classes, multi_label=found.multi_label)
        scores = folder / SCORES
        table = ScoreTable.from_clips(scored.clips, scored.probabilities, targets, found.classes)
        write_model_scores(folder, table, found.path)
    table = read_scores(scores)
    return write_evaluation(
        folder, table, multi_label=found.multi_label, title=f"Ensemble of {found.title}", notes=[found.about]
    )
