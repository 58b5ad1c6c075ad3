"""Heads trained by gradients: the loss against the one of the other heads, mixup, seeds, learning."""

import dataclasses

import numpy as np
import pytest
import tolerances
import torch
from embedded_clips import clips_with_class_in_tokens, embedded_clips, head_experiment

from birdnet_fs.training.encoder_heads.gradient import _mixed, cross_entropy, solve_by_gradient
from birdnet_fs.training.encoder_heads.logistic import CrossEntropy
from birdnet_fs.training.encoder_heads.transform import fit_transform

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("multi_label", [False, True])
def test_loss_of_all_rows_is_that_of_the_other_heads(multi_label):
    targets = np.eye(3)[np.arange(12) % 3]
    weights, factors, z = RNG.dirichlet(np.ones(12)), np.array([1.0, 2.0, 0.5]), RNG.standard_normal((12, 3))
    expected, _ = CrossEntropy(targets, weights, multi_label, factors, np.ones(3, bool))(z)
    given = (torch.tensor(a, dtype=torch.float32) for a in (z, targets, weights * 12))
    assert float(cross_entropy(multi_label, factors)(*given)) == pytest.approx(expected, abs=tolerances.LOSS)


def test_unknown_targets_have_no_gradient():
    z = torch.randn((4, 3), requires_grad=True)
    targets = torch.tensor([[1.0, -1, 0]] * 4)
    cross_entropy(True, None)(z, targets, torch.ones(4)).backward()
    assert not z.grad[:, 1].any() and (z.grad[:, [0, 2]] != 0).all()


def test_mixup_mixes_rows_targets_and_weights_alike():
    x = torch.tensor(RNG.standard_normal((50, 4)), dtype=torch.float32)
    targets = x[:, :3].clone().abs()
    targets[::5, 1] = -1
    mixed, labels, weights = _mixed(x, targets, x[:, 3], 0.4, np.random.default_rng(1))
    assert not torch.allclose(mixed, x, atol=0.1)
    torch.testing.assert_close(weights, mixed[:, 3])
    unknown = labels[:, 1] == -1
    assert 10 <= int(unknown.sum()) <= 20 and (labels[~unknown] >= 0).all() and (labels[:, 0] >= 0).all()


@pytest.mark.parametrize(("head", "make"), [("mlp", embedded_clips), ("attentive", clips_with_class_in_tokens)])
def test_equal_seeds_give_equal_heads_that_learn(head, make):
    data, experiment = make(), head_experiment(head, epochs=30, hidden=16)
    transform = fit_transform(data, root=False, each=True, tokens=head == "attentive")
    before = torch.random.get_rng_state()
    one, two = (solve_by_gradient(data, transform, [experiment.model], experiment)[0] for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    other = dataclasses.replace(experiment, seed=1)
    three = solve_by_gradient(data, transform, [experiment.model], other)[0]
    assert [row["epoch"] for row in one.history] == list(range(1, 31))
    assert one.history[-1]["train_loss"] < 0.9 * one.history[0]["train_loss"]
    assert one.history[0]["learning_rate"] == 1e-2 > one.history[-1]["learning_rate"]
    for path, value in one.weights.items():
        np.testing.assert_array_equal(value, two.weights[path])
    kernel = "logits/kernel"
    assert not np.allclose(one.weights[kernel], three.weights[kernel], atol=tolerances.CALIBRATED)
    assert (one.score(data).argmax(1) == data.targets.argmax(1)[data.clip]).mean() > 0.8


def test_one_vs_rest_logits_have_no_fitted_bias_and_absent_classes_a_low_one():
    data, experiment = embedded_clips(multi_label=True), head_experiment("mlp", multi_label=True, epochs=2)
    data.targets[:, 2] = 0
    transform = fit_transform(data, root=False, each=True)
    (solution,) = solve_by_gradient(data, transform, [experiment.model], experiment)
    bias = solution.weights["logits/bias"]
    assert not bias[:2].any() and bias[2] == pytest.approx(-np.log(len(data.clip) + data.n_clips + 1))
