"""A float network as one that computes in 8 bits: what is trained on for int8 without a loss, and what is exported.

Source: Jacob et al. 2018, https://arxiv.org/abs/1712.05877, section 3 (quantized_layers.py has the rounding). The graph
is walked once; quantized_rules.py has what becomes of each layer. BatchNormalization goes into the convolution or dense
layer before it (through an average pooling too, which gives the same); where there is none it becomes a depthwise
convolution of one cell, a factor and an offset for each channel. SiLU becomes x times its sigmoid, each rounded,
because that is what a runtime computes. What every operator gives is rounded in a range of its own, "<layer>_range";
layers that only move values, and dropout, keep the range of their input.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import keras
from keras import activations, layers

from birdnet_fs.core.errors import UserError
from birdnet_fs.models.quantization.fake_quant import FakeQuantize
from birdnet_fs.models.quantization.rules import RULES, Value, Weights, is_joined, is_norm, relu

SUFFIX = "_range"  # of the layer that rounds what a layer gives
SIGMOID = (0.0, 255 / 256)  # the range that TFLite gives a sigmoid's result, whatever was learned


def quantize(model: keras.Model) -> keras.Model:
    """The same network with its weights, computing in 8 bits; its ranges are those of nothing yet (0 to 1).

    Args:
        model: A Functional float network of `models.build` of a convolutional family with the head "linear".

    Returns:
        A Functional model of the same name, input and shape of the logits. Layers with weights keep their names;
        BatchNormalization is gone.

    Raises:
        UserError: A layer has no counterpart in 8 bits; it is named.
    """
    walk = QuantizingWalk(model)
    made = keras.Model(_one(walk.inputs), _one(walk.outputs), name=model.name)
    for layer, values in walk.values.items():
        layer.kernel.assign(values.kernel.astype("float32"))
        layer.bias.assign(values.bias.astype("float32"))
    return made


def _one(tensors: list[Any]) -> Any:
    return tensors[0] if len(tensors) == 1 else tensors


def ranges(model: keras.Model) -> Iterator[FakeQuantize]:
    """The layers of a quantized network that learn a range, in the order of the graph."""
    yield from (layer for layer in model.layers if isinstance(layer, FakeQuantize) and layer.bounds is None)


def set_phase(model: keras.Model, phase: str) -> None:
    """Let the ranges of a network be measured, learn, or stay (`FakeQuantize.phase`)."""
    for layer in model.layers:
        if isinstance(layer, FakeQuantize):
            layer.phase = phase


def is_quantized(model: keras.Model) -> bool:
    """Whether `quantize` made the network."""
    return any(True for _ in ranges(model))


class QuantizingWalk:
    """The new graph of a float network, with what its layers with weights start with.

    Args:
        model: As in `quantize`.

    Attributes:
        inputs: Of the new graph, as many as the network has.
        outputs: The same.
        values: By new layer.
    """

    def __init__(self, model: keras.Model) -> None:
        self.model = model
        self.values: dict[Any, Weights] = {}
        nodes = [n for depth in sorted(model._nodes_by_depth, reverse=True) for n in model._nodes_by_depth[depth]]
        self.readers: dict[int, list[Any]] = {id(tensor): [None] for tensor in model.outputs}
        for node in nodes:
            for tensor in node.input_tensors:
                self.readers.setdefault(id(tensor), []).append(node.operation)
        known: dict[int, Value] = {}
        self.inputs = []
        for tensor in model.inputs:
            self.inputs.append(keras.Input(tensor.shape[1:], name=tensor.name, dtype=tensor.dtype))
            known[id(tensor)] = self.rounded(Value(self.inputs[-1], tensor.name))
        for node in nodes:
            if node.is_input:
                continue
            value = self.of(node.operation, [known[id(tensor)] for tensor in node.input_tensors])
            known[id(node.outputs[0])] = self.after_activation(value, self.readers[id(node.outputs[0])])
        self.outputs = [known[id(tensor)].tensor for tensor in model.outputs]

    def of(self, layer: Any, given: list[Value]) -> Value:
        """What a layer of the float network gives in the new one."""
        rule = RULES.get(type(layer))
        if rule is None:
            raise self.unknown(f"a layer {layer.name!r} ({type(layer).__name__})")
        return replace(rule(self, layer, given), name=layer.name)

    def unknown(self, what: str) -> UserError:
        """The refusal of a network that has `what`."""
        return UserError(
            f"{self.model.name} has {what} that training in 8 bits does not know; export the float run without "
            "training: birdnet-fs export RUN --precision int8, dynamic or fp16."
        )

    def after_activation(self, value: Value, readers: list[Any]) -> Value:
        """Round a value, unless the one layer that reads it becomes part of the same operator."""
        if len(readers) != 1:
            value = replace(value, source=None)
        waits = value.grid is None and len(readers) == 1
        if waits and (is_joined(readers[0]) or (is_norm(readers[0]) and value.source is not None)):
            return value
        return self.rounded(value)

    def rounded(self, value: Value, name: str = "", bounds: tuple[float, float] | None = None) -> Value:
        """The value in 8 bits; what is there already stays."""
        if value.grid is not None:
            return value
        grid = FakeQuantize(bounds, name=f"{name or value.name}{SUFFIX}")
        return replace(value, tensor=grid(value.tensor), grid=grid)

    def with_weights(self, layer: Any, value: Value, weights: Weights) -> Value:
        """Call a new layer with weights."""
        self.values[layer] = weights
        return Value(layer(self.rounded(value).tensor), layer.name, source=layer)

    def with_activation(self, value: Value, function: Any, name: str, result: str) -> Value:
        """A value behind an activation whose layer is to be called `name`; what goes in is rounded as `result`."""
        if function is activations.linear:
            return value
        if function in (activations.relu, activations.relu6):
            highest = 6.0 if function is activations.relu6 else None
            return relu(value, layers.ReLU(highest, name=name))
        if function not in (activations.sigmoid, activations.silu):
            raise self.unknown(f"an activation {getattr(function, '__name__', function)}")
        value = self.rounded(value, result)
        if function is activations.sigmoid:
            gate = Value(layers.Activation("sigmoid", name=name)(value.tensor), name)
            return self.rounded(gate, name, SIGMOID)
        gate = Value(layers.Activation("sigmoid", name=f"{name}_gate")(value.tensor), f"{name}_gate")
        gate = self.rounded(gate, bounds=SIGMOID)
        return Value(layers.Multiply(name=name)([value.tensor, gate.tensor]), name)
