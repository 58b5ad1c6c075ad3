"""Windows over a stream against cutting the whole recording at once."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from birdnet_fs.plumbing.errors import UserError
from birdnet_fs.scoring.windows import Window, batched, hop_samples, min_rest_samples, windows


def brute(signal, n_samples, hop, min_rest):
    """(start, n_real, waveform) from the definition, with the whole recording in memory."""
    found = []
    covered = 0  # samples that a window before has seen
    for start in range(0, max(len(signal), 1), hop):
        piece = signal[start : start + n_samples]
        whole = len(piece) == n_samples
        new = len(signal) - covered
        if whole or (len(signal) and not found) or (found and covered < len(signal) and new >= min_rest):
            found.append((start, len(piece), np.pad(piece, (0, n_samples - len(piece)))))
            covered = min(start + n_samples, len(signal))
        if not whole:
            break
    return found


@st.composite
def streams(draw):
    length = draw(st.integers(0, 90))
    cuts = sorted(draw(st.lists(st.integers(0, length), max_size=6)))
    n_samples = draw(st.integers(1, 24))
    return length, cuts, n_samples, draw(st.integers(1, n_samples)), draw(st.integers(1, n_samples))


@given(streams())
def test_windows_equal_brute_force(case):
    length, cuts, n_samples, hop, min_rest = case
    signal = np.arange(1, length + 1, dtype=np.float32)
    found = list(windows(np.split(signal, cuts), n_samples=n_samples, hop=hop, min_rest=min_rest))
    wanted = brute(signal, n_samples, hop, min_rest)
    assert [(w.start, w.n_real) for w in found] == [(start, real) for start, real, _ in wanted]
    for window, (_, _, waveform) in zip(found, wanted, strict=True):
        assert window.waveform.dtype == np.float32
        np.testing.assert_array_equal(window.waveform, waveform)


def test_rest_rule():
    def spans(length):
        cut = windows([np.ones(length, np.float32)], n_samples=10, hop=10, min_rest=4)
        return [(w.start, w.n_real) for w in cut]

    assert spans(0) == []
    assert spans(1) == [(0, 1)]  # shorter than one window: always one
    assert spans(13) == [(0, 10)]  # three left: dropped
    assert spans(14) == [(0, 10), (10, 4)]
    assert spans(20) == [(0, 10), (10, 10)]


def test_rest_is_what_no_window_covers():
    # 11 samples, windows of 10 every 2: the second window would hold 9 samples, but only one is new
    cut = list(windows([np.ones(11, np.float32)], n_samples=10, hop=2, min_rest=2))
    assert [w.start for w in cut] == [0]


def test_memory_does_not_grow_with_the_recording():
    def peak(n_blocks):
        blocks = (np.ones(50_000, np.float32) for _ in range(n_blocks))
        tracemalloc.start()
        count = sum(len(b) for b in batched(windows(blocks, n_samples=20_000, hop=10_000, min_rest=1), 4))
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert count == n_blocks * 5 - 1
        return most

    assert peak(400) < 1.5 * peak(20)


def test_batched_keeps_all():
    stream = [Window(i, 1, np.zeros(1, np.float32)) for i in range(7)]
    assert [[w.start for w in b] for b in batched(stream, 3)] == [[0, 1, 2], [3, 4, 5], [6]]


@pytest.mark.parametrize("overlap", [-0.1, 5.0, 6.0, 4.9999999, float("nan")])
def test_overlap_out_of_range(overlap):
    with pytest.raises(UserError, match=r"overlap must be 0 or more and below the model's segment of 5 s. Received"):
        hop_samples(5.0, overlap, 32_000)


def test_hop_and_rest_in_samples():
    assert hop_samples(3.0, 1.5, 48_000) == 72_000
    assert min_rest_samples(5.0, 32_000) == 32_000
    assert min_rest_samples(0.2, 22_050) == 2_205
