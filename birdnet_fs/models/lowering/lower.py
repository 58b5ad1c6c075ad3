"""Lower a Functional Keras model to a flat list of torch calls over the model's own Parameters (torch backend).

Keras on torch is 2-4 times slower than the same network in plain PyTorch: every layer call runs through
`Layer.__call__`, NHWC convolutions copy their input into another layout, BatchNormalization is seven separate
operations, and recurrent layers loop over the frames in Python. `lower` traverses the graph once (plan.py) and stores
one torch function per layer, made by the rules in rules_*.py; `as_module` returns a module for torch's exporters. The
lowered model has no weights of its own: training it trains the Keras model, and saving the Keras model saves the
result. A layer without a rule, or with a configuration that its rule does not support, is called through Keras, which
gives the same result more slowly.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import keras
import torch
from torch import Tensor

from birdnet_fs.core.errors import UserError
from birdnet_fs.models.lowering.calls import Weights, as_dtype
from birdnet_fs.models.lowering.plan import Plan, Step, Value, copied, functional_graph, why_not_lowered


class Lowered:
    """A lowered model: a callable that uses the Parameters of the Keras model, not a copy.

    Args:
        model: The Keras model whose Parameters are used.
        fallback: Reason for running the whole model as plain Keras; "" if it was lowered.
        folded: Whether the weights were copied, with BatchNormalization folded in (inference only).

    Attributes:
        slow_layers: Names of the layers that are called through Keras.
    """

    def __init__(self, model: keras.Model, *, fallback: str = "", folded: bool = False) -> None:
        self.model = model
        self.fallback = fallback
        self.folded = folded
        self.slow_layers: list[str] = []
        self._steps: list[Step] = []
        self._n_values = 0
        self._outputs: list[tuple[int, torch.dtype]] = []
        self._input_dtype = torch.float32

    def __call__(self, x: Any, training: bool = False) -> Any:
        """Output of the model for a batch.

        Args:
            x: Input of the model [batch, ...]: a tensor on the device of the weights, or an array.
            training: If True, dropout draws from torch's generator, and BatchNormalization uses the statistics of the
                batch and updates its moving statistics, as in Keras.

        Returns:
            A tensor of the dtype of the model's output (float32 logits under `torch.autocast` too); for a model with
            several outputs a tuple in the order of `model.outputs`.

        Raises:
            ValueError: `training=True` on a folded model.
        """
        if training and self.folded:
            raise ValueError(
                "A model lowered with fold=True is for inference only; lower it with fold=False to train it."
            )
        if self.fallback:
            outputs = keras.tree.flatten(self.model(x, training=training))
            return outputs[0] if len(outputs) == 1 else tuple(outputs)
        if not isinstance(x, Tensor):
            x = torch.as_tensor(x, device=self.model.weights[0].value.device)
        values: list[Any] = [None] * self._n_values
        values[0] = as_dtype(x, self._input_dtype)
        self._run(values, training)
        outputs = tuple(as_dtype(values[i], dtype) for i, dtype in self._outputs)
        return outputs[0] if len(outputs) == 1 else outputs

    def _run(self, values: list[Any], training: bool) -> None:
        run_steps(self._steps, values, training)


def run_steps(steps: Sequence[Step], values: list[Any], training: bool) -> None:
    """Run consecutive steps.

    Args:
        steps: The steps.
        values: Tensor by slot [n_slots], None for those that are not computed yet or no longer needed; changed.
        training: Whether layers compute as in training.
    """
    for step in steps:
        values[step.target] = step.call.run(training, step.weights(), *[values[i] for i in step.sources])
        for i in step.done:
            values[i] = None


def lower(model: keras.Model, *, fold: bool = False) -> Lowered:
    """Lower a Keras model; the result computes the same as `model(x, training=...)`.

    Kernels of convolutions and LSTMs are stored in torch's memory layout. Shape and values of the Keras variables do
    not change, but their arrays are no longer C-contiguous, which `safetensors.numpy` requires: copy them with
    `np.ascontiguousarray`. Assigned values, freezing and unfreezing take effect; lower the model again after adding or
    replacing layers.

    Args:
        model: A Keras model. A model with one input and no masks is lowered; any other runs as plain Keras, for the
            reason in `.fallback`.
        fold: Whether to copy the current weights and fold every BatchNormalization into the convolution before it.
            For inference only; later changes of the weights have no effect. Default: False.

    Returns:
        The lowered model.

    Raises:
        UserError: The Keras backend is not torch.
    """
    if keras.backend.backend() != "torch":
        raise UserError(
            "A run is scored and trained on the torch backend: set KERAS_BACKEND=torch before Keras is imported, or "
            f"use a file exported from it. Received: KERAS_BACKEND={keras.backend.backend()}"
        )
    graph = functional_graph(model)
    reason = why_not_lowered(graph) or (
        "" if len(graph.inputs) == 1 else f"{graph.name!r} has {len(graph.inputs)} inputs"
    )
    if reason:
        return Lowered(model, fallback=reason)
    plan = Plan(fold)
    outputs = plan.walk(graph, [Value(graph.inputs[0].shape, False, 0)])
    lowered = Lowered(model, folded=fold)
    lowered.slow_layers = plan.slow_layers
    slots = [plan.read(value, channels_first=False) for value in outputs]
    dtypes = [getattr(torch, tensor.dtype) for tensor in graph.outputs]
    lowered._outputs = list(zip(slots, dtypes, strict=True))
    lowered._steps, lowered._n_values = plan.finished(slots), plan.n_slots
    lowered._input_dtype = getattr(torch, graph.inputs[0].dtype)
    return lowered


def as_module(model: keras.Model, *, fold: bool = True) -> torch.nn.Module:
    """The lowered model as a module for inference, for torch.export, torch.jit.trace and both ONNX exporters.

    Weights are buffers named "<layer>.<weight>", copies of the current values: later changes of the model have no
    effect. Convolutions are channels first inside, so that an exported file has few transposes. Each LSTM or GRU is one
    node in ONNX files.

    Args:
        model: A Keras model with one input.
        fold: Whether to fold every BatchNormalization into the convolution before it. Default: True.

    Returns:
        A module in evaluation mode: features [batch, ...] -> outputs of the lowered model.

    Raises:
        ValueError: The model cannot be lowered.
    """
    lowered = lower(model, fold=fold)
    if lowered.fallback:
        raise ValueError(f"The model must be one that can be lowered. Received: {lowered.fallback}")
    return _Module(lowered).eval()


class _Weights(torch.nn.Module):
    """The weights of one step as buffers."""

    def __init__(self, names: Iterable[str], weights: Iterable[Tensor | None]) -> None:
        super().__init__()
        for name, weight in zip(names, weights, strict=True):
            self.register_buffer(name, weight)

    def forward(self) -> Weights:
        return tuple(self._buffers.values())


class _Module(torch.nn.Module):
    """A lowered model whose weights are registered as buffers."""

    def __init__(self, lowered: Lowered) -> None:
        super().__init__()
        self._lowered = lowered
        for i, step in enumerate(lowered._steps):
            call = step.call
            names, weights = call.names, step.weights()
            if call.variables:
                names = tuple(variable.path.replace("/", "_").replace(".", "_") for variable in call.variables)
                weights = tuple(variable.value for variable in call.variables)
                call = replace(call, run=_given(call.run, call.variables))
            if names:
                held = _Weights(names, copied(weights))
                # a layer may be called twice
                self.add_module(step.name if not hasattr(self, step.name) else f"{step.name}_{i}", held)
                lowered._steps[i] = step._replace(call=call, weights=held.forward)

    def forward(self, features: Tensor) -> Any:
        return self._lowered(features)


def _given(run: Callable[..., Any], variables: Sequence[Any]) -> Callable[..., Any]:
    """Run a Keras layer with other values of its variables."""

    def given(training: bool, weights: Weights, *inputs: Tensor) -> Any:
        with keras.StatelessScope(state_mapping=list(zip(variables, weights, strict=True))):
            return run(training, (), *inputs)

    return given
