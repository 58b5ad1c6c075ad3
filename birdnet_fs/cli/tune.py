"""`birdnet-fs tune`: look for better settings of an experiment, on one machine or on many that share the folder."""

import dataclasses
import importlib.util
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from birdnet_fs.plumbing.errors import UserError
from birdnet_fs.plumbing.files import check_output
from birdnet_fs.plumbing.progress import say, track

if TYPE_CHECKING:
    from birdnet_fs import schema
    from birdnet_fs.training.study import Tried


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
    as_worker: Annotated[int, typer.Option("--as-worker", hidden=True)] = 0,
) -> None:
    """Train many trials with settings drawn from a search space, and say which were best.

    A trial goes by the validation clips, its value is that of its best epoch; the held-out fold is never looked at.
    Unpromising trials end early. The same command again goes on where the study stopped; started several times, on
    one machine or on several that share the folder, all work on the same study.

    Writes best.py (an experiment with the best settings, for `birdnet-fs train`), study.csv and study.html.
    """
    from birdnet_fs import schema
    from birdnet_fs.cli.experiment import load, load_space

    chosen, searched = load(experiment, settings or []), load_space(space, experiment)
    changed: dict[str, Any] = {"n_trials": trials, "pruner": pruner, "sampler": sampler}
    searched = dataclasses.replace(searched, **{name: value for name, value in changed.items() if value})
    if cfg:
        print("\n".join(_shown(schema.debugged(chosen), searched)))
        return
    if importlib.util.find_spec("optuna") is None:
        raise UserError("birdnet-fs tune needs the library optuna; pip install 'birdnet_fs[tune]'.")
    folder = output or Path("runs") / f"{chosen.name}-tune"
    check_output(folder)
    from birdnet_fs.training.spaces import check_space

    check_space(searched, chosen)
    if as_worker:
        _work(folder, chosen, searched, n_best, threads=as_worker)
        return
    from birdnet_fs.training.crew import Crew, threads_each, worker_command

    threads = chosen.training.threads or threads_each(workers)
    command = worker_command(
        "tune", experiment, *(settings or []), "--space", space, "--trials", searched.n_trials, "-o", folder,
        "--pruner", searched.pruner, "--sampler", searched.sampler, "--n_best", n_best, "--as-worker", threads,
    )  # fmt: skip
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a cluster that takes the machine back asks so first
    before = _so_far(folder)
    missing = max(0, searched.n_trials - sum(trial.counts for trial in before))
    if before:
        say(f"{folder} holds {len(before)} trials; {missing} of {searched.n_trials} are missing.")
    with Crew(command, max(1, min(workers, missing)), threads=threads) as crew:
        try:
            if not crew.start():
                raise typer.Exit(crew.status)
            for _ in _tracked(crew, folder, missing, before):
                pass
        except KeyboardInterrupt:
            say("stopping; the trials at work are tried again when the study goes on ...")
            crew.stop()
            _report(folder, experiment, searched.n_trials)
            raise
    done = _report(folder, experiment, searched.n_trials)
    if crew.status and not done:
        raise typer.Exit(crew.status)


def _work(folder: Path, chosen: "schema.Experiment", space: "schema.Space", n_best: int, *, threads: int) -> None:
    """What a worker does; it says `ready` once all is checked."""
    from birdnet_fs.training.crew import READY, STOPPED, follow_the_command

    told = follow_the_command()
    try:
        from birdnet_fs.training.study import Study
        from birdnet_fs.training.tuning import check_tuning, work

        chosen = dataclasses.replace(chosen, training=dataclasses.replace(chosen.training, threads=threads))
        study = Study(folder, check_tuning(chosen, space), space, kept=n_best)
        print(READY, flush=True)
        work(study, stop=told)
    except KeyboardInterrupt:
        sys.exit(STOPPED)


def _so_far(folder: Path) -> "list[Tried]":
    """The trials of a study that an earlier command left."""
    from birdnet_fs.training.study import BASE, read_study, tried

    if not (folder / BASE).is_file():
        return []
    try:
        return [tried(trial) for trial in read_study(folder).get_trials(deepcopy=False)]
    except UserError:  # what is wrong with it, the first worker says
        return []


def _tracked(crew: Any, folder: Path, missing: int, before: "Sequence[Tried]") -> Iterator[int]:
    """The trials that are done from now on, each with a line, and a bar over those that are missing."""
    from birdnet_fs.training.study import best_first, read_study, tried

    seen = {trial.number for trial in before if trial.over}
    study = read_study(folder)

    def new() -> Iterator[int]:
        for _ in crew.looks():
            trials = [tried(trial) for trial in study.get_trials(deepcopy=False)]
            best = next(iter(best_first(trials)), None)
            for trial in trials:
                if trial.over and trial.number not in seen:
                    seen.add(trial.number)
                    say(_line(trial, best))
                    if trial.counts:
                        yield trial.number

    yield from track(new(), "trials", total=missing, unit="trial")


def _line(trial: "Tried", best: "Tried | None") -> str:
    value = "" if trial.value is None else f" {trial.value:.4f} (epoch {trial.best_epoch} of {len(trial.values)})"
    why = f": {trial.reason}" if trial.reason else ""
    lead = f"; best {best.value:.4f} (trial {best.number})" if best else ""
    return f"trial {trial.number} {trial.state}{value}{why}{lead}"


def _report(folder: Path, experiment: str, n_trials: int) -> bool:
    """Write and say what came out; whether the study is complete."""
    from birdnet_fs.reports.study import BEST, write_results
    from birdnet_fs.training.study import BASE

    if not (folder / BASE).is_file():
        return False
    name = experiment.rpartition(":")[2]
    results = write_results(folder, name)
    n_left = max(0, n_trials - sum(trial.counts for trial in results.trials))
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
    at_work = sum(trial.state == "running" for trial in results.trials)
    if n_left:
        elsewhere = f", {at_work} at work elsewhere" if at_work else ""
        say(f"{n_left} of {n_trials} trials are missing{elsewhere}; the same command goes on.")
    return not n_left


def _shown(experiment: "schema.Experiment", space: "schema.Space") -> Sequence[str]:
    from birdnet_fs.plumbing.settings import show

    names = [f.name for f in dataclasses.fields(space) if f.name not in ("values", "derive")]
    how = [f"{name}={getattr(space, name)}" for name in names]
    return [show(experiment), "", *how, *(f"{key} from {value}" for key, value in space.values.items())]
