"""Recurrent layers in a form that TFLite runtimes compute fast and correctly.

Source: Appleyard et al. 2016, "Optimizing Performance of Recurrent Neural Networks on GPUs",
https://arxiv.org/abs/1604.01946, section 3.2. Keras' loop multiplies both the frame and the state with their matrices
in every step. Here one matrix product over all frames precedes the loop, and a step multiplies the state only.

The first frame is also computed before the loop. ai-edge-litert 2.3.0 with its default delegate (XNNPACK) runs a WHILE
that starts from a constant state of zeros correctly once, and may give wrong results afterwards, depending on memory
layout: observed with LSTM 256 -> 256 (in half or all of the processes, depending on MALLOC_ settings), never without
the delegate, nor where the initial state of the loop is computed.
"""

from typing import Any

import keras
from keras import layers, ops


def _scan(step: Any, steps: Any, states: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
    """All outputs [n_frames, batch, units] and the last states: the first frame, then a TensorFlow loop."""
    import tensorflow as tf

    n_frames = steps.shape[0]
    states, output = step(states, steps[0])

    def body(i: Any, outputs: Any, states: tuple[Any, ...]) -> tuple[Any, ...]:
        states, output = step(states, steps[i])
        return i + 1, outputs.write(i, output), states

    outputs = tf.TensorArray("float32", n_frames, element_shape=output.shape).write(0, output)
    first = (tf.constant(1), outputs, states)
    _, outputs, states = tf.while_loop(lambda i, *_: i < n_frames, body, first, maximum_iterations=n_frames)
    return outputs.stack(), states


class _Loop:
    """Loop over precomputed matrix products, shared by both layers."""

    def inner_loop(self: Any, sequences: Any, initial_state: Any, mask: Any = None, training: bool = False) -> Any:
        """The loop that `keras.layers.RNN` calls.

        Args:
            sequences: Input [batch, n_frames, width].
            initial_state: States [batch, units].
            mask: Not supported, ignored.
            training: Ignored.

        Returns:
            (last output [batch, units], outputs [batch, n_frames, units], states).
        """
        del mask, training
        cell = self.cell
        steps = ops.transpose(ops.matmul(sequences, cell.kernel) + self.input_bias(), (1, 0, 2))
        if self.go_backwards:
            steps = ops.flip(steps, axis=0)
        outputs, states = _scan(self.step, steps, tuple(initial_state))
        return outputs[-1], ops.transpose(outputs, (1, 0, 2)), list(states)


@keras.saving.register_keras_serializable("birdnet_fs")
class HoistedLSTM(_Loop, layers.LSTM):
    """Hochreiter, Schmidhuber 1997, as `keras.layers.LSTM` computes it: gates i, f, c, o."""

    def input_bias(self) -> Any:
        """The bias of the input product; an LSTM has one bias only."""
        return self.cell.bias

    def step(self, states: Any, product: Any) -> Any:
        """One step: states (h, c) and the product of a frame [batch, 4 * units] -> next (h, c), and h as output."""
        h, c = states
        i, f, g, o = ops.split(product + ops.matmul(h, self.cell.recurrent_kernel), 4, axis=1)
        c = ops.sigmoid(f) * c + ops.sigmoid(i) * ops.tanh(g)
        h = ops.sigmoid(o) * ops.tanh(c)
        return (h, c), h


@keras.saving.register_keras_serializable("birdnet_fs")
class HoistedGRU(_Loop, layers.GRU):
    """Cho et al. 2014 with the reset gate after the product (reset_after), as `keras.layers.GRU` computes it."""

    def input_bias(self) -> Any:
        """The bias of the input product; the second one belongs to the state."""
        return self.cell.bias[0]

    def step(self, states: Any, product: Any) -> Any:
        """One step: state (h,) and the product of a frame [batch, 3 * units] -> next (h,), and h as output."""
        (h,) = states
        z, r, own = ops.split(product, 3, axis=1)
        of_state = ops.matmul(h, self.cell.recurrent_kernel) + self.cell.bias[1]
        z_state, r_state, own_state = ops.split(of_state, 3, axis=1)
        z, r = ops.sigmoid(z + z_state), ops.sigmoid(r + r_state)
        h = z * h + (1 - z) * ops.tanh(own + r * own_state)
        return (h,), h


HOISTED: dict[type, Any] = {layers.LSTM: HoistedLSTM, layers.GRU: HoistedGRU}


def with_hoisted_inputs(model: keras.Model) -> keras.Model:
    """Replace every LSTM and GRU of a model by its form with a precomputed input product.

    A ValueError is raised for a recurrent layer with activations or options other than sigmoid, tanh, biases and
    reset_after.

    Args:
        model: A Functional model; nested models are handled as well.

    Returns:
        A model with equal weights, or `model` itself where it has no recurrent layer.
    """
    return keras.models.clone_model(model, clone_function=_replace_layer) if has_loops(model) else model


def has_loops(layer: keras.layers.Layer) -> bool:
    """Whether a layer is recurrent, or a model contains such a layer."""
    if isinstance(layer, keras.Model):
        return any(has_loops(inner) for inner in layer.layers)
    return isinstance(layer, (layers.RNN, layers.Bidirectional))


def _replace_layer(layer: keras.layers.Layer) -> keras.layers.Layer:
    if isinstance(layer, keras.Model):
        return with_hoisted_inputs(layer)
    if isinstance(layer, layers.Bidirectional):
        both = [_same(one) for one in (layer.forward_layer, layer.backward_layer)]
        wrapped = layers.Bidirectional(both[0], layer.merge_mode, backward_layer=both[1], name=layer.name)
        return _with_weights(wrapped, layer)
    return _with_weights(_same(layer), layer) if isinstance(layer, layers.RNN) else layer


def _same(layer: keras.layers.Layer) -> keras.layers.Layer:
    config = layer.get_config()
    usual = {"activation": "tanh", "recurrent_activation": "sigmoid", "use_bias": True, "stateful": False}
    if type(layer) not in HOISTED or {**config, **usual} != config or not config.get("reset_after", True):
        raise ValueError(
            f"{layer.name} ({type(layer).__name__}) must be an LSTM or GRU with default activations. Received: {config}"
        )
    return HOISTED[type(layer)].from_config(config)


def _with_weights(new: keras.layers.Layer, old: keras.layers.Layer) -> keras.layers.Layer:
    new.build(old.input.shape)
    new.set_weights(old.get_weights())
    return new
