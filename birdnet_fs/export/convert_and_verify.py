"""Convert a run and compare every file with it, on every available runtime and by both conversion routes.

The second route (tflite/onnx2tf.py) converts the same network through ONNX and onnx2tf, where an environment has that.
The two converters share no code, so their agreement is independent evidence that both are right.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import write_text
from birdnet_fs.core.progress import say
from birdnet_fs.export.calibrated_output import maps_of_file
from birdnet_fs.export.conversion import network_title, write_files
from birdnet_fs.export.encoder_part import encoder_part
from birdnet_fs.export.parity import embeddings as embedding_parity
from birdnet_fs.export.parity.compare import RuntimeParity, compare_outputs
from birdnet_fs.export.parity.inputs import EDGE_NAMES, ParityInputs
from birdnet_fs.export.parity.reference import Reference, calibration_features, logit_scale_of_run, reference_outputs
from birdnet_fs.export.parity.sensitivity import with_sensitivity
from birdnet_fs.export.runtimes.environments import BIRDNET_HOST, Environment, Runtime, find_runtimes, run_on
from birdnet_fs.export.spec import OUTPUTS, ExportSpec
from birdnet_fs.export.targets.labels import label_lines
from birdnet_fs.export.tflite import onnx2tf
from birdnet_fs.runs.run import Run

OTHER_BATCH, N_OTHER = 3, 32  # an artifact with an open batch also runs the first 32 rows, three per call
LABELS = "labels.txt"
NOT_CONVERTED = "the encoder is a file of another project, which is joined as it is"
ONNX2TF_LIMIT_S = 600  # time limit for one file of the second converter


@dataclass(frozen=True)
class ParityReport:
    """Comparison of one artifact with its run.

    Attributes:
        spec: Specification of the artifact.
        by_runtime: Results by runtime, the required runtime first.
        second_route: Results of the same network converted through onnx2tf, by runtime.
        no_second_route: Reason for a runtime that `second_route` lacks, or for all of them; "" when complete.
        edges: Outputs of the required runtime for the synthetic waveforms, float32 [n_edges, width] each.
    """

    spec: ExportSpec
    by_runtime: Mapping[str, RuntimeParity]
    second_route: Mapping[str, RuntimeParity] = field(default_factory=dict)
    no_second_route: str = "no environment with onnx2tf was given"
    edges: Sequence[np.ndarray] = ()

    @property
    def parity(self) -> RuntimeParity:
        """Results on the required runtime."""
        return next(iter(self.by_runtime.values()))

    @property
    def failures(self) -> list[str]:
        """Every exceeded tolerance, one phrase each; empty when the artifact passes."""
        first_route = [f"{failure} on {n}" for n, parity in self.by_runtime.items() for failure in parity.failures]
        other_route = [
            f"{failure} on {name} by the second route, so one of two converters is wrong"
            for name, parity in self.second_route.items()
            for failure in parity.failures
        ]
        return first_route + (other_route if self.spec.precision == "fp32" else [])

    def to_json(self) -> dict[str, Any]:
        """The entry of this artifact in `parity.json`: specification and results by runtime."""
        values = {"answers" if name == "output_kind" else name: value for name, value in vars(self.spec).items()}
        values.pop("fft")  # what was asked for; the sidecar holds what was written
        spec = {**values, "outputs": list(self.spec.outputs)}
        found: dict[str, Any] = {"form": spec, "runtimes": {n: p.to_json() for n, p in self.by_runtime.items()}}
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
    """Convert a run to `<precision><suffix>` in `work` and compare every file with the run.

    Args:
        run: The run.
        parity_inputs: The segments to compare on.
        specs: One artifact each; they differ in precision only.
        work: Working folder, empty or left by an earlier call.
        environments: Environments to search for runtimes.
        host: Run the files in the `birdnet` package as well, where an environment has it.
        second_route_for: Precisions to convert through onnx2tf as well. Only fp32 must agree there: onnx2tf quantizes
            in its own way.

    Returns:
        The reports by precision, and the outputs of the run, float32 [n, width], in the order of `ExportSpec.outputs`.

    Raises:
        UserError: A file cannot be converted, or a runtime cannot run it.
    """
    spec, part = specs[0], encoder_part(run)
    wanted = find_runtimes(spec.format, environments, host=host)
    inputs = features = work / "features.npy"
    has_second = spec.format == "tflite" and part is None and _second_python(environments) is not None
    layers = [OUTPUTS[name] for name in spec.outputs]
    kept = features if spec.input == "features" or has_second else None
    reference = reference_outputs(run, parity_inputs, layers, kept)
    if spec.input == "waveform":
        inputs = work / "waveforms.npy"
        np.save(inputs, parity_inputs.waveforms)
    elif spec.axes == "mel_first":
        inputs = work / "turned.npy"
        np.save(inputs, np.load(features, mmap_mode="r").swapaxes(1, 2))
    if "int8" in [f.precision for f in specs]:
        calibration_features(run, parity_inputs, work / "calibration.npy")
    write_text(work / LABELS, "".join(f"{line}\n" for line in label_lines(run.classes)))
    say(f"Converting {network_title(run, part)} to {spec.format} ({spec.input} in, {_list(specs)}) ...")
    write_files(run, specs, work)
    reports = {}
    for each in specs:
        file = work / f"{each.precision}{each.suffix}"
        try:
            outputs_by_batch = {runtime.name: _outputs_by_batch(runtime, file, inputs, each) for runtime in wanted}
        except UserError as error:
            if each.fft_of(None if part else run.frontend) != "builtin":
                raise
            raise UserError(f"{error}; if it has no operator RFFT2D, export with --fft matrix.") from None
        found = outputs_by_batch.items()
        by_runtime = {n: _compare(run, parity_inputs, each, reference, outputs, n) for n, outputs in found}
        edges = [rows[: len(EDGE_NAMES)] for rows in outputs_by_batch[wanted[0].name][1]]
        reports[each.precision] = ParityReport(each, by_runtime, edges=edges)
        for name, numbers in by_runtime.items():
            say(f"{each.precision} on {name}: {numbers}")
    if part is not None:
        reports = {p: replace(report, no_second_route=NOT_CONVERTED) for p, report in reports.items()}
    elif spec.format == "tflite":
        reports = _with_second_route(run, parity_inputs, reports, second_route_for, work, environments, reference)
    return reports, reference.outputs


def _outputs_by_batch(runtime: Runtime, file: Path, inputs: Path, spec: ExportSpec) -> dict[int, list[np.ndarray]]:
    """Outputs by batch size: of all inputs one by one and, with an open batch, of the first ones three per call."""
    outputs, labels = file.parent / "outputs.npz", file.parent / LABELS
    found = {1: run_on(runtime, file, inputs, outputs, labels=labels)}
    one_only = (
        runtime.engine == BIRDNET_HOST and spec.output_kind == "probabilities"
    )  # the host runs models of 32 kHz one segment at a time
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
    outputs_by_batch: dict[int, list[np.ndarray]],
    runtime: str,
) -> RuntimeParity:
    logits, maps = reference.outputs[0], maps_of_file(run, spec)
    uncertainty = reference.numerical_uncertainty
    if spec.precision == "fp32" and spec.input == "waveform" and not run.experiment.model.encoder:
        uncertainty = with_sensitivity(reference, outputs_by_batch[1][0], spec.output_kind, run.activation, maps)
    numbers = compare_outputs(
        logits,
        outputs_by_batch[1][0],
        parity_inputs,
        spec.precision,
        run.activation,
        runtime=runtime,
        output_kind=spec.output_kind,
        logit_scale=logit_scale_of_run(run, logits),
        n_constant=int(run.experiment.model.unknown),
        numerical_uncertainty=uncertainty,
        by_batch={n: rows[0] for n, rows in outputs_by_batch.items() if n > 1},
        maps=maps,
    )
    if len(outputs_by_batch[1]) > 1:
        embeddings = embedding_parity.compare_embeddings(
            reference.outputs[1], outputs_by_batch[1][1], spec.precision, len(EDGE_NAMES)
        )
        numbers = numbers.with_embeddings(embeddings)
    return numbers


def _second_python(environments: Sequence[Environment]) -> Path | None:
    return next((environment.python for environment in environments if "onnx2tf" in environment.packages), None)


def _with_second_route(
    run: Run,
    parity_inputs: ParityInputs,
    reports: dict[str, ParityReport],
    precisions: Sequence[str],
    work: Path,
    environments: Sequence[Environment],
    reference: Reference,
) -> dict[str, ParityReport]:
    """The reports with results of files converted by onnx2tf added, where an environment has it."""
    python = _second_python(environments)
    specs = {p: ExportSpec("tflite", "features", p, 1) for p in precisions if p in reports}
    if python is None or not specs:
        return reports
    folder = work / "second_route"
    folder.mkdir(exist_ok=True)
    features = work / "features.npy"
    calibration = folder / "calibration.npy"
    if "int8" in specs:
        rows = np.load(work / "calibration.npy")
        np.save(calibration, np.repeat(rows[..., None], run.frontend.n_channels, axis=-1))
    found, too_long = dict(reports), ""
    for precision, spec in specs.items():
        file = folder / f"{precision}.tflite"
        if too_long:  # other precisions take as long
            found[precision] = replace(reports[precision], no_second_route=too_long)
            continue
        try:
            if not (folder / "fp32.onnx").is_file():
                write_files(run, [ExportSpec("onnx", "features", "fp32", 1)], folder)
            onnx2tf.convert_onnx(
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
        for runtime in find_runtimes("tflite", environments):
            try:
                outputs_by_batch = {1: run_on(runtime, file, features, folder / "outputs.npz")}
            except UserError as error:  # no evidence against the file of the first route
                reasons.append(str(error))
                continue
            by_runtime[runtime.name] = _compare(run, parity_inputs, spec, reference, outputs_by_batch, runtime.name)
            say(f"{precision} by onnx2tf on {runtime.name}: {by_runtime[runtime.name]}")
        found[precision] = replace(reports[precision], second_route=by_runtime, no_second_route=" ".join(reasons))
    return found


def _list(specs: Sequence[ExportSpec]) -> str:
    return ", ".join(spec.precision for spec in specs)
