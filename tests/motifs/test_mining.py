"""Motifs and discords of sequences in which they were placed."""

import mined_recordings
import numpy as np
import pytest

from birdnet_fs.core.errors import UserError
from birdnet_fs.motifs.features import FeatureSettings, open_features
from birdnet_fs.motifs.matrix_profile import MatrixProfile, self_join
from birdnet_fs.motifs.mining import MiningSettings, Pair, discord, mine, motif, motif_group, top_motifs

WINDOW = 12


@pytest.fixture(scope="module")
def placed() -> np.ndarray:
    """Noise with one pattern at 40, 140 and 260, another at 90 and 210, and a loud part at 180."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((320, 6))
    first, second = rng.standard_normal((2, WINDOW, 6)) * 2
    for start, noise in ((40, 0.0), (140, 0.01), (260, 0.1)):
        x[start : start + WINDOW] = first + noise * rng.standard_normal((WINDOW, 6))
    for start, noise in ((90, 0.0), (210, 0.05)):
        x[start : start + WINDOW] = second + noise * rng.standard_normal((WINDOW, 6))
    x[180 : 180 + WINDOW] += 30
    return x


def test_motif_and_discord_are_those_that_were_placed(placed: np.ndarray) -> None:
    profile = self_join(placed, WINDOW)
    found = motif(profile)
    assert found is not None and {found.first, found.second} == {40, 140}
    assert found.distance == profile.distances.min()
    strange = discord(profile)
    assert strange is not None and abs(strange.first - 180) < WINDOW
    assert strange.distance == profile.distances.max() and strange.second == profile.neighbors[strange.first]


def test_top_motifs_do_not_overlap(placed: np.ndarray) -> None:
    found = top_motifs(self_join(placed, WINDOW), 5)
    assert [{pair.first, pair.second} for pair in found[:2]] == [{40, 140}, {90, 210}]
    starts = sorted(start for pair in found for start in (pair.first, pair.second))
    assert len(found) == 5 and min(np.diff(starts)) >= WINDOW
    assert [pair.distance for pair in found] == sorted(pair.distance for pair in found)


def test_group_of_a_motif_holds_all_its_occurrences(placed: np.ndarray) -> None:
    profile = self_join(placed, WINDOW)
    pair = top_motifs(profile, 1)[0]
    assert sorted(motif_group(placed, pair, WINDOW, radius=15)) == [40, 140, 260]
    assert sorted(motif_group(placed, pair, WINDOW)) == [40, 140]
    assert motif_group(placed, pair, WINDOW, radius=0) == [pair.first]


def test_profile_without_neighbors_has_no_motif() -> None:
    for n in (0, 3):
        empty = MatrixProfile(np.full(n, np.inf), np.full(n, -1), 5)
        assert motif(empty) is None and discord(empty) is None and top_motifs(empty, 3) == []
    one = MatrixProfile(np.array([np.inf, 4.0]), np.array([-1, 0]), 5)
    assert motif(one) == discord(one) == Pair(1, 0, 4.0)


def test_numbers_out_of_range_are_refused(placed: np.ndarray) -> None:
    with pytest.raises(UserError, match=r"The number of motifs must be 1 or more\. Received: 0"):
        top_motifs(self_join(placed, WINDOW), 0)
    with pytest.raises(UserError, match=r"radius must be 0 or more. Received: -1"):
        motif_group(placed, Pair(0, 50, 1.0), WINDOW, radius=-1)


def test_only_the_louder_half_is_compared() -> None:
    features = open_features(FeatureSettings("logmel", 50.0))
    waveform = mined_recordings.recording(0)
    waveform[64_000:] *= 1e-3
    mined = mine(waveform, features, MiningSettings(features.settings, 20, louder_half=True))
    profile = mined.profile
    assert mined.n_frames == 201 and not mined.reason
    with_neighbor = np.flatnonzero(profile.neighbors >= 0)
    assert 60 < len(with_neighbor) < 100 and with_neighbor.max() <= 100 and profile.neighbors.max() <= 100
