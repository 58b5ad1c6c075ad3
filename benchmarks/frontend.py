"""Log-mel front-end: speed against librosa, and how far each execution is from librosa in dB (PCEN: its own units).

    python benchmarks/frontend.py            # 5 s at 32 kHz, n_fft 1024, hop 512, 128 mels; one thread
    python benchmarks/frontend.py --parity   # every preset, 200 real segments of ../shared/data, else noise
    python benchmarks/frontend.py --rounding # the part of rounding the samples times the window to float32
    python benchmarks/frontend.py --tflite   # as TFLite: matrix products beside RFFT2D, one thread of LiteRT

Speed: process CPU time, the sides in turn, medians. Parity: largest difference over all segments, frames
and bands before normalizing and resizing; the columns of each Keras backend come from a process of its own. TFLite: the
same difference for bands within 80 dB of the loudest of their segment, and the fastest of all rounds.
"""

import argparse
import dataclasses
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "helpers")]

import librosa  # noqa: E402
import numpy as np  # noqa: E402
import reference_frontend as reference  # noqa: E402

from birdnet_fs.frontend import PRESETS  # noqa: E402
from birdnet_fs.frontend.in_numpy import log_mel  # noqa: E402
from birdnet_fs.schema import FrontEnd  # noqa: E402


def speed(rounds: int) -> None:
    """Print ms of CPU per clip of librosa and of ours, and the ratio."""
    spec = FrontEnd()
    waveform = (np.random.default_rng(0).standard_normal((32, spec.n_samples)) * 0.1).astype(np.float32)

    def by_librosa(x: np.ndarray) -> np.ndarray:
        return librosa.power_to_db(
            librosa.feature.melspectrogram(
                y=x, sr=spec.sample_rate_hz, n_fft=spec.n_fft, hop_length=spec.hop_length, n_mels=spec.n_mels,
                fmin=spec.fmin_hz, fmax=spec.fmax_hz,
            )
        )  # fmt: skip

    print(f"{'':12}{'librosa ms':>12}{'ours ms':>12}{'ratio':>8}   (CPU time per clip, median of {rounds})")
    for name, x, n in (("single", waveform[0], 1), ("batch of 32", waveform, 32)):
        sides = {"librosa": by_librosa, "ours": lambda x: log_mel(x, spec)}
        times: dict[str, list[float]] = {side: [] for side in sides}
        repeat = max(1, 8 // n)
        for turn in range(rounds + 1):
            for side, call in sides.items():
                start = time.process_time()
                for _ in range(repeat):
                    call(x)
                if turn:  # the first is for compiling and caches
                    times[side].append((time.process_time() - start) / repeat / n * 1e3)
        peer, ours = (statistics.median(times[side]) for side in ("librosa", "ours"))
        print(f"{name:12}{peer:12.3f}{ours:12.3f}{peer / ours:8.2f}")


def parity(n_segments: int) -> None:
    """Print the table of differences."""
    columns: dict[str, dict[str, float]] = {}
    for backend in ("torch", "tensorflow"):
        environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
        command = [sys.executable, __file__, "--child", "--segments", str(n_segments), "--presets", *PRESETS]
        result = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
        if result.returncode:
            print(f"{backend}: did not run (status {result.returncode}); its columns are left out")
            continue
        for column, values in json.loads(result.stdout.splitlines()[-1]).items():
            columns[column] = values
    print("max difference to librosa in dB (fewshot_pcen: in PCEN, 0 to about 6), before normalizing and resizing")
    print(f"{'preset':16}" + "".join(f"{column:>14}" for column in columns))
    for name in PRESETS:
        print(f"{name:16}" + "".join(f"{values[name]:14.1e}" for values in columns.values()))


def tflite(n_segments: int, rounds: int) -> None:
    """Print ms of CPU per segment and the largest difference from librosa in dB, for both FFTs of exported files."""
    import tempfile

    from ai_edge_litert.interpreter import Interpreter

    from birdnet_fs.export.tflite import wrappers
    from birdnet_fs.export.tflite.convert import convert_model

    print(f"{'preset':16}{'matrix ms':>12}{'RFFT2D ms':>12}{'in_numpy ms':>13}{'matrix dB':>12}{'RFFT2D dB':>12}")
    for name, preset in PRESETS.items():
        spec, unit = reference.only_decibels(preset)
        segments = real_segments(spec, n_segments)
        sides: dict[str, Callable[[np.ndarray], np.ndarray]] = {"in_numpy": lambda x, spec=spec: log_mel(x, spec)}
        with tempfile.TemporaryDirectory() as folder:
            for fft in ("matrix", "builtin"):
                file = Path(folder) / f"{fft}.tflite"
                convert_model(wrappers.front_end_model(spec, fft), (1, spec.n_samples), "waveform", file)
                interpreter = Interpreter(model_path=str(file), num_threads=1)
                interpreter.allocate_tensors()
                sides[fft] = lambda x, interpreter=interpreter: _invoke(interpreter, x)
        times: dict[str, list[float]] = {side: [] for side in sides}
        worst = dict.fromkeys(sides, 0.0)
        for segment in segments:
            expected = reference.decibels(segment, spec)
            near = expected >= expected.max() - 80 / unit
            for side, call in sides.items():
                found = call(segment[None])
                off = np.abs(found.reshape(*expected.shape, -1)[..., 0] - expected)[near].max()
                worst[side] = max(worst[side], float(off) * unit)
        for _ in range(rounds):
            for side, call in sides.items():
                start = time.process_time()
                call(segments[:1])
                times[side].append((time.process_time() - start) * 1e3)
        ms = [f"{min(times[side]):12.2f}" for side in ("matrix", "builtin", "in_numpy")]
        print(f"{name:16}{''.join(ms)} {worst['matrix']:12.1e}{worst['builtin']:12.1e}", flush=True)


def rounding(n_segments: int) -> None:
    """Print the largest difference from librosa in dB when only the samples times the window are rounded to float32."""
    from birdnet_fs.frontend.definition import define

    for name in ("birdnet_3s_48k", "echo_engine", "cnn_32k"):
        spec, unit = reference.only_decibels(PRESETS[name])
        definition, worst = define(spec, spec.n_samples), 0.0
        low, high = definition.bins
        for segment in real_segments(spec, n_segments):
            expected = reference.decibels(segment, spec)
            padded = np.pad(segment, spec.n_fft // 2, mode="reflect" if spec.pad_mode == "reflect" else "constant")
            frames = np.lib.stride_tricks.sliding_window_view(padded, spec.n_fft)[:: spec.hop_length]
            rounded = frames[: definition.n_frames] * definition.window.astype(np.float32)
            power = np.abs(np.fft.rfft(rounded.astype(np.float64))) ** 2
            energies = power[:, low:high] @ definition.bands[:, low:high].T
            ref: Any = np.max if spec.ref == "max" else 1.0
            found = librosa.power_to_db(energies, ref=ref, amin=spec.amin, top_db=spec.top_db or None)
            off = np.abs(found / (unit if spec.compression == "log" else 1) - expected)
            worst = max(worst, float(off[expected >= expected.max() - 80 / unit].max()) * unit)
        print(f"{name:16}{worst:12.1e}", flush=True)


def _invoke(interpreter: Any, waveform: np.ndarray) -> np.ndarray:
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], waveform)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def real_segments(spec: FrontEnd, n_segments: int) -> np.ndarray:
    """Segments of the shared recordings, float32 [n_segments, n_samples]; noise where they are missing."""
    data = ROOT.parent / "shared" / "data"
    if data.is_dir():
        settings = {"sample_rate_hz": spec.sample_rate_hz, "duration_s": spec.segment_s}
        segments = reference.real_segments(data, n_segments, **settings)
        # zeros at the end are padding for front-ends of clips, and a part of the segment for the reference in decibels
        return segments if spec.normalize_when != "clip" else segments[segments[:, -spec.hop_length :].any(axis=1)]
    return (np.random.default_rng(0).standard_normal((n_segments, spec.n_samples)) * 0.1).astype(np.float32)


def child(n_segments: int) -> None:
    """One backend's columns, as one line of JSON."""
    from keras import backend, ops

    from birdnet_fs.frontend import in_keras

    executions: dict[str, Callable[..., np.ndarray]] = {
        f"{'tf' if backend.backend() == 'tensorflow' else 'torch'} {transform}": (
            lambda x, spec, transform=transform: ops.convert_to_numpy(in_keras.log_mel(x, spec, transform))
        )
        for transform in ("rfft", "dft")
    }
    if backend.backend() == "torch":
        executions = {"in_numpy": log_mel, **executions}
    else:
        from birdnet_fs.frontend import in_tf

        executions["in_tf"] = lambda x, spec: in_tf.log_mel(x, spec).numpy()
    worst = {column: dict.fromkeys(PRESETS, 0.0) for column in executions}
    for name, preset in PRESETS.items():
        spec = dataclasses.replace(preset, normalize="none", keep_frames=0, resize=(0, 0))
        unit = 10 / math.log(10) if spec.compression == "log" else 1.0
        segments = real_segments(spec, n_segments)
        for start in range(0, len(segments), 4):
            x = segments[start : start + 4]
            expected = np.stack([reference.decibels(segment, spec) for segment in x])
            for column, call in executions.items():
                worst[column][name] = max(worst[column][name], float(np.abs(call(x, spec) - expected).max()) * unit)
    print(json.dumps(worst))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parity", action="store_true", help="the table of differences instead of the speed")
    parser.add_argument("--tflite", action="store_true", help="the table of exported front-ends")
    parser.add_argument("--rounding", action="store_true", help="the part of rounding the samples times the window")
    parser.add_argument("--segments", type=int, default=200, help="segments of the table (default 200)")
    parser.add_argument("--rounds", type=int, default=40, help="rounds of the speed (default 40)")
    parser.add_argument("--presets", nargs="+", default=list(PRESETS), help="rows of the tables (default all)")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    PRESETS = {name: PRESETS[name] for name in given.presets}
    if given.child:
        child(given.segments)
    elif given.rounding:
        rounding(given.segments)
    elif given.parity:
        parity(given.segments)
    elif given.tflite and os.environ.get("KERAS_BACKEND") == "tensorflow":
        tflite(given.segments, given.rounds)
    elif given.tflite:
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "KERAS_BACKEND": "tensorflow"})
    else:
        speed(given.rounds)
