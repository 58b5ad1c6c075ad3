import numpy as np
import pytest
import tolerances
import torch
from sklearn.metrics import log_loss

from birdnet_fs import models
from birdnet_fs.schema import Loss, Training
from birdnet_fs.training.cosine_losses import arcface
from birdnet_fs.training.losses import (
    asymmetric,
    binary_cross_entropy,
    cross_entropy,
    focal_binary_cross_entropy,
    focal_cross_entropy,
    soft_auc,
    with_frames,
)
from birdnet_fs.training.objective import supervised_objective

LOGITS = torch.tensor(np.random.default_rng(0).normal(0, 3, (6, 4)), dtype=torch.float32)
HARD = torch.eye(4)[[0, 1, 2, 3, 0, 1]]
LABELS = HARD.argmax(1).numpy()
SOFT = torch.softmax(torch.tensor(np.random.default_rng(1).normal(size=(6, 4)), dtype=torch.float32), 1)
# cosines of all sizes; the true classes' lie on both sides of -cos(margin)
COSINES = np.random.default_rng(2).uniform(-0.8, 0.8, (6, 4))
COSINES[np.arange(6), LABELS] = [-0.99, -0.9, -0.5, 0.0, 0.7, 0.999]


def test_cross_entropy_is_torchs_own() -> None:
    expected = torch.nn.functional.cross_entropy(LOGITS, HARD.argmax(1))
    assert cross_entropy(LOGITS, HARD).item() == pytest.approx(expected.item(), rel=tolerances.LOSS)
    for smoothing in (0.0, 0.1):
        expected = torch.nn.functional.cross_entropy(LOGITS, SOFT, label_smoothing=smoothing)
        assert cross_entropy(LOGITS, SOFT, smoothing).item() == pytest.approx(expected.item(), rel=tolerances.LOSS)


def test_cross_entropy_is_scikit_learns_log_loss() -> None:
    wide = LOGITS.double()
    expected = log_loss(LABELS, torch.softmax(wide, 1).numpy())
    assert cross_entropy(wide, HARD).item() == pytest.approx(expected, rel=tolerances.LOSS_FLOAT64)


def test_binary_cross_entropy_by_its_formula() -> None:
    p = 1 / (1 + np.exp(-LOGITS.numpy().astype(np.float64)))
    y = SOFT.numpy().astype(np.float64) * 0.9 + 0.05
    expected = -(y * np.log(p) + (1 - y) * np.log(1 - p)).mean()
    assert binary_cross_entropy(LOGITS, SOFT, 0.1).item() == pytest.approx(expected, rel=tolerances.LOSS)
    assert binary_cross_entropy(LOGITS.double(), SOFT.double(), 0.1).item() == pytest.approx(
        expected, rel=tolerances.LOSS_FLOAT64
    )


@pytest.mark.parametrize(
    "loss",
    [
        lambda x, y: cross_entropy(x, y, 0.1),
        lambda x, y: binary_cross_entropy(x, y, 0.1),
        lambda x, y: arcface(x, y, 0.1, scale=3.0, margin=0.5),
        lambda x, y: focal_cross_entropy(x, y, 0.1),
        lambda x, y: focal_binary_cross_entropy(x, y, 0.1),
        lambda x, y: asymmetric(x, y, 0.1),
        lambda x, y: soft_auc(x, y, 0.1),
    ],
)
def test_gradients_are_those_of_the_values(loss) -> None:
    logits = torch.tensor(3 * COSINES, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: loss(x, HARD.double()), (logits,))


Y = SOFT.numpy().astype(np.float64)
X = LOGITS.numpy().astype(np.float64)
P = 1 / (1 + np.exp(-X))
WEIGHTS = np.array([0.5, 1.0, 2.0, 4.0])
KNOWN = np.ones((6, 4), bool)
KNOWN[[0, 2, 5], [1, 3, 0]] = False


def in_torch(loss, targets: np.ndarray, **settings) -> float:
    weights = settings.pop("weights", None)
    weights = None if weights is None else torch.tensor(weights)
    return loss(torch.tensor(X), torch.tensor(targets), weights=weights, **settings).item()


def soft_auc_by_pairs(targets: np.ndarray) -> float:
    by_class = []
    for x, y in zip(X.T, targets.T, strict=True):
        pairs = [
            (y[i] * (1 - y[j]), np.log1p(np.exp(-(x[i] - x[j]))))
            for i in range(len(x))
            for j in range(len(x))
            if i != j and y[i] >= 0 and y[j] >= 0
        ]
        total = sum(weight for weight, _ in pairs)
        if total > 0:
            by_class.append(sum(weight * cost for weight, cost in pairs) / total)
    return float(np.mean(by_class))


def binary(y: np.ndarray, weights: np.ndarray | float = 1.0) -> np.ndarray:
    return -(weights * y * np.log(P) + (1 - y) * np.log(1 - P))


def test_focal_losses_by_their_formulas() -> None:
    p = np.exp(X) / np.exp(X).sum(1, keepdims=True)
    expected = -(WEIGHTS * Y * (1 - p) ** 3 * np.log(p)).sum(1).mean()
    assert in_torch(focal_cross_entropy, Y, gamma=3.0, weights=WEIGHTS) == pytest.approx(
        expected, rel=tolerances.LOSS_FLOAT64
    )
    p_t = Y * P + (1 - Y) * (1 - P)
    expected = (binary(Y, WEIGHTS) * (1 - p_t) ** 2).mean()
    assert in_torch(focal_binary_cross_entropy, Y, weights=WEIGHTS) == pytest.approx(
        expected, rel=tolerances.LOSS_FLOAT64
    )


def test_asymmetric_loss_by_its_formula() -> None:
    for y in (HARD.numpy().astype(np.float64), Y):
        q = np.maximum(P - 0.05, 0)
        expected = -(y * (1 - P) * np.log(P) + (1 - y) * q**4 * np.log(1 - q)).mean()
        assert in_torch(asymmetric, y) == pytest.approx(expected, rel=tolerances.LOSS_FLOAT64)
    plain = in_torch(asymmetric, Y, gamma_positive=0.0, gamma_negative=0.0, clip=0.0)
    assert plain == pytest.approx(in_torch(binary_cross_entropy, Y), rel=tolerances.LOSS_FLOAT64)


def test_soft_auc_by_its_pairs() -> None:
    hard = HARD.numpy().astype(np.float64)
    hard[:, 3] = 0  # a class without positives has no pair
    for targets in (hard, Y, np.where(KNOWN, Y, -1)):
        expected = soft_auc_by_pairs(targets) + in_torch(binary_cross_entropy, targets)
        assert in_torch(soft_auc, targets) == pytest.approx(expected, rel=tolerances.LOSS_FLOAT64)


def test_class_weights_are_torchs() -> None:
    weights = torch.tensor(WEIGHTS)
    x, y = torch.tensor(X), torch.tensor(Y)
    expected = torch.nn.functional.cross_entropy(x, y, weight=weights)
    assert cross_entropy(x, y, weights=weights).item() == pytest.approx(expected.item(), rel=tolerances.LOSS_FLOAT64)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(x, y, pos_weight=weights)
    found = binary_cross_entropy(x, y, weights=weights)
    assert found.item() == pytest.approx(expected.item(), rel=tolerances.LOSS_FLOAT64)


@pytest.mark.parametrize("loss", [binary_cross_entropy, focal_binary_cross_entropy, asymmetric, soft_auc])
def test_what_is_not_known_changes_nothing(loss) -> None:
    targets = torch.tensor(np.where(KNOWN, Y, -1))
    logits = torch.tensor(X, requires_grad=True)
    value = loss(logits, targets, 0.1)
    value.backward()
    assert (logits.grad.numpy()[~KNOWN] == 0).all() and (logits.grad.numpy()[KNOWN] != 0).all()
    other = torch.tensor(np.where(KNOWN, X, 50.0))
    assert loss(other, targets, 0.1).item() == value.item()


def test_the_loudest_frame_of_a_sed_head_counts_its_share() -> None:
    model = models.build("cnn/tiny", input_shape=(64, 32, 1), n_classes=4, head="sed", dropout=0.0)
    objective = supervised_objective(model, Training(loss=Loss(frame_loss=0.3)), multi_label=True)
    frames = torch.tensor(np.random.default_rng(3).normal(size=(6, 5, 4)))
    loss = with_frames(binary_cross_entropy, 0.3)([torch.tensor(X), frames], torch.tensor(Y), 0.1).item()
    loudest = torch.tensor(frames.numpy().max(1))
    expected = 0.7 * in_torch(binary_cross_entropy, Y, label_smoothing=0.1)
    expected += 0.3 * binary_cross_entropy(loudest, torch.tensor(Y), 0.1).item()
    assert loss == pytest.approx(expected, rel=tolerances.LOSS_FLOAT64)
    features = np.random.default_rng(4).normal(size=(2, 64, 32, 1)).astype(np.float32)
    logits, frame_logits = objective.network(features)
    assert tuple(logits.shape) == (2, 4) and tuple(frame_logits.shape)[::2] == (2, 4)
