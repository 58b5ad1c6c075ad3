"""The second output of an artifact: what it is held to, and what enrollment on a device needs beside it.

For `<name>.tflite` with embeddings `<name>_enrolment.npz` holds, as far as the way of comparing asks for it: `center`
[width], `kernel_1`, `bias_1`, ... of a learned distance (a ReLU between two layers), and of a run that was enrolled
`labels` [n_clips] and `embeddings` [n_clips, width] of its support, so that a device adds to its classes.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from birdnet_fs.runs.run import WEIGHTS, Run, read_weights

USUAL_SPREADS = (
    3.0  # as far from their mean as embeddings lie that the budgets hold for; beyond they grow in proportion
)
NORMALIZATION = {"cosine": "unit", "euclidean": "none", "learned": "none"}  # of an embedding less the center
ARTIFACT_DISTANCES = {"learned": "learnt"}  # values in the JSON of an artifact, a format that readers on devices know


@dataclass(frozen=True)
class EmbeddingTolerance:
    """What a precision may cost, as a share of the embeddings' spread."""

    max_error: float  # largest of any segment
    mean_error: float
    device: float  # largest for the golden waveforms on another machine
    reason: str


EMBEDDING_TOLERANCES = {
    "fp32": EmbeddingTolerance(
        max_error=5e-4,
        mean_error=1e-4,
        device=5e-3,
        reason="the same arithmetic in another order (four networks with random weights: 8e-5 or less, mean 3e-5; the "
        "less their embeddings differ, the larger the share); no neighbor changes for it",
    ),
    "fp16": EmbeddingTolerance(
        max_error=1e-1,
        mean_error=5e-2,
        device=1e-1,
        reason="weights keep 11 bits (the same networks: 3e-2 or less); a cosine around the center moves by as "
        "much at most",
    ),
    "dynamic": EmbeddingTolerance(
        max_error=3e-1,
        mean_error=1e-1,
        device=3e-1,
        reason="weights keep 8 bits",
    ),
    "int8": EmbeddingTolerance(
        max_error=1.0,
        mean_error=3e-1,
        device=1.0,
        reason="weights and activations keep 8 bits; prototypes are means, which take most of that out",
    ),
}


@dataclass(frozen=True)
class EmbeddingParity:
    """The numbers of one artifact's embeddings; `failures` is empty when it may leave.

    An error is the length of the difference of two embeddings; all are shares of the spread, because enrollment goes by
    the differences between embeddings, whatever all of them have in common.
    """

    width: int
    spread: float  # root mean square distance of the reference's embeddings from their mean
    max_error: float
    mean_error: float
    failures: tuple[str, ...]
    limits: EmbeddingTolerance

    @property
    def tolerance(self) -> float:
        """How far an embedding of another machine may lie from the reference, as a length."""
        return self.limits.device * self.spread

    def to_json(self) -> dict[str, Any]:
        """The numbers with the budget they were held against; without a spread there are none."""
        numbers = {name: getattr(self, name) for name in ("spread", "max_error", "mean_error")}
        finite = {name: value if np.isfinite(value) else None for name, value in numbers.items()}
        return {"width": self.width, **finite, "faults": list(self.failures), "budget": dict(vars(self.limits))}


def compare_embeddings(reference: np.ndarray, artifact: np.ndarray, precision: str, n_edges: int) -> EmbeddingParity:
    """Hold an artifact's embeddings against the reference's.

    Args:
        reference: float32 [n, width]; the first `n_edges` rows are of made waveforms, which say nothing of the spread.
        artifact: float32 [n, width], the same rows.
        precision: Which budget of `EMBEDDING_TOLERANCES` holds.
        n_edges: Made waveforms in front.
    """
    budget, faults = EMBEDDING_TOLERANCES[precision], []
    x, y = reference.astype(np.float64), artifact.astype(np.float64)
    real = x[n_edges:]
    spread = float(np.sqrt(np.square(real - real.mean(0)).sum(1).mean()))
    # rounding grows with what is rounded: an embedding far from all real ones may err by more
    with np.errstate(invalid="ignore", divide="ignore"):
        allowance = np.fmax(1.0, np.linalg.norm(x - real.mean(0), axis=1) / (USUAL_SPREADS * spread))
    for who, values in (("the network itself", x), ("the artifact", y)):
        if not np.isfinite(values).all():
            faults.append(f"{who} gives embeddings with NaN or infinity")
        elif not np.ptp(values[n_edges:], axis=0).any():
            faults.append(f"{who} gives the same embedding for every input")
    # in 8 bits made waveforms saturate (budgets.Budget.real_only)
    rows = slice(n_edges if precision == "int8" else 0, None)
    errors = np.linalg.norm(y - x, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        max_error, mean_error = float(errors[rows].max() / spread), float(errors[rows].mean() / spread)
        largest = float((errors / allowance)[rows].max() / spread)
    for what, value, limit in (
        ("largest", largest, budget.max_error),
        ("mean", mean_error, budget.mean_error),
    ):
        if not value <= limit:  # NaN is over every limit
            faults.append(f"{what} error of an embedding {value:.3g} of their spread (budget {limit:g})")
    return EmbeddingParity(x.shape[1], spread, max_error, mean_error, tuple(faults), budget)


@dataclass(frozen=True)
class DeviceEnrollment:
    """What a device needs to make prototypes of embeddings as `birdnet-fs enroll` does."""

    arrays: dict[str, np.ndarray]  # of `<name>_enrolment.npz`
    description: dict[str, Any]  # for the sidecar; everything but the file's SHA-256


def device_enrollment(run: Run) -> DeviceEnrollment | None:
    """How embeddings of a run are compared and what it was enrolled with; None where nothing can be enrolled.

    The description: distance, normalization, scale (of a head with prototypes, for the classes it has; new ones are
    calibrated), and encoder, which is equal for artifacts whose embeddings may be mixed.
    """
    from birdnet_fs.fewshot.enrollment import head_base
    from birdnet_fs.fewshot.support import read_support
    from birdnet_fs.inference.embed import embedding_width

    settings = run.experiment.model
    if settings.head == "sed":  # its embedding is no support of a head
        return None
    model = run.build_model()
    base = head_base(run, model)
    arrays: dict[str, np.ndarray] = {}
    if base.distance == "cosine" and base.center is not None:
        arrays["centre"] = base.center
    for i, (kernel, bias) in enumerate(base.dense, 1):
        arrays |= {f"kernel_{i}": kernel, f"bias_{i}": bias}
    support = read_support(run, embedding_width(model))
    if support.clips:
        arrays |= {"labels": np.array(support.labels), "embeddings": support.embeddings}
    description = {
        "distance": ARTIFACT_DISTANCES.get(base.distance, base.distance),
        "normalisation": NORMALIZATION[base.distance],
        "scale": run.experiment.logit_scale if settings.head == "prototypes" else None,
        "encoder": encoder_id(run),
    }
    return DeviceEnrollment(arrays, description)


def encoder_id(run: Run) -> str:
    """What makes a run's embeddings, as 64 hexadecimal digits: front-end, network and weights, without the head."""
    from birdnet_fs.models import heads, resolve

    digest = hashlib.sha256()
    plain = {"frontend": run.frontend.to_artifact(), "model": resolve(run.experiment.model.name)}
    digest.update(json.dumps(plain, sort_keys=True).encode())
    weights = read_weights(run.path / WEIGHTS)
    for name in sorted(weights):
        if not name.startswith(heads.WEIGHTS):
            digest.update(f"{name}{weights[name].shape}".encode())
            digest.update(np.ascontiguousarray(weights[name]).tobytes())
    return digest.hexdigest()
