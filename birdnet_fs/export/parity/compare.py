"""Check that an exported file matches its run within tolerance.

The reference is the run itself (reference.py), the artifact the file itself, run by its runtime in a separate process.
Both receive the same waveforms (inputs.py), synthetic edge cases and real segments. The tolerances and their reasons
are one table, tolerances.py.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from birdnet_fs.export.parity.embeddings import EmbeddingParity
from birdnet_fs.export.parity.inputs import EDGE_NAMES, ParityInputs
from birdnet_fs.export.parity.tolerances import MAX_SLOPE, TOLERANCES, USUAL_LOGITS, USUAL_UNCERTAINTY, Tolerance
from birdnet_fs.inference.activations import to_log_odds, to_probabilities
from birdnet_fs.inference.calibration.maps import CalibrationMaps


@dataclass(frozen=True)
class RuntimeParity:
    """Comparison of one artifact with its run on one runtime; `failures` is empty when it passes.

    Differences and the largest value are those of the artifact's output: logits, log-odds or probabilities.
    """

    runtime: str
    precision: str
    source: str
    n_segments: int
    n_edges: int
    max_abs: float
    mean_abs: float
    max_abs_logit: float
    top1_agreement: float
    auroc_reference: float | None
    auroc_artefact: float | None
    failures: tuple[str, ...]
    limits: Tolerance
    by_batch: dict[int, float] = dataclasses.field(default_factory=dict)  # largest difference at other batch sizes
    embeddings: EmbeddingParity | None = None  # of an artifact with embeddings
    max_abs_at: str = ""  # the segment of `max_abs`
    max_abs_tolerance: float | None = None  # tolerance of that segment, which may be above that of the table

    def to_json(self) -> dict[str, Any]:
        """The results and the tolerance, as JSON values (NaN becomes null)."""
        values = {k: v for k, v in vars(self).items() if k not in ("failures", "limits", "embeddings")}
        plain = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
        plain["by_batch"] = {str(n): value for n, value in self.by_batch.items()}
        found = {**plain, "faults": list(self.failures), "budget": dict(vars(self.limits))}
        return found if self.embeddings is None else {**found, "embeddings": self.embeddings.to_json()}

    def with_embeddings(self, embeddings: EmbeddingParity) -> "RuntimeParity":
        """The results with those of the embeddings added."""
        return dataclasses.replace(self, embeddings=embeddings, failures=self.failures + embeddings.failures)

    def __str__(self) -> str:
        text = f"max {self.max_abs:.1e}"
        if self.max_abs_tolerance is not None and self.max_abs_tolerance > self.limits.max_abs:
            text += f" ({self.max_abs_at}; tolerance there {self.max_abs_tolerance:.1e})"
        text += f", mean {self.mean_abs:.1e}, top-1 {self.top1_agreement:.1%}"
        if self.auroc_reference is not None and self.auroc_artefact is not None:
            text += f", AUROC {self.auroc_reference:.4f} -> {self.auroc_artefact:.4f}"
        if self.embeddings is not None:
            text += f"; embeddings max {self.embeddings.max_error:.1e}, mean {self.embeddings.mean_error:.1e}"
        return text


def compare_outputs(
    reference: np.ndarray,
    artifact: np.ndarray,
    parity_inputs: ParityInputs,
    precision: str,
    activation: str,
    *,
    runtime: str = "",
    output_kind: str = "logits",
    logit_scale: float = 1.0,
    n_constant: int = 0,
    numerical_uncertainty: np.ndarray | None = None,
    by_batch: Mapping[int, np.ndarray] | None = None,
    maps: CalibrationMaps | None = None,
) -> RuntimeParity:
    """Compare the predictions of an artifact with those of its run.

    Args:
        reference: Logits of the run, float32 [n, n_classes], the synthetic waveforms first.
        artifact: Output of the artifact for the same rows, float32 [n, n_classes].
        parity_inputs: The segments.
        precision: Key of `TOLERANCES`.
        activation: "softmax" or "sigmoid", which gives the scores that AUROC ranks.
        runtime: Name of the runtime. Default: "".
        output_kind: Output of the artifact, as in `ExportSpec`. Default: "logits".
        logit_scale: Size of the logits (`logit_scale_of_run`); above 30 the tolerance grows with it. Default: 1.
        n_constant: Number of last classes whose logit is by design the same for every input ("unknown"). Default: 0.
        numerical_uncertainty: float [n_first] or [n], 0 or more: uncertainty of the logits of the first rows, or of
            all, 0 where none was measured (`reference.Reference`). Default: None, none.
        by_batch: Output for the first rows, float32 [n_first, n_classes], by number of segments per call.
        maps: Slopes and offsets of a file whose predictions are calibrated. Default: None.

    Returns:
        The measurements and every exceeded tolerance.
    """
    alive = reference.shape[1] - n_constant
    # rounding errors grow with the numbers: a segment with larger logits than usual may differ by more
    allowance = np.maximum(1.0, np.abs(reference).max(axis=1) / USUAL_LOGITS)
    if numerical_uncertainty is not None:
        n_first = len(numerical_uncertainty)
        allowance[:n_first] = np.fmax(allowance[:n_first], numerical_uncertainty / USUAL_UNCERTAINTY)
    spread = float(reference[len(EDGE_NAMES) :, :alive].astype(np.float64).std(axis=0).mean())
    max_slope = largest_slope(output_kind, activation, maps)
    limits = TOLERANCES[precision].scaled(logit_scale, spread, max_slope)
    if output_kind != "logits" or maps is not None:
        reference, activation = (
            expected_outputs(reference, output_kind, activation, maps),
            "sigmoid",  # AUROC ranks the expected output as it is
        )
    failures = [
        *_constant_outputs(reference[:, :alive], "the network itself"),
        *_constant_outputs(artifact[:, :alive], "the artifact"),
    ]
    rows = slice(len(EDGE_NAMES) if limits.real_only else 0, None)
    error = np.abs(artifact.astype(np.float64) - reference)
    largest = error.max(axis=1)
    max_abs, mean_abs = float(largest[rows].max()), float(error[rows].mean())
    at = (rows.start or 0) + int(np.argmax(largest[rows]))
    best = np.take_along_axis(reference, artifact.argmax(axis=1)[:, None], axis=1)[:, 0]
    top1 = float(np.mean(best >= reference.max(axis=1) - limits.tie))
    one, many = ("a probability", "the probabilities") if output_kind == "probabilities" else ("a logit", "the logits")
    share = np.where(np.arange(len(largest)) >= (rows.start or 0), largest / allowance, 0)
    worst = _where(int(np.argmax(share)))  # a NaN is the largest
    failures += _exceeds(f"largest difference of {one} ({worst})", float(share.max()), limits.max_abs)
    failures += _exceeds(f"mean difference of {many}", mean_abs, limits.mean_abs)
    batches = {}
    for n, given in (by_batch or {}).items():
        again = np.abs(given.astype(np.float64) - reference[: len(given)]).max(axis=1)
        batches[n] = float(again[rows].max())
        value = float((again / allowance[: len(given)])[rows].max())
        failures += _exceeds(f"largest difference of {one} in batches of {n}", value, limits.max_abs)
    if not top1 >= limits.top1:
        failures.append(f"the best class agrees on {top1:.1%} of the segments (tolerance {limits.top1:.1%})")
    auroc_reference = auroc_artefact = None
    if parity_inputs.targets is not None and np.isfinite(artifact).all() and np.isfinite(reference).all():
        from birdnet_fs.metrics.auroc import macro_auroc

        labeled = slice(len(EDGE_NAMES), None)
        values = [
            macro_auroc(parity_inputs.targets[labeled], _scores(x[labeled], activation)) for x in (reference, artifact)
        ]
        if values[0].n_scored_classes:
            auroc_reference, auroc_artefact = (float(v.value) for v in values)
            failures += _exceeds("change of macro AUROC", abs(auroc_artefact - auroc_reference), limits.auroc)
    return RuntimeParity(
        runtime=runtime,
        precision=precision,
        source=parity_inputs.source,
        n_segments=len(parity_inputs.waveforms) - len(EDGE_NAMES),
        n_edges=len(EDGE_NAMES),
        max_abs=max_abs,
        mean_abs=mean_abs,
        max_abs_logit=float(np.abs(reference).max()),
        top1_agreement=top1,
        auroc_reference=auroc_reference,
        auroc_artefact=auroc_artefact,
        failures=tuple(failures),
        limits=limits,
        by_batch=batches,
        max_abs_at=_where(at),
        max_abs_tolerance=limits.max_abs * float(allowance[at]),
    )


def _exceeds(what: str, value: float, limit: float) -> list[str]:
    return [] if value <= limit else [f"{what} {value:.3g} (tolerance {limit:g})"]  # NaN is over every limit


def _where(row: int) -> str:
    return EDGE_NAMES[row] if row < len(EDGE_NAMES) else f"real segment {row - len(EDGE_NAMES) + 1}"


def _constant_outputs(logits: np.ndarray, source: str) -> list[str]:
    """Faults of logits [n, n_classes] that need no reference: not finite, or constant over all inputs."""
    bad = ~np.isfinite(logits).all(axis=1)
    if bad.any():
        where = _where(int(np.flatnonzero(bad)[0]))
        return [f"{source} gives NaN or infinity for {bad.sum()} of {len(bad)} segments (first: {where})"]
    dead = np.ptp(logits, axis=0) == 0
    if not dead.any():
        return []
    return [f"{source} gives the same output for every input in {dead.sum()} of {len(dead)} classes"]


def largest_slope(output_kind: str, activation: str, maps: CalibrationMaps | None = None) -> float:
    """Largest change of an output when no logit changes by more than 1; a calibration counts with its largest slope.

    Args:
        output_kind: "logits", "log_odds" or "probabilities", as in `ExportSpec`.
        activation: "sigmoid" or "softmax", as the run was trained.
        maps: Slopes and offsets of calibrated predictions. Default: None.

    Returns:
        Above 0.
    """
    if maps is None:
        return MAX_SLOPE[activation if output_kind == "probabilities" else output_kind]
    slope = MAX_SLOPE["log_odds" if activation == "softmax" else "logits"]
    slope *= max(1.0, float(maps.slope.max()))  # where all are below 1, adding the offset still rounds
    return slope * MAX_SLOPE["sigmoid"] if output_kind == "probabilities" else slope


def expected_outputs(
    logits: np.ndarray, output_kind: str, activation: str, maps: CalibrationMaps | None = None
) -> np.ndarray:
    """The output an artifact must give for logits of the run.

    Args:
        logits: Logits of the run, [n, n_classes].
        output_kind: "logits", "log_odds" or "probabilities", as in `ExportSpec`.
        activation: "sigmoid" or "softmax", as the run was trained.
        maps: Slopes and offsets of calibrated predictions. Default: None.

    Returns:
        float64 [n, n_classes].
    """
    if maps is not None:
        log_odds = maps(to_log_odds(logits, activation))
        return to_probabilities(log_odds, "sigmoid") if output_kind == "probabilities" else log_odds
    if output_kind == "probabilities":
        return to_probabilities(logits, activation)
    return to_log_odds(logits, "sigmoid" if output_kind == "logits" else activation)


def _scores(logits: np.ndarray, activation: str) -> np.ndarray:
    # AUROC ranks within a class, and the sigmoid keeps that order
    return logits if activation == "sigmoid" else to_probabilities(logits, activation)
