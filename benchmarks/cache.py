"""Loading and features on the fly, in memory, and from a cache: ms per clip, ratios, waiting and peak memory.

    python benchmarks/cache.py [--sets birds10,xc171] [--repeats 3] [--only loading,waiting,memory] [--data FOLDER]

All sides are measured in turn in one process, on one thread: CPU time, the best of the repeats, the recordings in the
page cache. "waveform" is the whole clip as float32; "features" adds the crop and the front-end, without augmentation;
"batches" is what a training gets, with the augmentation of the experiment (with cached features and files that of the
experiment without its changes of the waveform, and crop=center). Times of `xN` are ratios to the first line.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
import torch
from waiting import Timed

from birdnet_fs.batches.augment.item_random import ItemKey
from birdnet_fs.batches.augment.pipeline import AugmentationPipeline
from birdnet_fs.batches.cache.features import ClipFeatures
from birdnet_fs.batches.cache.folder import CacheFolder
from birdnet_fs.batches.cache.spectrogram_files import SpectrogramFiles, write_spectrograms
from birdnet_fs.batches.cache.waveforms import CachedWaveforms
from birdnet_fs.cli.experiment import load_experiment
from birdnet_fs.data.manifest import Clip, read_manifest
from birdnet_fs.data.targets import clip_targets
from birdnet_fs.data.waveforms import Waveforms
from birdnet_fs.runs.run import build_network
from birdnet_fs.schema import Augmentation, Experiment
from birdnet_fs.training.loop import run_epochs
from birdnet_fs.training.objective import supervised_objective

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENTS = {"animal_spot": (), "birdclef2025": (), "birds10_cnn": ("model.name=cnn/small",)}
LABELS = ("data.table=metadata.csv", "data.layout=csv", "data.audio=", "data.multi_label=false", "training.loss=auto")
LABELS += ("data.split=folds", "data.noise_label=negative", "data.background=", "training.threads=1")
NO_VALIDATION = ("training.schedule=cosine", "training.checkpoints.select=last", "training.checkpoints.patience=0")
LIMIT = 100_000_000_000
N_SMALL, N_TIMES = 40, 10  # clips of the memory test, and how many times as many


def without_waveform_changes(chosen: Experiment) -> Experiment:
    """The experiment with crop=center and the changes of the features alone."""
    own = chosen.augmentation
    mixup = own.mixup if own.mixup.on == "features" else replace(own.mixup, p=0.0)
    kept = {name: getattr(own, name) for name in ("features_p", "freq_shift", "warp", "time_masks", "freq_masks")}
    kept |= {name: getattr(own, name) for name in ("feature_noise", "levels", "cutmix")}
    return replace(chosen, augmentation=Augmentation(crop="center", mixup=mixup, **kept))


def cpu_s(call: Callable[[], object]) -> float:
    """CPU seconds of one call."""
    start = time.process_time()
    call()
    return time.process_time() - start


def pipeline(waveforms: Waveforms, chosen: Experiment, kept: Sequence[np.ndarray] | None) -> AugmentationPipeline:
    """The pipeline of a training, with one class per clip."""
    targets = np.eye(len(waveforms), dtype=np.float32)
    return AugmentationPipeline(waveforms, targets, chosen, (), (), None, kept)


def loading(chosen: Experiment, clips: Sequence[Clip], folder: Path, repeats: int) -> None:
    """Print one line for each source of the clips."""
    spec, root = chosen.frontend, Path(chosen.data.root)
    rate, n = spec.sample_rate_hz, len(clips)
    fly = Waveforms(clips, rate, memory_bytes=0)
    cached = CachedWaveforms(clips, rate, CacheFolder(folder / "cache", LIMIT))
    files = folder / f"npy_{chosen.name}"
    write_spectrograms(cached, spec, files, root)
    sources: dict[str, tuple[Waveforms, Sequence[np.ndarray] | None]] = {
        "on the fly": (fly, None),
        "in memory": (Waveforms(clips, rate), None),
        "cached waveforms": (cached, None),
        "cached features": (cached, ClipFeatures(cached, spec)),
        "files (.npy)": (cached, SpectrogramFiles(files, cached, spec, root)),
    }
    calls: dict[tuple[str, str], Callable[[], object]] = {}
    for name, (waveforms, kept) in sources.items():
        if kept is None:
            calls[name, "waveform"] = lambda w=waveforms: [w[i].max() for i in range(n)]
        plain = pipeline(waveforms, replace(chosen, augmentation=Augmentation(crop="center")), kept)
        whole = pipeline(waveforms, chosen if kept is None else without_waveform_changes(chosen), kept)
        for column, made in (("features", plain), ("batches", whole)):
            calls[name, column] = lambda p=made: [p.item(ItemKey(0, i, i, 0)) for i in range(n)]
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(repeats + 1):  # the first reads the checksums and compiles
        for key, call in calls.items():
            best[key] = min(best[key], cpu_s(call))
    for name in sources:
        cells = []
        for column in ("waveform", "features", "batches"):
            ms = best.get((name, column), float("nan")) / n * 1e3
            ratio = best["on the fly", column] / best.get((name, column), float("nan"))
            cells.append("-" if np.isnan(ms) else f"{ms:.3f} (x{ratio:.1f})")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def waiting(chosen: Experiment, clips: Sequence[Clip], folder: Path, epochs: int) -> None:
    """Print the share of an epoch that a training waits for its batches, and the seconds of an epoch."""
    spec, classes = chosen.frontend, sorted({clip.labels[0] for clip in clips})
    cached = CachedWaveforms(clips, spec.sample_rate_hz, CacheFolder(folder / "cache", LIMIT))
    fly = Waveforms(clips, spec.sample_rate_hz, memory_bytes=0)
    plain = without_waveform_changes(chosen)
    cases = {
        "on the fly": (fly, None, chosen),
        "cached waveforms": (cached, None, chosen),
        "cached features": (cached, ClipFeatures(cached, spec), plain),
    }
    torch.set_num_threads(1)
    for name, (waveforms, kept, experiment) in cases.items():
        targets = clip_targets(waveforms.clips, classes, multi_label=False)
        for workers in (0, 1):
            own = replace(experiment, training=replace(experiment.training, workers=workers, epochs=epochs))
            batches = Timed(waveforms, targets, own, kept=kept)
            model = build_network(own, len(classes))
            start = time.perf_counter()
            objective = supervised_objective(model, own.training, multi_label=False)
            run_epochs(model, batches, own.training, objective=objective)
            seconds = (time.perf_counter() - start) / epochs
            share = statistics.mean(batches.shares[1:])
            print(f"| {name} | {workers} | {seconds:.1f} | {share:.1%} |", flush=True)


def anonymous_mb(call: Callable[[], object]) -> float:
    """Largest anonymous memory (RssAnon: without mapped files, which the system can drop) during a call, MB."""
    peak, done = 0.0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.005):
            text = Path("/proc/self/status").read_text()
            peak = max(peak, float(text.split("RssAnon:")[1].split()[0]) / 1000)

    thread = threading.Thread(target=watch)
    thread.start()
    call()
    done.set()
    thread.join()
    return peak


def memory_of(kind: str, recordings: Path, cache: Path) -> None:
    """In a process of its own: read all clips and make an epoch of items; print the peak."""
    chosen = load_experiment(f"{ROOT / 'config.py'}:birds10_cnn")
    clips = [Clip(path, labels=("a",)) for path in sorted(recordings.iterdir())]

    def work() -> None:
        rate = chosen.frontend.sample_rate_hz
        if kind == "in memory":
            waveforms = Waveforms(clips, rate)
        else:
            waveforms = CachedWaveforms(clips, rate, CacheFolder(cache, LIMIT))
        kept = ClipFeatures(waveforms, chosen.frontend) if kind == "cached features" else None
        made = pipeline(waveforms, without_waveform_changes(chosen), kept)
        for i in range(len(clips)):
            made.item(ItemKey(0, i, i, 0))

    print(f"{anonymous_mb(work):.0f}")


def memory(folder: Path) -> None:
    """Print the peak memory for a number of synthetic clips and for ten times as many."""
    rng = np.random.default_rng(0)
    for n in (N_SMALL, N_SMALL * N_TIMES):
        (folder / str(n)).mkdir()
        for i in range(n):
            samples = rng.uniform(-0.5, 0.5, 160_000).astype(np.float32)
            soundfile.write(folder / str(n) / f"{i:04d}.wav", samples, 32_000, subtype="FLOAT")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    for kind in ("in memory", "cached waveforms", "cached features"):
        found = []
        for n in (N_SMALL, N_SMALL * N_TIMES):
            command = [sys.executable, __file__, "--memory_of", kind, str(folder / str(n)), str(folder / f"c{n}{kind}")]
            found.append(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
        print(f"| {kind} | {' | '.join(text.strip() for text in found)} |", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--sets", default="birds10,xc171")
    parser.add_argument("--experiments", default=",".join(EXPERIMENTS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--only", default="loading,waiting,memory")
    parser.add_argument("--memory_of", nargs=3)
    asked = parser.parse_args()
    if asked.memory_of:
        kind, recordings, cache = asked.memory_of
        memory_of(kind, Path(recordings), Path(cache))
        return
    if not asked.data.is_dir():
        raise SystemExit(f"The recordings are needed in {asked.data}; give their folder with --data.")
    folder = Path(tempfile.mkdtemp())
    try:
        for name in asked.experiments.split(","):
            for chosen_set in asked.sets.split(","):
                given = [*LABELS, *NO_VALIDATION, *EXPERIMENTS[name], f"data.where=set={chosen_set}"]
                chosen = load_experiment(f"{ROOT / 'config.py'}:{name}", [*given, f"data.root={asked.data}"])
                clips = read_manifest(chosen.data).clips
                place = folder / f"{name}_{chosen_set}"
                if "loading" in asked.only:
                    print(f"\n{name}, {len(clips)} clips of {chosen_set}: ms of CPU per clip\n")
                    print("| source | waveform | features | batches |\n|---|---|---|---|", flush=True)
                    loading(chosen, clips, place, asked.repeats)
                if "waiting" in asked.only and chosen_set == "birds10":
                    print("\n| source | workers | s per epoch | waiting |\n|---|---|---|---|", flush=True)
                    waiting(chosen, clips, place, asked.epochs)
        if "memory" in asked.only:
            print(f"\n| peak MB of anonymous memory | {N_SMALL} clips | {N_SMALL * N_TIMES} clips |\n|---|---|---|")
            memory(folder)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
