"""Order, held-out recordings and changes of batches of triplets."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from birdnet_fs.core.errors import UserError
from birdnet_fs.data.ledger import Ledger
from birdnet_fs.motifs.tile2vec.batches import TripletBatches, queue_order
from birdnet_fs.motifs.tile2vec.settings import Tile2VecSettings
from birdnet_fs.motifs.tile2vec.sources import Segments

N_RECORDINGS, PER_RECORDING = 12, 5


class Noise:
    """Segments of noise; each value of a row is a function of its number."""

    def __init__(self, n_samples: int = 160_000) -> None:
        self.recordings = self.held_out_with = np.repeat(np.arange(N_RECORDINGS), PER_RECORDING)
        self.ledger, self.identity, self.n_samples = Ledger(), "noise", n_samples
        self.asked: list[list[int]] = []

    def segments(self, rows: np.ndarray, rng: np.random.Generator, shift_s: float) -> Segments:
        self.asked.append(rows.tolist())
        x = np.stack([np.random.default_rng(r).standard_normal(self.n_samples) for r in rows.tolist()]) * 0.01
        x = x.astype(np.float32)
        return Segments(x, x[::-1].copy(), np.roll(x, 1, axis=0), self.recordings[rows])


def settings(**changes: object) -> Tile2VecSettings:
    return Tile2VecSettings(**({"batch_size": 7, "n_queue": 3} | changes))


def test_queue_order_mixes_few_recordings_and_keeps_every_row() -> None:
    recordings = np.repeat(np.arange(20), 6)
    rows = np.flatnonzero(recordings != 4)
    order = queue_order(rows, recordings, 3, np.random.default_rng(0))
    assert sorted(order.tolist()) == rows.tolist()
    spans = [np.ptp(np.flatnonzero(recordings[order] == r)) for r in set(recordings[order].tolist())]
    assert np.mean(spans) < 40 < len(rows)  # three are mixed at a time
    mixed = [len(set(recordings[order[i : i + 12]].tolist())) for i in range(0, 96, 12)]
    assert min(mixed) >= 3
    whole = queue_order(rows, recordings, 100, np.random.default_rng(0))
    assert sorted(whole.tolist()) == rows.tolist()


def test_recordings_are_held_out_and_incomplete_batches_dropped() -> None:
    source = Noise(4096)
    batches = TripletBatches(source, settings(val_fraction=0.25))
    held_out = set(source.recordings[batches.validation_rows].tolist())
    assert len(held_out) == 3 and not held_out & set(source.recordings[batches.training_rows].tolist())
    assert batches.n_per_pass == 45 // 7 and batches.n_validation == 2  # 15 rows: one is left
    assert TripletBatches(source, settings(val_fraction=0.25, batch_size=6)).n_validation == 3
    everything = TripletBatches(source, settings(val_fraction=0.0))
    assert not everything.n_validation and len(everything.training_rows) == 60
    with pytest.raises(UserError, match=r"54 triplets to train on, fewer than a batch of 55"):
        small = Noise(4096)
        small.recordings = small.held_out_with = np.repeat(np.arange(10), 6)
        TripletBatches(small, settings(batch_size=55))


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Features are the segments themselves."""
    monkeypatch.setattr("birdnet_fs.motifs.tile2vec.batches.network_features", lambda x, spec: x)


def test_batches_depend_on_their_number_and_passes_differ(plain: None) -> None:
    source = Noise(4096)
    batches, again = (TripletBatches(source, settings()) for _ in range(2))
    n = batches.n_per_pass
    first = [batches.training(i) for i in range(2 * n)]
    one_pass = source.asked[:n]
    assert max(Counter(r for rows in one_pass for r in rows).values()) == 1
    assert source.asked[n : 2 * n] != one_pass
    for i in (2 * n - 1, 0, n):
        for part, other in zip(again.training(i), first[i], strict=True):
            np.testing.assert_array_equal(part, other)


def test_anchors_and_neighbors_are_changed_and_distant_segments_are_not(plain: None) -> None:
    source = Noise(16_000)
    changed = TripletBatches(source, settings()).training(0)
    bare = TripletBatches(source, settings(augment=False)).training(0)
    np.testing.assert_array_equal(changed.distant, bare.distant)
    for side in ("anchor", "neighbor"):
        new, old = getattr(changed, side), getattr(bare, side)
        gain_db = 20 * np.log10(np.sqrt(np.mean(new**2, axis=1) / np.mean(old**2, axis=1)))
        assert (np.abs(gain_db) > 0.1).sum() >= 6 and np.abs(gain_db).max() < 24
    assert np.abs(changed.anchor - changed.neighbor[::-1]).max() > 0  # each segment has changes of its own
    validation = TripletBatches(source, settings())
    np.testing.assert_array_equal(validation.validation(0).anchor, validation.validation(0).anchor)


def test_noise_comes_from_background_recordings_where_they_are_given(plain: None, tmp_path: Path) -> None:
    tone = 0.3 * np.sin(2 * np.pi * 9000 * np.arange(64_000) / 32_000)
    soundfile.write(tmp_path / "tone.wav", tone, 32_000)
    shares = []
    for background in (str(tmp_path), ""):
        batches = TripletBatches(Noise(16_000), settings(background=background))
        anchors = np.concatenate([batches.training(number).anchor for number in range(4)])
        power = np.abs(np.fft.rfft(anchors)) ** 2
        shares.append((power[:, 4495:4506].sum(1) / power.sum(1)).max())
    assert shares[0] > 0.02 > 0.01 > shares[1]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="--background must be a folder of recordings"):
        TripletBatches(Noise(16_000), settings(background=str(tmp_path / "empty")))


def test_features_are_power_spectra() -> None:
    batch = TripletBatches(Noise(), settings(batch_size=2)).training(0)
    assert all(part.shape == (2, 65, 2049, 1) and part.dtype == np.float32 and part.min() >= 0 for part in batch[:3])


def test_other_rows_as_distant_segments_need_no_features(plain: None) -> None:
    source = Noise(4096)
    batch = TripletBatches(source, settings(distant="batch")).training(0)
    assert batch.distant.shape == (0, 4096)
    assert batch.recordings.tolist() == source.recordings[source.asked[-1]].tolist()
