"""`birdnet-fs cluster`: analyze or embed many recordings in shards, on a cluster or in processes of this machine."""

import importlib.util
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from birdnet_fs.cli.checks import check_exists, check_inputs
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.lock import folder_lock
from birdnet_fs.core.progress import say, track
from birdnet_fs.search.kinds import is_store

if TYPE_CHECKING:
    from birdnet_fs.cluster.plan import Plan

VERBS = ("analyze", "embed")
# options that change neither the results of a shard nor the plan: speed, and what is written when shards are merged
_FREE = {"output", "overwrite", "batch_size", "workers", "threads", "to"}
_FREE |= {"rtype", "combined", "timezone", "recorder_timezone", "relative_paths", "full_precision"}
_PATHS = {"model", "encoder", "inputs", "slist", "gate", "two_stage"}


def cluster(
    ctx: typer.Context,
    verb: Annotated[str, typer.Argument(metavar="VERB", help="analyze or embed.")],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="ARGUMENTS...", help="Arguments and options of VERB, with -o.")
    ] = None,
    shards: Annotated[int, typer.Option("--shards", help="Number of shards, 1 or more.")] = 0,
    shard: Annotated[
        int | None,
        typer.Option("--shard", help="Do this shard only, 0..SHARDS-1, for jobs of an array (slurm_scripts)."),
    ] = None,
    local: Annotated[int, typer.Option("--local", help="Work in so many processes here, without SLURM.")] = 0,
    slurm: Annotated[
        str,
        typer.Option(
            "--slurm",
            metavar="NAME=VALUE,...",
            help="Options of sbatch for every job, as time=720,mem=16G,partition=long; default: "
            "time=720,mem=16G,cpus-per-task=8.",
        ),
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and exit.")] = False,
) -> None:
    """Divide recordings into shards, let every shard run `birdnet-fs VERB`, and merge the results.

    Without --local and --shard, shards are jobs of SLURM; the command waits for them, and may be interrupted and given
    again. OUTPUT is then as one `birdnet-fs VERB` over all recordings writes it, to the byte. The shards are in
    OUTPUT.shards. The same command again does only what is missing; other recordings or settings are refused. The exit
    status is 1 when shards failed, and else that of VERB.
    """
    if verb not in VERBS:
        raise UserError(f"birdnet-fs cluster divides {' or '.join(VERBS)}. Received: {verb!r}")
    _check(shards, shard, local, slurm, dry_run)
    call = _parsed(ctx, verb, arguments or [])
    from birdnet_fs.cluster.plan import make_plan, other_settings, read_plan, shards_folder, write_plan

    folder = shards_folder(call.output)
    if dry_run:
        _print_plan(make_plan(verb, call.settings, call.inputs, shards).plan, folder)
        return
    if shard is not None:
        with folder_lock(folder, wait=True):  # jobs of an array start together, and one of them plans
            if not (folder / "plan.json").is_file():
                write_plan(folder, make_plan(verb, call.settings, call.inputs, shards))
        plan = read_plan(folder)
        if why := other_settings(plan, verb, call.settings, shards):
            raise UserError(f"{folder} holds shards of another plan, {why}; give another folder with -o.")
        _run_shard(folder, plan, shard, call)
        print(f"shard {shard} of {shards}: {plan.shards[shard].n_recordings} recordings; {folder}")
        return
    planned = make_plan(verb, call.settings, call.inputs, shards)
    plan = planned.plan
    with folder_lock(folder, wait=True):
        write_plan(folder, planned)
    del planned
    _work(folder, plan, call, arguments or [], local, slurm)
    call.merge(folder, plan)


@dataclass(frozen=True)
class _Call:
    """Arguments of the verb.

    Attributes:
        params: Values by parameter, as the command line gives them.
        settings: Settings that results depend on, with absolute paths.
        run: Function of recordings and an output folder.
        write_result: Writer of the result of a shard.
        merge: Function of the folder of the shards and the plan.
    """

    params: Mapping[str, Any]
    settings: Mapping[str, Any]
    run: Callable[[Sequence[Path], Path], None]
    write_result: Callable[[Path, Sequence[Path], "Plan", Path], None]
    merge: Callable[[Path, "Plan"], None]

    @property
    def inputs(self) -> list[str]:
        """Recordings and folders."""
        return list(self.params["inputs"])

    @property
    def output(self) -> Path:
        """The output folder."""
        return Path(self.params["output"])


def _check(shards: int, shard: int | None, local: int, slurm: str, dry_run: bool) -> None:
    if shards < 1:
        raise UserError(f"--shards must be 1 or more. Received: {shards or 'nothing'}")
    if shard is not None and not 0 <= shard < shards:
        raise UserError(f"--shard must be in 0..{shards - 1}. Received: {shard}")
    if local < 0:
        raise UserError(f"--local must be 1 or more processes. Received: {local}")
    given = {"--shard": shard is not None, "--local": local > 0, "--slurm": bool(slurm), "--dry-run": dry_run}
    chosen = [name for name, is_given in given.items() if is_given]
    if len(chosen) > 1:
        raise UserError(f"Only one of {', '.join(given)} can be given. Received: {' and '.join(chosen)}")
    if importlib.util.find_spec("pyarrow") is None:
        raise UserError("Shards are Parquet files, which need pyarrow: pip install 'birdnet_fs[search]'.")


def _parsed(ctx: typer.Context, verb: str, arguments: Sequence[str]) -> _Call:
    """Parse the arguments of the verb and check what merging needs."""
    if ctx.parent is None or not isinstance(ctx.parent.command, TyperGroup):
        raise ValueError("the command has no group")
    command = ctx.parent.command.commands[verb]
    inner = command.make_context(verb, list(arguments), parent=ctx.parent)
    params = dict(inner.params)
    settings = {name: _absolute(value) if name in _PATHS else value for name, value in params.items()}
    settings = {name: value for name, value in settings.items() if name not in _FREE}
    inputs = [Path(path) for path in params["inputs"]]
    check_inputs(inputs)
    if any(map(is_store, inputs)):
        raise UserError("An embedding store needs no shards; give it to `birdnet-fs analyze`.")

    def run(recordings: Sequence[Path], output: Path) -> None:
        own = {"inputs": list(recordings), "output": output, "overwrite": False}
        own |= {"rtype": "csv", "combined": "none", "relative_paths": False, "full_precision": False, "to": ""}
        if command.callback is None:
            raise ValueError(f"{verb} is no command")
        try:
            command.callback(**{**params, **{name: value for name, value in own.items() if name in params}})
        except typer.Exit as stop:
            if stop.exit_code != 1:  # no recording of the shard could be used, which the ledger says
                raise

    if verb == "embed":
        from birdnet_fs.cluster.embeddings import write_embeddings

        check_exists(encoder=Path(params["encoder"]))
        return _Call(params, settings, run, write_embeddings, _embeddings_merge(params))
    from birdnet_fs.cluster.detections import write_detections

    check_exists(model=Path(params["model"]))
    return _Call(params, settings, run, write_detections, _detections_merge(params))


def _absolute(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [os.path.abspath(each) for each in value]
    return None if value is None else os.path.abspath(value)


def _detections_merge(params: Mapping[str, Any]) -> Callable[[Path, "Plan"], None]:
    """Check the options of the tables; returns the function that writes them."""
    from birdnet_fs.analysis.combined.options import table_options
    from birdnet_fs.analysis.table_formats import check_formats

    with_log = bool(params["preset"]) or params["two_stage"] is not None
    names = (params["rtype"] or ("animal_spot" if with_log else "csv")).split(",")
    formats = check_formats([name.strip() for name in names if name.strip()])
    style = {name: params[name] for name in ("relative_paths", "full_precision")}
    tables = table_options(params["combined"], params["timezone"], params["recorder_timezone"], **style)

    def merge(folder: Path, plan: "Plan") -> None:
        from birdnet_fs.cli.analyze import finish
        from birdnet_fs.cluster.detections import merge_detections

        output = Path(params["output"])
        with folder_lock(output):
            ledger = merge_detections(
                folder,
                plan,
                output,
                formats=formats,
                table_options=tables,
                with_log=with_log,
                overwrite=params["overwrite"],
            )
        finish(ledger, output)

    return merge


def _embeddings_merge(params: Mapping[str, Any]) -> Callable[[Path, "Plan"], None]:
    """Check the exports; returns the function that writes the store."""
    from birdnet_fs.search.exports import check_exports

    formats = check_exports(params["to"])

    def merge(folder: Path, plan: "Plan") -> None:
        from birdnet_fs.cli.embed import finish
        from birdnet_fs.cluster.embeddings import merge_embeddings

        output = Path(params["output"])
        with folder_lock(output):
            finish(merge_embeddings(folder, plan, output), output, formats)

    return merge


def _run_shard(folder: Path, plan: "Plan", number: int, call: _Call) -> None:
    from birdnet_fs.cluster.run import run_shard

    run_shard(folder, plan, number, call.run, call.write_result)


def _work(folder: Path, plan: "Plan", call: _Call, arguments: Sequence[str], local: int, slurm: str) -> None:
    """Let all shards run that are missing; exit with status 1 when some still are."""
    from birdnet_fs.cluster import jobs
    from birdnet_fs.cluster.plan import log_file
    from birdnet_fs.cluster.run import is_done

    def missing() -> list[int]:
        return [number for number in range(len(plan.shards)) if not is_done(folder, plan, number)]

    todo = missing()
    if not todo:
        return
    say(f"{plan.verb}: {len(todo)} of {len(plan.shards)} shards, {plan.n_recordings} recordings; {folder}")
    program = [sys.executable, "-m", "birdnet_fs.cli.main", "cluster", plan.verb, *arguments]
    program += _own_share(call.params, local)

    def commands(numbers: Sequence[int]) -> dict[int, list[str]]:
        return {n: [*program, "--shards", str(len(plan.shards)), "--shard", str(n)] for n in numbers}

    if local:
        for _ in track(jobs.run_here(commands(todo), folder, local), "shards", total=len(todo), unit="shard"):
            pass
    else:
        jobs.check_slurm()
        resources = jobs.parse_resources(slurm)
        try:
            _wait(folder, "shards of an earlier command")
            if todo := missing():
                say(f"SLURM array {jobs.submit(commands(todo), folder, resources)}: {len(todo)} jobs")
                _wait(folder, "shards")
        except KeyboardInterrupt:
            say("the jobs go on without this command; given again, it waits for them and merges their results.")
            raise
    if todo := missing():
        for number in todo[:5]:
            say(f"shard {number} failed: {_last_line(log_file(folder, number))} ({log_file(folder, number)})")
        say(f"{len(todo)} of {len(plan.shards)} shards are missing; the same command does them again.")
        raise typer.Exit(1)


def _own_share(params: Mapping[str, Any], local: int) -> list[str]:
    """Options that let each of several processes use its share of the cores, unless the user has chosen."""
    if not local or params.get("workers") != 0 or params.get("preset") or params.get("two_stage"):
        return []
    from birdnet_fs.tuning.worker_pool import threads_per_worker

    return ["--workers", str(threads_per_worker(local))]


def _wait(folder: Path, what: str) -> None:
    """Wait until no shard waits or runs in SLURM."""
    from birdnet_fs.cluster import jobs

    def ended() -> Iterator[int]:
        before: set[int] = set(jobs.queued(folder))
        while before:
            time.sleep(jobs.SLURM_POLL_S)
            now = set(jobs.queued(folder))
            yield from before - now
            before = now

    for _ in track(ended(), what, total=len(jobs.queued(folder)), unit="shard"):
        pass


def _last_line(log: Path) -> str:
    from birdnet_fs.cluster.status import last_line

    return last_line(log) or "it has printed nothing"


def _print_plan(plan: "Plan", folder: Path) -> None:
    sizes = [shard.n_bytes for shard in plan.shards]
    print(f"{plan.n_recordings} recordings, {plan.n_bytes:,} bytes, in {len(plan.shards)} shards; {folder}")
    for number, shard in enumerate(plan.shards[:10]):
        print(f"shard {number}: {shard.n_recordings} recordings, {shard.n_bytes:,} bytes")
    if len(plan.shards) > 10:
        print(f"... and {len(plan.shards) - 10} more, of {min(sizes):,} to {max(sizes):,} bytes")
    if plan.refused:
        print(f"{len(plan.refused)} files or folders cannot be read (the first: {plan.refused[0][0]})")
