"""Exported files as custom classifiers in BirdNET-Analyzer: its table holds the run's probabilities."""

import csv
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tolerances
from birdnet_runs import CLASSES, ON_48K, at_rate, exported, outputs_of
from other_pythons import python_with
from scipy.special import expit, softmax

pytestmark = [pytest.mark.slow, pytest.mark.shared]
PLAIN = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}  # it sets its own
# It would download its own network first, which a custom classifier of waveforms replaces.
WORK = """
import sys
from birdnet_analyzer import config, utils
utils.ensure_model_exists = lambda **_: None
from birdnet_analyzer.analyze.core import analyze
model, labels, audio, output, batch = sys.argv[1:]
config.BIRDNET_LABELS_FILE = labels
analyze(audio, output, classifier=model, min_conf=0, batch_size=int(batch), rtype="csv", threads=1)
"""


@pytest.mark.parametrize("multi_label", [True, False])
def test_analyzer_table_holds_the_probabilities_of_the_run(
    shared_data: Path, tmp_path: Path, multi_label: bool
) -> None:
    soundscape = shared_data / "audio" / "soundscape_mix_test_00.ogg"
    run, artifact = exported(tmp_path, ON_48K, soundscape.parent, target="analyzer", multi_label=multi_label)
    wav, labels = tmp_path / "minute.wav", artifact.with_name(f"{artifact.stem}_Labels.txt")
    (logits,) = outputs_of(run, at_rate(soundscape, 48_000, wav))
    wanted = expit(logits) if multi_label else softmax(logits, axis=1)
    python = python_with("birdnet-analyzer", "requirements-analyzer.txt")
    for batch in (1, 8):
        output = tmp_path / str(batch)
        command = [python, "-c", WORK, artifact, labels, wav, output, batch]
        done = subprocess.run([str(part) for part in command], env=PLAIN, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        (table,) = output.glob("minute*.csv")
        with table.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        found = np.zeros_like(wanted)
        names = [name.partition("_")[0] for name in CLASSES]
        for row in rows:
            found[round(float(row["Start (s)"]) / 3), names.index(row["Scientific name"])] = float(row["Confidence"])
        assert len(rows) > wanted.size / 2  # scores shown as 0 are left out
        assert np.abs(found - wanted).max() <= tolerances.TABLE_OF_FOUR_DIGITS
