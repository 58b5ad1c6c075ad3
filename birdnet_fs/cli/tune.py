"""`birdnet-fs tune`: look for better settings of an experiment, on one machine or on many that share the folder."""

import dataclasses
import importlib.util
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import check_output
from birdnet_fs.core.progress import say, track

if TYPE_CHECKING:
    from birdnet_fs import schema
    from birdnet_fs.tuning.study import Study
    from birdnet_fs.tuning.trial_summary import TrialSummary
    from birdnet_fs.tuning.worker_pool import WorkerPool


def tune(
    experiment: Annotated[str, typer.Argument(metavar="CONFIG:NAME", help="As config.py:birds10.")],
    settings: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Of all trials.")] = None,
    space: Annotated[str, typer.Option("--space", help="As config.py:space_x, or space_x; default space_NAME.")] = "",
    trials: Annotated[int | None, typer.Option("--trials", min=1, help="In all; default that of the space.")] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes that train at the same time.")] = 1,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder; default runs/NAME-tune.")] = None,
    pruner: Annotated[str, typer.Option("--pruner", help="median, hyperband or none; default the space's.")] = "",
    sampler: Annotated[str, typer.Option("--sampler", help="tpe or random; default the space's.")] = "",
    n_best: Annotated[int, typer.Option("--n_best", min=0, help="Best trials whose weights are kept.")] = 3,
    cfg: Annotated[bool, typer.Option("--cfg", help="Print the settings and what is searched, and stop.")] = False,
) -> None:
    """Train many trials with settings drawn from a search space, and say which were best.

    A trial goes by the validation clips, its value is that of its best epoch; the held-out fold is never looked at.
    Unpromising trials end early. The same command again goes on where the study stopped; started several times, on
    one machine or on several that share the folder, all work on the same study.

    Writes best.py (an experiment with the best settings, for `birdnet-fs train`), study.csv and study.html.
    """
    from birdnet_fs import schema
    from birdnet_fs.cli.experiment import load

    how = {"n_trials": trials, "pruner": pruner, "sampler": sampler}
    chosen, searched = load(experiment, settings or []), _space(space, experiment, how)
    if cfg:
        print("\n".join(_shown(schema.debugged(chosen), searched)))
        return
    if importlib.util.find_spec("optuna") is None:
        raise UserError("birdnet-fs tune needs the library optuna; pip install 'birdnet_fs[tune]'.")
    folder = output or Path("runs") / f"{chosen.name}-tune"
    check_output(folder)
    from birdnet_fs.tuning.space import check_space
    from birdnet_fs.tuning.worker_pool import WorkerPool, threads_per_worker

    check_space(searched, chosen)  # before torch and Keras are imported, which takes seconds
    from birdnet_fs.tuning.study import Study
    from birdnet_fs.tuning.worker import check_tuning

    n_threads = chosen.training.threads or threads_per_worker(workers)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a cluster that takes the machine back asks so first
    chosen = dataclasses.replace(chosen, training=dataclasses.replace(chosen.training, threads=n_threads))
    study = Study(folder, check_tuning(chosen, searched), searched)
    n_before, n_missing = len(study.trials()), study.n_missing
    if n_before:
        say(f"{folder} holds {n_before} trials; {n_missing} of {searched.n_trials} are missing.")
    call = (folder, study.base, experiment, space, how, n_best)
    with WorkerPool(_work, call, min(workers, n_missing), n_threads=n_threads) as pool:
        try:
            for _ in track(_counted(pool, study), "trials", total=n_missing, unit="trial"):
                pass
        except KeyboardInterrupt:
            say("stopping; the trials at work are tried again when the study goes on ...")
            pool.stop()
            _report(study, experiment)
            raise
    _report(study, experiment)
    if pool.exit_code and study.n_missing:
        raise typer.Exit(pool.exit_code)


def _space(reference: str, experiment: str, how: dict[str, Any]) -> "schema.Space":
    from birdnet_fs.cli.experiment import load_space

    return dataclasses.replace(load_space(reference, experiment), **{k: value for k, value in how.items() if value})


def _work(
    folder: Path,
    base: "schema.Experiment",
    experiment: str,
    space: str,
    how: dict[str, Any],
    n_kept: int,
    stop: threading.Event,
) -> None:
    """Train trials of a study in a process of its own, which loads the space since functions cannot be pickled."""
    from birdnet_fs.tuning.study import Study
    from birdnet_fs.tuning.worker import work

    work(Study(folder, base, _space(space, experiment, how), n_kept=n_kept), stop=stop)


def _counted(pool: "WorkerPool", study: "Study") -> Iterator[int]:
    """Yield the trials that count as they end; print a line for each that ends."""
    from birdnet_fs.tuning.trial_summary import best_first

    seen = {trial.number for trial in study.trials() if trial.over}
    for _ in pool.run():
        trials = study.trials()
        best = next(iter(best_first(trials)), None)
        for trial in trials:
            if trial.over and trial.number not in seen:
                seen.add(trial.number)
                say(_line(trial, best))
                if trial.counts:
                    yield trial.number


def _line(trial: "TrialSummary", best: "TrialSummary | None") -> str:
    value = "" if trial.value is None else f" {trial.value:.4f} (epoch {trial.best_epoch} of {len(trial.values)})"
    why = f": {trial.reason}" if trial.reason else ""
    lead = f"; best {best.value:.4f} (trial {best.number})" if best else ""
    return f"trial {trial.number} {trial.state}{value}{why}{lead}"


def _report(study: "Study", experiment: str) -> None:
    """Write the results and print the best."""
    from birdnet_fs.reports.study import BEST, write_results

    folder, name = study.folder, experiment.rpartition(":")[2]
    results = write_results(folder, name)
    if results.best:
        print(f"best {results.column} {results.best.value:.4f}: trial {results.best.number}")
        print("\n".join(f"  {setting}" for setting in results.best.settings))
        say(f"train it: birdnet-fs train {folder / BEST}:{name}")
        if results.keeps_last:
            say(
                "That is of its best epoch, and a run keeps its last; add training.checkpoints.select=best to keep the "
                "best one."
            )
    say(f"study: {folder}; open {folder / 'study.html'}")
    if study.n_missing:
        n_running = sum(trial.state == "running" for trial in results.trials)
        elsewhere = f", {n_running} at work elsewhere" if n_running else ""
        say(f"{study.n_missing} of {study.n_trials} trials are missing{elsewhere}; the same command goes on.")


def _shown(experiment: "schema.Experiment", space: "schema.Space") -> Sequence[str]:
    from birdnet_fs.core.settings import show

    names = [f.name for f in dataclasses.fields(space) if f.name not in ("values", "derive")]
    how = [f"{name}={getattr(space, name)}" for name in names]
    return [show(experiment), "", *how, *(f"{key} from {value}" for key, value in space.values.items())]
