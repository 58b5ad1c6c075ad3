"""`birdnet-fs kaggle-bundle`: a folder from which a Kaggle notebook writes a submission offline."""

from pathlib import Path
from typing import Annotated

import typer


def kaggle_bundle(
    model: Annotated[
        Path, typer.Argument(help="Run folder, ensemble (mean), or .tflite or .onnx file with its .json.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write: the data set to upload.")],
    competition: Annotated[str, typer.Option(help="birdclef2025 or birdclef2024.")] = "birdclef2025",
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the competition: the classes of the model are checked, and the names of its labels are put "
            "into the bundle."
        ),
    ] = None,
    runtime: Annotated[str, typer.Option(help="litert or onnxruntime.")] = "litert",
    precision: Annotated[str, typer.Option(help="fp32, fp16, dynamic or int8.")] = "fp32",
    wheels: Annotated[
        Path | None, typer.Option(help="Folder of wheels to use; default: pip downloads them for Python 3.12 on Linux.")
    ] = None,
    source: Annotated[
        Path | None, typer.Option(help="Folder of the source of birdnet_fs, for a package installed without it.")
    ] = None,
    audio: Annotated[
        Path | None, typer.Option(help="Recordings for the parity test, when those of the run are missing.")
    ] = None,
    n_segments: Annotated[int, typer.Option("--n_segments", help="Segments in the parity test.")] = 1000,
) -> None:
    """Write a bundle for a Kaggle notebook: networks, readers, wheels, names of labels and the notebook itself.

    The notebook runs without internet and imports neither Keras nor torch. RUN is exported and verified as by
    birdnet-fs export.
    """
    from birdnet_fs.analysis.competition.class_names import find_taxonomy, match_classes, read_taxonomy
    from birdnet_fs.analysis.competition.folder import check_competition, competition_table
    from birdnet_fs.analysis.competition.rows import read_submission_rows
    from birdnet_fs.cli.checks import check_exists, check_numbers
    from birdnet_fs.core.errors import UserError, nearest
    from birdnet_fs.core.files import check_output
    from birdnet_fs.core.progress import say
    from birdnet_fs.core.text import escaped
    from birdnet_fs.export.spec import PRECISIONS
    from birdnet_fs.inference.describe import describe_model

    runtimes = ("litert", "onnxruntime")
    asked = check_competition(competition)
    if asked.layout != "wide":
        raise UserError("The notebook writes probabilities; --competition must be birdclef2025 or birdclef2024.")
    for option, value, known in (("runtime", runtime, runtimes), ("precision", precision, tuple(PRECISIONS))):
        if value not in known:
            raise UserError(f"--{option} must be one of {', '.join(known)}.{nearest(value, known)} Received: {value!r}")
    check_numbers(n_segments=(n_segments, 2, 1e7))
    check_exists(**{"--data": data, "--wheels": wheels, "--source": source, "--audio": audio})
    check_output(output)
    described = describe_model(model)
    taxonomy = None
    if data:
        table = find_taxonomy(data)
        taxonomy = read_taxonomy(table) if table else None
        rows = read_submission_rows(competition_table(data))
        say(match_classes(rows.classes, described.classes, taxonomy or {}).line)
    from birdnet_fs.export.kaggle_bundle import make_bundle

    made = make_bundle(
        model,
        output,
        recording_s=asked.recording_s,
        taxonomy=taxonomy,
        runtime=runtime,
        precision=precision,
        wheels=wheels,
        source=source,
        audio=audio,
        n_segments=n_segments,
    )
    print(
        f"{escaped(made.path)}: {made.n_bytes / 1e6:.1f} MB, of which wheels {made.n_wheel_bytes / 1e6:.1f} MB; "
        f"{len(made.models)} {'network' if len(made.models) == 1 else 'networks'}"
    )
