"""Trainings that are killed (SIGKILL) at any time, also while they write their state, end as undisturbed ones."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from birdnet_fs.data.synthetic.aviary import make_aviary
from birdnet_fs.runs.history import read_history
from birdnet_fs.runs.tensors import read_weights

SCRIPT = """
import sys
from pathlib import Path
from birdnet_fs.schema import Checkpoints, Data, Experiment, FrontEnd, Model, Optimizer, Training
from birdnet_fs.training import trainer
from birdnet_fs.training.resume import state

state.EVERY_S, state.MOST_TIME = 0.0, float("inf")  # a state after every batch
experiment = Experiment(
    name="killed",
    data=Data(root=sys.argv[1], table="metadata.csv", audio="audio", where="set=aviary", split="70/15/15"),
    frontend=FrontEnd(segment_s=3.0, sample_rate_hz=16_000, n_mels=32, fmin_hz=300.0, fmax_hz=8_000.0),
    model=Model("cnn/tiny", dropout=0.2),
    training=Training(
        epochs=40,
        batch_size=8,
        threads=1,
        optimizer=Optimizer(ema=0.9, accumulate=2),
        checkpoints=Checkpoints(n_best=2, select="best"),
    ),
)
print("training", flush=True)
trainer.train(experiment, Path(sys.argv[2]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_training_that_is_killed_again_and_again_ends_as_undisturbed(seed: int, tmp_path: Path) -> None:
    make_aviary(tmp_path / "aviary", n_species=3, clips_per_species=10, n_soundscapes=0)
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "aviary")]
    began = time.monotonic()
    subprocess.run([*command, str(tmp_path / "whole")], check=True, capture_output=True)
    whole_s = time.monotonic() - began
    rng, n_killed = random.Random(seed), 0
    while True:
        process = subprocess.Popen([*command, str(tmp_path / "run")], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdout is not None and process.stdout.readline() == b"training\n"
        try:
            status = process.wait(rng.uniform(0.1, whole_s / 8) if n_killed < 15 else None)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            n_killed += 1
            continue
        assert status == 0
        break
    assert n_killed >= 5
    found, expected = tmp_path / "run", tmp_path / "whole"
    np.testing.assert_equal(read_weights(found / "weights.safetensors"), read_weights(expected / "weights.safetensors"))
    rows = [read_history(folder / "history.csv") for folder in (found, expected)]
    for row in (*rows[0], *rows[1]):
        row.pop("seconds")
    np.testing.assert_equal(rows[0], rows[1])
    names = [sorted(path.name for path in (folder / "checkpoints").iterdir()) for folder in (found, expected)]
    assert names[0] == names[1] and not (found / "unfinished").exists()
