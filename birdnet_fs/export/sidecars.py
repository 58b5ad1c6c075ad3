"""The files beside an artefact, all named after it: with them and a runtime alone, another team can use it.

For `<name>.tflite`: `<name>_Labels.txt`, `<name>.json` (how to feed it, and its SHA-256), `<name>_golden.npz` (made
waveforms and what they must give), `<name>_card.md`, for a network that reads features `<name>_frontend.npz` (the
front-end's window and matrices), for one that gives embeddings `<name>_enrolment.npz` (embeddings.py). One
`parity.json` holds the proof of every artefact of the folder. Nothing is pickled; no recording travels.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from birdnet_fs import schema
from birdnet_fs.export.embeddings import Enrolment
from birdnet_fs.export.parity import Parity
from birdnet_fs.plumbing.errors import UserError
from birdnet_fs.plumbing.files import sha256, write_json, write_text
from birdnet_fs.plumbing.settings import to_dict
from birdnet_fs.training.run_folder import Run, versions

FORMAT = 1


def label_lines(classes: Sequence[str]) -> list[str]:
    """One `Scientific name_Common name` per class, in model order; a class without `_` is written twice.

    Raises:
        UserError: A name is empty, holds a line break, or two classes give the same line.

    >>> label_lines(["Turdus merula_Common Blackbird", "noise"])
    ['Turdus merula_Common Blackbird', 'noise_noise']
    """
    lines = [name if "_" in name else f"{name}_{name}" for name in classes]
    for name, line in zip(classes, lines, strict=True):
        if not name.strip() or name.splitlines() != [name]:
            raise UserError(f"A class must be one line of text in the labels file. Received: {name!r}")
        if lines.count(line) > 1:
            raise UserError(f"Classes must be different in the labels file; {line!r} comes twice. Rename one.")
    return lines


class Golden(NamedTuple):
    """Made waveforms, float32 [n, n_samples] on the grid of 16-bit samples, and what the reference answers to them."""

    waveforms: np.ndarray
    answers: Sequence[np.ndarray]  # logits [n, n_classes] and, of an artefact that gives them, embeddings [n, width]


def write_sidecars(
    artefact: Path,
    run: Run,
    *,
    input: str,
    input_shape: Sequence[int],
    parity: Parity,
    golden: Golden,
    enrolment: Enrolment | None = None,
) -> None:
    """Write everything that goes beside `artefact`.

    Args:
        artefact: The finished `.tflite`; the sidecars go into its folder.
        run: The run it came from.
        input: "waveform" or "features".
        input_shape: The shape of the artefact's input, batch of 1 in front.
        parity: What the gate measured.
        golden: What another machine must reproduce.
        enrolment: Of an artefact that gives embeddings and can be enrolled into.
    """
    stem = artefact.with_suffix("")
    digest = sha256(artefact)
    write_text(_beside(stem, "_Labels.txt"), "".join(f"{line}\n" for line in label_lines(run.classes)))
    expected: dict[str, Any] = {"logits": golden.answers[0], "tolerance": np.float32(parity.budget.device)}
    if parity.embeddings is not None:
        tolerance = np.float32(parity.embeddings.tolerance)
        expected |= {"embeddings": golden.answers[1], "embeddings_tolerance": tolerance}
    integers = np.round(golden.waveforms * 32768).clip(-32768, 32767).astype(np.int16)
    np.savez_compressed(_beside(stem, "_golden.npz"), waveforms=integers, **expected)
    sidecar: dict[str, Any] = {
        "format": FORMAT,
        "model": artefact.name,
        "sha256": digest,
        "classes": list(run.classes),
        "sample_rate_hz": run.frontend.sample_rate_hz,
        "segment_s": run.frontend.segment_s,
        "input": input,
        "input_shape": [int(n) for n in input_shape],
        "output": "logits",
        "activation": run.activation,
        "logit_scale": run.experiment.logit_scale,
        "n_constant": int(run.experiment.model.unknown),
        "precision": parity.precision,
        "frontend": to_dict(run.frontend),
        "versions": versions(),
    }
    if parity.embeddings is not None:
        sidecar["embeddings"] = {"output": 1, "width": parity.embeddings.width, "enrolment": None}
        if enrolment is not None:
            file, arrays = _beside(stem, "_enrolment.npz"), dict[str, Any](enrolment.arrays)
            np.savez_compressed(file, **arrays)
            sidecar["embeddings"]["enrolment"] = {**enrolment.description, "sha256": sha256(file)}
    if input == "features":
        constants: dict[str, Any] = {**frontend_constants(run.frontend)}
        np.savez_compressed(_beside(stem, "_frontend.npz"), **constants)
        sidecar["frontend_sha256"] = sha256(_beside(stem, "_frontend.npz"))
    write_text(_beside(stem, "_card.md"), card(artefact.name, digest, run, input, parity))
    write_json(_beside(stem, ".json"), sidecar)


def write_parity(folder: Path, measured: Mapping[str, Parity], *, earlier: Path) -> None:
    """Write `parity.json`: the numbers by artefact, together with those of artefacts that `earlier` still holds."""
    try:
        kept = json.loads((earlier / "parity.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        kept = {}
    kept = {name: row for name, row in kept.items() if (earlier / name).is_file()} if isinstance(kept, dict) else {}
    write_json(folder / "parity.json", {**kept, **{name: parity.to_json() for name, parity in measured.items()}})


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


def card(name: str, digest: str, run: Run, input: str, parity: Parity) -> str:
    """The model card as Markdown: what it is, what it hears, how good it was, how exact this file is."""
    spec, budget, second = run.frontend, parity.budget, parity.embeddings
    reads = (
        f"waveform float32 [1, {spec.n_samples}], mono, {spec.sample_rate_hz} Hz, ±1 ({spec.segment_s:g} s)"
        if input == "waveform"
        else f"features float32 {[1, *run.input_shape]}, made from {spec.segment_s:g} s at {spec.sample_rate_hz} Hz"
    )
    lines = [
        f"# {name}",
        "",
        f"A `{run.experiment.model.name}` network for {len(run.classes)} classes, trained as experiment "
        f"`{run.experiment.name}` (seed {run.experiment.seed}).",
        "",
        f"- Reads: {reads}.",
        f"- Gives: logits [1, {len(run.classes)}]; the probabilities are their {run.activation}.",
        *([f"- Gives as a second output: embeddings [1, {second.width}]."] if second else []),
        f"- SHA-256: `{digest}`",
        "",
        "## How good the run was",
        "",
        *(_metrics(run.path / "metrics.json") or ["No metrics.json lies in the run folder."]),
        "",
        "## How exact this file is",
        "",
        f"{parity.n_segments} segments ({parity.source}) and {parity.n_edges} made ones against the run: {parity}.",
        f"Allowed for {parity.precision}: {budget.max_abs:g} in a logit ({budget.reason}).",
        *(
            [f"And {second.budget.max_error:g} of their spread in an embedding ({second.budget.reason})."]
            if second
            else []
        ),
        "",
        "## Classes",
        "",
        *(f"{i}. {_escape(name)}" for i, name in enumerate(run.classes)),
        "",
        "## Versions",
        "",
        ", ".join(f"{k} {v}" for k, v in versions().items()),
    ]
    return "\n".join(lines) + "\n"


def _metrics(file: Path) -> list[str]:
    """A line per single value of metrics.json."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    found = values.items() if isinstance(values, dict) else ()
    return [
        f"- {key}: {value:.4g}" if isinstance(value, float) else f"- {key}: {value}"
        for key, value in found
        if isinstance(value, (int, float, str)) and not isinstance(value, bool)
    ]


def _escape(text: str) -> str:
    return text.replace("_", "\\_").replace("*", "\\*").replace("<", "&lt;")


def _beside(stem: Path, ending: str) -> Path:
    return stem.with_name(stem.name + ending)
