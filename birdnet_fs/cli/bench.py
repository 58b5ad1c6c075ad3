"""`birdnet-fs bench`: inference time and memory of an exported artifact."""

import json
from pathlib import Path
from typing import Annotated

import typer


def bench(
    artifact: Annotated[
        Path, typer.Argument(metavar="ARTIFACT", help="A .tflite or .onnx file of `birdnet-fs export`.")
    ],
    against: Annotated[
        Path | None, typer.Option(help="Second artifact to compare with; the two are timed in turns.")
    ] = None,
    threads: Annotated[int, typer.Option(help="CPU threads of the runtime.")] = 1,
    batch_size: Annotated[int, typer.Option("--batch_size", help="Segments per call.")] = 1,
    seconds: Annotated[float, typer.Option(help="Duration of the measurement per artifact, seconds.")] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON.")] = False,
) -> None:
    """Measure ARTIFACT in its runtime: ms per segment, real-time factor, loading time, size and memory."""
    from birdnet_fs.cli.checks import check_numbers
    from birdnet_fs.export.runtimes.benchmark import measure_in_turns
    from birdnet_fs.inference.sidecar import read_sidecar

    check_numbers(threads=(threads, 1, 1024), batch_size=(batch_size, 1, 65_536), seconds=(seconds, 0.1, 86_400))
    paths = [artifact] if against is None else [artifact, against]
    for path in paths:
        if path.is_file() and path.suffix in (".tflite", ".onnx"):  # others are refused by the measurement
            read_sidecar(path)
    speeds = measure_in_turns(paths, threads=threads, batch=batch_size, seconds=seconds)
    ratio = speeds[1].median_ms / speeds[0].median_ms if against is not None else None
    if as_json:
        found = {"artifacts": [speed.to_json() for speed in speeds]}
        print(json.dumps(found if ratio is None else {**found, "times_as_fast": ratio}, indent=2))
        return
    width = max(len(str(speed.path)) for speed in speeds)
    head = f"{'ms median':>9}  {'ms best':>8}  {'x real time':>11}  {'load ms':>7}  {'MB':>7}  {'MB memory':>9}"
    print(f"{'artifact':<{width}}  {head}")
    for speed in speeds:
        print(
            f"{speed.path!s:<{width}}  {speed.median_ms:9.3f}  {speed.minimum_ms:8.3f}  {speed.real_time:11,.0f}  "
            f"{1e3 * speed.load_s:7.1f}  {speed.n_bytes / 1e6:7.2f}  {speed.peak_bytes / 1e6:9.1f}"
        )
    base = ", ".join(sorted({f"{speed.base_bytes / 1e6:.0f}" for speed in speeds}))
    print(f"Memory includes Python, NumPy and the runtime ({base} MB before loading the file).")
    for speed in speeds:
        if speed.input == "features":
            print(f"{speed.path.name} reads features: the front-end is not included.")
    if ratio is not None:
        print(f"{artifact.name} is {ratio:.2f} times as fast as {speeds[1].path.name} (medians, timed in turns).")
