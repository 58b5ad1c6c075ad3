"""Export a run: convert it in a separate process, verify parity, write the sidecars and publish all files at once.

All files are written to a temporary folder beside the output first, which replaces the output in one step. When a
tolerance is exceeded, the export is interrupted or killed or any step fails, the output folder stays as it was.
"""

import importlib.util
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.folders import atomic_folder
from birdnet_fs.core.lock import locked
from birdnet_fs.core.progress import say
from birdnet_fs.export import model_card, sidecars
from birdnet_fs.export.calibrated_output import calibration_sentence, maps_of_file
from birdnet_fs.export.convert_and_verify import ParityReport, convert_and_verify
from birdnet_fs.export.parity import embeddings as embedding_parity
from birdnet_fs.export.parity.compare import expected_outputs
from birdnet_fs.export.parity.inputs import EDGE_NAMES, ParityInputs, make_parity_inputs
from birdnet_fs.export.runtimes.benchmark import Speed, measure_speed
from birdnet_fs.export.runtimes.environments import Environment, find_environments
from birdnet_fs.export.spec import ExportSpec
from birdnet_fs.export.targets import check as targets
from birdnet_fs.export.targets import companion_files, labels
from birdnet_fs.runs.folder_kind import refuse_other_results
from birdnet_fs.runs.run import WEIGHTS, Run
from birdnet_fs.runs.tensors import read_weights

N_CALIBRATION = 200  # real segments from which int8 takes its activation ranges
NEEDS = {"tflite": ("tensorflow", "ai_edge_litert"), "onnx": ("onnx", "onnxscript", "onnxruntime")}
NEEDS |= {"torchscript": (), "pt2": (), "openvino": ("onnx", "onnxscript", "openvino")}
EXTRAS = {
    "tensorflow": "export",
    "ai_edge_litert": "export",
    "openvino": "openvino",
}  # extra that installs a module; default: onnx


@dataclass(frozen=True)
class Artifact:
    """One exported file and its measurements.

    Attributes:
        path: The file in the output folder.
        n_bytes: Size of the file and of weights stored beside it.
        parity_report: Comparison with the run.
        speed: Time and memory on this machine; None for formats that are not timed.
    """

    path: Path
    n_bytes: int
    parity_report: ParityReport
    speed: Speed | None


@locked("output")
def export_run(
    run: Run,
    output: Path | str,
    *,
    target: str = "tflite",
    name: str = "",
    input: str = "",
    precision: Sequence[str] | None = None,
    embeddings: bool = False,
    any_batch: bool = False,
    fft: str = "builtin",
    license: str = "",
    audio: Path | None = None,
    n_segments: int = 1000,
    environments: Sequence[Path] = (),
) -> list[Artifact]:
    """Export a run and verify that every file reproduces its outputs.

    Args:
        run: A run opened with `load_run`.
        output: Folder for the artifacts; created if missing. Files of the same names are replaced, others stay.
        target: A key of `targets.table.TARGETS`. Default: "tflite".
        name: Stem of the file names, `<name>.tflite`, `<name>_fp16.tflite`, `<name>_birdnet.tflite` (see `file_name`).
            Default: the name of the run folder.
        input: "waveform" (the front-end is part of the file) or "features" (its constants are written beside the
            file). Default: the first input of the target.
        precision: Precisions, one artifact each: "fp32", "fp16", "dynamic", "int8" (see `ExportSpec`). None: fp32, or
            int8 for a run trained with model.quantized.
        embeddings: Add the embedding as a second output, and write the data for enrollment on a device.
        any_batch: Accept any number of segments per call where the target takes one by default.
        fft: FFT of the front-end in a TFLite file of waveforms: "builtin", the operator RFFT2D, where n_fft is a power
            of 2; or "matrix", matrix products for a runtime without that operator. Default: "builtin".
        license: License of the network, for the model card.
        audio: Folder of recordings for the parity test. Default: the run's own where they still exist.
        n_segments: Real segments in the parity test, 2 or more. Default: 1000.
        environments: Python executables of other environments; the file must be correct on their runtimes as well.

    Returns:
        The artifacts in the order of `precision`.

    Raises:
        UserError: An option is invalid, the target cannot load the run, a package is missing, weights are not finite,
            the network cannot be converted, or an artifact exceeds a tolerance. Nothing is written then.
    """
    output = Path(output)
    refuse_other_results(output, "exported files")
    if precision is None:
        precision = ("int8",) if run.experiment.model.quantized else ("fp32",)
    precision = tuple(dict.fromkeys(precision))
    name = name or run.path.resolve().name
    specs = _specs(run, target, input, precision, embeddings, any_batch, fft)
    _check(specs[0], name, output)
    labels.label_lines(run.classes)
    read_weights(run.path / WEIGHTS)  # refuses numbers that are not finite before any process is started
    available = find_environments(environments)
    stems = [Path(file_name(name, target, spec)).stem for spec in specs]
    outdated = {stem + ending for stem in stems for ending in sidecars.OPTIONAL}
    with atomic_folder(output, stays=lambda entry: entry not in outdated) as ready:
        work = ready / "work"
        work.mkdir()
        n_calibration = N_CALIBRATION if "int8" in precision else 0
        parity_inputs = make_parity_inputs(run, audio=audio, n_segments=n_segments, n_calibration=n_calibration)
        reports, reference = convert_and_verify(
            run, parity_inputs, specs, work, available, host=targets.target_by_name(target).for_birdnet
        )
        if any(report.failures for report in reports.values()):
            raise UserError(_refusal(run, parity_inputs, specs, reports, work, available, target))
        enrollment = embedding_parity.device_enrollment(run) if embeddings else None
        artifacts = []
        for spec in specs:
            artifact = ready / file_name(name, target, spec)
            for file in work.glob(f"{spec.precision}.*"):
                if file.suffix in (spec.suffix, ".bin"):  # OpenVINO stores weights in a second file
                    os.replace(file, artifact.with_suffix(file.suffix))
            report = reports[spec.precision]
            golden = _golden(run, parity_inputs, report, reference)
            sidecars.write_sidecars(
                artifact, run, spec=spec, parity_report=report, golden=golden, enrollment=enrollment
            )
            speed = measure_speed(artifact) if spec.format in ("tflite", "onnx") else None
            model_card.write_card(
                artifact, run, export_spec=spec, target=target, parity_report=report, speed=speed, license=license
            )
            companion_files.write_companion_files(target, artifact, run)
            n_bytes = sum(file.stat().st_size for file in (artifact, artifact.with_suffix(".bin")) if file.exists())
            artifacts.append(Artifact(output / artifact.name, n_bytes, report, speed))
        sidecars.write_parity(
            ready, {artifact.path.name: artifact.parity_report for artifact in artifacts}, earlier=output
        )
        shutil.rmtree(work)
    return artifacts


def file_name(name: str, target: str, spec: ExportSpec) -> str:
    """The file name of an artifact, `<name>_<target>_<precision><suffix>`; "tflite" and "fp32" are left out.

    The stems of two artifacts differ, so that each has its own sidecars.

    Args:
        name: Stem chosen by the user.
        target: A key of `targets.table.TARGETS`.
        spec: The specification of the file.

    Returns:
        The file name.

    >>> file_name("mine", "tflite", ExportSpec()), file_name("mine", "onnx", ExportSpec("onnx", precision="int8"))
    ('mine.tflite', 'mine_onnx_int8.onnx')
    """
    parts = [name, *([] if target == "tflite" else [target]), *([] if spec.precision == "fp32" else [spec.precision])]
    return "_".join(parts) + spec.suffix


def _specs(
    run: Run, target: str, input: str, precision: Sequence[str], embeddings: bool, any_batch: bool, fft: str
) -> list[ExportSpec]:
    if not precision:
        row = targets.target_by_name(target)
        raise UserError(f"--precision must name one or more of {', '.join(row.precisions)}. Received: nothing")
    specs = [
        targets.export_spec(target, run, input=input, precision=p, embeddings=embeddings, any_batch=any_batch, fft=fft)
        for p in precision
    ]
    if run.experiment.model.quantized and (set(precision) != {"int8"} or specs[0].format != "tflite"):
        raise UserError(
            f"{run.path} was trained for int8 in TFLite (model.quantized): export it with --precision int8 and a "
            f"--target of TFLite, or export the float run it came from. Received: {target}, {', '.join(precision)}"
        )
    if run.experiment.model.trainable_mel != "none" and set(precision) & {"int8", "dynamic"}:
        raise UserError(
            f"{run.path} has a trainable mel matrix, which reads powers of any size: 8 bits cannot hold them; use "
            f"--precision fp32 or fp16. Received: {', '.join(precision)}"
        )
    for sentence in (*targets.check_target(target, run, embeddings=embeddings), calibration_sentence(run, specs[0])):
        if sentence:
            say(sentence)
    return specs


def _golden(
    run: Run, parity_inputs: ParityInputs, parity_report: ParityReport, reference: Sequence[np.ndarray]
) -> sidecars.Golden:
    outputs = [rows[: len(EDGE_NAMES)] for rows in reference]
    spec = parity_report.spec
    expected = expected_outputs(outputs[0], spec.output_kind, run.activation, maps_of_file(run, spec))
    outputs[0] = expected.astype(np.float32)
    if parity_report.parity.limits.real_only:
        outputs = list(parity_report.edges)
    return sidecars.Golden(parity_inputs.waveforms[: len(EDGE_NAMES)], outputs)


def _refusal(
    run: Run,
    parity_inputs: ParityInputs,
    specs: Sequence[ExportSpec],
    reports: dict[str, ParityReport],
    work: Path,
    available: Sequence[Environment],
    target: str,
) -> str:
    """An error message that lists the exceeded tolerances and names settings that work.

    Settings that were not measured yet are converted and compared here, the most exact first.
    """
    failed = "; ".join(f"{p}: {', '.join(report.failures)}" for p, report in reports.items() if report.failures)
    known = {(spec.input, spec.precision): not reports[spec.precision].failures for spec in specs}
    row = targets.target_by_name(target)
    choices = [(specs[0].input, p) for p in row.precisions] + [(i, "fp32") for i in row.inputs]
    any_batch = specs[0].batch is None
    for input, precision in dict.fromkeys(choices):
        if (input, precision) not in known:
            try:
                spec = targets.export_spec(target, run, input=input, precision=precision, any_batch=any_batch)
                others, _ = convert_and_verify(run, parity_inputs, [spec], work, available)
                known[input, precision] = not others[precision].failures
            except UserError:
                known[input, precision] = False
        if known[input, precision]:
            hint = f"Use --input {input} --precision {precision}, which is within its tolerance."
            return f"Nothing was exported, parity failed ({failed}). {hint}"
    return f"Nothing was exported, parity failed ({failed}). No other setting was within its tolerance."


def _check(spec: ExportSpec, name: str, output: Path) -> None:
    if not name.strip() or Path(name).name != name or name.startswith("."):
        raise UserError(f"--name must be a plain file name without folders. Received: {name!r}")
    if output.exists() and not output.is_dir():
        raise UserError(f"-o/--output must be a folder. Received the file {output}")
    for module in NEEDS[spec.format]:
        if importlib.util.find_spec(module) is None:
            extra = EXTRAS.get(module, "onnx")
            raise UserError(
                f'Exporting {spec.format} needs {module}; install it with: pip install "birdnet_fs[{extra}]"'
            )
