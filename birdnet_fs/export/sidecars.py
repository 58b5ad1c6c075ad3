"""The files beside an artifact, all named after it: with them and a runtime alone, another team can use it.

For `<name>.tflite`: `<name>_Labels.txt`, `<name>.json` (how to feed it, and its SHA-256), `<name>_golden.npz` (made
waveforms and what they must give), `<name>_card.md` (card.py), for a network that reads features `<name>_frontend.npz`
(the front-end's window and matrices), for one that gives embeddings `<name>_enrolment.npz` (embeddings.py). One
`parity.json` holds the proof of every artifact of the folder. Nothing is pickled; no recording travels.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from birdnet_fs import schema
from birdnet_fs.core.files import sha256, write_json, write_text
from birdnet_fs.export.convert_and_verify import ParityReport
from birdnet_fs.export.parity.embeddings import DeviceEnrollment
from birdnet_fs.export.spec import ExportSpec
from birdnet_fs.export.targets.labels import label_lines
from birdnet_fs.runs.run import Run, library_versions

FORMAT = 1


class Golden(NamedTuple):
    """Made waveforms, float32 [n, n_samples] on the grid of 16-bit samples, and what must be answered to them.

    That is what the run answers; in 8 bits, which saturate there, what the artifact itself did where it was proven.
    """

    waveforms: np.ndarray
    answers: Sequence[np.ndarray]  # as `form.answers` [n, n_classes] and, where they are given, embeddings [n, width]


def write_sidecars(
    artifact: Path,
    run: Run,
    *,
    spec: ExportSpec,
    parity_report: ParityReport,
    golden: Golden,
    enrollment: DeviceEnrollment | None = None,
) -> None:
    """Write everything that goes beside `artifact` but its card.

    Args:
        artifact: The finished file; the sidecars go into its folder.
        run: The run it came from.
        spec: What it is.
        parity_report: What the gate measured.
        golden: What another machine must reproduce.
        enrollment: Of an artifact that gives embeddings and can be enrolled into.
    """
    stem, parity = artifact.with_suffix(""), parity_report.parity
    write_text(_beside(stem, "_Labels.txt"), "".join(f"{line}\n" for line in label_lines(run.classes)))
    tolerance = np.float32(parity.limits.device)
    expected: dict[str, Any] = {spec.kind: golden.answers[0], "tolerance": tolerance}
    if parity.embeddings is not None:
        expected["embeddings"] = golden.answers[1]
        expected["embeddings_tolerance"] = np.float32(parity.embeddings.tolerance)
    integers = np.round(golden.waveforms * 32768).clip(-32768, 32767).astype(np.int16)
    np.savez_compressed(_beside(stem, "_golden.npz"), waveforms=integers, **expected)
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
        "output": spec.kind,
        "activation": spec.activation(run.activation),
        "one_label": not run.multi_label,
        "logit_scale": run.experiment.logit_scale,
        "n_constant": int(run.experiment.model.unknown),
        "precision": spec.precision,
        "frontend": run.frontend.to_artifact(),
        "versions": library_versions(),
    }
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
    """Write `parity.json`: the numbers by artifact, together with those of artifacts that `earlier` still holds."""
    try:
        kept = json.loads((earlier / "parity.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        kept = {}
    kept = {name: row for name, row in kept.items() if (earlier / name).is_file()} if isinstance(kept, dict) else {}
    write_json(folder / "parity.json", {**kept, **{name: proof.to_json() for name, proof in reports.items()}})


def frontend_constants(spec: schema.FrontEnd) -> dict[str, np.ndarray]:
    """What a stand-alone reader needs beside the settings, float64.

    Returns:
        window [n_fft] (already scaled), bands [n_mels, n_bins], and where something is resized resize_frames
        [n_frames out, n_frames in] and resize_bands [n_mels out, n_mels in].
    """
    from birdnet_fs.frontend.definition import define

    definition = define(spec, spec.n_samples)
    names = ("window", "bands", "resize_frames", "resize_bands")
    return {name: value for name in names if (value := getattr(definition, name)) is not None}


def _beside(stem: Path, ending: str) -> Path:
    return stem.with_name(stem.name + ending)
