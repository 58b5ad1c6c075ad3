"""Matrix profiles against brute force: every pair of windows, in float64."""

import numpy as np
import pytest
import tolerances

from birdnet_fs.core.errors import UserError
from birdnet_fs.motifs import matrix_profile
from birdnet_fs.motifs.matrix_profile import COLUMNS, ROWS, ab_join, mean_distance, self_join

EXACT, SINGLE = tolerances.JOIN_FLOAT64, tolerances.JOIN_FLOAT32


def sequence(n_frames: int, width: int = 12, seed: int = 0) -> np.ndarray:
    """Frames of length 1 that change slowly, as chroma do, with a part that occurs twice."""
    rng = np.random.default_rng(seed)
    x = np.abs(np.cumsum(rng.standard_normal((n_frames, width)), axis=0))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    third = n_frames // 3
    x[2 * third : 2 * third + third // 2] = x[:third][: third // 2]
    return x


def brute_force(a: np.ndarray, b: np.ndarray, window: int, exclusion: int = -1) -> np.ndarray:
    """Distances of all pairs of windows [n, n_other]; infinite in the exclusion zone."""
    first, second = (np.stack([x[i : i + window].ravel() for i in range(len(x) - window + 1)]) for x in (a, b))
    found = np.stack([np.square(second - row).sum(axis=1) for row in first])
    i, j = np.indices(found.shape)
    found[np.abs(i - j) <= exclusion] = np.inf
    return found


# sizes on both sides of the edges of a tile, which has 128 rows and 2048 columns
SIZES = [(300, 280, 20), (20, 400, 20), (21, 20, 20), (150, ROWS + 19, 20), (40, ROWS + 20, 1), (COLUMNS + 30, 60, 25)]


@pytest.mark.parametrize(("n", "n_other", "window"), SIZES)
def test_ab_join_equals_brute_force(n: int, n_other: int, window: int) -> None:
    a, b = sequence(n, seed=1), sequence(n_other, seed=2)
    expected = brute_force(a, b, window)
    exact = ab_join(a, b, window, precision="float64")
    np.testing.assert_allclose(exact.distances, expected.min(axis=1), rtol=0, atol=EXACT)
    assert len(exact) == n - window + 1 and exact.window == window
    for found in (exact, ab_join(a, b, window)):
        of_neighbors = np.take_along_axis(expected, found.neighbors[:, None], axis=1)[:, 0]
        np.testing.assert_allclose(found.distances, of_neighbors, rtol=0, atol=EXACT)
        assert (of_neighbors - expected.min(axis=1)).max() <= (EXACT if found is exact else SINGLE)


@pytest.mark.parametrize("exclusion", [None, 0, 1, 40, 500])
@pytest.mark.parametrize("n", [60, 400])
def test_self_join_equals_brute_force_beyond_its_exclusion_zone(n: int, exclusion: int | None) -> None:
    x, window = sequence(n), 15
    expected = brute_force(x, x, window, round(window / 2) if exclusion is None else exclusion)
    exact = self_join(x, window, exclusion=exclusion, precision="float64")
    np.testing.assert_allclose(exact.distances, expected.min(axis=1), rtol=0, atol=EXACT)
    for found in (exact, self_join(x, window, exclusion=exclusion)):
        with_neighbor = np.isfinite(expected).any(axis=1)
        np.testing.assert_array_equal(found.neighbors >= 0, with_neighbor)
        rows = np.flatnonzero(with_neighbor)
        of_neighbors = expected[rows, found.neighbors[rows]]
        assert np.isinf(found.distances[~with_neighbor]).all()
        assert (of_neighbors - expected[rows].min(axis=1)).max(initial=0) <= (EXACT if found is exact else SINGLE)


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_windows_that_are_not_active_are_not_compared(precision: str) -> None:
    x, window = sequence(400), 15
    active = np.random.default_rng(1).random(len(x) - window + 1) < 0.4
    expected = brute_force(x, x, window, round(window / 2))
    expected[~active] = expected[:, ~active] = np.inf
    found = self_join(x, window, active=active, precision=precision)
    np.testing.assert_array_equal(found.neighbors >= 0, active)
    assert np.isinf(found.distances[~active]).all()
    rows = np.flatnonzero(active)
    of_neighbors = expected[rows, found.neighbors[rows]]
    assert (of_neighbors - expected[rows].min(axis=1)).max() <= (EXACT if precision == "float64" else SINGLE)
    none = self_join(x, window, active=np.zeros(len(active), bool))
    assert (none.neighbors == -1).all() and np.isinf(none.distances).all()
    with pytest.raises(UserError, match="active must have a value for each of 386 windows"):
        self_join(x, window, active=active[1:])


def test_mean_distance_is_the_mean_over_all_pairs() -> None:
    x = sequence(60)
    active = np.arange(51) % 3 > 0
    pairs = brute_force(x, x, 10)
    np.testing.assert_allclose(mean_distance(x, 10), pairs.mean(), rtol=0, atol=EXACT)
    np.testing.assert_allclose(mean_distance(x, 10, active), pairs[active][:, active].mean(), rtol=0, atol=EXACT)
    assert mean_distance(np.ones((20, 3)), 5) == 0


@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_offsets_of_features_do_not_cost_precision(offset: float) -> None:
    """Log-mel features in decibels are far from zero; distances do not depend on where zero is."""
    a, b = sequence(200, 40, seed=3) + offset, sequence(180, 40, seed=4) + offset
    expected = brute_force(a, b, 10)
    found = ab_join(a, b, 10)
    of_neighbors = np.take_along_axis(expected, found.neighbors[:, None], axis=1)[:, 0]
    assert (of_neighbors - expected.min(axis=1)).max() <= SINGLE


def test_equal_windows_have_distance_zero_and_the_first_neighbor() -> None:
    x = np.tile(sequence(10), (6, 1))
    found = self_join(x, 10, precision="float64")
    np.testing.assert_allclose(found.distances, 0, atol=EXACT)
    assert np.isin(np.abs(found.neighbors - np.arange(51)) % 10, 0).all()


def test_sequences_shorter_than_a_window_have_no_neighbors() -> None:
    x, short = sequence(30), sequence(30)[:9]
    assert len(self_join(short, 10)) == 0 and len(ab_join(short, x, 10)) == 0
    found = ab_join(x, short, 10)
    assert (found.neighbors == -1).all() and np.isinf(found.distances).all() and len(found) == 21


def test_wrong_input_is_refused_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    x = sequence(50)
    broken = x.copy()
    broken[7, 3] = np.nan
    for call, message in (
        (lambda: self_join(x[:, 0], 5), r"features must be numbers \[n_frames, width\]. Received: float64 \[50\]"),
        (lambda: self_join(broken, 5), "features must be finite. Received: 1 frames that are not"),
        (lambda: ab_join(x, x[:, :5], 5), "of one width. Received: 12 and 5"),
        (lambda: self_join(x, 0), "window must be 1 frame or more. Received: 0"),
        (lambda: self_join(x, 5, exclusion=-1), "exclusion must be 0 frames or more. Received: -1"),
    ):
        with pytest.raises(UserError, match=message):
            call()
    monkeypatch.setattr(matrix_profile, "LONGEST_S", 1e-6)
    with pytest.raises(UserError, match=r"A join of 46 windows with 46 others would take about 0\.0 days"):
        self_join(x, 5)
