"""Embeddings as the second output of an artifact: comparison with the run, and the data for enrollment on a device.

`<name>_enrolment.npz`, beside `<name>.tflite`, holds `centre` [width] (for cosines), `kernel_1`, `bias_1`, ... (layers
of a learned distance, with a ReLU between two layers) and, for a run with enrolled classes, the support set as `labels`
[n_clips] and `embeddings` [n_clips, width], so that a device can add classes to it.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from birdnet_fs.encoders.reference import read_encoders
from birdnet_fs.runs.run import WEIGHTS, Run, read_weights

USUAL_SPREADS = 3.0  # distance from the mean up to which the tolerances hold; beyond it they grow in proportion
NORMALIZATION = {"cosine": "unit", "euclidean": "none", "learned": "none"}  # of an embedding minus the center
ARTIFACT_DISTANCES = {"learned": "learnt"}  # values in the JSON of an artifact, a format that readers on devices parse


@dataclass(frozen=True)
class EmbeddingTolerance:
    """Largest accepted errors of embeddings for one precision, as shares of their spread."""

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
        "less their embeddings differ, the larger the share); no nearest neighbor changes",
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
        reason="weights and activations keep 8 bits; prototypes are means, which average most of it out",
    ),
}


@dataclass(frozen=True)
class EmbeddingParity:
    """Comparison of an artifact's embeddings with those of its run; `failures` is empty when it passes.

    An error is the length of the difference of two embeddings. Errors are shares of the spread, because enrollment
    depends only on differences between embeddings.
    """

    width: int
    spread: float  # root mean square distance of the reference's embeddings from their mean
    max_error: float
    mean_error: float
    failures: tuple[str, ...]
    limits: EmbeddingTolerance

    @property
    def tolerance(self) -> float:
        """Largest accepted length of the difference from the reference on another machine."""
        return self.limits.device * self.spread

    def to_json(self) -> dict[str, Any]:
        """The results and the tolerance as JSON values; errors are null where the spread is 0."""
        numbers = {name: getattr(self, name) for name in ("spread", "max_error", "mean_error")}
        finite = {name: value if np.isfinite(value) else None for name, value in numbers.items()}
        return {"width": self.width, **finite, "faults": list(self.failures), "budget": dict(vars(self.limits))}


def compare_embeddings(reference: np.ndarray, artifact: np.ndarray, precision: str, n_edges: int) -> EmbeddingParity:
    """Compare the embeddings of an artifact with those of its run.

    Args:
        reference: float32 [n, width]; the first `n_edges` rows, of synthetic waveforms, do not count for the spread.
        artifact: float32 [n, width], the same rows.
        precision: Key of `EMBEDDING_TOLERANCES`.
        n_edges: Number of synthetic waveforms.

    Returns:
        The measurements and every exceeded tolerance.
    """
    limits, failures = EMBEDDING_TOLERANCES[precision], []
    x, y = reference.astype(np.float64), artifact.astype(np.float64)
    real = x[n_edges:]
    spread = float(np.sqrt(np.square(real - real.mean(0)).sum(1).mean()))
    # rounding errors grow with the numbers: an embedding far from all real ones may differ by more
    with np.errstate(invalid="ignore", divide="ignore"):
        allowance = np.fmax(1.0, np.linalg.norm(x - real.mean(0), axis=1) / (USUAL_SPREADS * spread))
    for source, values in (("the network itself", x), ("the artifact", y)):
        if not np.isfinite(values).all():
            failures.append(f"{source} gives embeddings with NaN or infinity")
        elif not np.ptp(values[n_edges:], axis=0).any():
            failures.append(f"{source} gives the same embedding for every input")
    # in 8 bits synthetic waveforms saturate (Tolerance.real_only)
    rows = slice(n_edges if precision == "int8" else 0, None)
    errors = np.linalg.norm(y - x, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        max_error, mean_error = float(errors[rows].max() / spread), float(errors[rows].mean() / spread)
        largest = float((errors / allowance)[rows].max() / spread)
    for what, value, limit in (
        ("largest", largest, limits.max_error),
        ("mean", mean_error, limits.mean_error),
    ):
        if not value <= limit:  # NaN is over every limit
            failures.append(f"{what} error of an embedding {value:.3g} of their spread (tolerance {limit:g})")
    return EmbeddingParity(x.shape[1], spread, max_error, mean_error, tuple(failures), limits)


@dataclass(frozen=True)
class DeviceEnrollment:
    """Data with which a device makes prototypes of embeddings as `birdnet-fs enroll` does."""

    arrays: dict[str, np.ndarray]  # contents of `<name>_enrolment.npz`
    description: dict[str, Any]  # entry of the sidecar, without the SHA-256 of the file


def device_enrollment(run: Run) -> DeviceEnrollment | None:
    """Distance of the embeddings of a run, and the support set it was enrolled with.

    The description holds distance, normalization, scale (of a prototype head, for its own classes; the scale of new
    classes is calibrated) and encoder, which is equal for artifacts whose embeddings may be mixed.

    Args:
        run: The run.

    Returns:
        The data, or None for a head into which nothing can be enrolled.
    """
    from birdnet_fs.fewshot.base import comparing_model
    from birdnet_fs.fewshot.enrollment import embedding_distance
    from birdnet_fs.fewshot.support import read_support
    from birdnet_fs.inference.embed import embedding_width

    settings = run.experiment.model
    if settings.head in ("sed", "attentive"):  # these read frames or tokens, not one embedding
        return None
    model = comparing_model(run)
    base = embedding_distance(run, model)
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
    """SHA-256 of what determines a run's embeddings (front-end, network, weights without the head), as hex digits.

    Of a run on an encoder these are the file of the encoder, its card, and the transform of its embeddings.
    """
    from birdnet_fs.models import heads, resolve

    digest = hashlib.sha256()
    settings = run.experiment.model
    plain: dict[str, Any] = {"frontend": run.frontend.to_artifact(), "model": resolve(settings.name)}
    if settings.encoder:
        encoders = [each.identity for each in read_encoders(run.path).encoders]
        plain = {"encoders": encoders, "transform": settings.encoder_head.transform}
    digest.update(json.dumps(plain, sort_keys=True).encode())
    weights = read_weights(run.path / WEIGHTS)
    for name in sorted(weights):
        if name.startswith("embedding/") if settings.encoder else not name.startswith(heads.WEIGHTS):
            digest.update(f"{name}{weights[name].shape}".encode())
            digest.update(np.ascontiguousarray(weights[name]).tobytes())
    return digest.hexdigest()
