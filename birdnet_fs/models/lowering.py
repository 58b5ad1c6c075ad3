"""A Functional Keras model as a flat list of torch calls over the model's own Parameters (torch backend).

Keras on torch is 2-4 times slower than the same network in plain PyTorch: every layer call runs through
`Layer.__call__`, NHWC convolutions copy their input into another layout, and BatchNormalization is seven separate
operations. `lower` walks the graph once and keeps one torch function for each layer (lowered_layers.py). Nothing in
Keras is changed and no state is kept here: training through the lowered model trains the Keras model, and saving the
Keras model saves the result. A layer without a rule, or set up in a way its rule does not cover, is called as Keras
would call it: right, only slower.
"""

from typing import Any

import keras
import torch
from keras import layers
from torch import Tensor

from birdnet_fs.models.lowered_layers import ACTIVATION_LAYERS, CONVOLUTIONS, ELEMENTWISE, RULES, Call, activation_of


class Lowered:
    """What `lower` returns: a callable with the model's weights, not a copy of them.

    Attributes:
        model: The Keras model whose Parameters are used.
        fallback: Why the whole model runs as plain Keras; "" when it was lowered.
        folded: True when BatchNormalization was folded into the convolutions (inference only).
        slow_layers: Names of the layers that are called through Keras.
    """

    def __init__(self, model: keras.Model, *, fallback: str = "", folded: bool = False) -> None:
        self.model = model
        self.fallback = fallback
        self.folded = folded
        self.slow_layers: list[str] = []
        self._steps: list[tuple[Call, tuple[int, ...], int, tuple[int, ...]]] = []  # call, sources, target, done
        self._n_values = 0
        self._output = 0
        self._input_dtype = self._output_dtype = torch.float32

    def __call__(self, x: Any, training: bool = False) -> Any:
        """The model's output for `x`.

        Args:
            x: Input of the model [batch, ...]: a tensor on the device of the weights, or an array.
            training: True: dropout draws from torch's generator, BatchNormalization uses the statistics of the
                batch and moves its moving ones, as Keras does.

        Returns:
            A tensor of the dtype of the model's output (float32 logits under `torch.autocast` too).

        Raises:
            ValueError: `training=True` on a folded model.
        """
        if training and self.folded:
            raise ValueError("A model lowered with fold=True is for inference; lower it without fold to train.")
        if self.fallback:
            return self.model(x, training=training)
        if not isinstance(x, Tensor):
            x = torch.as_tensor(x, device=self.model.weights[0].value.device)
        values: list[Any] = [None] * self._n_values
        values[0] = x.to(self._input_dtype)
        for call, sources, target, done in self._steps:
            values[target] = call(training, *[values[i] for i in sources])
            for i in done:
                values[i] = None
        return values[self._output].to(self._output_dtype)


def lower(model: keras.Model, *, fold: bool = False) -> Lowered:
    """Walk the graph of `model` once; the result computes what `model(x, training=...)` computes.

    Kernels of convolutions are laid out in memory as torch wants them; shape and values of the Keras variables stay
    as they are (their arrays are no longer C-contiguous, which `safetensors.numpy` needs: copy with
    `np.ascontiguousarray`). New values, freezing and thawing are seen; lower again after adding or replacing layers.

    Args:
        model: A Keras model. One with one input, one output and no masks is lowered; any other runs as plain Keras
            and says why in `.fallback`.
        fold: Fold every BatchNormalization that follows a convolution into it. For inference only, and later changes
            of the weights are not seen.

    Raises:
        RuntimeError: The Keras backend is not torch.
    """
    if keras.backend.backend() != "torch":
        raise RuntimeError(f"lower needs the Keras backend torch (KERAS_BACKEND). Received: {keras.backend.backend()}")
    graph = getattr(model, "_functional", None) or model  # a Sequential keeps its graph there
    reason = _why_not(graph)
    if reason:
        return Lowered(model, fallback=reason)
    lowered = Lowered(model, folded=fold)
    nodes = _nodes(graph)
    readers: dict[int, list[Any]] = {id(graph.outputs[0]): [None]}  # the caller reads the output
    for node in nodes:
        for tensor in node.input_tensors:
            readers.setdefault(id(tensor), []).append(node)

    slot = {id(graph.inputs[0]): 0}
    plan: list[tuple[Call, tuple[int, ...], int]] = []
    fused: set[int] = set()
    for node in nodes:
        if id(node) in fused:
            continue
        chain = _chain(node, readers, fold)
        call = _call(chain, fold)
        if call is None:
            chain, call = [node], _keras_call(node)
            lowered.slow_layers.append(node.operation.name)
        fused.update(id(member) for member in chain)
        slot[id(chain[-1].outputs[0])] = target = len(slot)
        plan.append((call, tuple(slot[id(tensor)] for tensor in node.input_tensors), target))

    lowered._n_values, lowered._output = len(slot), slot[id(graph.outputs[0])]
    lowered._input_dtype = getattr(torch, graph.inputs[0].dtype)
    lowered._output_dtype = getattr(torch, graph.outputs[0].dtype)
    last_read = {source: i for i, (_, sources, _) in enumerate(plan) for source in sources}
    last_read[lowered._output] = len(plan)
    for i, (call, sources, target) in enumerate(plan):  # forget a value after its last reader, for memory
        done = tuple({source for source in sources if last_read[source] == i})
        lowered._steps.append((call, sources, target, done))
    return lowered


def _why_not(graph: Any) -> str:
    """The reason why a whole model cannot be lowered, or ""."""
    if not hasattr(graph, "_nodes_by_depth"):
        return f"{type(graph).__name__} {graph.name!r} has no graph to walk (subclassed, or without an input shape)"
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        return f"one input and one output are walked, {graph.name!r} has {len(graph.inputs)} and {len(graph.outputs)}"
    for layer in graph._flatten_layers(include_self=False):
        if isinstance(layer, layers.Masking) or getattr(layer, "mask_zero", False):
            return f"layer {layer.name!r} makes a mask"
        if layer.compute_dtype != layer.variable_dtype:
            return f"layer {layer.name!r} has the policy {layer.dtype_policy.name}; use float32 and torch.autocast"
    for node in _nodes(graph):
        if len(node.outputs) != 1:
            return f"layer {node.operation.name!r} has {len(node.outputs)} outputs"
    return ""


def _nodes(graph: Any) -> list[Any]:
    """The calls of the graph in an order in which each finds its inputs."""
    depths = graph._nodes_by_depth
    return [node for depth in sorted(depths, reverse=True) for node in depths[depth] if not node.is_input]


def _chain(node: Any, readers: dict[int, list[Any]], fold: bool) -> list[Any]:
    """`node` and those behind it that become one step: convolution -> normalisation (folded) -> activation."""
    chain = [node]
    kind = type(node.operation)
    while kind in (*CONVOLUTIONS, layers.BatchNormalization):
        last = chain[-1]
        following = readers[id(last.outputs[0])]
        if len(following) != 1 or following[0] is None or activation_of(last.operation) is not None:
            break
        after = following[0]
        is_norm = type(after.operation) is layers.BatchNormalization and after.operation.axis in (-1, 3)
        folds = fold and kind in CONVOLUTIONS and is_norm and not after.operation.renorm
        acts = type(after.operation) in ACTIVATION_LAYERS and activation_of(after.operation) in ELEMENTWISE
        if not (folds or acts) or _special(after):
            break
        chain.append(after)
        kind = type(after.operation)
    return chain


def _call(chain: list[Any], fold: bool) -> Call | None:
    """The torch call for a chain, or None when Keras has to be asked."""
    layer = chain[0].operation
    if _special(chain[0]):
        return None
    if isinstance(layer, keras.Model):
        inner = lower(layer, fold=fold)
        return lambda training, x: inner(x, training)
    rule = RULES.get(type(layer))
    return rule(layer, *[node.operation for node in chain[1:]]) if rule else None


def _special(node: Any) -> bool:
    """True when a layer was called with more than tensors, or has side effects (activity regularisation)."""
    args, kwargs = node.arguments.args, node.arguments.kwargs
    tensors = args[0] if len(args) == 1 else None
    plain = all(
        isinstance(t, keras.KerasTensor) for t in (tensors if isinstance(tensors, (list, tuple)) else [tensors])
    )
    # `training` given while the graph was built is overridden by the model's own, as in Keras
    others = any(value is not None for key, value in kwargs.items() if key != "training")
    return not plain or others or getattr(node.operation, "activity_regularizer", None) is not None


def _keras_call(node: Any) -> Call:
    """Call the layer or operation as the Keras graph does."""
    operation, arguments = node.operation, node.arguments
    keys = [id(tensor) for tensor in node.input_tensors]
    takes_training = "training" in getattr(operation, "_call_context_args", {})

    def call(training: bool, *inputs: Tensor) -> Any:
        args, kwargs = arguments.fill_in(dict(zip(keys, inputs, strict=True)))
        if takes_training:
            kwargs["training"] = training
        return operation(*args, **kwargs)

    return call
