"""The triplet loss against the document's formula in plain PyTorch."""

import pytest
import tolerances
import torch

from birdnet_fs.motifs.triplet_loss import PAPER_L2, PAPER_MARGIN, all_triplets_loss, triplet_loss


def naive(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor, margin: float, l2: float) -> torch.Tensor:
    """As the authors write it: norms are square roots of sums."""

    def length(x: torch.Tensor) -> torch.Tensor:
        return torch.sqrt((x**2).sum(dim=1))

    loss = torch.relu(length(a - b) - length(a - c) + margin)
    return (loss + l2 * (length(a) + length(b) + length(c))).mean()


def embeddings(scale: float) -> list[torch.Tensor]:
    drawn = torch.Generator().manual_seed(0)
    return [(scale * torch.randn(6, 8, generator=drawn)).requires_grad_() for _ in range(3)]


@pytest.mark.parametrize(("margin", "l2"), [(50.0, 0.01), (PAPER_MARGIN, PAPER_L2), (0.0, 1.0)])
@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_value_and_gradient_equal_the_formula(margin: float, l2: float, scale: float) -> None:
    ours, theirs = embeddings(scale), embeddings(scale)
    value, expected = triplet_loss(*ours, margin=margin, l2=l2), naive(*theirs, margin, l2)
    torch.testing.assert_close(value, expected, rtol=tolerances.TRIPLET_LOSS, atol=0.0)
    value.backward()
    expected.backward()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=tolerances.TRIPLET_LOSS, atol=tolerances.TRIPLET_LOSS)


@pytest.mark.parametrize("case", ["anchor equals neighbor", "silent anchor", "all equal"])
def test_gradient_is_finite_where_that_of_the_formula_is_nan(case: str) -> None:
    ours, theirs = embeddings(1.0), embeddings(1.0)
    for a, b, c in (ours, theirs):
        with torch.no_grad():
            if case == "silent anchor":
                a[2] = 0
            else:
                b[2] = a[2]
            if case == "all equal":
                c[:], b[:] = a, a
    value, expected = triplet_loss(*ours), naive(*theirs, 50.0, 0.01)
    torch.testing.assert_close(value, expected, rtol=tolerances.TRIPLET_LOSS, atol=0.0)
    value.backward()
    expected.backward()
    assert any(bool(torch.isnan(x.grad).any()) for x in theirs)
    assert all(bool(torch.isfinite(x.grad).all()) for x in ours)
    if case == "anchor equals neighbor":  # the other rows are not affected
        assert all(float(x.grad[[0, 1, 3, 4, 5]].abs().sum()) > 0 for x in ours)


def test_all_triplets_equal_the_mean_over_those_with_a_loss() -> None:
    (a, b, _), (c, d, _) = embeddings(1.0), embeddings(1.0)
    recordings, margin, l2 = torch.tensor([0, 0, 1, 2, 2, 2]), 1.0, 0.1
    losses = []
    for i in range(6):
        for other in (c, d):
            for j in range(6):
                if recordings[i] != recordings[j]:
                    near, far = torch.sqrt(((c[i] - d[i]) ** 2).sum()), torch.sqrt(((c[i] - other[j]) ** 2).sum())
                    losses.append(torch.relu(near - far + margin))
    every = torch.stack(losses)
    norms = torch.sqrt((c**2).sum(1)) + torch.sqrt((d**2).sum(1))
    expected = every.sum() / (every > 0).sum() + l2 * norms.mean()
    assert 0 < int((every > 0).sum()) < len(every)
    value = all_triplets_loss(a, b, recordings, margin=margin, l2=l2)
    torch.testing.assert_close(value, expected, rtol=tolerances.TRIPLET_LOSS, atol=0.0)
    value.backward()
    expected.backward()
    for one, other in ((a, c), (b, d)):
        torch.testing.assert_close(one.grad, other.grad, rtol=tolerances.TRIPLET_LOSS, atol=tolerances.TRIPLET_LOSS)
    same = [x.detach().clone().requires_grad_() for x in (a, a)]
    value = all_triplets_loss(*same, torch.zeros(6), margin=margin, l2=0.0)
    value.backward()
    assert value.item() == 0.0 and all(bool(torch.isfinite(x.grad).all()) for x in same)


def test_half_precision_is_computed_in_float32() -> None:
    a, b, c = (x.detach().to(torch.bfloat16) for x in embeddings(100.0))
    expected = naive(a.float(), b.float(), c.float(), 50.0, 0.01)
    assert triplet_loss(a, b, c).dtype == torch.float32
    torch.testing.assert_close(triplet_loss(a, b, c), expected, rtol=tolerances.TRIPLET_LOSS, atol=0.0)
