"""The gate: what it lets through and what it does not."""

from pathlib import Path

import numpy as np
import pytest
import scipy.special
import tolerances
from sklearn.metrics import roc_auc_score

from birdnet_fs import schema
from birdnet_fs.export.parity import embeddings
from birdnet_fs.export.parity.compare import compare, expected, size_of_logits
from birdnet_fs.export.parity.inputs import EDGES, Probe
from birdnet_fs.export.parity.tolerances import BUDGETS
from birdnet_fs.runs.run import Run

N, CLASSES = 40, 5


@pytest.fixture
def asked() -> tuple[Probe, np.ndarray]:
    random = np.random.default_rng(3)
    logits = random.normal(0, 3, (len(EDGES) + N, CLASSES)).astype(np.float32)
    targets = np.zeros((len(EDGES) + N, CLASSES), np.float32)
    targets[np.arange(len(EDGES), len(EDGES) + N), np.arange(N) % CLASSES] = 1
    return Probe(np.zeros((len(EDGES) + N, 8), np.float32), targets, "run"), logits


def test_the_same_passes(asked) -> None:
    probe, logits = asked
    result = compare(logits, logits.copy(), probe, "fp32", "softmax")
    assert not result.faults
    assert result.auroc_reference == result.auroc_artefact
    assert (result.n_segments, result.top1_agreement, result.max_abs) == (N, 1.0, 0.0)


@pytest.mark.parametrize("precision", BUDGETS)
def test_just_over_the_budget_is_refused(asked, precision: str) -> None:
    probe, logits = asked
    spread = np.mean([np.std(logits[len(EDGES) :, i].astype(np.float64)) for i in range(CLASSES)])
    allowed = BUDGETS[precision].max_abs * (spread if precision in ("dynamic", "int8") else 1)
    other = logits.astype(np.float64)
    other[7, 2] += 1.1 * allowed
    assert "largest difference" in compare(logits, other, probe, precision, "sigmoid").faults[0]
    other[7, 2] -= 0.2 * allowed
    assert not [f for f in compare(logits, other, probe, precision, "sigmoid").faults if "largest" in f]


@pytest.mark.parametrize(("activation", "steepest"), [("sigmoid", 0.25), ("softmax", 0.5)])
def test_probabilities_are_held_to_what_the_budget_of_logits_allows_them(asked, activation, steepest) -> None:
    probe, logits = asked
    right = 1 / (1 + np.exp(-logits.astype(np.float64)))
    if activation == "softmax":
        right = np.exp(logits.astype(np.float64))
        right /= right.sum(axis=1, keepdims=True)
    result = compare(logits, right, probe, "fp32", activation, answers="probabilities")
    assert not result.faults and result.max_abs < 1e-12 and result.auroc_artefact == result.auroc_reference
    assert compare(
        logits, logits, probe, "fp32", activation, answers="probabilities"
    ).faults  # the activation forgotten
    other = right.copy()
    other[9, 1] += 1.1 * steepest * BUDGETS["fp32"].max_abs
    faults = compare(logits, other, probe, "fp32", activation, answers="probabilities").faults
    assert len(faults) == 1 and "largest difference of a probability" in faults[0]


def test_log_odds_are_held_to_twice_the_budget_of_logits(asked) -> None:
    probe, logits = asked
    right = expected(logits, "log_odds", "softmax")
    result = compare(logits, right, probe, "fp32", "softmax", answers="log_odds")
    assert not result.faults and result.auroc_artefact == result.auroc_reference
    real = scipy.special.softmax(logits[len(EDGES) :].astype(np.float64), axis=1)
    known = roc_auc_score(probe.targets[len(EDGES) :] > 0, real, average="macro")
    assert result.auroc_reference == pytest.approx(known, abs=tolerances.FLOAT64_SUMS)
    assert compare(logits, logits, probe, "fp32", "softmax", answers="log_odds").faults  # the logits as they are
    moved = logits.copy()
    moved[9] += BUDGETS["fp32"].max_abs * np.where(np.arange(logits.shape[1]) == 1, 0.99, -0.99)
    assert not compare(
        logits, expected(moved, "log_odds", "softmax"), probe, "fp32", "softmax", answers="log_odds"
    ).faults
    other = right.copy()
    other[9, 1] += 2.2 * BUDGETS["fp32"].max_abs
    faults = compare(logits, other, probe, "fp32", "softmax", answers="log_odds").faults
    assert len(faults) == 1 and "largest difference of a logit" in faults[0]


def test_another_batch_is_held_to_the_same_budget(asked) -> None:
    probe, logits = asked
    mixed = logits[:9][[1, 0, *range(2, 9)]]  # the rows of a batch in another order
    result = compare(logits, logits, probe, "fp32", "softmax", by_batch={3: mixed})
    assert len(result.faults) == 1 and "in batches of 3" in result.faults[0]
    assert not compare(logits, logits, probe, "fp32", "softmax", by_batch={3: logits[:9]}).faults


def test_permuted_classes_are_refused(asked) -> None:
    probe, logits = asked
    faults = " ".join(compare(logits, np.roll(logits, 1, axis=1), probe, "fp16", "softmax").faults)
    assert "best class agrees" in faults


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_one_nan_is_refused_and_named(asked, value: float) -> None:
    probe, logits = asked
    other = logits.copy()
    other[EDGES.index("silence"), 1] = value
    result = compare(logits, other, probe, "fp32", "softmax")
    assert "silence" in result.faults[0]
    result.to_json()


def test_a_dead_class_is_refused_even_when_both_agree(asked) -> None:
    probe, logits = asked
    logits[:, 4] = 0.25
    faults = compare(logits, logits.copy(), probe, "fp32", "softmax").faults
    assert len(faults) == 2 and "same output for every input" in faults[0]


def test_without_labels_there_is_no_auroc(asked) -> None:
    probe, logits = asked
    result = compare(logits, logits, Probe(probe.waveforms, None, "aviary"), "fp32", "softmax")
    assert result.auroc_reference is None and not result.faults


def test_the_budget_grows_with_the_scale_of_cosines_beyond_the_usual():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20, 3)).astype(np.float32)
    probe = Probe(np.zeros((20, 10), np.float32), None, "made")
    other = logits.copy()
    other[7, 2] += 2 * BUDGETS["fp32"].max_abs
    for scale, allowed in ((1.0, False), (30.0, False), (80.0, True)):
        result = compare(logits, other, probe, "fp32", "softmax", size=scale)
        assert (not result.faults) == allowed
        assert result.to_json()["budget"]["max_abs"] == pytest.approx(BUDGETS["fp32"].max_abs * max(1, scale / 30))


def test_unknown_may_be_constant_and_no_other_class(asked) -> None:
    probe, logits = asked
    logits[:, -1] = 0.5
    assert "same output" in compare(logits, logits, probe, "fp32", "softmax").faults[0]
    assert not compare(logits, logits, probe, "fp32", "softmax", constant=1).faults
    logits[:, 0] = 0.5
    assert "same output" in compare(logits, logits, probe, "fp32", "softmax", constant=1).faults[0]


def test_the_logits_of_distances_are_as_large_as_they_are() -> None:
    logits = np.array([[-400.0, 2.0]])
    for head, distance, scale, size in (
        ("linear", "euclidean", 0.0, 1.0),
        ("prototypes", "cosine", 12.0, 12.0),
        ("prototypes", "euclidean", 0.1, 400.0),
        ("prototypes", "learned", 0.1, 400.0),
    ):
        experiment = schema.Experiment(model=schema.Model(head=head, distance=distance, logit_scale=scale))
        assert size_of_logits(Run(Path(), experiment, ("a", "b")), logits) == size


def embeddings_of() -> np.ndarray:
    """Embeddings of the edges and of N segments that have much in common and differ by lengths of about 4."""
    return (100 + np.random.default_rng(5).normal(size=(len(EDGES) + N, 16))).astype(np.float32)


@pytest.mark.parametrize("precision", embeddings.BUDGETS)
def test_an_embedding_over_its_budget_is_refused(precision: str) -> None:
    x = embeddings_of()
    same = embeddings.compare(x, x, precision, len(EDGES))
    assert not same.faults and same.spread == pytest.approx(4, rel=0.2)
    budget = embeddings.BUDGETS[precision]
    for row in (0, 7) if precision != "int8" else (7,):  # made and real ones; made ones saturate in 8 bits
        other = x.astype(np.float64)
        other[row, 3] += 0.9 * budget.max_error * same.spread
        assert not embeddings.compare(x, other, precision, len(EDGES)).faults
        other[row, 3] += 0.2 * budget.max_error * same.spread
        assert "largest error of an embedding" in embeddings.compare(x, other, precision, len(EDGES)).faults[0]
    moved = embeddings.compare(x, x + 1.1 * budget.mean_error * same.spread / 4, precision, len(EDGES))
    assert "mean error of an embedding" in moved.faults[0]  # 16 numbers, each a quarter of the length


def test_an_embedding_far_from_all_real_ones_may_err_by_more() -> None:
    x = embeddings_of()
    x[0] += 100  # 400 from the others, whose spread is 4
    budget = embeddings.BUDGETS["fp32"].max_error
    for row, allowed in ((0, True), (7, False)):
        other = x.astype(np.float64)
        other[row, 3] += 5 * budget * 4
        assert bool(embeddings.compare(x, other, "fp32", len(EDGES)).faults) is not allowed


def test_embeddings_that_say_nothing_are_refused() -> None:
    x = embeddings_of()
    nan, flat = x.copy(), np.tile(x[:1], (len(x), 1))
    nan[2, 1] = np.nan
    assert "NaN" in embeddings.compare(x, nan, "fp32", len(EDGES)).faults[0]
    found = embeddings.compare(flat, flat, "fp32", len(EDGES))
    assert "the network itself gives the same embedding" in found.faults[0]
    assert found.to_json()["max_error"] is None


def test_a_fault_of_the_embeddings_is_one_of_the_artefact(asked) -> None:
    probe, logits = asked
    x = embeddings_of()
    both = compare(logits, logits, probe, "fp32", "softmax").with_embeddings(
        embeddings.compare(x, x + 1, "fp32", len(EDGES))
    )
    assert "embedding" in both.faults[0] and "embeddings max" in str(both)
    assert both.to_json()["embeddings"]["budget"]["max_error"] == embeddings.BUDGETS["fp32"].max_error


def test_a_segment_with_larger_logits_may_differ_by_more_and_others_may_not(asked) -> None:
    probe, logits = asked
    logits[0] *= 300 / np.abs(logits[0]).max()
    budget = BUDGETS["fp32"].max_abs
    for row, allowed in ((0, True), (7, False)):
        other = logits.astype(np.float64)
        other[row, 2] += 9 * budget
        assert bool(compare(logits, other, probe, "fp32", "softmax").faults) is not allowed


def test_nobody_is_held_to_less_than_the_reference_knows_itself(asked) -> None:
    probe, logits = asked
    other = logits.astype(np.float64)
    other[0, 2] += 3 * BUDGETS["fp32"].max_abs  # silence
    sure = np.zeros(len(EDGES))
    assert compare(logits, other, probe, "fp32", "softmax", doubt=sure).faults
    unsure = np.array([BUDGETS["fp32"].max_abs, 0, 0, 0])
    assert not compare(logits, other, probe, "fp32", "softmax", doubt=unsure).faults
    other[7, 2] += 3 * BUDGETS["fp32"].max_abs  # a real segment
    assert "real segment 4" in compare(logits, other, probe, "fp32", "softmax", doubt=unsure).faults[0]


def test_in_8_bits_made_segments_must_only_be_finite(asked) -> None:
    probe, logits = asked
    other = logits.copy()
    other[: len(EDGES)] = 0.1 * logits[: len(EDGES)] + 5  # saturated
    result = compare(logits, other, probe, "int8", "softmax", by_batch={3: other[:9]})
    assert not result.faults and result.max_abs == result.by_batch[3] == 0
    assert compare(logits, other, probe, "fp16", "softmax").faults
    other[1, 3] = np.nan
    assert "full_scale" in compare(logits, other, probe, "int8", "softmax").faults[0]
