"""`birdnet-fs export`: convert a trained run to a file for other programs, and verify it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from birdnet_fs.core.errors import UserError
from birdnet_fs.export.spec import FFTS
from birdnet_fs.export.targets.table import TARGETS
from birdnet_fs.runs.run import WEIGHTS

if TYPE_CHECKING:
    from birdnet_fs.runs.run import Run

FOLDER = "export"  # default place of the artifacts, in the run folder


def export(
    run: Annotated[Path, typer.Argument(help="Run folder.", metavar="RUN")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder for the artifacts; default RUN/export.")
    ] = None,
    target: Annotated[
        str, typer.Option(help="Program that loads the artifact: " + ", ".join(TARGETS) + ".")
    ] = "tflite",
    precision: Annotated[
        str,
        typer.Option(
            help="fp32, fp16, dynamic, int8, or several separated by commas; default fp32, for runs of `quantize` int8."
        ),
    ] = "",
    input: Annotated[
        str,
        typer.Option(
            help="waveform (front-end included) or features (its constants in a JSON file); default: the target's."
        ),
    ] = "",
    embeddings: Annotated[
        bool,
        typer.Option(
            "--embeddings",
            help="Add the embedding as a second output, for enrollment on a device (export/enroll_tflite.py).",
        ),
    ] = False,
    any_batch: Annotated[
        bool, typer.Option("--any_batch", help="Allow any batch size, where the target uses one segment.")
    ] = False,
    fft: Annotated[
        str,
        typer.Option(
            help="FFT of the front-end in a TFLite file: builtin (operator RFFT2D, where n_fft is a power of 2) or "
            "matrix (matrix products, for a runtime without that operator)."
        ),
    ] = "builtin",
    name: Annotated[str, typer.Option(help="Name of the files; default: name of the run folder.")] = "",
    license: Annotated[str, typer.Option(help="License of the network, for the model card.")] = "",
    audio: Annotated[
        Path | None, typer.Option(help="Recordings for the parity test, when those of the run are missing.")
    ] = None,
    n_segments: Annotated[int, typer.Option("--n_segments", help="Segments in the parity test.")] = 1000,
    environment: Annotated[
        list[Path] | None,
        typer.Option(
            help="Python of another environment for the parity test (tflite-runtime, onnx2tf); may be repeated."
        ),
    ] = None,
) -> None:
    """Export RUN with labels, constants, golden inputs, a model card and a parity report.

    An artifact whose outputs differ from the run by more than the tolerance of its precision, on any runtime found, is
    not written.
    """
    from birdnet_fs.core.lock import refuse_second_writer
    from birdnet_fs.runs.run import load_run

    precisions = [p.strip() for p in precision.split(",") if p.strip()] if precision else None
    _check(target, precisions, input, fft, name, n_segments, audio, environment or ())
    opened = load_run(run)
    _check_output(opened, output)
    refuse_second_writer(output or run / FOLDER)
    _check_target(opened, target, precisions, input, embeddings, any_batch)
    from birdnet_fs.export.export import export_run

    artifacts = export_run(
        opened,
        output or run / FOLDER,
        target=target,
        name=name,
        input=input,
        precision=precisions,
        embeddings=embeddings,
        any_batch=any_batch,
        fft=fft,
        license=license,
        audio=audio,
        n_segments=n_segments,
        environments=environment or (),
    )
    rows = [("artifact", "MB", "on", "max", "mean", "top-1", "AUROC run -> artifact")]
    for artifact in artifacts:
        for runtime, p in artifact.parity_report.by_runtime.items():
            auroc = "-" if p.auroc_reference is None else f"{p.auroc_reference:.4f} -> {p.auroc_artefact:.4f}"
            size, top1 = f"{artifact.n_bytes / 1e6:.2f}", f"{p.top1_agreement:.1%}"
            rows.append((str(artifact.path), size, runtime, f"{p.max_abs:.1e}", f"{p.mean_abs:.1e}", top1, auroc))
    wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, wide, strict=True)).rstrip())
    for artifact in artifacts:
        for runtime, p in artifact.parity_report.second_route.items():
            print(f"{artifact.path.name}: parity of the second converter on {runtime}: {p}")


def _check(
    target: str,
    precisions: Sequence[str] | None,
    input: str,
    fft: str,
    name: str,
    n_segments: int,
    audio: Path | None,
    environments: Sequence[Path],
) -> None:
    """Check the arguments that do not depend on the run."""
    from birdnet_fs.cli.checks import check_exists, check_numbers
    from birdnet_fs.export.targets.check import check_options

    check_options(target, precisions, input)
    if fft not in FFTS:
        raise UserError(f"--fft must be {' or '.join(FFTS)}. Received: {fft!r}")
    if name and (Path(name).name != name or name.startswith(".")):
        raise UserError(f"--name must be a plain file name without folders. Received: {name!r}")
    check_numbers(n_segments=(n_segments, 2, 1e7))
    check_exists(**{"--audio": audio})
    for environment in environments:
        check_exists(**{"--environment": environment})


def _check_output(run: "Run", output: Path | None) -> None:
    from birdnet_fs.core.files import check_output, refuse_link
    from birdnet_fs.runs.tensors import read_shapes

    folder = output or run.path / FOLDER
    if output is None:
        refuse_link(folder, run.path, "give the folder for the artifacts with -o")
    check_output(folder)
    read_shapes(run.path / WEIGHTS)


def _check_target(
    run: "Run", target: str, precisions: Sequence[str] | None, input: str, embeddings: bool, any_batch: bool
) -> None:
    """Check that the program loads the run, unless its network has to be built for the check."""
    from birdnet_fs.export.targets.check import export_spec

    default = "int8" if run.experiment.model.quantized else "fp32"
    for precision in () if embeddings else precisions or [default]:
        export_spec(target, run, input=input, precision=precision, any_batch=any_batch)
