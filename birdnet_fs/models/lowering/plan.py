"""Traverse the graph of a Functional Keras model and plan one torch call per layer or chain of layers."""

import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import keras
import torch
from keras import layers
from torch import Tensor

from birdnet_fs.models.lowering import rules_attention, rules_conv, rules_layers, rules_quantized, rules_recurrent
from birdnet_fs.models.lowering.calls import LayerContext, LoweredCall, Weights, as_dtype
from birdnet_fs.models.lowering.rules_conv import follows

ATTENDED = ("value", "key")  # tensor arguments of an attention layer after the query
RULES = rules_layers.RULES | rules_conv.RULES | rules_recurrent.RULES | rules_attention.RULES | rules_quantized.RULES


class Step(NamedTuple):
    """One torch call and the slots of the values that it reads and writes.

    Attributes:
        name: Name of the layer.
        call: The torch call.
        weights: Function that returns the weights.
        sources: Slots of the inputs.
        target: Slot of the output.
        done: Slots that no later step reads.
        size: Numbers in the output for one segment; 0 for a view of the input.
        state: Variables that the call writes in training: moving statistics, ranges, states of random generators.
    """

    name: str
    call: LoweredCall
    weights: Callable[[], Weights]
    sources: tuple[int, ...]
    target: int
    done: tuple[int, ...]
    size: int = 0
    state: tuple[Any, ...] = ()


class Value:
    """A tensor of the graph and its slots: in Keras' order of axes (False), channels first (True), or both.

    Args:
        shape: Shape of the tensor in Keras' order of axes.
        channels_first: Order of the first slot.
        slot: The first slot.
    """

    def __init__(self, shape: Sequence[int | None], channels_first: bool, slot: int) -> None:
        self.shape = tuple(shape)
        self.slots = {channels_first and len(shape) > 2: slot}

    @property
    def channels_first(self) -> bool:
        """Whether there is a slot in the order channels first."""
        return True in self.slots


class Plan:
    """The steps found so far.

    Args:
        fold: Whether every BatchNormalization is folded into the convolution before it.
    """

    def __init__(self, fold: bool) -> None:
        self.fold = fold
        self.steps: list[Step] = []
        self.slow_layers: list[str] = []
        self.n_slots = 1  # that of the input

    def add(
        self, call: LoweredCall, sources: tuple[int, ...], name: str, size: int = 0, state: tuple[Any, ...] = ()
    ) -> int:
        """Append a step.

        Args:
            call: The torch call.
            sources: Slots of its inputs.
            name: Name of the layer.
            size: Numbers in the output for one segment. Default: 0.
            state: Variables that the call writes in training. Default: ().

        Returns:
            The slot of its output.
        """
        self.n_slots += 1
        weights = call.weights
        if self.fold:
            taken = copied(weights())
            weights = lambda: taken  # noqa: E731 - a call takes a function of no arguments
        self.steps.append(Step(name, call, weights, sources, self.n_slots - 1, (), size, state))
        return self.n_slots - 1

    def read(self, value: Value, channels_first: bool) -> int:
        """Slot of a value in an order of axes; a step that permutes it is added if only the other order exists."""
        rank = len(value.shape)
        wanted = channels_first and rank > 2
        if wanted not in value.slots:
            axes = (0, rank - 1, *range(1, rank - 1)) if wanted else (0, *range(2, rank), 1)
            permute = LoweredCall(lambda training, weights, x: x.permute(axes))
            value.slots[wanted] = self.add(permute, (value.slots[not wanted],), "")
        return value.slots[wanted]

    def walk(self, graph: Any, inputs: list[Value]) -> list[Value]:
        """Plan the calls of a graph with the given inputs and return the values of its outputs."""
        values = {id(tensor): value for tensor, value in zip(graph.inputs, inputs, strict=True)}
        readers: dict[int, list[Any]] = {id(tensor): [None] for tensor in graph.outputs}  # read by the caller
        nodes = _nodes(graph)
        for node in nodes:
            for tensor in node.input_tensors:
                readers.setdefault(id(tensor), []).append(node)
        done: set[int] = set()
        for node in nodes:
            if id(node) in done:
                continue
            layer, tensors = node.operation, _tensors(node)
            inner = functional_graph(layer) if isinstance(layer, keras.Model) else None
            if tensors is not None and inner is not None and not why_not_lowered(inner):
                results = self.walk(inner, [values[id(tensor)] for tensor in tensors])
                values.update({id(tensor): value for tensor, value in zip(node.outputs, results, strict=True)})
                continue
            call = None
            if tensors is not None:
                sources = [values[id(tensor)] for tensor in tensors]
                for chain in (_chain(node, readers, self.fold), [node]):
                    call = _call(chain, sources)
                    if call is not None:
                        break
            if call is None:
                sources, chain = [values[id(tensor)] for tensor in node.input_tensors], [node]
                call = _keras_call(node)
                if not _is_direct(layer):
                    self.slow_layers.append(layer.name)
            done.update(id(member) for member in chain)
            # zero padding in front of a convolution has no weights: the step has the name of the layer with weights
            name = next((member.operation.name for member in chain if _weights_of(member.operation)), layer.name)
            result = chain[-1].outputs[0]
            size = math.prod(n or 1 for n in result.shape[1:])
            state = tuple(variable for member in chain for variable in _state_of(member.operation))
            slots = tuple(self.read(source, call.channels_first) for source in sources)
            slot = self.add(call, slots, name, size, state)
            values[id(result)] = Value(result.shape, call.channels_first, slot)
        return [values[id(tensor)] for tensor in graph.outputs]

    def finished(self, outputs: Iterable[int]) -> list[Step]:
        """The steps, each with the values to release after it, to save memory."""
        last_read = {source: i for i, step in enumerate(self.steps) for source in step.sources}
        last_read.update(dict.fromkeys(outputs, len(self.steps)))
        return [
            step._replace(done=tuple({source for source in step.sources if last_read[source] == i}))
            for i, step in enumerate(self.steps)
        ]


def copied(weights: Weights) -> Weights:
    """Copies of weights of any shape [...] in torch's memory layout, which kernels of convolutions have already."""
    return tuple(
        weight
        if weight is None
        else weight.detach().clone(memory_format=torch.preserve_format if weight.ndim == 4 else torch.contiguous_format)
        for weight in weights
    )


def functional_graph(model: Any) -> Any:
    """The Functional model that holds the graph of a Sequential model, or the model itself."""
    return getattr(model, "_functional", None) or model


def why_not_lowered(graph: Any) -> str:
    """The reason why a graph cannot be lowered, or "" if it can."""
    if not hasattr(graph, "_nodes_by_depth"):
        return f"{type(graph).__name__} {graph.name!r} has no graph (subclassed, or without an input shape)"
    for layer in graph._flatten_layers(include_self=False):
        if isinstance(layer, layers.Masking) or getattr(layer, "mask_zero", False):
            return f"layer {layer.name!r} creates a mask"
        if layer.compute_dtype != layer.variable_dtype:
            return f"layer {layer.name!r} has the policy {layer.dtype_policy.name}; use float32 and torch.autocast"
    for node in _nodes(graph):
        inner = functional_graph(node.operation) if isinstance(node.operation, keras.Model) else None
        if len(node.outputs) != 1 and (inner is None or why_not_lowered(inner)):
            return f"layer {node.operation.name!r} has {len(node.outputs)} outputs"
    return ""


def _nodes(graph: Any) -> list[Any]:
    """The calls of the graph in topological order."""
    depths = graph._nodes_by_depth
    return [node for depth in sorted(depths, reverse=True) for node in depths[depth] if not node.is_input]


def _tensors(node: Any) -> list[Any] | None:
    """The tensors that a layer was called with, in the order of its arguments.

    None if other arguments were given, or if the call has side effects (activity regularization).
    """
    if not isinstance(node.operation, layers.Layer) or getattr(node.operation, "activity_regularizer", None):
        return None
    signature = inspect.signature(node.operation.call)
    try:
        given = signature.bind(*node.arguments.args, **node.arguments.kwargs).arguments
    except TypeError:  # arguments that Keras removes before the call
        return None
    tensors: list[Any] = []
    for i, (name, value) in enumerate(given.items()):
        several = value if isinstance(value, (list, tuple)) else [value]
        if (i == 0 or name in ATTENDED) and all(isinstance(x, keras.KerasTensor) for x in several):
            tensors += several
        # the model's `training` overrides one that was given while the graph was built, as in Keras
        elif name != "training" and value is not None and value is not signature.parameters[name].default:
            return None
    return tensors


def _chain(node: Any, readers: dict[int, list[Any]], fold: bool) -> list[Any]:
    """Nodes that become one step: zero padding -> convolution -> normalization (folded) -> activation."""
    chain = [node]
    while True:
        last = chain[-1]
        following = readers[id(last.outputs[0])]
        if len(following) != 1 or following[0] is None or not _tensors(following[0]):
            return chain
        if not follows(last, following[0], fold):
            return chain
        chain.append(following[0])


def _call(chain: list[Any], sources: list[Value]) -> LoweredCall | None:
    """The torch call of a chain, or None if no rule supports it."""
    layer = chain[0].operation
    rule = RULES.get(type(layer))
    channels_first = any(source.channels_first for source in sources)
    behind = tuple(node.operation for node in chain[1:])
    return (
        rule(LayerContext(layer, tuple(source.shape for source in sources), behind, channels_first)) if rule else None
    )


def _weights_of(operation: Any) -> list[Any]:
    return operation.weights if isinstance(operation, layers.Layer) else []


def _state_of(operation: Any) -> list[Any]:
    """Variables that an operation writes in training; kernels of a frozen layer are none."""
    if not isinstance(operation, layers.Layer):
        return []
    parts = operation._flatten_layers()
    return [
        variable
        for part in parts
        for variable in (*part._non_trainable_variables, *(seed.state for seed in part._seed_generators))
    ]


def _is_direct(operation: Any) -> bool:
    """Whether an operation can be called without `Layer.__call__`: plain operations and layers of this package."""
    return not isinstance(operation, layers.Layer) or (
        type(operation).__module__.startswith("birdnet_fs.") and not isinstance(operation, keras.Model)
    )


def _keras_call(node: Any) -> LoweredCall:
    """A call of the layer or operation through Keras."""
    operation, arguments = node.operation, node.arguments
    keys = [id(tensor) for tensor in node.input_tensors]
    takes_training = "training" in inspect.signature(operation.call).parameters
    called, dtype = operation, None
    if _is_direct(operation):
        called = operation.call
        if getattr(operation, "autocast", False):
            dtype = getattr(torch, operation.compute_dtype)

    def run(training: bool, weights: Weights, *inputs: Tensor) -> Any:
        if dtype is not None:  # Keras' own cast: a layer of float32 under autocast
            inputs = tuple(as_dtype(x, dtype) if x.is_floating_point() else x for x in inputs)
        args, kwargs = arguments.fill_in(dict(zip(keys, inputs, strict=True)))
        if takes_training:
            kwargs["training"] = training
        return called(*args, **kwargs)

    return LoweredCall(run, variables=tuple(_weights_of(operation)))
