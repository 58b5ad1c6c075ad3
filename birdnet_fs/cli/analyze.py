"""`birdnet-fs analyze`: detect classes in recordings with a run or an exported model."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from birdnet_fs.cli.analysis_arguments import RecorderTimeZone, SpeciesList, TimeZone
from birdnet_fs.cli.animal_spot import analyze_with_preset, check_preset_options
from birdnet_fs.cli.checks import check_exists, check_numbers
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.lock import locked
from birdnet_fs.search.kinds import is_store

if TYPE_CHECKING:
    from birdnet_fs.data.ledger import Ledger


@locked("output")
def analyze(
    model: Annotated[
        Path, typer.Argument(help="Run folder, ensemble, or .tflite file with its .json in the same folder.")
    ],
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT...",
            help="Recordings, or folders searched at any depth; or one embedding store (birdnet-fs embed), to which "
            "the head of a run on its encoder is applied without reading audio.",
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the tables and ledger.csv.")],
    rtype: Annotated[
        str,
        typer.Option(
            help="Table formats, separated by commas: csv, raven, audacity, kaleidoscope, birdnet, animal_spot. "
            "Default: csv; animal_spot with --preset."
        ),
    ] = "",
    min_conf: Annotated[
        float | None,
        typer.Option("--min_conf", help="Lowest confidence to write, 0..1; default 0.25, with --top_n 0."),
    ] = None,
    overlap: Annotated[float, typer.Option(help="Overlap of consecutive windows in seconds.")] = 0.0,
    grid: Annotated[
        float,
        typer.Option(
            help="Length in seconds of rows (5 in BirdCLEF) whose scores are means over the windows that share time "
            "with them, however long a window is; 0 = detections are of windows."
        ),
    ] = 0.0,
    events: Annotated[
        bool,
        typer.Option(
            "--events",
            help="Detections are events with onset and offset instead of windows, for a run with model.head=sed: "
            "frames above --event_low with one above --min_conf.",
        ),
    ] = False,
    event_low: Annotated[
        float, typer.Option("--event_low", help="Lowest probability in an event; 0 = half of --min_conf.")
    ] = 0.0,
    event_median: Annotated[
        float, typer.Option("--event_median", help="Median filter over the frames of events in seconds; 0 = none.")
    ] = 0.0,
    top_n: Annotated[int, typer.Option("--top_n", help="Largest number of classes per window; 0 = no limit.")] = 0,
    merge_consecutive: Annotated[
        int,
        typer.Option(
            "--merge_consecutive",
            help="Largest number of consecutive windows of a class to merge into one detection, which has their "
            "highest confidence; 1 = no merging, 0 = no limit.",
        ),
    ] = 1,
    slist: SpeciesList = None,
    gate: Annotated[
        Path | None,
        typer.Option(
            help="No-call model (birdnet-fs nocall), or a run or exported file with one class of calls: windows below "
            "its threshold give no detections."
        ),
    ] = None,
    gate_threshold: Annotated[
        float | None,
        typer.Option(
            "--gate_threshold",
            help="Lowest probability of a call by --gate or --two_stage, 0..1; default: that of the no-call model, or "
            "0.5.",
        ),
    ] = None,
    precision: Annotated[
        float | None,
        typer.Option(
            help="Wanted share of right detections, as 0.9: the thresholds of each class for it, of a model that was "
            "calibrated (birdnet-fs calibrate); instead of --min_conf."
        ),
    ] = None,
    post: Annotated[
        str | None,
        typer.Option(
            help="Post-processing of the scores of a recording, as smooth,file_topk:power=0.4 (docs/decisions.md); "
            "default: none, with --precision that of the calibration."
        ),
    ] = None,
    preset: Annotated[
        str,
        typer.Option(
            help="animal_spot: windows of 0.8 s every 0.1 s, --min_conf 0.85, events of 0.1 s or more, gaps below "
            "0.15 s closed, and RECORDING_predict_output.log."
        ),
    ] = "",
    two_stage: Annotated[
        Path | None,
        typer.Option(
            "--two_stage",
            metavar="DETECTOR",
            help="Run or exported file with a class noise that decides which windows the model scores (p(noise) of 0.5 "
            "or less); implies --preset animal_spot.",
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch_size", help="Windows per batch.")] = 32,
    workers: Annotated[
        int,
        typer.Option(
            help="Threads that decode and score, each with a model of its own; 0 = as many as use all cores. Tables do "
            "not depend on it."
        ),
    ] = 0,
    threads: Annotated[
        int, typer.Option(help="CPU threads of the model in each worker; 0 = the runtime decides, and one worker.")
    ] = 1,
    runtime: Annotated[
        str,
        typer.Option(
            help="Of an .onnx file: onnxruntime, openvino, or fastest, measured on a few windows where both are "
            "installed and give the same scores."
        ),
    ] = "fastest",
    combined: Annotated[
        str,
        typer.Option(
            help="Formats of OUTPUT/detections, the table of all recordings: csv, parquet, or both by commas; with it "
            "come summary.csv and activity.csv. none = neither."
        ),
    ] = "csv",
    timezone: TimeZone = "",
    recorder_timezone: RecorderTimeZone = "",
    relative_paths: Annotated[
        bool, typer.Option("--relative_paths", help="Write paths relative to the input folder.")
    ] = False,
    full_precision: Annotated[
        bool, typer.Option("--full_precision", help="Write confidences with 9 digits instead of 4 decimals.")
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Analyze finished recordings again, and replace tables that were edited or that something else wrote.",
        ),
    ] = False,
) -> None:
    """Score recordings with a sliding window and write tables of detections.

    OUTPUT gets the tables of every recording, and detections.csv, summary.csv and activity.csv over all of them, with
    clock times from names and metadata of the recordings (docs/tables.md). Classes that mean that nothing calls (noise,
    nocall, no_call, background, nothing, empty, unknown) are no detections unless --slist names them.

    A second run with the same model and settings skips finished recordings; with others, it replaces its earlier
    tables. A table that was edited since, or that something else wrote, is kept and named. A damaged recording does not
    stop the analysis: it is listed with the reason in OUTPUT/ledger.csv. The exit status is 1 when no recording could
    be scored, and 3 when a table was not written because one that is kept is in the way.
    """
    from birdnet_fs.analysis.combined.options import table_options

    rtype = rtype or ("animal_spot" if preset or two_stage else "csv")
    names = [name.strip() for name in rtype.split(",") if name.strip()]
    tables = table_options(
        combined, timezone, recorder_timezone, relative_paths=relative_paths, full_precision=full_precision
    )
    if gate_threshold is not None and gate is None and two_stage is None:
        raise UserError("--gate_threshold needs --gate or --two_stage.")
    if not events and (event_low or event_median):
        raise UserError("--event_low and --event_median need --events.")
    _check_decision(precision, post, min_conf, grid, events=events)
    if preset or two_stage is not None:
        if precision is not None or post:
            raise UserError("--preset and --two_stage have thresholds of their own; leave out --precision and --post.")
        check_preset_options(
            preset,
            inputs,
            gate=gate is not None,
            overlap=overlap != 0,
            grid=grid != 0,
            events=events,
            top_n=top_n != 0,
            merge_consecutive=merge_consecutive != 1,
            workers=workers != 0,
        )
        check_exists(two_stage=two_stage)
        _check(model, inputs, output, names, min_conf, 0.0, 0, 1, slist, batch_size, threads)
        ledger = analyze_with_preset(
            model,
            two_stage,
            inputs,
            output,
            min_conf=min_conf,
            detector_threshold=gate_threshold,
            slist=slist,
            threads=threads,
            formats=names,
            batch_size=batch_size,
            table_options=tables,
            overwrite=overwrite,
        )
        finish(ledger, output)
        return
    if any(is_store(path) for path in inputs):
        for option, value in (("--gate", gate), ("--grid", grid), ("--events", events)):
            if value:
                raise UserError(f"{option} needs recordings; an embedding store holds no audio.")
        options: dict[str, Any] = {"min_confidence": min_conf, "top_n": top_n, "merge_consecutive": merge_consecutive}
        options |= {"table_options": tables, "precision": precision, "post": post}
        _analyze_store(model, inputs, output, names, overlap, slist, threads, overwrite, options)
        return
    check_exists(gate=gate)
    from birdnet_fs.encoders.runtimes import check_onnx_runtime

    check_onnx_runtime(runtime, model)
    check_numbers(event_low=(event_low, 0, 1), event_median=(event_median, 0, 1e6))
    check_numbers(grid=(grid, 0, 1e6), workers=(workers, 0, 1024), threads=(threads, 0, 1024))
    _check(model, inputs, output, names, min_conf, overlap, top_n, merge_consecutive, slist, batch_size, threads)
    from birdnet_fs.analysis.analyze import analyze as run
    from birdnet_fs.analysis.options import EventOptions, read_species
    from birdnet_fs.core.installation.resources import n_cpus
    from birdnet_fs.inference.open import open_engine
    from birdnet_fs.motifs.no_call.gate import open_gate

    ledger = run(
        open_engine(model, threads=threads, runtime=runtime),
        inputs,
        output,
        formats=names,
        min_confidence=min_conf,
        overlap_s=overlap,
        grid_s=grid,
        events=EventOptions(event_low, event_median) if events else None,
        batch_size=batch_size,
        n_workers=workers or (max(1, n_cpus() // threads) if threads else 1),
        top_n=top_n,
        merge_consecutive=merge_consecutive,
        species=read_species(slist) if slist else (),
        gate=open_gate(gate, threshold=gate_threshold, threads=threads) if gate else None,
        precision=precision,
        post=post,
        table_options=tables,
        overwrite=overwrite,
    )
    finish(ledger, output)


def _check_decision(
    precision: float | None, post: str | None, min_conf: float | None, grid: float, *, events: bool
) -> None:
    """Check the options of thresholds and post-processing before the model is loaded."""
    from birdnet_fs.analysis.postprocessing.chain import parse_chain

    if precision is not None:
        if not 0 < precision < 1:
            raise UserError(f"--precision must be above 0 and below 1, as 0.9. Received: {precision:g}")
        for option, given in (("--min_conf", min_conf is not None), ("--grid", grid > 0), ("--events", events)):
            if given:
                raise UserError(f"--precision has thresholds of its own, for windows; leave out {option}.")
    if parse_chain(post or "") and events:
        raise UserError("--post is for the scores of windows; leave out --events.")


def _analyze_store(
    model: Path,
    inputs: Sequence[Path],
    output: Path,
    formats: Sequence[str],
    overlap: float,
    slist: Path | None,
    threads: int,
    overwrite: bool,
    options: dict[str, Any],
) -> None:
    """Apply the head of a run to a store."""
    from birdnet_fs.analysis.options import read_species
    from birdnet_fs.analysis.table_formats import check_formats
    from birdnet_fs.core.files import check_output

    if len(inputs) > 1:
        raise UserError(
            f"One embedding store is analyzed at a time, without recordings. Received: {len(inputs)} inputs"
        )
    if overlap:
        raise UserError("--overlap has no effect on an embedding store, whose windows are those it was made with.")
    check_formats(formats)
    check_output(output)
    species = read_species(slist) if slist else ()
    from birdnet_fs.search.analyze_store import analyze_store
    from birdnet_fs.search.open_any_store import open_any_store

    store = open_any_store(inputs[0])
    options |= {"formats": formats, "species": species, "threads": threads, "overwrite": overwrite}
    finish(analyze_store(model, store, output, **options), output)


def finish(ledger: "Ledger", output: Path) -> None:
    """Print the outcome.

    Args:
        ledger: Outcomes of the recordings.
        output: Folder of the tables.

    Raises:
        Exit: With status 1 when no recording could be scored, and 3 when a table was not replaced.
    """
    from birdnet_fs.analysis.output import LEDGER, NOT_REPLACED
    from birdnet_fs.core.progress import say

    counts = ledger.counts()
    ok, partial, quarantined = (counts.get(status, 0) for status in ("ok", "partial", "quarantined"))
    if partial or quarantined:
        say(ledger.summary())
    print(f"{ok} ok, {partial} partial, {quarantined} quarantined; {output / LEDGER}")
    if not ok + partial:
        raise typer.Exit(1)
    if any(NOT_REPLACED in row.flags for row in ledger.rows):
        raise typer.Exit(3)


def _check(
    model: Path,
    inputs: Sequence[Path],
    output: Path,
    formats: Sequence[str],
    min_conf: float | None,
    overlap: float,
    top_n: int,
    merge_consecutive: int,
    slist: Path | None,
    batch_size: int,
    threads: int,
) -> None:
    """Check the arguments before the model is loaded."""
    from birdnet_fs.analysis.options import read_species
    from birdnet_fs.analysis.table_formats import check_formats
    from birdnet_fs.cli.checks import check_inputs, check_windows
    from birdnet_fs.core.files import check_output

    check_formats(formats)
    check_numbers(min_conf=(min_conf or 0, 0, 1), top_n=(top_n, 0, 1e9), merge_consecutive=(merge_consecutive, 0, 1e9))
    if slist:
        read_species(slist)
    check_inputs(inputs)
    check_output(output)
    check_windows(model, overlap=overlap, batch_size=batch_size, threads=threads)
