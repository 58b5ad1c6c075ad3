"""`birdnet-fs models`: list of the available networks with size, cost and source."""

import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from birdnet_fs.core.errors import UserError
from birdnet_fs.runs.classes_file import MAX_CLASSES

if TYPE_CHECKING:
    import keras


def models(
    shape: Annotated[
        str, typer.Option("--input", help="Shape of the features: FRAMESxMELS or FRAMESxMELSxCHANNELS.")
    ] = "256x256",
    n_classes: Annotated[int, typer.Option("--classes", help="Number of classes.")] = 206,
) -> None:
    """List the networks with their number of parameters, cost per segment and source.

    GFLOP counts a multiplication and an addition as two operations, in convolutions, dense, recurrent and attention
    layers. The defaults are those of BirdCLEF 2025: features of 256 x 256, 206 classes.
    """
    input_shape = _shape(shape)
    if not 1 <= n_classes <= MAX_CLASSES:
        raise UserError(f"--classes must be in 1..{MAX_CLASSES}. Received: {n_classes}")
    import keras

    from birdnet_fs import models as room

    print(f"{'name':20} {'parameters':>12} {'GFLOP':>7}  {'smallest input':14}  source")
    for name in room.names():
        family = room.family(name)
        smallest = "x".join(str(n) for n in family.MIN_SHAPE)
        if input_shape[0] < family.MIN_SHAPE[0] or input_shape[1] < family.MIN_SHAPE[1]:
            print(f"{name:20} {'-':>12} {'-':>7}  {smallest:14}  {family.SOURCE}")
            continue
        with keras.device("meta"):  # shapes only: the largest network has 200 million weights
            model = room.build(name, input_shape=input_shape, n_classes=n_classes)
        print(f"{name:20} {model.count_params():12,d} {gflop(model):7.3f}  {smallest:14}  {family.SOURCE}")


def gflop(model: "keras.Model") -> float:
    """Cost of one input in 10^9 operations: twice the multiplications of all layers with kernels."""
    return 2 * sum(_multiplications(layer) for layer in model.layers) / 1e9


def _multiplications(layer: Any) -> int:
    """Multiplications of one layer: every weight is used once per output position, frame or token."""
    parts = [layer.forward_layer, layer.backward_layer] if hasattr(layer, "forward_layer") else [layer]
    cells = [part.cell for part in parts if hasattr(part, "cell")]
    if cells:
        n_frames = layer.input.shape[1]
        return n_frames * sum(math.prod(w.shape) for cell in cells for w in (cell.kernel, cell.recurrent_kernel))
    if hasattr(layer, "query_dense"):
        n_tokens, width = layer.output.shape[1:]
        kernels = sum(math.prod(weight.shape) for weight in layer.weights if len(weight.shape) == 3)
        return n_tokens * kernels + 2 * n_tokens * n_tokens * width  # scores, then the weighted sum
    kernel = getattr(layer, "kernel", None)
    return math.prod(layer.output.shape[1:-1]) * math.prod(kernel.shape) if kernel is not None else 0


def _shape(text: str) -> tuple[int, int, int]:
    parts = text.lower().split("x")
    if len(parts) not in (2, 3) or not all(part.isdecimal() and int(part) >= 1 for part in parts):
        raise UserError(f"--input must be FRAMESxMELS or FRAMESxMELSxCHANNELS, as 501x128. Received: {text!r}")
    n_frames, n_mels, n_channels = (*(int(part) for part in parts), 1)[:3]
    return n_frames, n_mels, n_channels
