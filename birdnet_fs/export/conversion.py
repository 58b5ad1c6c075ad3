"""The conversion process of an export: its job, and the files that it writes.

TFLite is written on Keras' TensorFlow backend, all other formats on its torch backend; a run on an encoder has writers
of its own, which join the encoder in front of the head.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import write_json
from birdnet_fs.export.calibrated_output import maps_of_file
from birdnet_fs.export.encoder_part import EncoderPart, encoder_part
from birdnet_fs.export.runtimes import subprocesses
from birdnet_fs.export.spec import ExportSpec
from birdnet_fs.runs.run import Run

CARD = "card.json"  # card of the encoder, in the folder of the files


def conversion_job(run: Run, specs: Sequence[ExportSpec], folder: Path) -> dict[str, Any]:
    """The job of a conversion process (convert.py and joined.py in tflite/ and onnx/).

    Args:
        run: The run.
        specs: The files to write; they differ in precision only.
        folder: Folder of the files.

    Returns:
        JSON values.
    """
    spec, part = specs[0], encoder_part(run)
    job: dict[str, Any] = {
        "run": str(run.path.resolve()),
        "frontend": run.frontend.to_artifact(),
        "formats": [spec.format],
        "input": spec.input,
        "axes": spec.axes,
        "fft": spec.fft_of(run.frontend if part is None else None),
        "precisions": [each.precision for each in specs],
        "batch": spec.batch,
        "output_kind": spec.output_kind,
        "outputs": list(spec.outputs),
        "calibration": str((folder / "calibration.npy").resolve()),
        "folder": str(folder.resolve()),
    }
    if (maps := maps_of_file(run, spec)) is not None:
        job["maps"] = {"slope": maps.slope.tolist(), "offset": maps.offset.tolist()}
    if part is not None:
        job |= {"encoder": str(part.path.resolve()), "card": str((folder / CARD).resolve())}
        job |= {"own_columns": list(part.own.columns), "tokens": part.tokens}
    return job


def write_files(run: Run, specs: Sequence[ExportSpec], folder: Path) -> None:
    """Write the files in a conversion process.

    Args:
        run: The run.
        specs: The files to write; they differ in precision only.
        folder: Folder of the files.

    Raises:
        UserError: A file cannot be written; the message holds the reason the process gave.
    """
    spec, part = specs[0], encoder_part(run)
    for old in folder.glob("*.error.txt"):
        old.unlink()
    room, backend = ("tflite", "tensorflow") if spec.format == "tflite" else ("onnx", "torch")
    module = f"birdnet_fs.export.{room}.{'convert' if part is None else 'joined'}"
    write_json(folder / "job.json", conversion_job(run, specs, folder))
    if part is not None:
        write_json(folder / CARD, part.card.to_json())
    done = subprocesses.run_module(module, [folder / "job.json"], backend=backend)
    reasons = [file.read_text(encoding="utf-8").strip() for file in sorted(folder.glob("*.error.txt"))]
    if reasons:
        raise UserError(" ".join(reasons))
    missing = [f.precision for f in specs if not (folder / f"{f.precision}{f.suffix}").is_file()]
    if done.returncode or missing:
        raise UserError(
            f"The network {network_title(run, part)!r} cannot be written as {spec.format} with its own operators "
            f"alone (exit status {done.returncode}): {subprocesses.last_output(done)}"
        )


def network_title(run: Run, part: EncoderPart | None) -> str:
    """Name of the converted network, for messages: the network, or the head and its encoder.

    Args:
        run: The run.
        part: Encoder in front of the head; None without one.

    Returns:
        Text such as "cnn/small" or "linear on BirdNET GLOBAL 6K V2.4".
    """
    settings = run.experiment.model
    return settings.name if part is None else f"{settings.head} on {part.title}"
