"""The prediction log of ANIMAL-SPOT, which its evaluation reads.

Every line is `HH:MM:SS|I|message`. ANIMAL-SPOT puts the time of day there at which it wrote the line; here it is the
start of the window in the recording, so that a repeated call writes the same file. Messages of windows are
`time=a-b, pred=0|1, prob=p` with two classes, one of them noise, and
`time=a-b, pred=0|1, pred_class=name-index, prob=p` with more; times are seconds, rounded to milliseconds, from the
first to the last sample of the window.
"""

from pathlib import Path

from birdnet_fs.analysis.two_stage.preset import AnimalSpotPreset
from birdnet_fs.analysis.two_stage.windows import Classes, WindowPredictions
from birdnet_fs.core.text import escaped
from birdnet_fs.data.windows import WindowRule

SUFFIX = "_predict_output.log"


def prediction_log(
    recording: Path,
    rule: WindowRule,
    n_total: int,
    limits_hz: tuple[float, float],
    classes: Classes,
    predictions: WindowPredictions,
    preset: AnimalSpotPreset,
) -> str:
    """The log of one recording.

    Args:
        recording: The recording; its name is written.
        rule: Rule by which the recording was cut, at the rate of the classifier.
        n_total: Samples of the recording at that rate.
        limits_hz: Lowest and highest frequency of the classifier.
        classes: Classes of the classifier.
        predictions: Predictions of all windows.
        preset: Lengths and thresholds.

    Returns:
        The text.
    """
    rate, (low, high) = rule.sample_rate_hz, limits_hz
    options = {"sr": rate, "fmin": round(low), "fmax": round(high)}
    lines = [
        escaped(recording.name),
        f"dataOpts: {options}",
        f"prediction length: {preset.window_s}[s], hop length: {preset.hop_s}[s], threshold: {preset.threshold}, "
        f"prediction fmin: {options['fmin']}[Hz] prediction fmax: {options['fmax']}[Hz]",
        f"class distribution: { {name: index for index, name in enumerate(classes.names)} }",
        f"size of the file(samples)={n_total}",
        f"size of hop(samples)={rule.hop}",
        f"stop time={max(n_total // rule.hop, 1)}",
    ]
    text = [f"{_clock(0)}|I|{line}\n" for line in lines]
    for number, (index, value, detected) in enumerate(
        zip(predictions.class_index.tolist(), predictions.probability, predictions.detected.tolist(), strict=True)
    ):
        start = number * rule.hop
        end = min(start + rule.n_samples - 1, n_total - 1)
        name = "" if classes.is_binary else f"pred_class={escaped(classes.names[index])}-{index}, "
        times = f"time={round(start / rate, 3)}-{round(end / rate, 3)}"
        text.append(f"{_clock(start / rate)}|I|{times}, pred={int(detected)}, {name}prob={value}\n")
    return "".join(text)


def _clock(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}"
