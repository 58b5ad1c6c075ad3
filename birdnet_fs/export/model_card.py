"""The model card beside an artifact, as Markdown: model, training data, scores, parity, speed, classes, versions.

Source: Mitchell et al. 2019, "Model Cards for Model Reporting", https://arxiv.org/abs/1810.03993.
"""

import csv
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from birdnet_fs import models
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import sha256, write_text
from birdnet_fs.core.text import count, markdown
from birdnet_fs.data.manifest import read_manifest
from birdnet_fs.data.partition import INHERITED, PARTITION
from birdnet_fs.export.card_thresholds import threshold_lines
from birdnet_fs.export.convert_and_verify import ParityReport
from birdnet_fs.export.encoder_part import EncoderPart, encoder_part
from birdnet_fs.export.parity.tolerances import USUAL_LOGITS, USUAL_UNCERTAINTY
from birdnet_fs.export.spec import FFTS, ExportSpec
from birdnet_fs.reports.stored_scores import ABOUT_SCORES, METRICS, has_scores
from birdnet_fs.runs.run import Run, library_versions

if TYPE_CHECKING:
    from birdnet_fs.export.runtimes.benchmark import Speed

LICENSE_COLUMNS = ("licence", "license")  # names used in tables of recordings
PRECISIONS = {
    "fp32": "weights and arithmetic in float32",
    "fp16": "weights stored in float16, arithmetic in float32",
    "dynamic": "weights in 8 bits, activations in float32",
    "int8": "weights and activations in 8 bits, the front-end, input and output in float32",
}


def write_card(
    artifact: Path,
    run: Run,
    *,
    export_spec: ExportSpec,
    target: str,
    parity_report: ParityReport,
    speed: "Speed | None",
    license: str = "",
) -> None:
    """Write `<name>_card.md`.

    Args:
        artifact: The exported file.
        run: The run it was made from.
        export_spec: Specification of the file.
        target: The program it was written for, a key of `targets.table.TARGETS`.
        parity_report: Comparison of the exported file with the run.
        speed: Time and memory on this machine; None where not measured.
        license: License of the network. Default: not specified.
    """
    part = encoder_part(run)
    calibrated = threshold_lines(run, export_spec, f"{artifact.stem}_Thresholds.csv")
    sections = {
        f"# {artifact.name}": _what(artifact, run, export_spec, target, parity_report, part),
        "## License": _license(license, part),
        "## Training data": _data(run),
        "## Scores of the run": _metrics(run.path) or ["The run folder holds no metrics.json of its weights."],
        **({"## Calibration and thresholds": calibrated} if calibrated else {}),
        "## Parity with the run": _parity(parity_report),
        "## Speed and memory": [
            speed.summary() if speed else "Not measured (`birdnet-fs bench` supports .tflite and .onnx)."
        ],
        "## Front-end" if part is None else "## Encoder": _front_end(run, export_spec)
        if part is None
        else _encoder(run, part),
        "## Classes": [f"{i}. {markdown(name)}" for i, name in enumerate(run.classes)],
        "## Versions": [", ".join(f"{k} {v}" for k, v in library_versions().items())],
    }
    text = "\n\n".join(f"{title}\n\n" + "\n".join(lines) for title, lines in sections.items())
    write_text(artifact.with_name(f"{artifact.stem}_card.md"), text + "\n")


def _what(
    artifact: Path,
    run: Run,
    export_spec: ExportSpec,
    target: str,
    parity_report: ParityReport,
    part: EncoderPart | None,
) -> list[str]:
    spec, second, model = run.frontend, parity_report.parity.embeddings, run.experiment.model
    shape = ["any" if n is None else n for n in export_spec.input_shape(spec.n_samples, run.input_shape)]
    shape_text = f"[{', '.join(map(str, shape))}]"
    reads = f"waveform float32 {shape_text}, mono, {spec.sample_rate_hz} Hz, ±1 ({spec.segment_s:g} s)"
    if export_spec.input == "features":
        reads = f"features float32 {shape_text}, made from {spec.segment_s:g} s at {spec.sample_rate_hz} Hz"
    kind = export_spec.output_kind.replace("_", "-")
    if export_spec.calibrated:
        kind = "calibrated probabilities" if export_spec.kind == "probabilities" else "calibrated log-odds"
    gives = f"{kind} [{shape[0]}, {len(run.classes)}]"
    activation = export_spec.activation(run.activation)
    gives += f"; their {activation} gives the probabilities" if export_spec.kind == "logits" else f" ({activation})"
    if activation != run.activation and not export_spec.calibrated:
        gives += f" of the {run.activation} that the run was trained with"
    if part is None:
        network = f"`{models.resolve(model.name)}` network ({models.family(model.name).SOURCE.splitlines()[0]})"
    else:
        network = f"head `{model.head}` on the encoder {markdown(part.card.title)}"
    return [
        f"A {network} for {len(run.classes)} "
        f"classes, trained as experiment `{run.experiment.name}` (seed {run.experiment.seed}), written for `{target}`.",
        "",
        f"- Input: {reads}.",
        f"- Output: {gives}.",
        *([f"- Second output: embeddings [{shape[0]}, {second.width}]."] if second else []),
        f"- Precision: {export_spec.precision}, {PRECISIONS[export_spec.precision]}.",
        f"- SHA-256: `{sha256(artifact)}`",
    ]


def _data(run: Run) -> list[str]:
    """Number of clips by part from the run folder, and licenses from the table of recordings where it still exists."""
    data, lines = run.experiment.data, []
    partition = run.path / PARTITION
    if partition.is_file():
        with partition.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        parts = Counter(row.get("part") or "" for row in rows)
        n_inherited = parts.pop(INHERITED, 0)
        lines.append(f"- Clips: {', '.join(f'{n:,} {part}' for part, n in parts.items())} (`{PARTITION}` of the run).")
        if n_inherited:
            lines.append(f"- The runs it was built from were trained on {n_inherited:,} other recordings.")
        trained = Counter(row.get("labels") or "nothing" for row in rows if row.get("part") == "train")
        if trained:
            fewest, most = min(trained.items(), key=lambda item: item[1]), trained.most_common(1)[0]
            each = f"{most[1]:,} each" if fewest[1] == most[1] else ""
            from_to = f"from {markdown(fewest[0])} ({fewest[1]:,}) to {markdown(most[0])} ({most[1]:,})"
            lines.append(f"- Training clips by label: {each or from_to}.")
    else:
        lines.append("- Clips: not listed in the run folder.")
    if data.root:
        name = Path(data.root).resolve().name  # the folder's name, not where it lies on somebody's machine
        which = [f", {what} `{value}`" for what, value in (("table", data.table), ("where", data.where)) if value]
        lines.append(f"- From `{name}`{''.join(which)}.")
    return lines + _licenses(run)


def _licenses(run: Run) -> list[str]:
    root = Path(run.experiment.data.root)
    if not run.experiment.data.root or not root.is_dir():
        return ["- Licenses of the recordings: the recordings are no longer available."]
    try:
        clips = read_manifest(run.experiment.data).clips
    except UserError:
        return ["- Licenses of the recordings: the recordings can no longer be listed."]
    found = Counter(
        next((clip.row[column] for column in LICENSE_COLUMNS if column in clip.row), "not specified") for clip in clips
    )
    if set(found) <= {"not specified"}:
        return ["- Licenses of the recordings: their table has no column `license`."]
    counts = ", ".join(f"{markdown(name)} ({count(n, 'clip')})" for name, n in found.most_common())
    return [f"- Licenses of the recordings: {counts}."]


def _parity(parity_report: ParityReport) -> list[str]:
    first, second = parity_report.parity, parity_report.parity.embeddings
    limits = first.limits
    thing = "logit" if parity_report.spec.kind == "logits" else "probability"
    lines = [
        f"Differences from the run over {first.n_segments:,} segments ({first.source}) and {first.n_edges} synthetic "
        "ones (silence, clipping, zero padding, a sweep):",
        "",
        *(f"- {name}: {numbers}" for name, numbers in parity_report.by_runtime.items()),
        *(f"- {name}, converted through onnx2tf: {numbers}" for name, numbers in parity_report.second_route.items()),
        "",
        f"Tolerance for {first.precision}: {limits.max_abs:.3g} in a {thing} ({limits.reason}). It grows in proportion "
        f"for a segment with logits above {USUAL_LOGITS:g}, for a synthetic one whose logits change by more than "
        f"{USUAL_UNCERTAINTY:g} when the run itself sums in another order, and in fp32 for a real one whose logits do "
        "so when its waveform changes by one rounding of float32.",
    ]
    if second:
        lines.append(f"Tolerance for embeddings: {second.limits.max_error:g} of their spread ({second.limits.reason}).")
    return lines


def _front_end(run: Run, export_spec: ExportSpec) -> list[str]:
    spec, fft = run.frontend, export_spec.fft_of(run.frontend)
    parts = [
        f"{spec.segment_s:g} s at {spec.sample_rate_hz:,} Hz, {spec.fmin_hz:g} to {spec.fmax_hz:g} Hz",
        f"n_fft {spec.n_fft}, hop {spec.hop_length}, {spec.n_mels} bands ({spec.bands}), {spec.compression}",
        f"{spec.normalize}; {spec.shape[0]} x {spec.shape[1]}. All settings are in the JSON file beside it.",
    ]
    lines = [f"Preset `{spec.preset}`: " + ", ".join(parts)]
    if spec.normalize_when == "clip":
        lines.append(
            "Samples at the end of a segment that are exactly 0 are padding: features are normalized over the clip "
            f"before them (of {spec.min_clip_s:g} s at least) and are 0 behind it. "
            "Pad a short clip with zeros on the right."
        )
    return [*lines, f"It is part of the file; its FFT is computed by {FFTS[fft]}."] if fft else lines


def _license(license: str, part: EncoderPart | None) -> list[str]:
    """The license that the user gave, and that of the encoder."""
    if part is None:
        return [license or "Not specified (`birdnet-fs export --license`)."]
    own = [f"- Head and training: {license or 'not specified (`birdnet-fs export --license`)'}."]
    if not part.license:
        return own
    return [
        f"- Encoder {markdown(part.card.title)}: **{markdown(part.license)}**. The file contains it, so pass the file "
        "on as this license allows.",
        *own,
    ]


def _encoder(run: Run, part: EncoderPart) -> list[str]:
    card, transform = part.card, run.experiment.model.encoder_head.transform
    normalized = {"none": "as they are", "peak_0.25": "mean subtracted, peak scaled to 0.25, inside the file"}
    return [
        f"- {markdown(card.title)}, card {markdown(card.name)}, SHA-256 of its file `{part.sha256}`.",
        f"- Windows of {card.segment_s:g} s at {card.sample_rate_hz:,} Hz, {normalized[card.normalization]}.",
        _tokens(part, transform) if part.tokens else _embedding(part, transform),
        *(
            [f"- The head reads its own scores of {len(names)} classes as well: {markdown(', '.join(names))}."]
            if (names := part.own.names)
            else []
        ),
        *([f"- Source: {markdown(card.source)}"] if card.source else []),
    ]


def _embedding(part: EncoderPart, transform: str) -> str:
    return (
        f"- Its embedding ({part.card.width:,} numbers) is not changed by the export; the head reads its "
        f"{'square root' if transform == 'sqrt' else 'values'}, centered and scaled. A second output, where the file "
        "has one, gives these: what the head, and enrollment on a device, compare."
    )


def _tokens(part: EncoderPart, transform: str) -> str:
    return (
        f"- Its tokens ({part.card.tokens[0]} of {part.card.width:,} numbers, means over frequency) are not changed by "
        f"the export; the head reads their {'square roots' if transform == 'sqrt' else 'values'}, centered and scaled. "
        "A second output, where the file has one, gives the tokens as the head pools them; nothing can be enrolled on "
        "it."
    )


def _metrics(run: Path) -> list[str]:
    """One line per scalar of metrics.json; none when it is known to be of other weights."""
    if (run / ABOUT_SCORES).is_file() and not has_scores(run):
        return []
    try:
        values = json.loads((run / METRICS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    found = values.items() if isinstance(values, dict) else ()
    return [
        f"- {key}: {value:.4g}" if isinstance(value, float) else f"- {key}: {value}"
        for key, value in found
        if isinstance(value, (int, float, str)) and not isinstance(value, bool)
    ]
