"""Convert a run and hold what comes out against it, on every runtime there is, by both routes.

The second route (second_route.py) converts the same network through ONNX and onnx2tf, where an environment has that:
two converters that know nothing of each other and agree are right together or wrong in the same way.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import write_json, write_text
from birdnet_fs.core.progress import say
from birdnet_fs.export.parity import compare as parity
from birdnet_fs.export.parity import embeddings as second
from birdnet_fs.export.parity.compare import Reference, RuntimeParity
from birdnet_fs.export.parity.inputs import EDGE_NAMES, ParityInputs
from birdnet_fs.export.runtimes import subprocesses
from birdnet_fs.export.runtimes.environments import BIRDNET_HOST, Environment, Runtime, run_on, runtimes
from birdnet_fs.export.spec import OUTPUTS, ExportSpec
from birdnet_fs.export.targets.labels import label_lines
from birdnet_fs.export.tflite import onnx2tf
from birdnet_fs.runs.run import Run

CONVERTERS = {"tflite": ("birdnet_fs.export.tflite.convert", "tensorflow")}  # the other formats: torch_writer
OTHER_BATCH, N_OTHER = 3, 32  # rows that an artifact of any batch is asked about again, three at once
LABELS = "labels.txt"
ONNX2TF_LIMIT_S = 600  # for one file of the second converter


@dataclass(frozen=True)
class ParityReport:
    """What was measured on one artifact.

    Attributes:
        spec: What it is.
        by_runtime: The numbers of every runtime, the one that must be there first.
        second_route: Those of the same network converted through onnx2tf, by runtime.
        no_second_route: Why there is none, or none on some runtime.
        edges: What the first runtime answers to the probe's made waveforms, [n, width] of each output.
    """

    spec: ExportSpec
    by_runtime: Mapping[str, RuntimeParity]
    second_route: Mapping[str, RuntimeParity] = field(default_factory=dict)
    no_second_route: str = "no environment with onnx2tf was given"
    edges: Sequence[np.ndarray] = ()

    @property
    def parity(self) -> RuntimeParity:
        """The numbers of the runtime that must be there."""
        return next(iter(self.by_runtime.values()))

    @property
    def failures(self) -> list[str]:
        """Empty when the artifact may leave."""
        ours = [f"{fault} on {name}" for name, parity in self.by_runtime.items() for fault in parity.failures]
        theirs = [
            f"{fault} on {name} by the second route, so one of two converters is wrong"
            for name, parity in self.second_route.items()
            for fault in parity.failures
        ]
        return ours + (theirs if self.spec.precision == "fp32" else [])

    def to_json(self) -> dict[str, Any]:
        """The form and the numbers by runtime."""
        values = {"answers" if name == "output_kind" else name: value for name, value in vars(self.spec).items()}
        form = {**values, "outputs": list(self.spec.outputs)}
        found: dict[str, Any] = {"form": form, "runtimes": {n: p.to_json() for n, p in self.by_runtime.items()}}
        if self.second_route:
            found["second_route"] = {n: p.to_json() for n, p in self.second_route.items()}
        return {**found, "no_second_route": self.no_second_route} if self.no_second_route else found


def convert_and_verify(
    run: Run,
    parity_inputs: ParityInputs,
    specs: Sequence[ExportSpec],
    work: Path,
    environments: Sequence[Environment],
    *,
    host: bool = False,
    second_route_for: Sequence[str] = ("fp32",),
) -> tuple[dict[str, ParityReport], list[np.ndarray]]:
    """Convert into `work` (`<precision><suffix>`) and compare.

    Args:
        run: The run.
        parity_inputs: What both sides are asked.
        specs: One artifact each; they differ in their precision only.
        work: An empty folder, or one of an earlier call.
        environments: Where runtimes are looked for.
        host: Try the files in the `birdnet` package as well, where an environment has it.
        second_route_for: Precisions that are converted through onnx2tf as well. What that makes of 8 bits is its own
            affair: only float32 must agree.

    Returns:
        The proofs by precision, and the reference's outputs [n, width] in the order of the forms' outputs.

    Raises:
        UserError: A form cannot be converted, or a runtime cannot run it.
    """
    form = specs[0]
    wanted = runtimes(form.format, environments, host=host)
    inputs = features = work / "features.npy"
    has_second = form.format == "tflite" and _second_python(environments) is not None
    layers = [OUTPUTS[name] for name in form.outputs]
    kept = features if form.input == "features" or has_second else None
    reference = parity.reference_outputs(run, parity_inputs, layers, kept)
    if form.input == "waveform":
        inputs = work / "waveforms.npy"
        np.save(inputs, parity_inputs.waveforms)
    elif form.axes == "mel_first":
        inputs = work / "turned.npy"
        np.save(inputs, np.load(features, mmap_mode="r").swapaxes(1, 2))
    if "int8" in [f.precision for f in specs]:
        parity.calibration_features(run, parity_inputs, work / "calibration.npy")
    write_text(work / LABELS, "".join(f"{line}\n" for line in label_lines(run.classes)))
    say(f"Converting {run.experiment.model.name} to {form.format} ({form.input} in, {_list(specs)}) ...")
    write(run, specs, work)
    proofs = {}
    for each in specs:
        file = work / f"{each.precision}{each.suffix}"
        answers = {runtime.name: _answers(runtime, file, inputs, each) for runtime in wanted}
        by_runtime = {n: _compare(run, parity_inputs, each, reference, found, n) for n, found in answers.items()}
        edges = [rows[: len(EDGE_NAMES)] for rows in answers[wanted[0].name][1]]
        proofs[each.precision] = ParityReport(each, by_runtime, edges=edges)
        for name, numbers in by_runtime.items():
            say(f"{each.precision} on {name}: {numbers}")
    if form.format == "tflite":
        proofs = _with_second_route(run, parity_inputs, proofs, second_route_for, work, environments, reference)
    return proofs, reference.outputs


def job_of(run: Run, specs: Sequence[ExportSpec], folder: Path) -> dict[str, Any]:
    """What a writer is told."""
    form = specs[0]
    return {
        "run": str(run.path.resolve()),
        "frontend": run.frontend.to_artifact(),
        "formats": [form.format],
        "input": form.input,
        "axes": form.axes,
        "precisions": [each.precision for each in specs],
        "batch": form.batch,
        "answers": form.output_kind,
        "outputs": list(form.outputs),
        "calibration": str((folder / "calibration.npy").resolve()),
        "folder": str(folder.resolve()),
    }


def write(run: Run, specs: Sequence[ExportSpec], folder: Path) -> None:
    """Have the files written.

    Raises:
        UserError: One cannot be; its writer's reason is given.
    """
    form = specs[0]
    for old in folder.glob("*.error.txt"):
        old.unlink()
    module, backend = CONVERTERS.get(form.format, ("birdnet_fs.export.onnx.convert", "torch"))
    write_json(folder / "job.json", job_of(run, specs, folder))
    done = subprocesses.run_module(module, [folder / "job.json"], backend=backend)
    reasons = [file.read_text(encoding="utf-8").strip() for file in sorted(folder.glob("*.error.txt"))]
    if reasons:
        raise UserError(" ".join(reasons))
    missing = [f.precision for f in specs if not (folder / f"{f.precision}{f.suffix}").is_file()]
    if done.returncode or missing:
        raise UserError(
            f"The network {run.experiment.model.name!r} cannot be written as {form.format} with its own operators "
            f"alone (exit status {done.returncode}): {subprocesses.last_output(done)}"
        )


def _answers(runtime: Runtime, file: Path, inputs: Path, spec: ExportSpec) -> dict[int, list[np.ndarray]]:
    """What a file answers to all inputs one by one and, where it takes any batch, to the first ones three at once."""
    outputs, labels = file.parent / "outputs.npz", file.parent / LABELS
    found = {1: run_on(runtime, file, inputs, outputs, labels=labels)}
    one_only = runtime.engine == BIRDNET_HOST and spec.output_kind == "probabilities"  # its rule for models of 32 kHz
    if spec.batch is None and not one_only:
        first = file.parent / "first.npy"
        np.save(first, np.load(inputs, mmap_mode="r")[:N_OTHER])
        found[OTHER_BATCH] = run_on(runtime, file, first, outputs, batch=OTHER_BATCH, labels=labels)
    return found


def _compare(
    run: Run,
    parity_inputs: ParityInputs,
    spec: ExportSpec,
    reference: Reference,
    answers: dict[int, list[np.ndarray]],
    runtime: str,
) -> RuntimeParity:
    logits = reference.outputs[0]
    numbers = parity.compare(
        logits,
        answers[1][0],
        parity_inputs,
        spec.precision,
        run.activation,
        runtime=runtime,
        output_kind=spec.output_kind,
        size=parity.logit_scale_of_run(run, logits),
        constant=int(run.experiment.model.unknown),
        numerical_uncertainty=reference.numerical_uncertainty,
        by_batch={n: rows[0] for n, rows in answers.items() if n > 1},
    )
    if len(answers[1]) > 1:
        of_second = second.compare_embeddings(reference.outputs[1], answers[1][1], spec.precision, len(EDGE_NAMES))
        numbers = numbers.with_embeddings(of_second)
    return numbers


def _second_python(environments: Sequence[Environment]) -> Path | None:
    return next((place.python for place in environments if "onnx2tf" in place.has), None)


def _with_second_route(
    run: Run,
    parity_inputs: ParityInputs,
    reports: dict[str, ParityReport],
    precisions: Sequence[str],
    work: Path,
    environments: Sequence[Environment],
    reference: Reference,
) -> dict[str, ParityReport]:
    """The proofs with those of onnx2tf's files beside the ones of ours, where there is an environment for it."""
    python = _second_python(environments)
    forms = {p: ExportSpec("tflite", "features", p, 1) for p in precisions if p in reports}
    if python is None or not forms:
        return reports
    folder = work / "second_route"
    folder.mkdir(exist_ok=True)
    features = work / "features.npy"
    calibration = folder / "calibration.npy"
    if "int8" in forms:
        rows = np.load(work / "calibration.npy")
        np.save(calibration, np.repeat(rows[..., None], run.frontend.n_channels, axis=-1))
    found, too_long = dict(reports), ""
    for precision, form in forms.items():
        file = folder / f"{precision}.tflite"
        if too_long:  # it would be so in another precision
            found[precision] = replace(reports[precision], no_second_route=too_long)
            continue
        try:
            if not (folder / "fp32.onnx").is_file():
                write(run, [ExportSpec("onnx", "features", "fp32", 1)], folder)
            onnx2tf.convert(
                folder / "fp32.onnx",
                file,
                python=python,
                timeout_s=ONNX2TF_LIMIT_S,
                precision=precision,
                calibration=calibration if precision == "int8" else None,
            )
        except UserError as error:
            say(f"There is no second route for this network in {precision}: {error}")
            found[precision] = replace(reports[precision], no_second_route=str(error))
            too_long = str(error) if "did not end" in str(error) else ""
            continue
        by_runtime, reasons = {}, []
        for runtime in runtimes("tflite", environments):
            try:
                answers = {1: run_on(runtime, file, features, folder / "outputs.npz")}
            except UserError as error:  # a file that this runtime does not run says nothing against ours
                reasons.append(str(error))
                continue
            by_runtime[runtime.name] = _compare(run, parity_inputs, form, reference, answers, runtime.name)
            say(f"{precision} by onnx2tf on {runtime.name}: {by_runtime[runtime.name]}")
        found[precision] = replace(reports[precision], second_route=by_runtime, no_second_route=" ".join(reasons))
    return found


def _list(specs: Sequence[ExportSpec]) -> str:
    return ", ".join(form.precision for form in specs)
