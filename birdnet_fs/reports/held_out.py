"""Score what a run held out, and write `scores.csv`, `metrics.json` and `report.html` into its folder.

The run folder is enough: its `partition.csv` names the clips it held out.
"""

from typing import Any

from birdnet_fs.plumbing.progress import say
from birdnet_fs.reports.evaluate import report_on_scores
from birdnet_fs.reports.few_shot import report_on_episodes
from birdnet_fs.reports.scores import ScoreTable, write_scores
from birdnet_fs.scoring.clips import score_clips
from birdnet_fs.scoring.engines import open_engine
from birdnet_fs.training.run_folder import Run
from birdnet_fs.training.trainer import held_out_clips, targets_of


def report_on_held_out(run: Run) -> dict[str, Any]:
    """Score the held-out clips of a run and write its report; of classes it never heard, over episodes of them.

    Args:
        run: A finished run; its recordings are where they were.

    Returns:
        What `metrics.json` holds; empty when nothing was held out.
    """
    if run.experiment.episodes and run.experiment.data.split in ("classes", "table"):
        return report_on_episodes(run)
    clips = held_out_clips(run)
    if not clips:
        say("Nothing was held out, so there is nothing to evaluate on.")
        return {}
    scored = score_clips(open_engine(run.path), clips)
    scored.ledger.write(run.path / "held_out.csv")
    multi_label = run.experiment.data.multi_label
    targets = targets_of(scored.clips, run.classes, multi_label=multi_label)
    table = ScoreTable.of(scored.clips, scored.probabilities, targets, run.classes)
    write_scores(run.path / "scores.csv", table)
    return report_on_scores(run.path)
