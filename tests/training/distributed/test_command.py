"""`torchrun ... train` from the command line: equal in both forms of a stop, and near the training of one process."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tolerances

from birdnet_fs.runs.history import read_history
from birdnet_fs.runs.tensors import read_weights

CONFIG = """
from birdnet_fs.schema import Data, Experiment, FrontEnd, Model, Optimizer, Schedule, Training


def small() -> Experiment:
    return Experiment(
        name="small",
        data=Data(root="recordings", split="70/15/15"),
        frontend=FrontEnd(
            sample_rate_hz=8_000, segment_s=1.0, n_fft=256, win_length=256, hop_length=128, n_mels=16, fmax_hz=4_000.0
        ),
        model=Model("cnn/tiny", dropout=0.0),
        training=Training(
            epochs=40,
            batch_size=5,
            optimizer=Optimizer("sgd"),
            schedule=Schedule(warmup_epochs=0),
            threads=1,
        ),
    )
"""
TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "birdnet_fs.cli.main")
ROOT = Path(__file__).resolve().parents[3]


def command(place: Path, output: str, *program: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", *program, "train", "config.py:small", "-o", output],
        cwd=place, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


@pytest.mark.slow
def test_training_of_two_processes_goes_on_after_a_signal_and_is_near_that_of_one(tmp_path: Path) -> None:
    (tmp_path / "config.py").write_text(CONFIG)
    rng = np.random.default_rng(0)
    for i in range(2):
        (tmp_path / "recordings" / f"class{i}").mkdir(parents=True)
        for n in range(10):
            sound = 0.1 * np.sin(2 * np.pi * (500 + 800 * i) * np.arange(12_000) / 8_000) + rng.normal(0, 1.0, 12_000)
            soundfile.write(tmp_path / "recordings" / f"class{i}" / f"{n}.wav", sound.clip(-1, 1), 8_000)
    for output, program in (("one", ("birdnet_fs.cli.main",)), ("two", TORCHRUN)):
        process = command(tmp_path, output, *program)
        out, _ = process.communicate()
        assert process.returncode == 0, out
        assert out.count("epoch 40/40") == 1, "only the main process prints"
    process = command(tmp_path, "stopped", *TORCHRUN)
    history = tmp_path / "stopped" / "history.csv"
    while process.poll() is None and not (history.is_file() and len(history.read_text().splitlines()) > 3):
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate()
    assert process.returncode != 0 and (tmp_path / "stopped" / "unfinished" / "state").is_dir(), out
    process = command(tmp_path, "stopped", *TORCHRUN)
    out, _ = process.communicate()
    assert process.returncode == 0 and "Training goes on after" in out, out
    weights = {name: read_weights(tmp_path / name / "weights.safetensors") for name in ("one", "two", "stopped")}
    np.testing.assert_equal(weights["stopped"], weights["two"])
    losses = {name: [row["train_loss"] for row in read_history(tmp_path / name / "history.csv")] for name in weights}
    assert losses["stopped"] == losses["two"]
    # 51 steps, as the tolerance is for: roundings of float32 grow with every further one
    np.testing.assert_allclose(losses["two"][:17], losses["one"][:17], rtol=tolerances.DIVIDED_LOSS)
