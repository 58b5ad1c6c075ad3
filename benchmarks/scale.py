"""Cost of 1,000 h of audio: core-hours, disk and memory of every step, as Markdown tables.

    python benchmarks/scale.py costs [--hours 0.25] [--encoder BirdNET.tflite] [--rounds 3]
    python benchmarks/scale.py memory

`costs`: CPU seconds of one thread for each step over the same recordings (soundscape_mix of ../shared/data, a minute of
ogg at 32 kHz each, repeated up to the hours asked for), the steps in turn, the least of the rounds; a CPU second per
second of audio is 1,000 core-hours per 1,000 h. Networks have random weights, 206 classes and windows without overlap.
Disk is what the step has written, scaled by the duration. `memory`: peak memory of a process that embeds, and of one
that finds the 100 best windows, for a tenth of the windows and all of them.
"""

import argparse
import itertools
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from analyze import exported, in_turn, made_run, soundscapes, timed
from search import make_store

from birdnet_fs.analysis.analyze import analyze
from birdnet_fs.audio.read import read_audio
from birdnet_fs.frontend import PRESETS
from birdnet_fs.frontend.in_numpy import log_mel
from birdnet_fs.inference.embedder import open_embedder
from birdnet_fs.inference.open import open_engine
from birdnet_fs.search.embed_recordings import embed_recordings
from birdnet_fs.search.neighbors import best_windows, similarities

HOURS = 1000.0
RATES_HZ = (32_000, 48_000)
NETWORKS = ("cnn/small", "efficientnet_v2/b0")
WIDTH, WINDOW_S = 1024, 3.0  # BirdNET V2.4


def copies(hours: float, folder: Path) -> list[Path]:
    """Links to the recordings of soundscape_mix, repeated up to a number of hours."""
    folder.mkdir()
    found = []
    for number, path in zip(range(max(1, round(60 * hours))), itertools.cycle(soundscapes()), strict=False):
        found.append(folder / f"{number:05d}{path.suffix}")
        found[-1].symlink_to(path)
    return found


def decode(recordings: list[Path], rate_hz: int) -> None:
    """Decode and resample."""
    for path in recordings:
        read_audio(path, sample_rate_hz=rate_hz)


def front_end(waveforms: list[np.ndarray], preset: str) -> None:
    """Log-mel features of the windows of each recording."""
    spec = PRESETS[preset]
    for waveform in waveforms:
        log_mel(waveform[: len(waveform) // spec.n_samples * spec.n_samples].reshape(-1, spec.n_samples), spec)


def into_new_folder(work: Callable[[Path], object], sizes: dict[str, int], name: str) -> Callable[[], object]:
    """A call of `work` in a folder of its own, whose bytes are counted."""

    def call() -> None:
        with tempfile.TemporaryDirectory() as folder:
            work(Path(folder) / "out")
            sizes[name] = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())

    return call


def costs(hours: float, encoder: Path | None, rounds: int) -> None:
    """Print core-hours and disk per 1,000 h."""
    sizes: dict[str, int] = {}
    steps: dict[str, Callable[[], object]] = {}
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        recordings = copies(hours, place / "recordings")
        hours = len(recordings) / 60
        for rate_hz in RATES_HZ:
            steps[f"decode ogg, {rate_hz // 1000} kHz"] = partial(decode, recordings, rate_hz)
        for preset in ("birdclef2025", "birdnet_3s_48k"):
            rate_hz = PRESETS[preset].sample_rate_hz
            read = [read_audio(path, sample_rate_hz=rate_hz).waveform for path in recordings[:10]] * 100
            steps[f"log-mel features, `{preset}`"] = partial(front_end, read[: len(recordings)], preset)
        for network, precision in itertools.product(NETWORKS, ("fp32", "int8")):
            folder = place / f"{network.replace('/', '_')}_{precision}"
            run = made_run(folder / "run", network)
            engine = open_engine(exported(run, folder / "file", input="features", precision=precision), threads=1)
            step = f"`analyze`, {network} {precision}"
            work = partial(analyze, engine, recordings, top_n=5, n_workers=1)
            steps[step] = into_new_folder(lambda out, work=work: work(output=out), sizes, step)
        if encoder is not None:
            embedder = open_embedder(encoder, threads=1)
            step = f"`embed`, {embedder.name}"
            steps[step] = into_new_folder(lambda out: embed_recordings(embedder, recordings, out), sizes, step)
        found = in_turn({step: partial(timed, call) for step, call in steps.items()}, rounds)
        store = make_store(place / "store", round(hours * 3600 / WINDOW_S * 20), WIDTH)
        query = np.ones(WIDTH, np.float32)
        similarities(store, query)
        _, search_s = min(timed(lambda: best_windows(store, similarities(store, query), 100)) for _ in range(5))
    print(f"{hours:g} h of audio, {rounds} rounds\n")
    print("| step | core-hours per 1,000 h | disk per 1,000 h |\n|---|---|---|")
    for step, (_, used) in found.items():
        disk = f"{sizes[step] / hours * HOURS / 1e9:.2f} GB" if step in sizes else "-"
        print(f"| {step} | {used / 3600 / hours * HOURS:.2f} | {disk} |")
    cost = search_s / 20 / hours * HOURS / 3600
    print(f"| `search`, one query over {WIDTH} numbers every {WINDOW_S:g} s | {cost:.4f} | - |")


def memory(n_windows: int) -> None:
    """Print the peak memory of a search over a tenth of the windows and over all of them."""
    print("| windows | peak memory of `search` |\n|---|---|")
    with tempfile.TemporaryDirectory() as name:
        for n in (n_windows // 10, n_windows):
            make_store(Path(name) / str(n), n, WIDTH)
            command = [sys.executable, __file__, "peak", "--store", str(Path(name) / str(n))]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            print(f"| {n:,} | {done.stdout.strip()} |", flush=True)


def peak(folder: Path) -> None:
    """Search a store once, and print memory that is not of the mapped file."""
    from birdnet_fs.search.store import open_store

    store = open_store(folder)
    best_windows(store, similarities(store, np.ones(WIDTH, np.float32)), 100)
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(
        f"{int(status['RssAnon'].split()[0]) / 1024:.0f} MB, {resource.getrusage(resource.RUSAGE_SELF).ru_utime:.1f} s"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("costs", "memory", "peak"))
    parser.add_argument("--hours", type=float, default=0.25, help="hours of audio (default .25)")
    parser.add_argument("--encoder", type=Path, help="a foreign encoder, as BirdNET V2.4")
    parser.add_argument("--rounds", type=int, default=3, help="rounds in turn (default 3)")
    parser.add_argument("--windows", type=int, default=1_200_000, help="windows of the store (default 1.2 million)")
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part == "costs":
        costs(given.hours, given.encoder, given.rounds)
    elif given.part == "memory":
        memory(given.windows)
    else:
        peak(given.store)
