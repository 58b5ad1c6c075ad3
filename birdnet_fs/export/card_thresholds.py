"""The section of the model card on calibration and thresholds of a calibrated run."""

from collections.abc import Sequence
from statistics import median

from birdnet_fs.core.text import markdown
from birdnet_fs.export.calibrated_output import calibration_sentence, sidecar_calibration
from birdnet_fs.export.spec import ExportSpec
from birdnet_fs.inference.calibration.stored import Calibration, ClassThreshold
from birdnet_fs.inference.calibration.threshold_table import model_threshold
from birdnet_fs.runs.run import Run

MOST_CLASSES = 50  # of which each has a row; of more, their number and the range of their thresholds are given


def threshold_lines(run: Run, spec: ExportSpec, table: str) -> list[str]:
    """Lines of Markdown: what the calibration was made on, and the thresholds of each precision.

    Args:
        run: The run.
        spec: Specification of the exported file.
        table: Name of the CSV table of thresholds beside the file.

    Returns:
        The lines; [] for a run without a calibration.
    """
    calibration = sidecar_calibration(run, spec)
    if calibration is None:
        return []
    counts = [calibration.about.get(key) for key in ("n_windows", "n_recordings")]
    made_on = f" on {counts[0]:,} windows of {counts[1]:,} recordings" if all(type(n) is int for n in counts) else ""
    lines = [f"Calibrated{made_on}. {calibration_sentence(run, spec)}"]
    if calibration.post:
        lines.append(f"Thresholds are for scores after the post-processing {markdown(calibration.post)}.")
    for precision, classes in calibration.thresholds.items():
        lines += ["", f"Precision {precision:g} (`{table}`):", ""]
        lines += _summary(classes) if len(classes) > MOST_CLASSES else _rows(calibration, classes)
    return lines


def _rows(calibration: Calibration, classes: Sequence[ClassThreshold]) -> list[str]:
    lines = [
        "| class | threshold | of this file's score | precision (95 %) | recall | detections |",
        "|---|---|---|---|---|---|",
    ]
    for c, (name, each) in enumerate(zip(calibration.classes, classes, strict=True)):
        if each.threshold is None:
            lines.append(f"| {markdown(name)} | none: {markdown(each.reason)} | | | | |")
            continue
        own = model_threshold(calibration, c, each)
        shown = f"{float(own):.3g}" if own else "-"
        counts = f"{each.n_detections:,} in {each.n_recordings:,} recordings"
        lines.append(
            f"| {markdown(name)} | {each.threshold:.3g} | {shown} | {_share(each.precision)} ({_share(each.low)} to "
            f"{_share(each.high)}) | {_share(each.recall)} | {counts} |"
        )
    return lines


def _summary(classes: Sequence[ClassThreshold]) -> list[str]:
    given = [each for each in classes if each.threshold is not None]
    if not given:
        return [f"None of {len(classes):,} classes has a threshold."]
    limits = sorted(each.threshold for each in given if each.threshold is not None)
    lows = sorted(each.low for each in given if each.low is not None)
    lines = [
        f"{len(given):,} of {len(classes):,} classes have a threshold, from {limits[0]:.3g} to {limits[-1]:.3g} "
        f"(median {median(limits):.3g}), by {sum(each.n_detections for each in given):,} detections."
    ]
    if lows:
        lines.append(
            f"The lower ends of the 95 % intervals of their precision lie between {lows[0]:.2f} and {lows[-1]:.2f}."
        )
    return lines


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
