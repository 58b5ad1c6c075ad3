"""Frozen blocks stay where they are, and each block's step is as much smaller as its learning rate."""

import keras
import numpy as np
import pytest
import tolerances
import torch

from birdnet_fs import models
from birdnet_fs.core.errors import UserError
from birdnet_fs.models.lowering.lower import lower
from birdnet_fs.runs.run import model_weights
from birdnet_fs.schema import Finetuning, Optimizer, Schedule, Training
from birdnet_fs.training import finetuning
from birdnet_fs.training.loop import run_epochs

RNG = np.random.default_rng(0)
X, LABEL = torch.from_numpy(RNG.normal(size=(16, 32, 24, 1)).astype(np.float32)), torch.arange(16) % 2
BLOCKS = ("bn0", "stem", "block1", "block2", "block3")


class OneBatch:
    """All of X once an epoch: what the loop needs of TrainingBatches."""

    clips = ()

    def __len__(self) -> int:
        return 1

    def epoch(self, epoch: int, first: int = 0):
        yield X, torch.nn.functional.one_hot(LABEL, 2).float(), torch.arange(16)


def network(**settings) -> keras.Model:
    keras.utils.set_random_seed(0)
    return models.build("cnn/tiny", input_shape=(32, 24, 1), n_classes=2, **settings)


def moved(settings: Training) -> dict[str, np.ndarray]:
    """Change of every weight by a training."""
    model = network()
    before = model_weights(model)
    after = run_epochs(model, OneBatch(), settings, multi_label=False).weights
    return {path: after[path] - value for path, value in before.items()}


def block(path: str) -> str:
    return next((name for name in BLOCKS if path.startswith((f"{name}_", f"{name}/"))), "head")


def test_blocks_stand_in_the_order_of_the_graph_and_the_head_is_none():
    assert tuple(finetuning.blocks_of(network())) == tuple(finetuning.blocks_of(network(head="sed"))) == BLOCKS
    resnet = models.build("resnet/18", input_shape=(32, 32, 1), n_classes=2)
    pairs = [f"block{stage}{repeat}" for stage in (1, 2, 3, 4) for repeat in "ab"]
    assert finetuning.blocks_of(resnet) == ["stem", *pairs]


@pytest.mark.parametrize(("n_blocks", "frozen"), [(0, ()), (2, BLOCKS[:2]), (5, BLOCKS), (-1, BLOCKS)])
def test_frozen_blocks_and_their_statistics_stay(n_blocks, frozen):
    for path, by in moved(
        Training(epochs=2, schedule=Schedule(warmup_epochs=0), finetuning=Finetuning(freeze_blocks=n_blocks))
    ).items():
        assert bool(np.abs(by).max() > 0) == (block(path) not in frozen), path


def test_frozen_norms_use_their_moving_statistics():
    model = network(dropout=0.0)
    finetuning.freeze_blocks(model, -1)
    forward = lower(model)
    with torch.no_grad():
        assert torch.equal(forward(X, training=True), forward(X, training=False))
    finetuning.freeze_blocks(model, 0)
    assert [v.path for v in model.trainable_variables] == ["logits/kernel", "logits/bias"]


def test_more_blocks_than_there_are_is_told():
    with pytest.raises(UserError, match=r"at most 5: the blocks of cnn_tiny are bn0, stem, .*Received: 6"):
        finetuning.freeze_blocks(network(), 6)


@pytest.mark.parametrize("decay", [1.0, 0.5])
def test_each_block_learns_at_its_rate(decay):
    """The first step of Adam is the learning rate wherever the gradient is well above its epsilon."""
    settings = Training(
        epochs=1,
        learning_rate=1e-2,
        optimizer=Optimizer(weight_decay=0.0),
        schedule=Schedule(warmup_epochs=0),
        finetuning=Finetuning(layer_decay=decay),
    )
    largest: dict[str, float] = {}
    for path, by in moved(settings).items():
        if "moving_" not in path:
            largest[block(path)] = max(largest.get(block(path), 0.0), float(np.abs(by).max()))
    expected = {name: 1e-2 * decay ** (5 - i) for i, name in enumerate(BLOCKS)} | {"head": 1e-2}
    assert largest == pytest.approx(expected, rel=tolerances.FIRST_ADAM_STEP)


def test_plain_gradient_descent_steps_by_the_factor_and_decays_kernels_only():
    model = network()
    groups = finetuning.parameter_groups(model, weight_decay=0.1, layer_decay=0.8)
    assert sum(len(group["params"]) for group in groups) == len(model.trainable_variables)
    optimizer = torch.optim.SGD([{**group, "lr": 0.5 * group["factor"]} for group in groups])
    before = {v.path: v.value.detach().clone() for v in model.trainable_variables}
    torch.nn.functional.cross_entropy(lower(model)(X, training=True), LABEL).backward()
    optimizer.step()
    for v in model.trainable_variables:
        rate = 0.5 * (0.8 ** (5 - BLOCKS.index(block(v.path))) if block(v.path) != "head" else 1)
        decay = 0.1 if len(v.shape) > 1 else 0.0
        expected = before[v.path] - rate * (v.value.grad + decay * before[v.path])
        torch.testing.assert_close(v.value.detach(), expected, rtol=0, atol=tolerances.ONE_STEP, msg=v.path)
