"""Time from recordings to scores: `analyze` beside the programs that people use, its parts, and its memory.

    python benchmarks/analyze.py birdnet --host host/bin/python  # one exported file in both, 35 minutes of ogg
    python benchmarks/analyze.py keras    # EfficientNetV2-B0 beside librosa.load + Keras predict
    python benchmarks/analyze.py parts    # decode, front-end, network; 700 files of a minute
    python benchmarks/analyze.py memory   # peak memory of 10 minutes and of 15 hours

`birdnet`: the `birdnet` package (export/requirements-birdnet.txt in an environment of its own) loads the same TFLite
file of cnn/small, 48 kHz, 3 s, as a custom model. Both sides are timed without imports, in turn. Two numbers are given
for each: seconds of wall time, which other programs on the machine lengthen, and seconds of CPU time over the cores,
the shortest that the wall time can be. Networks have random weights. Recordings: soundscape_mix of ../shared/data.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data" / "audio"
N_CLASSES = 206
CORES = len(os.sched_getaffinity(0))
FORMATS = {"cnn/small": "birdnet_3s_48k", "efficientnet_v2/b0": "birdclef2025"}

HOST = """
import json, resource, sys, time
import birdnet
def main():
    model_file, labels, workers, batch, *audio = sys.argv[1:]
    model = birdnet.load_custom("acoustic", "auto", "tf", model_file, labels, library="litert")
    start = time.perf_counter()
    model.predict(audio, n_workers=int(workers), n_producers=1, batch_size=int(batch), top_k=5)
    wall = time.perf_counter() - start
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(json.dumps([wall, sum(each.ru_utime + each.ru_stime for each in used)]))
if __name__ == "__main__":
    main()
"""


def soundscapes(n: int = 1000) -> list[Path]:
    """The recordings of soundscape_mix, one minute of ogg each."""
    return sorted(DATA.glob("soundscape_mix_*.ogg"))[:n] or sorted(DATA.glob("soundscape*.ogg"))[:n]


def made_run(folder: Path, network: str) -> Any:
    """A run of a network with random weights."""
    import keras

    from birdnet_fs import schema
    from birdnet_fs.frontend import PRESETS
    from birdnet_fs.runs.run import build_network, model_weights, save_run

    keras.utils.set_random_seed(1)
    frontend = PRESETS[FORMATS[network]]
    if network != "cnn/small":  # 5 s at 32 kHz, 313 x 128, one channel
        frontend = schema.FrontEnd()
    model = schema.Model(name=network)
    experiment = schema.Experiment(name="made", frontend=frontend, model=model, data=schema.Data(multi_label=True))
    classes = [f"Genus species{i}_Name {i}" for i in range(N_CLASSES)]
    weights = model_weights(build_network(experiment, N_CLASSES))
    return save_run(folder, experiment, classes, weights)


def exported(run: Any, folder: Path, **settings: Any) -> Path:
    """The run as a TFLite file with its sidecar, without the proof of parity."""
    import numpy as np

    from birdnet_fs.core.files import sha256, write_json
    from birdnet_fs.export.conversion import write_files
    from birdnet_fs.export.spec import ExportSpec

    spec = ExportSpec(**settings)
    folder.mkdir(parents=True)
    if spec.precision == "int8":
        from birdnet_fs.audio.read import read_audio
        from birdnet_fs.frontend.in_numpy import log_mel

        frontend = run.frontend
        waveforms = [read_audio(path, sample_rate_hz=frontend.sample_rate_hz).waveform for path in soundscapes(4)]
        rows = np.concatenate([w[: len(w) // frontend.n_samples * frontend.n_samples] for w in waveforms])
        np.save(folder / "calibration.npy", log_mel(rows.reshape(-1, frontend.n_samples), frontend))
    write_files(run, [spec], folder)
    file = folder / f"{spec.precision}.tflite"
    sidecar = {"format": 1, "sha256": sha256(file), "classes": list(run.classes), "input": spec.input}
    sidecar |= {"sample_rate_hz": run.frontend.sample_rate_hz, "segment_s": run.frontend.segment_s}
    sidecar |= {"output": "logits", "activation": "sigmoid", "frontend": run.frontend.to_artifact()}
    write_json(file.with_suffix(".json"), sidecar)
    (folder / "labels.txt").write_text("".join(f"{name}\n" for name in run.classes))
    return file


def timed(action: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds of a call in this process."""
    start, used = time.perf_counter(), time.process_time()
    action()
    return time.perf_counter() - start, time.process_time() - used


def in_turn(sides: dict[str, Callable[[], tuple[float, float]]], rounds: int) -> dict[str, tuple[float, float]]:
    """The smallest wall and CPU seconds of each side, the sides in turn."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            found[name].append(side())
    return {name: (min(w for w, _ in rows), min(c for _, c in rows)) for name, rows in found.items()}


def table(found: dict[str, tuple[float, float]], peer: str, unit_s: float) -> None:
    """Print seconds, multiples of real time and ratios to a peer."""
    print(f"{'':34}{'wall s':>8}{'CPU s':>8}{'x real time':>13}{'ratio wall':>12}{'ratio CPU':>11}")
    for name, (wall, used) in found.items():
        ratios = f"{found[peer][0] / wall:12.2f}{found[peer][1] / used:11.2f}"
        print(f"{name:34}{wall:8.2f}{used:8.2f}{unit_s / wall:13.0f}{ratios}", flush=True)


def analyzed(file: Path, recordings: Sequence[Path], n_workers: int, batch_size: int = 32) -> Callable[[], None]:
    """A call of `analyze` that writes its tables to a new folder."""
    from birdnet_fs.analysis.analyze import analyze
    from birdnet_fs.inference.open import open_engine

    engine = open_engine(file, threads=1)

    def call() -> None:
        with tempfile.TemporaryDirectory() as folder:
            analyze(engine, recordings, folder, top_n=5, n_workers=n_workers, batch_size=batch_size)

    return call


def beside_birdnet(host: Path, rounds: int) -> None:
    """Part (a)."""
    recordings = soundscapes()
    with tempfile.TemporaryDirectory() as name:
        run = made_run(Path(name) / "run", "cnn/small")
        sides: dict[str, Callable[[], tuple[float, float]]] = {}
        for fft in ("matrix", "builtin"):
            file = exported(run, Path(name) / fft, batch=None, fft=fft)
            labels = file.with_name("labels.txt")
            for workers in (1, CORES):
                script = ["-c", HOST, file, labels, str(workers), "8", *recordings]
                command = [str(part) for part in (host, *script)]
                if fft == "builtin":
                    sides[f"birdnet, {workers} workers"] = lambda command=command: _by_host(command)
                call = analyzed(file, recordings, workers)
                sides[f"analyze, {workers} workers, {fft} FFT"] = lambda call=call: timed(call)
        plain = exported(run, Path(name) / "features", input="features")
        call = analyzed(plain, recordings, CORES)
        sides[f"analyze, {CORES} workers, features in"] = lambda: timed(call)
        table(in_turn(sides, rounds), "birdnet, 1 workers", 60.0 * len(recordings))


def _by_host(command: list[str]) -> tuple[float, float]:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    wall, used = json.loads(done.stdout.splitlines()[-1])
    return wall, used


def beside_keras(rounds: int, n_files: int) -> None:
    """Part (b)."""
    import keras
    import librosa
    import numpy as np
    import torch

    from birdnet_fs.frontend.in_numpy import log_mel, network_input
    from birdnet_fs.inference.open import open_engine

    recordings = soundscapes(n_files)
    torch.set_num_threads(CORES)
    with tempfile.TemporaryDirectory() as name:
        run = made_run(Path(name) / "run", "efficientnet_v2/b0")
        spec, model = run.frontend, run.build_model()

        def by_librosa(path: Path) -> np.ndarray:
            waveform, _ = librosa.load(path, sr=spec.sample_rate_hz)
            rows = [waveform[i : i + spec.n_samples] for i in range(0, len(waveform), spec.n_samples)]
            rows = [librosa.util.fix_length(row, size=spec.n_samples) for row in rows]
            mel = {"sr": spec.sample_rate_hz, "n_fft": spec.n_fft, "hop_length": spec.hop_length}
            mel |= {"n_mels": spec.n_mels, "fmin": spec.fmin_hz, "fmax": spec.fmax_hz}
            found = [librosa.power_to_db(librosa.feature.melspectrogram(y=row, **mel)).T for row in rows]
            return np.stack(found)[..., None].astype(np.float32)

        files = {p: exported(run, Path(name) / p, input="features", precision=p) for p in ("fp32", "int8")}
        n_frames = spec.shape[0]
        for batch in (1, 32):

            def keras_side(batch: int = batch) -> None:
                for path in recordings:
                    model.predict(by_librosa(path)[:, :n_frames], batch_size=batch, verbose=0)

            sides = {f"librosa + Keras predict {keras.__version__}": lambda: timed(keras_side)}
            for precision, file in files.items():
                call = analyzed(file, recordings, CORES, batch)
                sides[f"analyze {precision}"] = lambda call=call: timed(call)
            print(f"batch {batch}, {len(recordings)} minutes, {CORES} cores")
            table(in_turn(sides, rounds), next(iter(sides)), 60.0 * len(recordings))
        waveforms = np.random.default_rng(0).normal(0, 0.1, (32, spec.n_samples)).astype(np.float32)
        features = network_input(log_mel(waveforms, spec), spec)
        engines = {p: open_engine(file, threads=1) for p, file in files.items()}
        for batch in (1, 32):
            alone = {
                "Keras predict": lambda b=batch: timed(lambda: model.predict(features[:b], batch_size=b, verbose=0))
            }
            for p, engine in engines.items():
                alone[f"LiteRT {p} with front-end"] = lambda b=batch, e=engine: timed(lambda: e.logits(waveforms[:b]))
            print(f"network alone, batch {batch}, one call; Keras on {CORES} threads, LiteRT on one")
            table(in_turn(alone, 5 * rounds), "Keras predict", 5.0 * batch)


def parts(rounds: int, n_files: int) -> None:
    """Part (c): CPU seconds of one thread for each part, and what 700 files of a minute take."""
    from birdnet_fs.audio.read import read_audio
    from birdnet_fs.frontend.in_numpy import log_mel
    from birdnet_fs.inference.open import open_engine

    recordings = soundscapes(n_files)
    print(f"{'':30}{'decode':>9}{'front-end':>11}{'network':>9}   ms a minute of audio, one thread; 700 files")
    with tempfile.TemporaryDirectory() as name:
        for network in FORMATS:
            run = made_run(Path(name) / network.replace("/", "_"), network)
            spec = run.frontend
            read = [read_audio(path, sample_rate_hz=spec.sample_rate_hz).waveform for path in recordings]
            waveforms = [w[: len(w) // spec.n_samples * spec.n_samples].reshape(-1, spec.n_samples) for w in read]
            for precision in ("fp32", "int8"):
                place = Path(name) / f"{network.replace('/', '_')}_{precision}"
                engine = open_engine(exported(run, place, input="features", precision=precision), threads=1)
                engine.logits(waveforms[0])  # compiles the features
                calls = {
                    "decode": partial(timed, partial(_each, _read, recordings, spec)),
                    "front-end": partial(timed, partial(_each, log_mel, waveforms, spec)),
                    "both": partial(timed, partial(_each, engine.logits, waveforms)),
                }
                found = {key: used / len(recordings) * 1e3 for key, (_, used) in in_turn(calls, rounds).items()}
                found["network"] = found.pop("both") - found["front-end"]
                minutes = sum(found.values()) * 700 / CORES / 60e3
                numbers = f"{found['decode']:9.1f}{found['front-end']:11.1f}{found['network']:9.1f}"
                print(f"{network + ' ' + precision:30}{numbers}   {minutes:.1f} minutes on {CORES} cores", flush=True)


def _each(function: Callable[..., object], rows: Sequence[Any], *others: Any) -> None:
    for row in rows:
        function(row, *others)


def _read(path: Path, spec: Any) -> object:
    from birdnet_fs.audio.read import read_audio

    return read_audio(path, sample_rate_hz=spec.sample_rate_hz)


def memory() -> None:
    """Part (d): peak memory of processes that analyze 10 minutes, 1 hour and 15 hours."""
    with tempfile.TemporaryDirectory() as name:
        run = made_run(Path(name) / "run", "cnn/small")
        file = exported(run, Path(name) / "file", input="features")
        for hours in (1 / 6, 1.0, 15.0):
            recording = Path(name) / f"{hours:.2f}.wav"
            write_sparse_wav(recording, round(hours * 3600))
            command = [sys.executable, __file__, "peak", "--model", str(file), "--recording", str(recording)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            seconds, peak = done.stdout.split()[-2:]
            print(f"{hours:6.2f} h: peak {float(peak):.0f} MB, {float(seconds):.0f} s", flush=True)
            recording.unlink()


def write_sparse_wav(path: Path, seconds: int, rate: int = 32_000) -> None:
    """A WAV file of a minute of noise and then silence, which takes no space on the disk."""
    import numpy as np

    n_bytes = 2 * seconds * rate
    sizes = (n_bytes + 36).to_bytes(4, "little"), n_bytes.to_bytes(4, "little")
    about = b"".join(
        n.to_bytes(k, "little") for n, k in ((16, 4), (1, 2), (1, 2), (rate, 4), (2 * rate, 4), (2, 2), (16, 2))
    )
    with open(path, "wb") as file:
        file.write(b"RIFF" + sizes[0] + b"WAVEfmt " + about + b"data" + sizes[1])
        file.write(np.random.default_rng(0).normal(0, 3000, 60 * rate).astype("<i2").tobytes())
        file.truncate(44 + n_bytes)


def peak(model: Path, recording: Path) -> None:
    """Analyze one recording with all cores; print seconds and the peak memory in MB."""
    wall, _ = timed(analyzed(model, [recording], CORES))
    print(wall, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("birdnet", "keras", "parts", "memory", "peak"))
    parser.add_argument("--host", type=Path, help="Python of an environment with the birdnet package")
    parser.add_argument("--rounds", type=int, default=3, help="rounds in turn (default 3)")
    parser.add_argument("--files", type=int, default=5, help="recordings of the parts keras and parts (default 5)")
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--recording", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part == "birdnet":
        if given.host is None:
            parser.error("--host must be the Python of an environment with the birdnet package")
        beside_birdnet(given.host, given.rounds)
    elif given.part == "keras":
        beside_keras(given.rounds, given.files)
    elif given.part == "parts":
        parts(given.rounds, given.files)
    elif given.part == "memory":
        memory()
    else:
        peak(given.model, given.recording)
