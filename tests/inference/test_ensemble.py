"""Engines of ensembles, against numpy by hand and the ranks of scipy; the folder is tested in runs/test_ensemble.py."""

import dataclasses
import itertools

import numpy as np
import pytest
import soxr
import tolerances
from ensemble_members import CLASSES, LOWER, SHORTER, SPEC, noise, softmax
from scipy.special import expit
from scipy.stats import rankdata

from birdnet_fs.core.errors import UserError
from birdnet_fs.frontend import in_numpy
from birdnet_fs.inference.ensemble import (
    N_POINTS,
    EnsembleMember,
    combine_scores,
    ensemble_engine,
    position_table,
    positions,
)

# --- how scores are combined --------------------------------------------------------------------------


def test_mean_and_power_by_hand():
    p = softmax(np.random.default_rng(1).normal(size=(12, 5))).reshape(3, 4, 5)
    np.testing.assert_allclose(combine_scores(p, "mean"), (p[0] + p[1] + p[2]) / 3, rtol=tolerances.FLOAT64_SUMS)
    raised = (p[0] ** 3 + p[1] ** 3 + p[2] ** 3) / 3
    wanted = raised / raised.sum(1, keepdims=True)
    np.testing.assert_allclose(combine_scores(p, "power", power=3), wanted, rtol=tolerances.FLOAT64_SUMS)
    single = combine_scores(p, "power", activation="sigmoid", power=3)
    np.testing.assert_allclose(single, raised ** (1 / 3), rtol=tolerances.FLOAT64_SUMS)
    # members that agree keep their probability, and the order of clips is that of the mean of p ** 3
    np.testing.assert_allclose(
        combine_scores(p[[0, 0]], "power", activation="sigmoid"), p[0], rtol=tolerances.FLOAT64_SUMS
    )
    assert (single.argsort(axis=0) == raised.argsort(axis=0)).all()


def test_the_smallest_probability_is_of_the_least_certain_member():
    p = np.array([[[0.7, 0.2, 0.1]], [[0.3, 0.6, 0.1]]])
    assert combine_scores(p, "min", activation="sigmoid").tolist() == [[0.3, 0.2, 0.1]]
    np.testing.assert_allclose(combine_scores(p, "min"), [[0.5, 1 / 3, 1 / 6]], rtol=tolerances.FLOAT64_SUMS)
    excluded = combine_scores(np.array([[[1.0, 0.0]], [[0.0, 1.0]]]), "min")
    np.testing.assert_allclose(excluded, [[0.5, 0.5]])


def test_powers_of_what_is_nearly_nothing():
    p = np.array([[[1e-30, 1.0], [0.0, 0.0]], [[3e-30, 1.0], [0.0, 0.0]]])
    sure = combine_scores(p, "power", activation="sigmoid", power=40)
    np.testing.assert_allclose(sure[0, 0], 3e-30 * 0.5 ** (1 / 40), rtol=tolerances.FLOAT64_SUMS)
    assert sure[1].tolist() == [0.0, 0.0]
    flat = np.full((2, 1, 4), 0.25)
    assert combine_scores(flat, "power", power=1000).tolist() == [[0.25] * 4]


def test_positions_are_scipys_ranks():
    rng = np.random.default_rng(2)
    held_out = rng.integers(0, 12, (40, 3)).astype(np.float32) / 16 + np.float32(0.1)  # many are equal
    found = positions(held_out, position_table(rng.permutation(held_out)))
    np.testing.assert_allclose(found, (rankdata(held_out, axis=0) - 0.5) / 40, rtol=tolerances.FLOAT64_SUMS)
    between = positions(np.linspace(0, 1, 201)[:, None].repeat(3, 1), position_table(held_out))
    assert (np.diff(between, axis=0) > 0).all()
    assert between[0].tolist() == [0, 0, 0]
    assert between[-1].tolist() == [1, 1, 1]


def test_a_large_table_is_thinned_and_keeps_the_ranks():
    held_out = np.random.default_rng(3).beta(0.2, 3, (20 * N_POINTS, 2))
    table = position_table(held_out)
    assert table.shape == (N_POINTS, 2)
    exact = (rankdata(held_out, axis=0) - 0.5) / len(held_out)
    assert np.abs(positions(held_out, table) - exact).max() < 1 / N_POINTS
    with pytest.raises(UserError, match="no rows"):
        position_table(np.zeros((0, 2)))


# --- the engine ---------------------------------------------------------------------------------------


def member(spec, seed, columns=(0, 1, 2), activation="softmax", table=None):
    """A member whose network is one random matrix; and that matrix."""
    kernel = np.random.default_rng(seed).normal(size=(spec.shape[0] * spec.n_mels, 3)) / 200

    def network(features):
        return (features[..., 0].reshape(len(features), -1) @ kernel).astype(np.float32)

    return EnsembleMember(spec, activation, np.array(columns), network, table), kernel


def alone(waveforms, spec, kernel):
    features = in_numpy.log_mel(waveforms, spec)
    return softmax(features.reshape(len(waveforms), -1) @ kernel)


def test_members_of_other_classes_rates_and_lengths_by_hand():
    (one, kernel_1), (two, kernel_2), (three, kernel_3) = (
        member(SPEC, 1),
        member(LOWER, 2, (2, 0, 1)),
        member(SHORTER, 3),
    )
    engine = ensemble_engine([one, two, three], CLASSES, how="mean", identity="x")
    assert (engine.sample_rate_hz, engine.segment_s, engine.n_samples) == (8_000, 0.5, 4_000)
    assert (engine.frontend.fmin_hz, engine.frontend.fmax_hz) == (50.0, 4_000.0)
    given = noise(3)
    given[1, 1500:] = 0  # silence fills the end: the shorter member has one window there, and two of the second
    given[2, 2400:] = 0
    p_1 = alone(given, SPEC, kernel_1)
    lower = np.stack([soxr.resample(row, 8_000, 6_000, quality="HQ") for row in given])
    p_2 = alone(lower, LOWER, kernel_2)[:, [2, 0, 1]]
    windows = [
        [given[0, at : at + 1600] for at in (0, 800, 1600, 2400)],
        [given[1, :1600]],
        [given[2, :1600], given[2, 800:2400]],
    ]
    p_3 = np.stack([alone(np.stack(rows), SHORTER, kernel_3).mean(0) for rows in windows])
    wanted = (p_1 + p_2 + p_3) / 3
    np.testing.assert_allclose(engine.probabilities(given), wanted, atol=tolerances.ENSEMBLE_PROBABILITIES)
    assert np.ptp(p_1 - p_2) > 0.1  # the comparison can fail
    assert np.ptp(p_1 - p_3) > 0.1


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("how", ["mean", "power", "min"])
def test_logits_are_those_of_the_combined_probabilities(how, activation):
    members = [member(SPEC, seed, activation=activation)[0] for seed in (1, 2)]
    kernels = [member(SPEC, seed)[1] for seed in (1, 2)]
    engine = ensemble_engine(members, CLASSES, how=how, identity="x")
    assert (engine.activation, engine.multi_label, engine.gives_ranks) == (activation, activation == "sigmoid", False)
    features = in_numpy.log_mel(noise(4), SPEC).reshape(4, -1)
    make_p = softmax if activation == "softmax" else expit
    p = np.stack([make_p(features @ kernel) for kernel in kernels])
    wanted = combine_scores(p, how, activation=activation)
    np.testing.assert_allclose(engine.probabilities(noise(4)), wanted, atol=tolerances.ENSEMBLE_PROBABILITIES)
    back = softmax(engine.logits(noise(4))) if activation == "softmax" else expit(engine.logits(noise(4)))
    np.testing.assert_allclose(back, wanted, atol=tolerances.ENSEMBLE_PROBABILITIES)


def test_ranks_do_not_depend_on_what_is_scored_beside():
    rng = np.random.default_rng(5)
    held_out = [softmax(rng.normal(size=(30, 3))), expit(rng.normal(size=(50, 3)))]
    tables = [position_table(scores) for scores in held_out]
    members = [member(SPEC, 1, table=tables[0]), member(SPEC, 2, activation="sigmoid", table=tables[1])]
    kernels = [kernel for _, kernel in members]
    engine = ensemble_engine([m for m, _ in members], CLASSES, how="rank", identity="x")
    assert (engine.activation, engine.multi_label, engine.gives_ranks) == ("sigmoid", True, True)
    assert not ensemble_engine([members[0][0]] * 2, CLASSES, how="rank", identity="x").multi_label
    features = in_numpy.log_mel(noise(6), SPEC).reshape(6, -1)
    wanted = np.zeros((6, 3))
    for scores, p in zip(held_out, (softmax(features @ kernels[0]), expit(features @ kernels[1])), strict=True):
        for row, c in itertools.product(range(6), range(3)):
            known = np.sort(scores[:, c])
            places = (rankdata(known) - 0.5) / len(known)
            wanted[row, c] += np.interp(p[row, c], [0, *known, 1], [0, *places, 1]) / 2
    together = engine.probabilities(noise(6))
    np.testing.assert_allclose(together, wanted, atol=tolerances.ENSEMBLE_PROBABILITIES)
    np.testing.assert_allclose(expit(engine.logits(noise(6))), wanted, atol=tolerances.ENSEMBLE_PROBABILITIES)
    each = np.concatenate([engine.probabilities(row[None]) for row in noise(6)])
    np.testing.assert_array_equal(each, together)


def test_each_front_end_is_computed_once(monkeypatch):
    calls = []
    true = in_numpy.log_mel
    monkeypatch.setattr(
        in_numpy, "log_mel", lambda x, spec: calls.append((len(x), spec.sample_rate_hz)) or true(x, spec)
    )
    renamed = dataclasses.replace(SPEC, preset="other name", n_channels=3)
    members = [member(spec, seed)[0] for seed, spec in enumerate((SPEC, LOWER, renamed, SPEC, LOWER))]
    ensemble_engine(members, CLASSES, how="mean", identity="x").logits(noise(4))
    assert sorted(calls) == [(4, 6_000), (4, 8_000)]
