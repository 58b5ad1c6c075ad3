"""The gate: a converted network is let out only when it answers as the network it came from.

Reference: the NumPy front-end and the run's network on the training backend, as `analyze` computes it. Artifact: the
file itself, run by a real runtime in a process of its own. Both see the same waveforms, at the edges (silence,
clipping, padding) and real. What may differ, and why, is the table of budgets.py.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.special import logsumexp

from birdnet_fs.core.progress import track
from birdnet_fs.export.parity.embeddings import EmbeddingParity
from birdnet_fs.export.parity.inputs import EDGE_NAMES, ParityInputs
from birdnet_fs.export.parity.tolerances import MAX_SLOPE, TOLERANCES, USUAL_LOGITS, USUAL_UNCERTAINTY, Tolerance
from birdnet_fs.export.tflite.wrappers import SMALLEST_POSITIVE
from birdnet_fs.inference.activations import to_probabilities
from birdnet_fs.runs.run import Run

_BATCH = 8


@dataclass(frozen=True)
class RuntimeParity:
    """The numbers of one artifact on one runtime; `failures` is empty when it may leave.

    Differences, and the largest value, are of what the artifact answers: logits, log-odds or probabilities.
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
    by_batch: dict[int, float] = dataclasses.field(default_factory=dict)  # largest difference in other batches
    embeddings: EmbeddingParity | None = None  # of an artifact that gives them too

    def to_json(self) -> dict[str, Any]:
        """The numbers with the budget they were held against, as JSON values (NaN becomes null)."""
        values = {k: v for k, v in vars(self).items() if k not in ("failures", "limits", "embeddings")}
        plain = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
        plain["by_batch"] = {str(n): value for n, value in self.by_batch.items()}
        found = {**plain, "faults": list(self.failures), "budget": dict(vars(self.limits))}
        return found if self.embeddings is None else {**found, "embeddings": self.embeddings.to_json()}

    def with_embeddings(self, embeddings: EmbeddingParity) -> "RuntimeParity":
        """Both outputs' numbers and faults."""
        return dataclasses.replace(self, embeddings=embeddings, failures=self.failures + embeddings.failures)

    def __str__(self) -> str:
        text = f"max {self.max_abs:.1e}, mean {self.mean_abs:.1e}, top-1 {self.top1_agreement:.1%}"
        if self.auroc_reference is not None and self.auroc_artefact is not None:
            text += f", AUROC {self.auroc_reference:.4f} -> {self.auroc_artefact:.4f}"
        if self.embeddings is not None:
            text += f"; embeddings max {self.embeddings.max_error:.1e}, mean {self.embeddings.mean_error:.1e}"
        return text


class Reference(NamedTuple):
    """What the run itself answers.

    Attributes:
        outputs: float32 [n, width] of each layer asked for.
        numerical_uncertainty: [len(EDGES)] how far the logits of the made waveforms move when the same network is added up in another
            order (as Keras does, and with BatchNorm folded), the most of any class: nobody else can be held to less.
    """

    outputs: list[np.ndarray]
    numerical_uncertainty: np.ndarray


def reference_outputs(
    run: Run, parity_inputs: ParityInputs, layers: Sequence[str], features_file: Path | None = None
) -> Reference:
    """Ask the run itself.

    Args:
        run: The run.
        parity_inputs: The waveforms.
        layers: "logits", and "embedding" where the artifact gives it too.
        features_file: Where to keep the features, `.npy` float32 [n, n_frames, n_mels, n_channels], for an artifact
            that is given features; None when it is given waveforms.
    """
    import keras
    import torch

    from birdnet_fs import models
    from birdnet_fs.frontend.in_numpy import log_mel, network_input
    from birdnet_fs.models.lowering.lower import lower

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
        features = network_input(log_mel(parity_inputs.waveforms[start : start + _BATCH], run.frontend), run.frontend)
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
    doubt = np.max([np.abs(rows - outputs[0][: len(EDGE_NAMES)]).max(axis=1) for rows in again], axis=0)
    return Reference(outputs, doubt)


def calibration_features(run: Run, parity_inputs: ParityInputs, file: Path) -> None:
    """Write the features of the probe's calibration segments, `.npy` float32 [n, n_frames, n_mels]."""
    from birdnet_fs.frontend.in_numpy import log_mel

    waveforms = parity_inputs.calibration if parity_inputs.calibration is not None else parity_inputs.waveforms
    np.save(file, log_mel(waveforms, run.frontend))


def logit_scale_of_run(run: Run, reference: np.ndarray) -> float:
    """How large the logits of a head that compares get by design: its scale for cosines, no limit for distances.

    Args:
        run: The run.
        reference: Its logits [n, n_classes].

    Returns:
        Above 0; 1 for a head that was trained to keep its logits small.
    """
    settings = run.experiment.model
    if settings.head == "prototypes" and settings.distance != "cosine":
        return float(np.abs(reference).max())
    return run.experiment.logit_scale


def compare(
    reference: np.ndarray,
    artifact: np.ndarray,
    parity_inputs: ParityInputs,
    precision: str,
    activation: str,
    *,
    runtime: str = "",
    output_kind: str = "logits",
    size: float = 1.0,
    constant: int = 0,
    numerical_uncertainty: np.ndarray | None = None,
    by_batch: Mapping[int, np.ndarray] | None = None,
) -> RuntimeParity:
    """Hold an artifact's answers against the reference's.

    Args:
        reference: Logits, float32 [n, n_classes].
        artifact: What the artifact answers to the same rows, float32 [n, n_classes].
        parity_inputs: What was asked.
        precision: Which budget of `TOLERANCES` holds.
        activation: "softmax" or "sigmoid", which makes the scores that AUROC ranks.
        runtime: Who computed the artifact's answers.
        output_kind: What the artifact answers, as in `Form`.
        size: Of the logits of a head that compares (`logit_scale_of_run`); above 30 the budget grows with it.
        constant: How many of the last classes have one logit for every input by design ("unknown").
        numerical_uncertainty: Of the reference about the made waveforms (`Reference`).
        by_batch: What the artifact answers to the first rows when it is given more than one at once, by how many.
    """
    alive = reference.shape[1] - constant
    # rounding grows with what is rounded: a segment with larger logits than usual may differ by more
    allowance = np.maximum(1.0, np.abs(reference).max(axis=1) / USUAL_LOGITS)
    if numerical_uncertainty is not None:
        allowance[: len(EDGE_NAMES)] = np.fmax(allowance[: len(EDGE_NAMES)], numerical_uncertainty / USUAL_UNCERTAINTY)
    spread = float(reference[len(EDGE_NAMES) :, :alive].astype(np.float64).std(axis=0).mean())
    steepest = MAX_SLOPE[activation if output_kind == "probabilities" else output_kind]
    budget = TOLERANCES[precision].scaled(size, spread, steepest)
    if output_kind != "logits":
        reference, activation = expected(reference, output_kind, activation), "sigmoid"  # AUROC ranks what is given
    faults = [
        *_constant_outputs(reference[:, :alive], "the network itself"),
        *_constant_outputs(artifact[:, :alive], "the artifact"),
    ]
    rows = slice(len(EDGE_NAMES) if budget.real_only else 0, None)
    error = np.abs(artifact.astype(np.float64) - reference)
    largest = error.max(axis=1)
    max_abs, mean_abs = float(largest[rows].max()), float(error[rows].mean())
    best = np.take_along_axis(reference, artifact.argmax(axis=1)[:, None], axis=1)[:, 0]
    top1 = float(np.mean(best >= reference.max(axis=1) - budget.tie))
    one, many = ("a probability", "the probabilities") if output_kind == "probabilities" else ("a logit", "the logits")
    share = np.where(np.arange(len(largest)) >= (rows.start or 0), largest / allowance, 0)
    worst = _where(int(np.argmax(share)))  # a NaN is the largest
    faults += _exceeds(f"largest difference of {one} ({worst})", float(share.max()), budget.max_abs)
    faults += _exceeds(f"mean difference of {many}", mean_abs, budget.mean_abs)
    batches = {}
    for n, given in (by_batch or {}).items():
        again = np.abs(given.astype(np.float64) - reference[: len(given)]).max(axis=1)
        batches[n] = float(again[rows].max())
        value = float((again / allowance[: len(given)])[rows].max())
        faults += _exceeds(f"largest difference of {one} in batches of {n}", value, budget.max_abs)
    if not top1 >= budget.top1:
        faults.append(f"the best class agrees on {top1:.1%} of the segments (budget {budget.top1:.1%})")
    auroc_reference = auroc_artefact = None
    if parity_inputs.targets is not None and np.isfinite(artifact).all() and np.isfinite(reference).all():
        from birdnet_fs.metrics.auroc import macro_auroc

        labeled = slice(len(EDGE_NAMES), None)
        values = [
            macro_auroc(parity_inputs.targets[labeled], _scores(x[labeled], activation)) for x in (reference, artifact)
        ]
        if values[0].n_scored_classes:
            auroc_reference, auroc_artefact = (float(v.value) for v in values)
            faults += _exceeds("change of macro AUROC", abs(auroc_artefact - auroc_reference), budget.auroc)
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
        failures=tuple(faults),
        limits=budget,
        by_batch=batches,
    )


def _exceeds(what: str, value: float, limit: float) -> list[str]:
    return [] if value <= limit else [f"{what} {value:.3g} (budget {limit:g})"]  # NaN is over every limit


def _where(row: int) -> str:
    return EDGE_NAMES[row] if row < len(EDGE_NAMES) else f"real segment {row - len(EDGE_NAMES) + 1}"


def _constant_outputs(logits: np.ndarray, who: str) -> list[str]:
    """What is wrong with logits of different inputs, whatever they are compared with."""
    bad = ~np.isfinite(logits).all(axis=1)
    if bad.any():
        where = _where(int(np.flatnonzero(bad)[0]))
        return [f"{who} gives NaN or infinity for {bad.sum()} of {len(bad)} segments (first: {where})"]
    dead = np.ptp(logits, axis=0) == 0
    return [f"{who} gives the same output for every input in {dead.sum()} of {len(dead)} classes"] if dead.any() else []


def expected(logits: np.ndarray, answers: str, activation: str) -> np.ndarray:
    """What an artifact must answer where the run's logits are [n, n_classes], float64.

    Args:
        logits: Of the run.
        output_kind: As in `Form`.
        activation: "sigmoid" or "softmax", as the run was trained.
    """
    if answers == "probabilities":
        return to_probabilities(logits, activation)
    x = logits.astype(np.float64)
    if answers == "logits":
        return x
    best, rows = x.argmax(axis=1), np.arange(len(x))
    below = x - x.max(axis=1, keepdims=True)
    rest = np.exp(below).sum(axis=1, keepdims=True) - np.exp(below)  # what the other classes have
    rest[rows, best] = 1.0  # nothing would be left of it but rounding
    found = below - np.log(rest)
    others = below.copy()
    others[rows, best] = -np.inf
    found[rows, best] = -np.maximum(logsumexp(others, axis=1), np.log(SMALLEST_POSITIVE))
    return found


def _scores(logits: np.ndarray, activation: str) -> np.ndarray:
    # AUROC ranks within a class, which the sigmoid leaves alone
    return logits if activation == "sigmoid" else to_probabilities(logits, activation)
