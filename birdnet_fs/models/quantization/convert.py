"""Convert a float network to one with 8-bit weights and activations, for quantization-aware training and int8 export.

Source: Jacob et al. 2018, https://arxiv.org/abs/1712.05877, section 3. The rounding is in fake_quant.py, the rule for
each layer in rules.py. BatchNormalization is folded into the convolution or dense layer before it, through average
pooling too; without one it becomes a 1x1 depthwise convolution, a factor and an offset for each channel. SiLU becomes
x times sigmoid(x), each rounded, because runtimes compute it so. The output of every operator is rounded in a range of
its own by the layer "<layer>_range"; layers that only move values, and dropout, keep the range of their input.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import keras
from keras import activations, layers

from birdnet_fs.core.errors import UserError
from birdnet_fs.models.quantization.fake_quant import FakeQuantize
from birdnet_fs.models.quantization.rules import RULES, Value, Weights, is_joined, is_norm, relu

SUFFIX = "_range"  # of the name of the layer that rounds the output of a layer
SIGMOID = (0.0, 255 / 256)  # range of a sigmoid's output in TFLite, which is fixed


def quantize(model: keras.Model) -> keras.Model:
    """Convert a network to 8 bits. It has the same weights; its ranges are 0 to 1 until they are measured or trained.

    A layer without an 8-bit counterpart is refused with a UserError that names it.

    Args:
        model: A Functional float network of `models.build` of a quantizable family with the head "linear".

    Returns:
        A Functional model with the same name, input and shape of the logits. Layers with weights keep their names;
        there is no BatchNormalization.
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
    """Set the phase of all ranges of a network (`FakeQuantize.phase`)."""
    for layer in model.layers:
        if isinstance(layer, FakeQuantize):
            layer.phase = phase


def is_quantized(model: keras.Model) -> bool:
    """Whether `quantize` made the network."""
    return any(True for _ in ranges(model))


class QuantizingWalk:
    """Traversal of a float network that builds the graph of the 8-bit network.

    Args:
        model: A Functional float network of `models.build` of a quantizable family with the head "linear".

    Attributes:
        inputs: Inputs of the new graph.
        outputs: Outputs of the new graph.
        values: New layer -> its initial weights.
        readers: Id of a tensor of the float network -> the layers that read it; None stands for the caller.
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
            value = self.convert_layer(node.operation, [known[id(tensor)] for tensor in node.input_tensors])
            known[id(node.outputs[0])] = self.after_activation(value, self.readers[id(node.outputs[0])])
        self.outputs = [known[id(tensor)].tensor for tensor in model.outputs]

    def convert_layer(self, layer: Any, given: list[Value]) -> Value:
        """Output in the new graph of a layer of the float network with the given inputs."""
        rule = RULES.get(type(layer))
        if rule is None:
            raise self.refusal(f"a layer {layer.name!r} ({type(layer).__name__})")
        return replace(rule(self, layer, given), name=layer.name)

    def refusal(self, what: str) -> UserError:
        """The error for a network that has `what`, for example "an activation gelu"."""
        return UserError(
            f"{self.model.name} has {what} that 8-bit training does not support; export the float run without 8-bit "
            "training: birdnet-fs export RUN --precision int8, dynamic or fp16."
        )

    def after_activation(self, value: Value, readers: list[Any]) -> Value:
        """Round a value, unless the only layer that reads it becomes part of the same operator.

        Args:
            value: Output of a layer.
            readers: Layers of the float network that read it.

        Returns:
            The value, rounded or not.
        """
        if len(readers) != 1:
            value = replace(value, source=None)
        single = value.grid is None and len(readers) == 1
        if single and (is_joined(readers[0]) or (is_norm(readers[0]) and value.source is not None)):
            return value
        return self.rounded(value)

    def rounded(self, value: Value, name: str = "", bounds: tuple[float, float] | None = None) -> Value:
        """Round a value to 8 bits unless it is rounded already.

        Args:
            value: The value.
            name: Name of the rounding layer without SUFFIX. Default: that of the value.
            bounds: Fixed range (low, high). Default: None, a learned range.

        Returns:
            The rounded value.
        """
        if value.grid is not None:
            return value
        grid = FakeQuantize(bounds, name=f"{name or value.name}{SUFFIX}")
        return replace(value, tensor=grid(value.tensor), grid=grid)

    def with_weights(self, layer: Any, value: Value, weights: Weights) -> Value:
        """Call a new layer with weights.

        Args:
            layer: The layer, an 8-bit convolution or dense layer.
            value: Input of the layer.
            weights: Initial weights of the layer.

        Returns:
            Its output.
        """
        self.values[layer] = weights
        return Value(layer(self.rounded(value).tensor), layer.name, source=layer)

    def with_activation(self, value: Value, function: Any, name: str, result: str) -> Value:
        """Apply an activation to a value.

        Args:
            value: Input of the activation.
            function: The activation: linear, relu, relu6, sigmoid or silu.
            name: Name of the activation layer.
            result: Name of the layer that rounds the input, without SUFFIX, if it is not rounded yet.

        Returns:
            The output of the activation.
        """
        if function is activations.linear:
            return value
        if function in (activations.relu, activations.relu6):
            highest = 6.0 if function is activations.relu6 else None
            return relu(value, layers.ReLU(highest, name=name))
        if function not in (activations.sigmoid, activations.silu):
            raise self.refusal(f"an activation {getattr(function, '__name__', function)}")
        value = self.rounded(value, result)
        if function is activations.sigmoid:
            gate = Value(layers.Activation("sigmoid", name=name)(value.tensor), name)
            return self.rounded(gate, name, SIGMOID)
        gate = Value(layers.Activation("sigmoid", name=f"{name}_gate")(value.tensor), f"{name}_gate")
        gate = self.rounded(gate, bounds=SIGMOID)
        return Value(layers.Multiply(name=name)([value.tensor, gate.tensor]), name)
