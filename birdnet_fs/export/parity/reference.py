"""Reference outputs of a run, as `analyze` computes them.

NumPy front-end, or the file of an encoder in its runtime; behind it the network, or the head, on the training backend.
"""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from birdnet_fs.core.progress import track
from birdnet_fs.core.random_streams import Stream, generator
from birdnet_fs.export.parity.inputs import EDGE_NAMES, ParityInputs
from birdnet_fs.runs.run import Run

_BATCH = 8
N_CHANGED = 16  # draws of the noise that changes a waveform by a rounding; the largest effect counts


class Reference(NamedTuple):
    """Outputs of the run itself.

    Attributes:
        outputs: float32 [n, width] of each requested layer.
        numerical_uncertainty: [n_edges] largest change of a logit of each synthetic waveform when the same network is
            summed in another order (by Keras, and with BatchNormalization folded), of a run on an encoder the head
            alone. No runtime can be expected to be closer than that.
        sensitivity: Numbers of waveforms [n] -> largest change of a logit [n] when noise of one rounding of float32 at
            its largest sample (2^-24 of it) is added to a waveform. A front-end in float32 makes errors of this size,
            which the logarithm of a quiet band enlarges.
    """

    outputs: list[np.ndarray]
    numerical_uncertainty: np.ndarray
    sensitivity: Callable[[np.ndarray], np.ndarray]


def reference_outputs(
    run: Run, parity_inputs: ParityInputs, layers: Sequence[str], features_file: Path | None = None
) -> Reference:
    """Compute the outputs of the run.

    Args:
        run: The run.
        parity_inputs: The waveforms.
        layers: "logits", then "embedding" for an artifact with embeddings.
        features_file: File to write the features to, `.npy` float32 [n, *run.input_shape], for an artifact that reads
            features. None: not written.

    Returns:
        Outputs of `layers` for every waveform.
    """
    import keras
    import torch

    from birdnet_fs import models
    from birdnet_fs.models.lowering.lower import lower

    features_of = feature_function(run)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        with keras.device("cpu"):  # a GPU may round matrix products to 10 bits
            model = models.with_outputs(run.build_model(), layers)
            network, others = lower(model), (model, lower(model, fold=True))
    finally:
        keras.config.set_dtype_policy(policy)
    kept = None
    if features_file is not None:
        kept = np.lib.format.open_memmap(
            features_file, "w+", np.float32, (len(parity_inputs.waveforms), *run.input_shape)
        )
    answers: list[list[np.ndarray]] = [[] for _ in layers]
    for start in track(range(0, len(parity_inputs.waveforms), _BATCH), "Reference", unit="batch"):
        features = features_of(parity_inputs.waveforms[start : start + _BATCH])
        if kept is not None:
            kept[start : start + _BATCH] = features
        with torch.inference_mode():
            found = keras.tree.flatten(network(torch.from_numpy(features)))
            if start == 0:
                made = torch.from_numpy(features[: len(EDGE_NAMES)])
                again = [keras.tree.flatten(other(made, training=False))[0].numpy() for other in others]
        for rows, output in zip(answers, found, strict=True):
            rows.append(output.numpy())
    if kept is not None:
        kept.flush()
    outputs = [np.concatenate(rows) for rows in answers]
    numerical_uncertainty = np.max([np.abs(rows - outputs[0][: len(EDGE_NAMES)]).max(axis=1) for rows in again], axis=0)

    def sensitivity(rows: np.ndarray) -> np.ndarray:
        waveforms, changes = parity_inputs.waveforms[rows].astype(np.float64), np.zeros(len(rows))
        rounding = np.abs(waveforms).max(axis=1, keepdims=True) * 2.0**-24
        for draw in range(N_CHANGED):
            noise = rounding * generator(0, Stream.PARITY_ROUNDINGS, draw).standard_normal(waveforms.shape)
            with torch.inference_mode():
                found = keras.tree.flatten(network(torch.from_numpy(features_of(waveforms + noise))))[0].numpy()
            changes = np.maximum(changes, np.abs(found - outputs[0][rows]).max(axis=1))
        return changes

    return Reference(outputs, numerical_uncertainty, sensitivity)


def feature_function(run: Run) -> Callable[[np.ndarray], np.ndarray]:
    """Input of the network of a run: waveforms float32 [n, n_samples] -> features float32 [n, *run.input_shape].

    UserErrors of `open_features` are passed on where the encoder of the run was moved or has changed.

    Args:
        run: The run.

    Returns:
        The function: the front-end, or the encoder of the run in its runtime.
    """
    from birdnet_fs.inference.encoder_features import open_features
    from birdnet_fs.inference.engine import network_features

    if run.experiment.model.encoder:
        return open_features(run).features
    return functools.partial(network_features, spec=run.frontend)


def calibration_features(run: Run, parity_inputs: ParityInputs, file: Path) -> None:
    """Write the features of the calibration segments.

    Args:
        run: The run.
        parity_inputs: Holds the calibration segments, float32 [n, n_samples].
        file: `.npy` to write, float32 [n, n_frames, n_mels].
    """
    from birdnet_fs.frontend.in_numpy import log_mel

    waveforms = parity_inputs.calibration if parity_inputs.calibration is not None else parity_inputs.waveforms
    np.save(file, log_mel(waveforms, run.frontend))


def logit_scale_of_run(run: Run, reference: np.ndarray) -> float:
    """The size that logits of a distance-based head have by design: its scale for cosines, no limit for distances.

    Args:
        run: The run.
        reference: float32 [n, n_classes], logits of the run.

    Returns:
        Above 0; 1 for a linear head.
    """
    settings = run.experiment.model
    if settings.head == "prototypes" and settings.distance != "cosine":
        return float(np.abs(reference).max())
    return run.experiment.logit_scale
