"""The model card of an artifact."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from run_to_export import CLASSES, edge_run_on, write_licensed_recordings

from birdnet_fs.data.ledger import Ledger
from birdnet_fs.data.manifest import Clip, Manifest
from birdnet_fs.data.partition import Partition, write_partition
from birdnet_fs.export import model_card
from birdnet_fs.export.convert_and_verify import ParityReport
from birdnet_fs.export.parity.compare import compare_outputs
from birdnet_fs.export.parity.inputs import EDGE_NAMES, ParityInputs
from birdnet_fs.export.runtimes.benchmark import Speed
from birdnet_fs.export.spec import ExportSpec
from birdnet_fs.runs.run import Run

EDGE = ExportSpec(input="features", axes="mel_first")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> Path:
    return write_licensed_recordings(tmp_path_factory.mktemp("recordings"))


@pytest.fixture(scope="module")
def run(recordings: Path, tmp_path_factory) -> Run:
    return edge_run_on(recordings, tmp_path_factory.mktemp("runs") / "edge")


def report(spec: ExportSpec) -> ParityReport:
    """A report on 12 segments without any difference."""
    logits = np.random.default_rng(0).normal(size=(len(EDGE_NAMES) + 12, 3)).astype(np.float32)
    inputs = ParityInputs(np.zeros((len(logits), 4), np.float32), None, "run")
    return ParityReport(spec, {"ai-edge-litert 2.3.0": compare_outputs(logits, logits, inputs, "fp32", "softmax")})


def card(artifact: Path, run: Run, spec: ExportSpec, target: str, **others) -> str:
    artifact.write_bytes(b"network")
    others = {"speed": None, **others}
    model_card.write_card(artifact, run, export_spec=spec, target=target, parity_report=report(spec), **others)
    return artifact.with_name(f"{artifact.stem}_card.md").read_text(encoding="utf-8")


def test_card_names_license_data_input_parity_and_speed(run: Run, tmp_path: Path) -> None:
    speed = Speed(tmp_path / "m.tflite", "features", 5.0, 1, 1, 2.0, 1.5, 99, 0.01, 2_500_000, 80_000_000, 40_000_000)
    text = card(tmp_path / "m.tflite", run, EDGE, "echo", speed=speed, license="for everyone")
    for words in (
        "for everyone",
        "CC BY 4.0 (5 clips), CC0 (1 clip)",
        "features float32 [1, 128, 313, 1]",
        "12 segments (run)",
        "- ai-edge-litert ",
        "2,500 times real time",
        "written for `echo`",
        *(name.partition("_")[0] for name in CLASSES),
    ):
        assert words in text
    assert "/tmp" not in text and str(run.path.parent) not in text  # nothing of the machine it was made on


def test_card_without_recordings_and_metrics_says_what_is_missing(run: Run, tmp_path: Path) -> None:
    data = dataclasses.replace(run.experiment.data, root=str(tmp_path / "gone"))
    moved = dataclasses.replace(run, experiment=dataclasses.replace(run.experiment, data=data))
    text = card(tmp_path / "m.tflite", moved, ExportSpec(), "tflite")
    assert "no longer available" in text and "Not specified (" in text and "holds no metrics.json" in text


def test_card_counts_recordings_of_earlier_runs_separately(run: Run, tmp_path: Path) -> None:
    here = dataclasses.replace(run, path=tmp_path)
    clips = tuple(Clip(tmp_path / f"{i}.wav", labels=("toad",)) for i in range(5))
    parts = Partition(Manifest((), CLASSES, Ledger(), tmp_path), clips[:2], (), clips[2:3], inherited=clips[3:])
    write_partition(tmp_path / "partition.csv", parts)
    lines = model_card._data(here)
    assert lines[0] == "- Clips: 2 train, 1 held_out (`partition.csv` of the run)."
    assert lines[1] == "- The runs it was built from were trained on 2 other recordings."
