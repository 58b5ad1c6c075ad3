"""Gradient checkpointing: activations within the parts of a lowered network are computed again in the backward pass.

The forward pass keeps only what one part of the network hands to the next; the backward pass computes a part again
before it passes gradients through it. Training takes less memory and one more forward pass. The parts are chosen by
the sizes of the activations as in algorithm 3 of Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost",
https://arxiv.org/abs/1604.06174. torch.utils.checkpoint recomputes a part, with the same draws of torch's generators
and the same autocast.

A part that runs twice would also update its state twice: the moving statistics of BatchNormalization, ranges of
quantization, and the states of Keras' random generators, whose dropout would then draw another mask. So the
recomputation begins with the state that the part had before, and afterwards the state is that of the forward pass:
gradients and state are equal to those without recomputation, to the last bit where torch is deterministic.
"""

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from birdnet_fs.models.lowering.lower import Lowered, run_steps
from birdnet_fs.models.lowering.plan import Step

N_BUDGETS = 32  # that are tried for the activations within a part


@dataclass(frozen=True)
class Part:
    """Consecutive steps of a lowered network.

    Attributes:
        steps: The steps.
        inputs: Slots of values before this part that it or a later one reads, or that are outputs of the network.
        outputs: Slots of values of this part or before it that a later part reads, or that are outputs of the network.
    """

    steps: tuple[Step, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    @property
    def state(self) -> list[Any]:
        """Variables that the steps write in training."""
        return [variable for step in self.steps for variable in step.state]


class Recomputed(Lowered):
    """A lowered network whose activations are computed again in the backward pass.

    Args:
        lowered: The lowered network, whose steps are used.

    Raises:
        ValueError: The network was not lowered: it runs as plain Keras, without steps to run again.
    """

    def __init__(self, lowered: Lowered) -> None:
        if lowered.fallback:
            raise ValueError(lowered.fallback)
        self.__dict__.update(lowered.__dict__)
        self.parts = parts_of(lowered._steps, [slot for slot, _ in lowered._outputs])

    def _run(self, values: list[Any], training: bool) -> None:
        if not (training and torch.is_grad_enabled()):
            super()._run(values, training)
            return
        *again, last = self.parts
        for part in again:
            _run_part(part, values)
        run_steps(last.steps, values, True)  # its activations are needed at once


def _run_part(part: Part, values: list[Any]) -> None:
    """Run a part in training; its activations are dropped, and computed again in the backward pass."""

    def run(*given: Tensor) -> tuple[Tensor, ...]:
        inner: list[Any] = [None] * len(values)
        for slot, value in zip(part.inputs, given, strict=True):
            inner[slot] = value
        run_steps(part.steps, inner, True)
        return tuple(inner[slot] for slot in part.outputs)

    tensors = [variable.value.detach() for variable in part.state]
    before = [tensor.clone() for tensor in tensors]
    outputs = checkpoint(
        run,
        *[values[slot] for slot in part.inputs],
        use_reentrant=False,
        context_fn=lambda: (contextlib.nullcontext(), _with_state(tensors, before)),
    )
    for slot in part.inputs:
        values[slot] = None
    for slot, value in zip(part.outputs, outputs, strict=True):
        values[slot] = value


@contextlib.contextmanager
def _with_state(tensors: Sequence[Tensor], values: Sequence[Tensor]) -> Iterator[None]:
    """Let tensors have other values during a `with` block."""
    now = [tensor.clone() for tensor in tensors]
    _copy(values, tensors)
    try:
        yield
    finally:
        _copy(now, tensors)


def _copy(values: Sequence[Tensor], tensors: Sequence[Tensor]) -> None:
    with torch.no_grad():
        for tensor, value in zip(tensors, values, strict=True):
            tensor.copy_(value)


def parts_of(steps: Sequence[Step], outputs: Sequence[int]) -> list[Part]:
    """Divide a network into parts so that little memory is needed for its activations.

    Counted are the values that parts hand on, and the activations within the largest part. Parts end where as few
    values as anywhere are handed on: between the blocks of a residual network, not inside of them.

    Args:
        steps: Steps of a lowered network.
        outputs: Slots of its outputs.

    Returns:
        One part or more, in order.
    """
    size_of: dict[int, int] = {}
    for step in steps:  # a view keeps its input
        size_of[step.target] = step.size or size_of.get(step.sources[0], 0)
    handed_on = _handed_on(steps, outputs)
    fewest = min((len(slots) for slots in handed_on[1:-1]), default=1)
    ends = [i for i in range(1, len(steps)) if len(handed_on[i]) == fewest]
    before = [0, *itertools.accumulate(step.size for step in steps)]
    best, least = [0, len(steps)], before[-1]
    for k in range(1, N_BUDGETS):
        cuts, largest = [0], 0
        for i in [*ends, len(steps)]:
            inside = before[i] - before[cuts[-1]]
            if inside > before[-1] * (k / N_BUDGETS) ** 2 or i == len(steps):
                cuts.append(i)
                largest = max(largest, inside)
        needed = largest + sum(size_of.get(slot, 0) for i in cuts[1:-1] for slot in handed_on[i])
        if needed < least:
            best, least = cuts, needed
    return [Part(tuple(steps[first:end]), handed_on[first], handed_on[end]) for first, end in itertools.pairwise(best)]


def _handed_on(steps: Sequence[Step], outputs: Sequence[int]) -> list[tuple[int, ...]]:
    """Slots of the values that are there before each step and after the last one, and are still needed."""
    there, found = {0}, []
    for step in steps:
        found.append(tuple(sorted(there)))
        there = (there | {step.target}) - set(step.done)
    return [*found, tuple(sorted(there & set(outputs)))]
