"""The picture of the README: a synthetic soundscape, its songs and the detections of the exported file.

Run after `birdnet-fs quickstart`: python docs/picture.py quickstart docs/picture.png
"""

import csv
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from birdnet_fs.audio.read import read_audio
from birdnet_fs.frontend import preset
from birdnet_fs.frontend.in_numpy import log_mel

SHOWN_S = 45.0


def _rows(path: Path, delimiter: str = ",") -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter=delimiter))


def draw(folder: Path, output: Path) -> None:
    """Draw the picture from a quickstart folder."""
    name = "aviary_soundscape_00"
    spec = preset("birdnet_3s_48k")
    waveform = read_audio(folder / "recordings" / "audio" / f"{name}.flac", sample_rate_hz=spec.sample_rate_hz).waveform
    features = log_mel(waveform[: int(SHOWN_S * spec.sample_rate_hz)], spec)[0]
    songs = _rows(next((folder / "recordings" / "raven").glob(f"{name}*.txt")), "\t")
    detections = _rows(next((folder / "analysis").glob(f"{name}*.results.csv")))
    labels = sorted({row["Annotation"] for row in songs} | {row["Scientific name"] for row in detections})
    color = {label: plt.get_cmap("Dark2")(i) for i, label in enumerate(labels)}

    figure, (above, below) = plt.subplots(
        2, 1, figsize=(11, 4.6), sharex=True, height_ratios=(3.2, 1.1), layout="constrained"
    )
    extent = (0, SHOWN_S, 0, spec.n_mels)
    above.imshow(features.T, origin="lower", aspect="auto", extent=extent, cmap="Grays", vmin=0.25, vmax=1)
    above.set(
        ylabel="mel band", yticks=[], title="45 s of the synthetic aviary, held-out individuals", ylim=(0, spec.n_mels)
    )
    for y, table, start, end, label, weight in (
        (1, songs, "Begin Time (s)", "End Time (s)", "Annotation", None),
        (0, detections, "Start (s)", "End (s)", "Scientific name", "Confidence"),
    ):
        for row in table:
            onset, offset = float(row[start]), min(float(row[end]), SHOWN_S)
            if onset < SHOWN_S:
                opacity = float(row[weight]) if weight else 1.0
                below.barh(y, offset - onset, left=onset, height=0.7, color=color[row[label]], alpha=opacity)
                if y:
                    above.axvspan(onset, offset, ymin=0, ymax=0.03, color=color[row[label]])
    below.set(yticks=[1, 0], yticklabels=["songs", "detections of the .tflite"], xlabel="seconds", xlim=(0, SHOWN_S))
    handles = [plt.Rectangle((0, 0), 1, 1, color=color[label]) for label in labels]
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=9)
    figure.savefig(output, dpi=110)


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
