"""Scores on a grid, against means that are computed window by window."""

import numpy as np
import pytest
import soundfile

from birdnet_fs import schema
from birdnet_fs.analysis.grid_scores import average_on_grid, grid_rule, grid_scores
from birdnet_fs.core.errors import UserError
from birdnet_fs.inference.engine import Engine

RATE = 1_000


def engine(window_s):
    """A model whose two scores are functions of the samples of a window alone."""
    spec = schema.FrontEnd(
        sample_rate_hz=RATE, segment_s=window_s, n_fft=256, win_length=256, hop_length=128, n_mels=8, fmax_hz=500.0
    )

    def logits(waveforms):
        return np.stack([waveforms.mean(1) * 20, waveforms[:, 0] * 5], 1).astype(np.float32)

    return Engine(("mean", "first"), spec, "sigmoid", "x", logits)


def recording(folder, seconds):
    wave = np.random.default_rng(3).uniform(-0.5, 0.5, round(seconds * RATE)).cumsum().astype(np.float32)
    soundfile.write(folder / "a.wav", wave / np.abs(wave).max(), RATE, subtype="FLOAT")
    return folder / "a.wav", wave / np.abs(wave).max()


def by_hand(model, wave, starts, window_s, grid_s, n_rows):
    """Row by row: the probability of each window, weighted by the milliseconds that it shares with the row."""
    total, weight = np.zeros((n_rows, 2)), np.zeros(n_rows)
    for start in starts:
        part = wave[round(start * RATE) : round((start + window_s) * RATE)]
        padded = np.concatenate([part, np.zeros(round(window_s * RATE) - len(part), np.float32)])
        [score] = 1 / (1 + np.exp(-model.forward(padded[None]).astype(np.float64)))
        covered = np.arange(round(start * RATE), round(start * RATE) + len(part))
        for row in range(n_rows):
            share = np.count_nonzero((covered >= row * grid_s * RATE) & (covered < (row + 1) * grid_s * RATE))
            total[row] += share * score
            weight[row] += share
    return total / weight[:, None]


@pytest.mark.parametrize(
    ("window_s", "grid_s", "hop_s", "starts"),
    [
        (5.0, 5.0, 0.0, [0, 5, 10, 15]),  # one window for a row
        (5.0, 5.0, 2.5, [0, 2.5, 5, 7.5, 10, 12.5, 15]),  # shifted by half and averaged
        (3.0, 5.0, 0.0, [0, 2.5, 5, 7.5, 10, 12.5, 15, 17.5]),  # shorter than a row: a row is a multiple of the hop
        (20.0, 5.0, 0.0, [0]),  # longer than a row, and as long as the recording
        (12.0, 5.0, 0.0, [0, 5, 10]),  # the last one is padded: 3 s are left behind the second
    ],
)
def test_rows_are_means_over_the_windows_that_share_time(tmp_path, window_s, grid_s, hop_s, starts):
    model = engine(window_s)
    path, wave = recording(tmp_path, 20.0)
    found = grid_scores(model, path, grid_s, hop_s=hop_s, batch_size=2)
    assert found.starts_s.tolist() == [0, 5, 10, 15] and found.ends_s.tolist() == [5, 10, 15, 20]
    np.testing.assert_allclose(found.scores, by_hand(model, wave, starts, window_s, grid_s, 4), atol=1e-6)
    assert (found.scores.dtype, found.duration_s, found.status) == (np.float32, 20.0, "ok")


@pytest.mark.parametrize(("seconds", "n_rows"), [(0.3, 1), (5.0, 1), (5.9, 1), (6.1, 2), (60.0, 12)])
def test_a_recording_has_a_row_for_each_rest_of_a_second_or_more(tmp_path, seconds, n_rows):
    path, _ = recording(tmp_path, seconds)
    for window_s in (1.0, 5.0, 20.0):
        found = grid_scores(engine(window_s), path)
        assert len(found) == n_rows and found.ends_s[-1] == 5.0 * n_rows and np.isfinite(found.scores).all()


def test_a_row_that_no_window_touches_has_the_scores_of_the_nearest():
    found = average_on_grid(np.array([[0.25], [0.75]]), np.array([[0.0, 1.0], [4.0, 5.0]]), np.arange(6.0), 1.0)
    assert found.ravel().tolist() == [0.25, 0.25, 0.25, 0.75, 0.75, 0.75]


def test_lengths_out_of_range_and_broken_recordings_are_refused(tmp_path):
    for arguments, words in (
        ({"grid_s": 0.0}, "grid_s must be above 0. Received: 0.0"),
        ({"grid_s": float("nan")}, "grid_s must be above 0. Received: nan"),
        ({"grid_s": 5.0, "hop_s": 6.0}, "hop_s must be above 0 and at most the model's window of 5 s. Received: 6"),
        ({"grid_s": 5.0, "hop_s": -1.0}, "hop_s must be above 0"),
    ):
        with pytest.raises(UserError, match=words):
            grid_rule(engine(5.0), **arguments)
    (tmp_path / "a.wav").write_bytes(b"no audio")
    with pytest.raises(UserError, match=r"a\.wav"):
        grid_scores(engine(5.0), tmp_path / "a.wav")
