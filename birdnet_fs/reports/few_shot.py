"""Evaluate a run that was trained in episodes on classes it was not trained on: metrics.json and report.html.

The held-out clips are those of the run's `partition.csv`.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from birdnet_fs.batches.cache.waveforms import waveform_reader
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import write_json
from birdnet_fs.core.progress import say
from birdnet_fs.core.text import escaped
from birdnet_fs.metrics.few_shot import FewShotAccuracy
from birdnet_fs.reports.evaluate import METRICS, REPORT, stored_json
from birdnet_fs.reports.pages.figures import confusion_figure, history_figure
from birdnet_fs.reports.pages.render import render
from birdnet_fs.reports.remarks import episode_remarks
from birdnet_fs.runs.history import HISTORY, read_history
from birdnet_fs.runs.provenance import held_out_clips
from birdnet_fs.runs.run import VERSIONS, Run
from birdnet_fs.training.episodic.evaluation import held_out_accuracies
from birdnet_fs.training.loop import device_of

TEMPLATE = "few_shot.html"


def report_on_episodes(run: Run, output: Path | None = None) -> dict[str, Any]:
    """Evaluate a run on episodes over the classes it held out, and write its report.

    Args:
        run: A run or checkpoint of an experiment with episodes, whose recordings are still in place.
        output: Folder to write to. Default: None, the run folder.

    Returns:
        What `metrics.json` holds: test_acc with its 95 % interval test_acc_ci, test_loss (cross-entropy of the
        queries), macro test_precision, test_recall, test_f1, n_way, n_shot, n_query, n_test, recordings (of support
        and query: "across", "within" or "any"), distance, methods (accuracy of others on the same episodes), n_clips,
        seed, per_class (a list of name, n_queries, precision, recall, f1; the recall is the accuracy of the class),
        confusion ([true][predicted]) and remarks (reports/remarks.py). Empty when the experiment has no test episodes.

    Raises:
        UserError: The run has no episodes, its clips cannot be read, or no episodes can be drawn from them.
    """
    from markupsafe import Markup

    experiment = run.experiment
    settings = experiment.episodes
    if settings is None:
        raise UserError(f"{run.path} was not trained in episodes; `birdnet-fs evaluate` scores it.")
    clips = held_out_clips(run)
    if not settings.n_test or not clips:
        say("The experiment has no test episodes (episodes.n_test=0), so there is nothing to evaluate.")
        return {}
    waveforms = waveform_reader(experiment.data)(clips, experiment.frontend.sample_rate_hz)
    folder = output or run.path
    waveforms.ledger.write(folder / "held_out.csv")
    with keras.device(device_of("auto")):
        model = run.build_model()
    results, loss = held_out_accuracies(model, waveforms, experiment.frontend, settings, experiment.seed)
    metrics = {**_numbers(results, loss), "n_clips": len(waveforms), "seed": experiment.seed}
    metrics["remarks"] = episode_remarks(metrics)
    write_json(folder / METRICS, metrics)
    history = read_history(run.path / HISTORY)
    rows = [{**row, "name": escaped(row["name"])} for row in metrics["per_class"]]
    render(
        folder / REPORT,
        TEMPLATE,
        title=run.title,
        experiment=experiment,
        versions=stored_json(run.path / VERSIONS) or None,
        metrics=metrics,
        classes=sorted(rows, key=_worst_first),
        confusion=Markup(confusion_figure(results[0].confusion, [row["name"] for row in rows])),
        curves=Markup(history_figure(history)) if history else "",
    )
    return metrics


def _worst_first(row: Mapping[str, Any]) -> tuple[bool, float, str]:
    return (row["recall"] is None, row["recall"] or 0.0, row["name"])


def _numbers(results: list[FewShotAccuracy], loss: float) -> dict[str, Any]:
    own = results[0]
    called = own.precision_recall_f1
    return {
        "test_acc": own.accuracy,
        "test_acc_ci": _interval(own),
        "test_loss": _plain(loss),
        **{f"test_{name}": _plain(value) for name, value in called.macro.items()},
        "n_way": own.n_way,
        "n_shot": own.n_shot,
        "n_query": own.n_query,
        "n_test": own.n_episodes,
        "recordings": own.recordings,
        "distance": own.method,
        "methods": [{"method": r.method, "accuracy": r.accuracy, "ci": _interval(r)} for r in results],
        "per_class": [
            {
                "name": escaped(name),
                "n_queries": int(called.n[c]),
                **{key: _plain(getattr(called, key)[c]) for key in ("precision", "recall", "f1")},
            }
            for c, name in enumerate(own.names)
        ],
        "confusion": own.confusion.tolist(),
    }


def _interval(result: FewShotAccuracy) -> list[float | None]:
    return [_plain(result.low), _plain(result.high)]


def _plain(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
