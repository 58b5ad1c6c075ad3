"""The whole way of an export: convert in a process of its own, prove parity, write the sidecars, put all in place.

Everything is made in a temporary folder beside the output. Over budget, interrupted or failed, nothing is left.
"""

import importlib.util
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.progress import say
from birdnet_fs.export import model_card, sidecars
from birdnet_fs.export.convert_and_verify import ParityReport, convert_and_verify
from birdnet_fs.export.parity import embeddings as second
from birdnet_fs.export.parity.compare import expected
from birdnet_fs.export.parity.inputs import EDGE_NAMES, ParityInputs, make_parity_inputs
from birdnet_fs.export.runtimes.benchmark import Speed, measure_speed
from birdnet_fs.export.runtimes.environments import Environment, find_environments
from birdnet_fs.export.spec import SUFFIXES, ExportSpec
from birdnet_fs.export.targets import check as targets
from birdnet_fs.export.targets import companion_files, labels
from birdnet_fs.runs.run import WEIGHTS, Run

N_CALIBRATION = 200  # real segments that set the ranges of int8
NEEDS = {"tflite": ("tensorflow", "ai_edge_litert"), "onnx": ("onnx", "onnxscript", "onnxruntime")}
NEEDS |= {"torchscript": (), "pt2": (), "openvino": ("onnx", "onnxscript", "openvino")}
EXTRAS = {"tensorflow": "export", "ai_edge_litert": "export", "openvino": "openvino"}  # the others: onnx


@dataclass(frozen=True)
class Artifact:
    """One exported file and what was measured on it."""

    path: Path
    n_bytes: int
    parity_report: ParityReport
    speed: Speed | None


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
    license: str = "",
    audio: Path | None = None,
    n_segments: int = 1000,
    environments: Sequence[Path] = (),
) -> list[Artifact]:
    """Export a run with its proof of parity.

    Args:
        run: What `load_run` gave.
        output: Folder for the artifacts; made when absent. Files of the same names are replaced, others stay.
        target: A key of `targets.TARGETS`.
        name: What the files are called, `<name>.tflite`, `<name>_fp16.tflite`, `<name>_birdnet.tflite` (see
            `file_name`); the run folder's name when empty.
        input: "waveform" (the front-end is inside) or "features" (its constants lie beside); the target's first when
            empty.
        precision: One artifact each: "fp32", "fp16", "dynamic", "int8" (form.Form says what each is). None: what the
            run was trained for, fp32 or (model.quantized) int8.
        embeddings: Give the embedding as well, as a second output, with what enrollment on a device needs beside it.
        any_batch: Take any number of segments at once, where the target asks for one and no program is behind it.
        license: Of the network, in its owner's words, for the card.
        audio: Folder of recordings for the parity test when those of the run are gone.
        n_segments: Real segments in the parity test.
        environments: Pythons of other environments, whose runtimes must answer as well (environments.py).

    Returns:
        The artifacts in the order of `precision`.

    Raises:
        UserError: A wrong choice, a run that the target cannot load, something that has to be installed, weights that
            are not finite, a network that cannot be converted, or an artifact over its budget. Nothing is written then.
    """
    output = Path(output)
    if precision is None:
        precision = ("int8",) if run.experiment.model.quantized else ("fp32",)
    precision = tuple(dict.fromkeys(precision))
    name = name or run.path.resolve().name
    forms = _specs(run, target, input, precision, embeddings, any_batch)
    _check(forms[0], name, output)
    labels.label_lines(run.classes)
    _check_weights(run)
    places = find_environments(environments)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".part-export-", dir=output.parent) as folder:
        work, ready = Path(folder) / "work", Path(folder) / "ready"
        work.mkdir()
        ready.mkdir()
        n_calibration = N_CALIBRATION if "int8" in precision else 0
        probe = make_parity_inputs(run, audio=audio, n_segments=n_segments, n_calibration=n_calibration)
        proofs, reference = convert_and_verify(
            run, probe, forms, work, places, host=targets.target_by_name(target).for_birdnet
        )
        if any(proof.failures for proof in proofs.values()):
            raise UserError(_refusal(run, probe, forms, proofs, work, places, target))
        enrollment = second.device_enrollment(run) if embeddings else None
        made = []
        for form in forms:
            artifact = ready / file_name(name, target, form)
            for file in work.glob(f"{form.precision}.*"):
                if file.suffix in (form.suffix, ".bin"):  # OpenVINO keeps its weights apart
                    os.replace(file, artifact.with_suffix(file.suffix))
            proof = proofs[form.precision]
            golden = _golden(run, probe, proof, reference)
            sidecars.write_sidecars(artifact, run, spec=form, parity_report=proof, golden=golden, enrollment=enrollment)
            speed = measure_speed(artifact) if form.format in ("tflite", "onnx") else None
            model_card.write_card(
                artifact, run, export_spec=form, target=target, parity_report=proof, speed=speed, license=license
            )
            companion_files.write_companion_files(target, artifact, run)
            n_bytes = sum(file.stat().st_size for file in (artifact, artifact.with_suffix(".bin")) if file.exists())
            made.append(Artifact(output / artifact.name, n_bytes, proof, speed))
        sidecars.write_parity(ready, {artifact.path.name: artifact.parity_report for artifact in made}, earlier=output)
        _publish(ready, output, Path(folder) / "replaced")
    return made


def file_name(name: str, target: str, spec: ExportSpec) -> str:
    """`<name>_<target>_<precision><suffix>` without the usual ones, tflite and fp32: no two share their sidecars.

    >>> file_name("mine", "tflite", Form()), file_name("mine", "onnx", Form("onnx", precision="int8"))
    ('mine.tflite', 'mine_onnx_int8.onnx')
    """
    parts = [name, *([] if target == "tflite" else [target]), *([] if spec.precision == "fp32" else [spec.precision])]
    return "_".join(parts) + spec.suffix


def _specs(
    run: Run, target: str, input: str, precision: Sequence[str], embeddings: bool, any_batch: bool
) -> list[ExportSpec]:
    if not precision:
        row = targets.target_by_name(target)
        raise UserError(f"--precision must name one or more of {', '.join(row.precisions)}. Received: nothing")
    forms = [
        targets.export_spec(target, run, input=input, precision=p, embeddings=embeddings, any_batch=any_batch)
        for p in precision
    ]
    if run.experiment.model.quantized and (set(precision) != {"int8"} or forms[0].format != "tflite"):
        raise UserError(
            f"{run.path} was trained for int8 in TFLite (model.quantized): export it with --precision int8 and a "
            f"--target of TFLite, or export the float run it came from. Received: {target}, {', '.join(precision)}"
        )
    for sentence in targets.check_target(target, run, embeddings=embeddings):
        say(sentence)
    return forms


def _golden(
    run: Run, parity_inputs: ParityInputs, parity_report: ParityReport, reference: Sequence[np.ndarray]
) -> sidecars.Golden:
    answers = [rows[: len(EDGE_NAMES)] for rows in reference]
    answers[0] = expected(answers[0], parity_report.spec.output_kind, run.activation).astype(np.float32)
    if parity_report.parity.limits.real_only:
        answers = list(parity_report.edges)
    return sidecars.Golden(parity_inputs.waveforms[: len(EDGE_NAMES)], answers)


def _refusal(
    run: Run,
    parity_inputs: ParityInputs,
    specs: Sequence[ExportSpec],
    reports: dict[str, ParityReport],
    work: Path,
    places: Sequence[Environment],
    target: str,
) -> str:
    """Say what is over budget, and which setting works; the ones not yet measured are tried, most exact first."""
    said = "; ".join(f"{p}: {', '.join(proof.failures)}" for p, proof in reports.items() if proof.failures)
    known = {(form.input, form.precision): not reports[form.precision].failures for form in specs}
    row = targets.target_by_name(target)
    choices = [(specs[0].input, p) for p in row.precisions] + [(i, "fp32") for i in row.inputs]
    for input, which in dict.fromkeys(choices):
        if (input, which) not in known:
            try:
                any_batch = specs[0].batch is None
                form = targets.export_spec(target, run, input=input, precision=which, any_batch=any_batch)
                known[input, which] = not convert_and_verify(run, parity_inputs, [form], work, places)[0][
                    which
                ].failures
            except UserError:
                known[input, which] = False
        if known[input, which]:
            way = f"Use --input {input} --precision {which}, which is within its budget."
            return f"Nothing was exported, parity failed ({said}). {way}"
    return f"Nothing was exported, parity failed ({said}). No other setting was within its budget."


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


def _check_weights(run: Run) -> None:
    """Refuse weights that are not finite before anything is started."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        weights = load_file(run.path / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{run.path / WEIGHTS} is not a readable safetensors file ({error}).") from None
    bad = [key for key, value in weights.items() if not np.isfinite(value).all()]
    if bad:
        raise UserError(
            f"The weights of {run.path} must be finite; {bad[0]!r} holds NaN or infinity ({len(bad)} of "
            f"{len(weights)} do). Train again or take an earlier run."
        )


def _publish(ready: Path, output: Path, replaced: Path) -> None:
    """Move the files of `ready` into `output`, networks last; on any error `output` is as it was before."""
    made_folder = not output.exists()
    output.mkdir(exist_ok=True)
    replaced.mkdir()
    networks = set(SUFFIXES.values())
    files = sorted(ready.iterdir(), key=lambda path: (path.suffix in networks, path.name))
    new = [file.name for file in files if not (output / file.name).exists()]
    try:
        for file in files:
            if file.name not in new:
                os.replace(output / file.name, replaced / file.name)
            os.replace(file, output / file.name)
    except BaseException:
        for name in new:
            (output / name).unlink(missing_ok=True)
        for old in replaced.iterdir():
            os.replace(old, output / old.name)
        if made_folder:
            shutil.rmtree(output, ignore_errors=True)
        raise
