"""`birdnet-fs tune`: search for better settings of an experiment, on one or several machines that share a folder."""

import dataclasses
import importlib.util
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from birdnet_fs.cli.completion import ConfiguredExperiment, setting_words
from birdnet_fs.cli.train import CFG_HELP
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import check_output
from birdnet_fs.core.lock import folder_lock
from birdnet_fs.core.progress import say, track

if TYPE_CHECKING:
    from birdnet_fs import schema
    from birdnet_fs.tuning.study import Study
    from birdnet_fs.tuning.trial_summary import TrialSummary
    from birdnet_fs.tuning.worker_pool import WorkerPool


def tune(
    experiment: ConfiguredExperiment,
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Settings of all trials.", autocompletion=setting_words),
    ] = None,
    space: Annotated[
        str, typer.Option("--space", help="Search space, as config.py:space_x or space_x; default space_NAME.")
    ] = "",
    trials: Annotated[
        int | None, typer.Option("--trials", min=1, help="Total number of trials; default: that of the space.")
    ] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes that train in parallel.")] = 1,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Output folder; default runs/NAME-tune.")
    ] = None,
    pruner: Annotated[
        str, typer.Option("--pruner", help="median, hyperband or none; default: that of the space.")
    ] = "",
    sampler: Annotated[str, typer.Option("--sampler", help="tpe or random; default: that of the space.")] = "",
    n_best: Annotated[int, typer.Option("--n_best", min=0, help="Number of best trials whose weights are kept.")] = 3,
    cfg: Annotated[bool, typer.Option("--cfg", help=f"{CFG_HELP[:-1]}; prints the search space, too.")] = False,
) -> None:
    """Train many trials with settings drawn from a search space, and report the best.

    The value of a trial is the validation metric of its best epoch; the held-out fold is not used. Unpromising trials
    are stopped early. The same command continues an interrupted study; commands started in parallel, on one machine or
    on several that share the folder, work on the same study.

    Writes best.py (an experiment with the best settings, for `birdnet-fs train`), best_params.json, best_config.json,
    study.csv and study.html. The exit status is 2 when no trial could be trained to its end.
    """
    from birdnet_fs import schema
    from birdnet_fs.cli.experiment import load_experiment

    how = {"n_trials": trials, "pruner": pruner, "sampler": sampler}
    chosen, searched = load_experiment(experiment, settings or []), _space(space, experiment, how)
    if cfg:
        print("\n".join(_shown(schema.debugged(chosen), searched)))
    if importlib.util.find_spec("optuna") is None:
        raise UserError("birdnet-fs tune needs the library optuna; pip install 'birdnet_fs[tune]'.")
    folder = output or Path("runs") / f"{chosen.name}-tune"
    if output is not None or not cfg:
        check_output(folder)
    from birdnet_fs.cli.checks import check_experiment
    from birdnet_fs.tuning.space import check_space
    from birdnet_fs.tuning.worker_pool import WorkerPool, threads_per_worker

    check_experiment(chosen)
    check_space(searched, chosen)  # before torch and Keras are imported, which takes seconds
    from birdnet_fs.tuning.study import Study
    from birdnet_fs.tuning.worker import check_tuning, keep_or_compare_inputs

    if cfg:
        from birdnet_fs.training.checks.experiment import check_training

        check_tuning(chosen, searched)
        say(check_training(chosen))
        return
    n_threads = chosen.training.threads or threads_per_worker(workers)
    chosen = dataclasses.replace(chosen, training=dataclasses.replace(chosen.training, threads=n_threads))
    study = Study(folder, check_tuning(chosen, searched), searched)
    keep_or_compare_inputs(study)
    n_before, n_missing = len(study.trials()), study.n_missing
    if n_before:
        say(f"{folder} holds {n_before} trials; {n_missing} of {searched.n_trials} are missing.")
    call = (folder, study.base, experiment, space, how, n_best)
    with WorkerPool(_work, call, min(workers, n_missing), n_threads=n_threads) as pool:
        try:
            for _ in track(_counted(pool, study), "trials", total=n_missing, unit="trial"):
                pass
        except KeyboardInterrupt:
            say("stopping; the running trials go on when the study is continued ...")
            pool.stop()
            _report(study, experiment)
            raise
    found = _report(study, experiment)
    if pool.exit_code and study.n_missing:
        raise typer.Exit(pool.exit_code)
    if not found:
        raise UserError(
            f"None of the {len(study.trials())} trials was trained to its end with a value; {folder / 'study.csv'} has "
            "the reasons. Change the search space or the settings, and tune into another folder."
        )


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
    """Train trials of a study in a worker process, which loads the space itself since functions cannot be pickled."""
    from birdnet_fs.tuning.study import Study
    from birdnet_fs.tuning.worker import work

    work(Study(folder, base, _space(space, experiment, how), n_kept=n_kept), stop=stop)


def _counted(pool: "WorkerPool", study: "Study") -> Iterator[int]:
    """Yield the numbers of the counted trials as they end, and print a line for every trial that ends."""
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


def _report(study: "Study", experiment: str) -> bool:
    """Write the results and print the best trial; False where no trial has a value."""
    from birdnet_fs.reports.study import BEST, write_results

    folder, name = study.folder, experiment.rpartition(":")[2]
    with folder_lock(folder, wait=True):  # commands on other machines report as well
        results = write_results(folder, name)
    if results.best:
        print(f"best {results.column} {results.best.value:.4f}: trial {results.best.number}")
        print("\n".join(f"  {setting}" for setting in results.best.settings))
        say(f"train it: birdnet-fs train {folder / BEST}:{name}")
        if results.keeps_last:
            say(
                "This is the value of the best epoch, and a run keeps the weights of the last one; add "
                "training.checkpoints.select=best to keep those of the best."
            )
    say(f"study: {folder}; open {folder / 'study.html'}")
    if study.n_missing:
        n_running = sum(trial.state == "running" for trial in results.trials)
        elsewhere = f", {n_running} running elsewhere" if n_running else ""
        say(f"{study.n_missing} of {study.n_trials} trials are missing{elsewhere}; the same command continues.")
    return results.best is not None


def _shown(experiment: "schema.Experiment", space: "schema.Space") -> Sequence[str]:
    from birdnet_fs.core.settings import show

    names = [f.name for f in dataclasses.fields(space) if f.name not in ("values", "derive")]
    how = [f"{name}={getattr(space, name)}" for name in names]
    return [show(experiment), "", *how, *(f"{key} from {value}" for key, value in space.values.items())]
