"""The waveforms of a parity test."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from run_to_export import CLASSES, small_run_on, write_recordings

from birdnet_fs.core.errors import UserError
from birdnet_fs.export.parity.inputs import EDGE_NAMES, edge_waveforms, make_parity_inputs
from birdnet_fs.runs.run import Run


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> Path:
    return write_recordings(tmp_path_factory.mktemp("recordings"))


@pytest.fixture(scope="module")
def run(tmp_path_factory, recordings: Path) -> Run:
    return small_run_on(recordings, tmp_path_factory.mktemp("runs") / "small")


def test_recordings_of_the_run_are_used_first(run: Run, recordings: Path) -> None:
    inputs = make_parity_inputs(run, n_segments=9)
    assert inputs.source == "run"
    labeled = inputs.targets[len(EDGE_NAMES) :]
    assert labeled.shape[1] == len(CLASSES) and (labeled.sum(axis=0) > 0).all()
    assert not inputs.targets[: len(EDGE_NAMES)].any()
    assert np.abs(inputs.waveforms[len(EDGE_NAMES) :]).max(axis=1).min() > 0.05


def test_the_aviary_replaces_missing_recordings(run: Run, tmp_path: Path) -> None:
    gone = dataclasses.replace(run.experiment.data, root=str(tmp_path / "gone"))
    moved = dataclasses.replace(run, experiment=dataclasses.replace(run.experiment, data=gone))
    inputs = make_parity_inputs(moved, n_segments=5)
    assert inputs.source == "aviary" and inputs.targets is None
    assert len(inputs.waveforms) == len(EDGE_NAMES) + 5


def test_audio_without_readable_recordings_is_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none there can be read"):
        make_parity_inputs(run, audio=tmp_path)
    with pytest.raises(UserError, match="must be a folder"):
        make_parity_inputs(run, audio=tmp_path / "none")


def test_short_recordings_give_overlapping_segments_and_separate_calibration(run: Run) -> None:
    inputs = make_parity_inputs(run, n_segments=20, n_calibration=8)
    rows = inputs.waveforms[len(EDGE_NAMES) :]
    assert len(rows) == 20 and len(inputs.calibration) == 8 and len(inputs.targets) == len(inputs.waveforms)
    distinct = np.unique(np.concatenate([rows, inputs.calibration]), axis=0)
    assert len(distinct) == 28  # no segment occurs twice


def test_edge_waveforms_are_exact_in_16_bits() -> None:
    rows = edge_waveforms(32_000, 32_000)
    assert rows.shape == (len(EDGE_NAMES), 32_000)
    assert np.array_equal(np.round(rows * 32768).clip(-32768, 32767).astype(np.int16) / np.float32(32768), rows)
    assert not rows[0].any()
    assert np.abs(rows[1]).max() > 0.9999
    assert not rows[2][32_000 // 5 + 1 :].any()
