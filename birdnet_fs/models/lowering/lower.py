"""A Functional Keras model as a flat list of torch calls over the model's own Parameters (torch backend).

Keras on torch is 2-4 times slower than the same network in plain PyTorch: every layer call runs through
`Layer.__call__`, NHWC convolutions copy their input into another layout, BatchNormalization is seven separate
operations, and recurrent layers walk the frames in Python. `lower` walks the graph once and keeps one torch function
for each layer (lowered_layers.py and its neighbors); `as_module` gives the same to torch's exporters. Nothing in
Keras is changed and no state is kept here: training through the lowered model trains the Keras model, and saving the
Keras model saves the result. A layer without a rule, or set up in a way its rule does not cover, is called as Keras
would call it: right, only slower.
"""

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import keras
import torch
from keras import layers
from torch import Tensor

from birdnet_fs.models.lowering import rules_attention, rules_conv, rules_layers, rules_quantized, rules_recurrent
from birdnet_fs.models.lowering.rules_conv import follows
from birdnet_fs.models.lowering.rules_layers import LayerContext, LoweredCall, Weights, as_dtype

ATTENDED = ("value", "key")  # arguments of an attention layer behind its first
RULES = rules_layers.RULES | rules_conv.RULES | rules_recurrent.RULES | rules_attention.RULES | rules_quantized.RULES


class _Step(NamedTuple):
    name: str
    call: LoweredCall
    weights: Callable[[], Weights]
    sources: tuple[int, ...]
    target: int
    done: tuple[int, ...]  # values that nobody reads any more


class Lowered:
    """What `lower` returns: a callable with the model's weights, not a copy of them.

    Attributes:
        model: The Keras model whose Parameters are used.
        fallback: Why the whole model runs as plain Keras; "" when it was lowered.
        folded: True when weights were copied once, with BatchNormalization folded in (inference only).
        slow_layers: Names of the layers that are called through Keras.
    """

    def __init__(self, model: keras.Model, *, fallback: str = "", folded: bool = False) -> None:
        self.model = model
        self.fallback = fallback
        self.folded = folded
        self.slow_layers: list[str] = []
        self._steps: list[_Step] = []
        self._n_values = 0
        self._outputs: list[tuple[int, torch.dtype]] = []
        self._input_dtype = torch.float32

    def __call__(self, x: Any, training: bool = False) -> Any:
        """The model's output for `x`.

        Args:
            x: Input of the model [batch, ...]: a tensor on the device of the weights, or an array.
            training: True: dropout draws from torch's generator, BatchNormalization uses the statistics of the
                batch and moves its moving ones, as Keras does.

        Returns:
            A tensor of the dtype of the model's output (float32 logits under `torch.autocast` too); of a model with
            several outputs a tuple, in the order of `model.outputs`.

        Raises:
            ValueError: `training=True` on a folded model.
        """
        if training and self.folded:
            raise ValueError("A model lowered with fold=True is for inference; lower it without fold to train.")
        if self.fallback:
            outputs = keras.tree.flatten(self.model(x, training=training))
            return outputs[0] if len(outputs) == 1 else tuple(outputs)
        if not isinstance(x, Tensor):
            x = torch.as_tensor(x, device=self.model.weights[0].value.device)
        values: list[Any] = [None] * self._n_values
        values[0] = as_dtype(x, self._input_dtype)
        for _, call, weights, sources, target, done in self._steps:
            values[target] = call.run(training, weights(), *[values[i] for i in sources])
            for i in done:
                values[i] = None
        outputs = tuple(as_dtype(values[i], dtype) for i, dtype in self._outputs)
        return outputs[0] if len(outputs) == 1 else outputs


def lower(model: keras.Model, *, fold: bool = False) -> Lowered:
    """Walk the graph of `model` once; the result computes what `model(x, training=...)` computes.

    Kernels of convolutions and LSTMs are laid out in memory as torch wants them; shape and values of the Keras
    variables stay as they are (their arrays are no longer C-contiguous, which `safetensors.numpy` needs: copy with
    `np.ascontiguousarray`). New values, freezing and thawing are seen; lower again after adding or replacing layers.

    Args:
        model: A Keras model. One with one input and no masks is lowered; any other runs as plain Keras and says why
            in `.fallback`.
        fold: Take all weights as they are now, and fold every BatchNormalization that follows a convolution into it.
            For inference only, and later changes of the weights are not seen.

    Raises:
        RuntimeError: The Keras backend is not torch.
    """
    if keras.backend.backend() != "torch":
        raise RuntimeError(f"lower needs the Keras backend torch (KERAS_BACKEND). Received: {keras.backend.backend()}")
    graph = _graph(model)
    reason = _why_not(graph) or ("" if len(graph.inputs) == 1 else f"{graph.name!r} has {len(graph.inputs)} inputs")
    if reason:
        return Lowered(model, fallback=reason)
    plan = _Plan(fold)
    outputs = plan.walk(graph, [_Value(graph.inputs[0].shape, False, 0)])
    lowered = Lowered(model, folded=fold)
    lowered.slow_layers = plan.slow_layers
    slots = [plan.read(value, channels_first=False) for value in outputs]
    dtypes = [getattr(torch, tensor.dtype) for tensor in graph.outputs]
    lowered._outputs = list(zip(slots, dtypes, strict=True))
    lowered._steps, lowered._n_values = plan.finished(slots), plan.n_slots
    lowered._input_dtype = getattr(torch, graph.inputs[0].dtype)
    return lowered


def as_module(model: keras.Model, *, fold: bool = True) -> torch.nn.Module:
    """The lowered model in inference as a module, for torch.export, torch.jit.trace and both ONNX exporters.

    Weights are buffers named "<layer>.<weight>". They are taken as they are now: with `fold` BatchNormalization is
    folded into the convolutions before it, and later changes of the model are not seen. Convolutions are channels
    first inside, so that a file has few transposes. LSTM and GRU become nodes of their own in ONNX files.

    Args:
        model: A Keras model with one input.
        fold: As in `lower`.

    Returns:
        A module in evaluation mode: features [batch, ...] -> what the lowered model gives.

    Raises:
        ValueError: The model cannot be lowered.
    """
    lowered = lower(model, fold=fold)
    if lowered.fallback:
        raise ValueError(f"The model must be one that can be lowered. Received: {lowered.fallback}")
    return _Module(lowered).eval()


class _Weights(torch.nn.Module):
    """The weights of one step."""

    def __init__(self, names: Iterable[str], weights: Iterable[Tensor | None]) -> None:
        super().__init__()
        for name, weight in zip(names, weights, strict=True):
            self.register_buffer(name, weight)

    def forward(self) -> Weights:
        return tuple(self._buffers.values())


class _Module(torch.nn.Module):
    """A lowered model whose weights are registered."""

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
                held = _Weights(names, _taken(weights))
                # a layer may be called twice
                self.add_module(step.name if not hasattr(self, step.name) else f"{step.name}_{i}", held)
                lowered._steps[i] = step._replace(call=call, weights=held.forward)

    def forward(self, features: Tensor) -> Any:
        return self._lowered(features)


def _given(run: Callable[..., Any], variables: Sequence[Any]) -> Callable[..., Any]:
    """Run a Keras layer with weights that are given."""

    def given(training: bool, weights: Weights, *inputs: Tensor) -> Any:
        with keras.StatelessScope(state_mapping=list(zip(variables, weights, strict=True))):
            return run(training, (), *inputs)

    return given


# ---------------------------------------------------------------- the graph


class _Value:
    """A tensor of the graph and where it is kept: as Keras has it (False), channels first (True), or both."""

    def __init__(self, shape: Sequence[int | None], channels_first: bool, slot: int) -> None:
        self.shape = tuple(shape)
        self.slots = {channels_first and len(shape) > 2: slot}

    @property
    def channels_first(self) -> bool:
        return True in self.slots


class _Plan:
    """Steps as they are found."""

    def __init__(self, fold: bool) -> None:
        self.fold = fold
        self.steps: list[_Step] = []
        self.slow_layers: list[str] = []
        self.n_slots = 1  # the input's

    def add(self, call: LoweredCall, sources: tuple[int, ...], name: str) -> int:
        """Another step; the place of its result."""
        self.n_slots += 1
        weights = call.weights
        if self.fold:
            taken = _taken(weights())
            weights = lambda: taken  # noqa: E731
        self.steps.append(_Step(name, call, weights, sources, self.n_slots - 1, ()))
        return self.n_slots - 1

    def read(self, value: _Value, channels_first: bool) -> int:
        """Where a value is kept in an order of axes, permuting it if it is only kept in the other."""
        rank = len(value.shape)
        wanted = channels_first and rank > 2
        if wanted not in value.slots:
            axes = (0, rank - 1, *range(1, rank - 1)) if wanted else (0, *range(2, rank), 1)
            permute = LoweredCall(lambda training, weights, x: x.permute(axes))
            value.slots[wanted] = self.add(permute, (value.slots[not wanted],), "")
        return value.slots[wanted]

    def walk(self, graph: Any, inputs: list[_Value]) -> list[_Value]:
        """Plan the calls of a graph whose inputs are known; the values of its outputs."""
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
            inner = _graph(layer) if isinstance(layer, keras.Model) else None
            if tensors is not None and inner is not None and not _why_not(inner):
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
            # zeros in front of a convolution have no weights: the step is named after what has
            name = next((member.operation.name for member in chain if _weights_of(member.operation)), layer.name)
            slot = self.add(call, tuple(self.read(source, call.channels_first) for source in sources), name)
            result = chain[-1].outputs[0]
            values[id(result)] = _Value(result.shape, call.channels_first, slot)
        return [values[id(tensor)] for tensor in graph.outputs]

    def finished(self, outputs: Iterable[int]) -> list[_Step]:
        """The steps, each with the values to forget after it, for memory."""
        last_read = {source: i for i, step in enumerate(self.steps) for source in step.sources}
        last_read.update(dict.fromkeys(outputs, len(self.steps)))
        return [
            step._replace(done=tuple({source for source in step.sources if last_read[source] == i}))
            for i, step in enumerate(self.steps)
        ]


def _taken(weights: Weights) -> Weights:
    """Copies of the weights as they are now, laid out as torch wants them: kernels of convolutions are already."""
    return tuple(
        weight
        if weight is None
        else weight.detach().clone(memory_format=torch.preserve_format if weight.ndim == 4 else torch.contiguous_format)
        for weight in weights
    )


def _graph(model: Any) -> Any:
    return getattr(model, "_functional", None) or model  # a Sequential keeps its graph there


def _why_not(graph: Any) -> str:
    """The reason why a graph cannot be walked, or ""."""
    if not hasattr(graph, "_nodes_by_depth"):
        return f"{type(graph).__name__} {graph.name!r} has no graph to walk (subclassed, or without an input shape)"
    for layer in graph._flatten_layers(include_self=False):
        if isinstance(layer, layers.Masking) or getattr(layer, "mask_zero", False):
            return f"layer {layer.name!r} makes a mask"
        if layer.compute_dtype != layer.variable_dtype:
            return f"layer {layer.name!r} has the policy {layer.dtype_policy.name}; use float32 and torch.autocast"
    for node in _nodes(graph):
        inner = _graph(node.operation) if isinstance(node.operation, keras.Model) else None
        if len(node.outputs) != 1 and (inner is None or _why_not(inner)):
            return f"layer {node.operation.name!r} has {len(node.outputs)} outputs"
    return ""


def _nodes(graph: Any) -> list[Any]:
    """The calls of the graph in an order in which each finds its inputs."""
    depths = graph._nodes_by_depth
    return [node for depth in sorted(depths, reverse=True) for node in depths[depth] if not node.is_input]


def _tensors(node: Any) -> list[Any] | None:
    """What a layer was called with, in the order of its arguments; None when that is more than tensors, or when the
    call has side effects (activity regularization).
    """
    if not isinstance(node.operation, layers.Layer) or getattr(node.operation, "activity_regularizer", None):
        return None
    signature = inspect.signature(node.operation.call)
    try:
        given = signature.bind(*node.arguments.args, **node.arguments.kwargs).arguments
    except TypeError:  # arguments that Keras takes out before the call
        return None
    tensors: list[Any] = []
    for i, (name, value) in enumerate(given.items()):
        several = value if isinstance(value, (list, tuple)) else [value]
        if (i == 0 or name in ATTENDED) and all(isinstance(x, keras.KerasTensor) for x in several):
            tensors += several
        # `training` given while the graph was built is overridden by the model's own, as in Keras
        elif name != "training" and value is not None and value is not signature.parameters[name].default:
            return None
    return tensors


def _chain(node: Any, readers: dict[int, list[Any]], fold: bool) -> list[Any]:
    """`node` and those behind it that become one step: zeros -> convolution -> normalization (folded) -> activation."""
    chain = [node]
    while True:
        last = chain[-1]
        following = readers[id(last.outputs[0])]
        if len(following) != 1 or following[0] is None or not _tensors(following[0]):
            return chain
        if not follows(last, following[0], fold):
            return chain
        chain.append(following[0])


def _call(chain: list[Any], sources: list[_Value]) -> LoweredCall | None:
    """The torch call for a chain, or None when Keras has to be asked."""
    layer = chain[0].operation
    rule = RULES.get(type(layer))
    channels_first = any(source.channels_first for source in sources)
    behind = tuple(node.operation for node in chain[1:])
    return (
        rule(LayerContext(layer, tuple(source.shape for source in sources), behind, channels_first)) if rule else None
    )


def _weights_of(operation: Any) -> list[Any]:
    return operation.weights if isinstance(operation, layers.Layer) else []


def _is_direct(operation: Any) -> bool:
    """True for what needs nothing that Keras does around a call: plain operations, and the package's own layers."""
    return not isinstance(operation, layers.Layer) or (
        type(operation).__module__.startswith("birdnet_fs.") and not isinstance(operation, keras.Model)
    )


def _keras_call(node: Any) -> LoweredCall:
    """Call the layer or operation as the Keras graph does."""
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
