"""Uncertainty of the logits of real segments because a front-end computes in float32."""

import numpy as np

from birdnet_fs.export.parity.compare import expected_outputs, largest_slope
from birdnet_fs.export.parity.inputs import EDGE_NAMES
from birdnet_fs.export.parity.reference import Reference
from birdnet_fs.export.parity.tolerances import TOLERANCES
from birdnet_fs.inference.calibration.maps import CalibrationMaps

SHARE = 1 / 3  # of the tolerance: segments that differ by more are looked at
N_ROWS = 32  # at most: where more differ, it is not for the roundings of a few


def with_sensitivity(
    reference: Reference,
    artifact: np.ndarray,
    output_kind: str,
    activation: str,
    maps: CalibrationMaps | None = None,
) -> np.ndarray:
    """The numerical uncertainty of every row, measured for the real segments that differ most.

    Args:
        reference: The run.
        artifact: Output of the artifact, float32 [n, n_classes].
        output_kind: "logits", "log_odds" or "probabilities", as in `ExportSpec`.
        activation: "softmax" or "sigmoid", of the run.
        maps: Slopes and offsets of calibrated predictions. Default: None.

    Returns:
        float64 [n]: of the synthetic waveforms as in `reference`, of the N_ROWS real segments that differ most, and by
        more than SHARE of the tolerance of fp32, their sensitivity, and 0 of all others.
    """
    expected = expected_outputs(reference.outputs[0], output_kind, activation, maps)
    uncertainty = np.zeros(len(expected))
    uncertainty[: len(EDGE_NAMES)] = reference.numerical_uncertainty
    differs = np.abs(artifact - expected).max(axis=1)
    differs[: len(EDGE_NAMES)] = 0
    most = np.argsort(differs)[-N_ROWS:]
    slope = largest_slope(output_kind, activation, maps)
    rows = most[differs[most] > SHARE * slope * TOLERANCES["fp32"].max_abs]
    if len(rows):
        uncertainty[rows] = reference.sensitivity(rows)
    return uncertainty
