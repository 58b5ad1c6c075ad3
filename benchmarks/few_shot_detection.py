"""Few-shot detection against template matching and plain prototypes, as a Markdown table.

    python benchmarks/few_shot_detection.py [--data ../shared/data] [--part test] [--rounds 1] [--folder FOLDER]

Recordings in DCASE layout (a WAV and a CSV with POS each) are made of real ones: songs of bf_bird0, nine after one
another, with one of its nine syllables as the class; soundscapes of soundscape_mix with one of its ten species, all
after one another, so that the examples are of other birds than most of the events. The first five events are the
examples. Printed: F-measure of the events (IoU above .3, mean over recordings), precision, recall, the F-measure with
the threshold that fits each recording best, unknown in practice, and CPU seconds per recording.

template    largest correlation with the five examples over time and bands, threshold: the median correlation of two
            examples
prototypes  the nearer of the mean of the examples and the mean of windows between them, of standardized windows

All sides read the same frames and choose windows in the same way. The settings were chosen on --part dev.
"""

import argparse
import csv
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
from numpy.lib.stride_tricks import sliding_window_view

from birdnet_fs.audio.read import read_audio
from birdnet_fs.core.progress import track
from birdnet_fs.data.manifest import read_manifest
from birdnet_fs.fewshot.detection.detector import DetectionSettings, pick_windows, window_probabilities
from birdnet_fs.fewshot.detection.frames import Frames, compute_frames, frame_frontend
from birdnet_fs.fewshot.detection.windows import cut_windows
from birdnet_fs.metrics.event_f1 import count_events, event_scores
from birdnet_fs.schema import Data

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
RATE_HZ, N_SHOTS, N_SONGS, N_DEV = 32_000, 5, 9, 3
Score = Callable[[Frames, np.ndarray], tuple[np.ndarray, float, int]]  # scores of windows, threshold, frames


def write_tasks(data: Path, part: str, folder: Path) -> None:
    """Write the recordings of a part and their tables to folder/bf and folder/mix."""
    events: dict[str, list[tuple[float, float, str]]] = {}
    with open(data / "annotations.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["set"] in ("bf_bird0", "soundscape_mix"):
                events.setdefault(row["filename"], []).append((float(row["start"]), float(row["end"]), row["label"]))
    songs = sorted(name for name in events if name.startswith("bf_bird0"))
    mixes = sorted(set(events) - set(songs))
    groups = [songs[i : i + N_SONGS] for i in range(0, len(songs), N_SONGS)]
    syllables = sorted({label for name in songs for *_, label in events[name]})
    species = sorted({label for name in mixes for *_, label in events[name]})
    dev = part == "dev"
    for number, group in enumerate(groups):
        if (number < N_DEV) == dev:
            for i, label in enumerate(syllables):
                if dev or (number + i) % 3 == 0:
                    write_task(data, folder / "bf", f"{number:02}_{label}", group, label, events)
    for i, label in enumerate(species):
        if (i % 3 == 0) == dev:
            names = [name for name in mixes if any(event[2] == label for event in events[name])]
            write_task(data, folder / "mix", label.replace(" ", "_"), names, label, events)


def write_task(data: Path, folder: Path, name: str, files: list[str], label: str, events: dict) -> None:
    waveforms, rows, start = [], [], 0.0
    for file in files:
        waveform = read_audio(data / "audio" / file, sample_rate_hz=RATE_HZ).waveform
        rows += [(start + onset, start + offset) for onset, offset, found in events[file] if found == label]
        waveforms.append(waveform)
        start += len(waveform) / RATE_HZ
    if len(rows) < N_SHOTS + 3:
        return
    folder.mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / f"{name}.wav", np.concatenate(waveforms), RATE_HZ)
    with open(folder / f"{name}.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["Audiofilename", "Starttime", "Endtime", "Q"])
        writer.writerows([f"{name}.wav", f"{a:.4f}", f"{b:.4f}", "POS"] for a, b in sorted(rows))


def template(frames: Frames, shots: np.ndarray) -> tuple[np.ndarray, float, int]:
    windows = cut_windows(frames, shots)
    pairs = windows.correlations[windows.shots][np.triu_indices(len(shots), 1)]
    return windows.correlations.max(axis=1).astype(float), float(np.median(pairs)), windows.n_frames


def prototypes(frames: Frames, shots: np.ndarray) -> tuple[np.ndarray, float, int]:
    windows = cut_windows(frames, shots)
    rows = sliding_window_view(frames.values, windows.n_frames, axis=0).reshape(len(windows), -1)
    starts, length = np.arange(len(windows)) * frames.hop_s, windows.n_frames * frames.hop_s
    free = ~np.any([(starts < b) & (starts + length > a) for a, b in shots], axis=0)
    between = np.flatnonzero(free & (starts + length <= shots[-1, 1]))
    deviation = rows.std(axis=0) + 1e-6
    distances = [
        np.square((rows - rows[chosen].mean(axis=0)) / deviation).mean(axis=1) for chosen in (windows.shots, between)
    ]
    return distances[1] - distances[0], 0.0, windows.n_frames


def ours(rounds: int) -> Score:
    def score(frames: Frames, shots: np.ndarray) -> tuple[np.ndarray, float, int]:
        windows = cut_windows(frames, shots)
        settings = DetectionSettings(rounds=rounds)
        return window_probabilities(windows, shots, np.empty((0, 2)), settings), settings.threshold, windows.n_frames

    return score


def compared(times: np.ndarray, scores: np.ndarray, n_frames: int, hop_s: float, level: float) -> tuple[float, ...]:
    """F-measure, precision and recall with a threshold."""
    onsets = pick_windows(scores, n_frames, level) * hop_s
    onsets = onsets[onsets >= times[N_SHOTS - 1, 1]]
    found = event_scores(count_events(times, np.stack([onsets, onsets + n_frames * hop_s], axis=1), n_shots=N_SHOTS))
    return found.f_measure, found.precision, found.recall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--part", choices=("dev", "test"), default="test")
    parser.add_argument("--rounds", type=int, nargs="+", default=[1])
    parser.add_argument("--folder", type=Path, help="keeps the recordings in DCASE layout")
    arguments = parser.parse_args()
    sides: dict[str, Score] = {"template": template, "prototypes": prototypes}
    sides |= {f"ours, rounds {n}": ours(n) for n in arguments.rounds}
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        if not folder.is_dir() or not any(folder.iterdir()):
            write_tasks(arguments.data, arguments.part, folder)
        print("| recordings | side | F | precision | recall | best F | CPU s |\n|---|---|---|---|---|---|---|")
        for kind in ("bf", "mix"):
            manifest = read_manifest(Data(root=str(folder / kind), multi_label=True))
            paths = sorted({clip.path for clip in manifest.clips})
            found: dict[str, list[tuple[float, ...]]] = {name: [] for name in sides}
            for path in track(paths, kind, total=len(paths)):
                times = np.array(sorted((c.onset_s, c.offset_s) for c in manifest.clips if c.path == path))
                shots = times[:N_SHOTS]
                began = time.process_time()
                spec = frame_frontend(
                    float(np.diff(shots, axis=1).mean()), sample_rate_hz=RATE_HZ, fmin_hz=200.0, fmax_hz=15_000.0
                )
                frames = compute_frames(read_audio(path, sample_rate_hz=RATE_HZ).waveform, spec)
                shared_s = time.process_time() - began
                for name, side in sides.items():
                    began = time.process_time()
                    scores, threshold, n = side(frames, shots)
                    spent = shared_s + time.process_time() - began
                    levels = np.quantile(scores, [0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 0.999])
                    at = [compared(times, scores, n, frames.hop_s, level) for level in (threshold, *levels)]
                    found[name].append((*at[0], max(each[0] for each in at), spent))
            for name, rows in found.items():
                f, *others, spent = np.mean(rows, axis=0)
                cells = " | ".join(f"{value:.3f}" for value in (f, *others))
                print(f"| {kind}, {len(rows)} | {name} | {cells} | {spent:.1f} |")


if __name__ == "__main__":
    main()
