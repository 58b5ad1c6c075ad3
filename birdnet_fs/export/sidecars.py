"""The files beside an artifact. With them and one runtime, the artifact can be used without this package.

For `<name>.tflite`: `<name>_Labels.txt`, `<name>.json` (input format and SHA-256), `<name>_golden.npz` (test waveforms
and expected outputs), `<name>_card.md` (model_card.py); for a network that reads features `<name>_frontend.npz` (window
and matrices of the front-end), for one with embeddings `<name>_enrolment.npz` (parity/embeddings.py), of a calibrated
run `<name>_Thresholds.csv` (calibrated_output.py). One `parity.json` holds the parity
report of every artifact in the folder. Nothing is pickled, and no recording is included.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from birdnet_fs import schema
from birdnet_fs.core.files import sha256, write_json, write_text
from birdnet_fs.export.calibrated_output import sidecar_calibration
from birdnet_fs.export.convert_and_verify import ParityReport
from birdnet_fs.export.encoder_part import encoder_part
from birdnet_fs.export.parity.embeddings import DeviceEnrollment
from birdnet_fs.export.spec import ExportSpec
from birdnet_fs.export.targets.labels import label_lines
from birdnet_fs.inference.calibration.threshold_table import write_thresholds
from birdnet_fs.runs.run import Run, library_versions

FORMAT = 1
# files of an artifact (companion_files.py included) that not every export writes: those of an earlier export of the
# same name would be read beside the new artifact
OPTIONAL = ("_frontend.npz", "_enrolment.npz", "_sample_counts.csv", "_evaluation.csv", "_Thresholds.csv", ".bin")


class Golden(NamedTuple):
    """Test waveforms and the outputs that another machine must reproduce.

    The outputs are those of the run. For int8, whose activations saturate on these waveforms, they are those of the
    artifact itself on the machine that exported it.

    Attributes:
        waveforms: float32 [n, n_samples], multiples of 1 / 32768.
        outputs: Predictions [n, n_classes] of the kind `ExportSpec.output_kind` and, where the artifact has them,
            embeddings [n, width].
    """

    waveforms: np.ndarray
    outputs: Sequence[np.ndarray]


def write_sidecars(
    artifact: Path,
    run: Run,
    *,
    spec: ExportSpec,
    parity_report: ParityReport,
    golden: Golden,
    enrollment: DeviceEnrollment | None = None,
) -> None:
    """Write all sidecars of `artifact` except its model card.

    Args:
        artifact: The exported file; the sidecars are written to its folder.
        run: The run it was made from.
        spec: Specification of the file.
        parity_report: Comparison of the exported file with the run.
        golden: Test waveforms and expected outputs.
        enrollment: Enrollment data of an artifact with embeddings; None where nothing can be enrolled.
    """
    stem, parity = artifact.with_suffix(""), parity_report.parity
    write_text(_beside(stem, "_Labels.txt"), "".join(f"{line}\n" for line in label_lines(run.classes)))
    tolerance = np.float32(parity.limits.device)
    expected: dict[str, Any] = {spec.kind: golden.outputs[0], "tolerance": tolerance}
    if parity.embeddings is not None:
        expected["embeddings"] = golden.outputs[1]
        expected["embeddings_tolerance"] = np.float32(parity.embeddings.tolerance)
    integers = np.round(golden.waveforms * 32768).clip(-32768, 32767).astype(np.int16)
    np.savez_compressed(_beside(stem, "_golden.npz"), waveforms=integers, **expected)
    part = encoder_part(run)
    sidecar: dict[str, Any] = {
        "format": FORMAT,
        "model": artifact.name,
        "sha256": sha256(artifact),
        "runtime": spec.format,
        "classes": list(run.classes),
        "sample_rate_hz": run.frontend.sample_rate_hz,
        "segment_s": run.frontend.segment_s,
        "input": spec.input,
        "input_shape": list(spec.input_shape(run.frontend.n_samples, run.input_shape)),
        "axes": spec.axes,
        "fft": spec.fft_of(None if part else run.frontend),
        "output": spec.kind,
        "activation": spec.activation(run.activation),
        "one_label": not run.multi_label,
        "logit_scale": run.experiment.logit_scale,
        "n_constant": int(run.experiment.model.unknown),
        "precision": spec.precision,
        "frontend": run.frontend.to_artifact(),
        "versions": library_versions(),
    }
    if part is not None:
        card = part.card
        sidecar["encoder"] = {
            "name": card.name,
            "title": card.title,
            "license": part.license,
            "source": card.source,
            "sha256": part.sha256,
            "normalization": card.normalization,
            "transform": run.experiment.model.encoder_head.transform,
            "own_classes": list(part.own.names),
        }
    if (calibration := sidecar_calibration(run, spec)) is not None:
        sidecar["calibration"] = calibration.to_json()
        write_thresholds(_beside(stem, "_Thresholds.csv"), calibration)
    if spec.format == "openvino":
        sidecar["weights_sha256"] = sha256(artifact.with_suffix(".bin"))
    if parity.embeddings is not None:
        sidecar["embeddings"] = {"output": 1, "width": parity.embeddings.width, "enrolment": None}
        if enrollment is not None:
            file, arrays = _beside(stem, "_enrolment.npz"), dict[str, Any](enrollment.arrays)
            np.savez_compressed(file, **arrays)
            sidecar["embeddings"]["enrolment"] = {**enrollment.description, "sha256": sha256(file)}
    if spec.input == "features":
        constants: dict[str, Any] = {**frontend_constants(run.frontend)}
        np.savez_compressed(_beside(stem, "_frontend.npz"), **constants)
        sidecar["frontend_sha256"] = sha256(_beside(stem, "_frontend.npz"))
    write_json(_beside(stem, ".json"), sidecar)


def write_parity(folder: Path, reports: Mapping[str, ParityReport], *, earlier: Path) -> None:
    """Write `parity.json`, the parity reports by artifact.

    Args:
        folder: Folder to write to.
        reports: Report of each artifact, by file name.
        earlier: Folder of an earlier export; reports in its `parity.json` of artifacts that still exist are kept.
    """
    try:
        kept = json.loads((earlier / "parity.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        kept = {}
    kept = {name: row for name, row in kept.items() if (earlier / name).is_file()} if isinstance(kept, dict) else {}
    write_json(folder / "parity.json", {**kept, **{name: report.to_json() for name, report in reports.items()}})


def frontend_constants(spec: schema.FrontEnd) -> dict[str, np.ndarray]:
    """The arrays a stand-alone reader needs in addition to the settings.

    Args:
        spec: The front-end.

    Returns:
        float64 arrays: window [n_fft] (already scaled), bands [n_mels, n_bins] and, where the features are resized,
        resize_frames [n_frames out, n_frames in] and resize_bands [n_mels out, n_mels in].
    """
    from birdnet_fs.frontend.definition import define

    definition = define(spec, spec.n_samples)
    names = ("window", "bands", "resize_frames", "resize_bands")
    return {name: value for name in names if (value := getattr(definition, name)) is not None}


def _beside(stem: Path, ending: str) -> Path:
    return stem.with_name(stem.name + ending)
