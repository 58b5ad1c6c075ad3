"""Recurrent layers in a form that a device runs fast and right.

Keras' loop multiplies frame and state with their matrices in every step. Here one matrix product over all frames comes
first (Appleyard et al. 2016, "Optimizing Performance of Recurrent Neural Networks on GPUs",
https://arxiv.org/abs/1604.01946, section 3.2) and a step multiplies the state alone.

And the first frame comes before the loop. ai-edge-litert 2.3.0 with its default delegate (XNNPACK), given a WHILE that
starts from a constant state of zeros, answers the first run rightly and those after it wrongly, or not, as memory
happens to lie: seen with LSTM 256 -> 256 (in half of the processes or all of them, by MALLOC_ settings), never seen
without the delegate, nor where the state that the loop starts from is computed.
"""

from typing import Any

import keras
from keras import layers, ops


def _scan(step: Any, steps: Any, states: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
    """Every output [n_frames, batch, units] and the last states: the first frame, then a TensorFlow loop."""
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
    """What both cells share: the loop over products that are there already."""

    def inner_loop(self: Any, sequences: Any, initial_state: Any, mask: Any = None, training: bool = False) -> Any:
        """What `keras.layers.RNN` calls: (last output, outputs, states); a mask is not known."""
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
        """Both biases are one."""
        return self.cell.bias

    def step(self, states: Any, product: Any) -> Any:
        """(h, c) and the product of a frame [batch, 4 * units] -> the next (h, c) and h."""
        h, c = states
        i, f, g, o = ops.split(product + ops.matmul(h, self.cell.recurrent_kernel), 4, axis=1)
        c = ops.sigmoid(f) * c + ops.sigmoid(i) * ops.tanh(g)
        h = ops.sigmoid(o) * ops.tanh(c)
        return (h, c), h


@keras.saving.register_keras_serializable("birdnet_fs")
class HoistedGRU(_Loop, layers.GRU):
    """Cho et al. 2014 with the reset gate behind the product (reset_after), as `keras.layers.GRU` computes it."""

    def input_bias(self) -> Any:
        """The first of two: the second goes with the state."""
        return self.cell.bias[0]

    def step(self, states: Any, product: Any) -> Any:
        """(h,) and the product of a frame [batch, 3 * units] -> the next (h,) and h."""
        (h,) = states
        z, r, own = ops.split(product, 3, axis=1)
        of_state = ops.matmul(h, self.cell.recurrent_kernel) + self.cell.bias[1]
        z_state, r_state, own_state = ops.split(of_state, 3, axis=1)
        z, r = ops.sigmoid(z + z_state), ops.sigmoid(r + r_state)
        h = z * h + (1 - z) * ops.tanh(own + r * own_state)
        return (h,), h


HOISTED: dict[type, Any] = {layers.LSTM: HoistedLSTM, layers.GRU: HoistedGRU}


def with_hoisted_inputs(model: keras.Model) -> keras.Model:
    """The model with every LSTM and GRU as above, weights and all else shared; the same model where it has none.

    Args:
        model: A Functional model; models inside it are gone through as well.

    Raises:
        ValueError: A layer has other activations or options than the zoo's (sigmoid, tanh, biases, reset_after).
    """
    return keras.models.clone_model(model, clone_function=_replace_layer) if has_loops(model) else model


def has_loops(layer: keras.layers.Layer) -> bool:
    """Whether a layer is recurrent, or a model has one that is."""
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
        raise ValueError(f"{layer.name} ({type(layer).__name__}) is no LSTM or GRU of the usual form: {config}")
    return HOISTED[type(layer)].from_config(config)


def _with_weights(new: keras.layers.Layer, old: keras.layers.Layer) -> keras.layers.Layer:
    new.build(old.input.shape)
    new.set_weights(old.get_weights())
    return new
