"""The gate: a converted network is let out only when it answers as the network it came from.

Reference: the NumPy front-end and the run's network on the training backend, as `analyze` computes it. Artefact: the
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
from birdnet_fs.export.parity.inputs import EDGES, Probe
from birdnet_fs.export.parity.tolerances import BUDGETS, STEEPEST, USUAL_DOUBT, USUAL_LOGITS, Budget
from birdnet_fs.export.tflite.wrappers import LEAST
from birdnet_fs.inference.activations import to_probabilities
from birdnet_fs.runs.run import Run

_BATCH = 8


@dataclass(frozen=True)
class Parity:
    """The numbers of one artefact on one runtime; `faults` is empty when it may leave.

    Differences, and the largest value, are of what the artefact answers: logits, log-odds or probabilities.
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
    faults: tuple[str, ...]
    budget: Budget
    by_batch: dict[int, float] = dataclasses.field(default_factory=dict)  # largest difference in other batches
    embeddings: EmbeddingParity | None = None  # of an artefact that gives them too

    def to_json(self) -> dict[str, Any]:
        """The numbers with the budget they were held against, as JSON values (NaN becomes null)."""
        values = {k: v for k, v in vars(self).items() if k not in ("faults", "budget", "embeddings")}
        plain = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
        plain["by_batch"] = {str(n): value for n, value in self.by_batch.items()}
        found = {**plain, "faults": list(self.faults), "budget": dict(vars(self.budget))}
        return found if self.embeddings is None else {**found, "embeddings": self.embeddings.to_json()}

    def with_embeddings(self, embeddings: EmbeddingParity) -> "Parity":
        """Both outputs' numbers and faults."""
        return dataclasses.replace(self, embeddings=embeddings, faults=self.faults + embeddings.faults)

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
        doubt: [len(EDGES)] how far the logits of the made waveforms move when the same network is added up in another
            order (as Keras does, and with BatchNorm folded), the most of any class: nobody else can be held to less.
    """

    outputs: list[np.ndarray]
    doubt: np.ndarray


def reference_answers(run: Run, probe: Probe, layers: Sequence[str], features_file: Path | None = None) -> Reference:
    """Ask the run itself.

    Args:
        run: The run.
        probe: The waveforms.
        layers: "logits", and "embedding" where the artefact gives it too.
        features_file: Where to keep the features, `.npy` float32 [n, n_frames, n_mels, n_channels], for an artefact
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
        kept = np.lib.format.open_memmap(features_file, "w+", np.float32, (len(probe.waveforms), *run.input_shape))
    answers: list[list[np.ndarray]] = [[] for _ in layers]
    for start in track(range(0, len(probe.waveforms), _BATCH), "Reference", unit="batch"):
        features = network_input(log_mel(probe.waveforms[start : start + _BATCH], run.frontend), run.frontend)
        if kept is not None:
            kept[start : start + _BATCH] = features
        with torch.inference_mode():
            found = keras.tree.flatten(network(torch.from_numpy(features)))
            if start == 0:
                made = torch.from_numpy(features[: len(EDGES)])
                again = [keras.tree.flatten(other(made, training=False))[0].numpy() for other in others]
        for rows, output in zip(answers, found, strict=True):
            rows.append(output.numpy())
    if kept is not None:
        kept.flush()
    outputs = [np.concatenate(rows) for rows in answers]
    doubt = np.max([np.abs(rows - outputs[0][: len(EDGES)]).max(axis=1) for rows in again], axis=0)
    return Reference(outputs, doubt)


def calibration_features(run: Run, probe: Probe, file: Path) -> None:
    """Write the features of the probe's calibration segments, `.npy` float32 [n, n_frames, n_mels]."""
    from birdnet_fs.frontend.in_numpy import log_mel

    waveforms = probe.calibration if probe.calibration is not None else probe.waveforms
    np.save(file, log_mel(waveforms, run.frontend))


def size_of_logits(run: Run, reference: np.ndarray) -> float:
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
    artefact: np.ndarray,
    probe: Probe,
    precision: str,
    activation: str,
    *,
    runtime: str = "",
    answers: str = "logits",
    size: float = 1.0,
    constant: int = 0,
    doubt: np.ndarray | None = None,
    by_batch: Mapping[int, np.ndarray] | None = None,
) -> Parity:
    """Hold an artefact's answers against the reference's.

    Args:
        reference: Logits, float32 [n, n_classes].
        artefact: What the artefact answers to the same rows, float32 [n, n_classes].
        probe: What was asked.
        precision: Which budget of `BUDGETS` holds.
        activation: "softmax" or "sigmoid", which makes the scores that AUROC ranks.
        runtime: Who computed the artefact's answers.
        answers: What the artefact answers, as in `Form`.
        size: Of the logits of a head that compares (`size_of_logits`); above 30 the budget grows with it.
        constant: How many of the last classes have one logit for every input by design ("unknown").
        doubt: Of the reference about the made waveforms (`Reference`).
        by_batch: What the artefact answers to the first rows when it is given more than one at once, by how many.
    """
    alive = reference.shape[1] - constant
    # rounding grows with what is rounded: a segment with larger logits than usual may differ by more
    allowance = np.maximum(1.0, np.abs(reference).max(axis=1) / USUAL_LOGITS)
    if doubt is not None:
        allowance[: len(EDGES)] = np.fmax(allowance[: len(EDGES)], doubt / USUAL_DOUBT)
    spread = float(reference[len(EDGES) :, :alive].astype(np.float64).std(axis=0).mean())
    steepest = STEEPEST[activation if answers == "probabilities" else answers]
    budget = BUDGETS[precision].at(size, spread, steepest)
    if answers != "logits":
        reference, activation = expected(reference, answers, activation), "sigmoid"  # AUROC ranks what is given
    faults = [*_dead(reference[:, :alive], "the network itself"), *_dead(artefact[:, :alive], "the artefact")]
    rows = slice(len(EDGES) if budget.real_only else 0, None)
    error = np.abs(artefact.astype(np.float64) - reference)
    largest = error.max(axis=1)
    max_abs, mean_abs = float(largest[rows].max()), float(error[rows].mean())
    best = np.take_along_axis(reference, artefact.argmax(axis=1)[:, None], axis=1)[:, 0]
    top1 = float(np.mean(best >= reference.max(axis=1) - budget.tie))
    one, many = ("a probability", "the probabilities") if answers == "probabilities" else ("a logit", "the logits")
    share = np.where(np.arange(len(largest)) >= (rows.start or 0), largest / allowance, 0)
    worst = _where(int(np.argmax(share)))  # a NaN is the largest
    faults += _over(f"largest difference of {one} ({worst})", float(share.max()), budget.max_abs)
    faults += _over(f"mean difference of {many}", mean_abs, budget.mean_abs)
    batches = {}
    for n, given in (by_batch or {}).items():
        again = np.abs(given.astype(np.float64) - reference[: len(given)]).max(axis=1)
        batches[n] = float(again[rows].max())
        value = float((again / allowance[: len(given)])[rows].max())
        faults += _over(f"largest difference of {one} in batches of {n}", value, budget.max_abs)
    if not top1 >= budget.top1:
        faults.append(f"the best class agrees on {top1:.1%} of the segments (budget {budget.top1:.1%})")
    auroc_reference = auroc_artefact = None
    if probe.targets is not None and np.isfinite(artefact).all() and np.isfinite(reference).all():
        from birdnet_fs.metrics.classification import macro_auroc

        labelled = slice(len(EDGES), None)
        values = [macro_auroc(probe.targets[labelled], _scores(x[labelled], activation)) for x in (reference, artefact)]
        if values[0].n_scored_classes:
            auroc_reference, auroc_artefact = (float(v.value) for v in values)
            faults += _over("change of macro AUROC", abs(auroc_artefact - auroc_reference), budget.auroc)
    return Parity(
        runtime=runtime,
        precision=precision,
        source=probe.source,
        n_segments=len(probe.waveforms) - len(EDGES),
        n_edges=len(EDGES),
        max_abs=max_abs,
        mean_abs=mean_abs,
        max_abs_logit=float(np.abs(reference).max()),
        top1_agreement=top1,
        auroc_reference=auroc_reference,
        auroc_artefact=auroc_artefact,
        faults=tuple(faults),
        budget=budget,
        by_batch=batches,
    )


def _over(what: str, value: float, limit: float) -> list[str]:
    return [] if value <= limit else [f"{what} {value:.3g} (budget {limit:g})"]  # NaN is over every limit


def _where(row: int) -> str:
    return EDGES[row] if row < len(EDGES) else f"real segment {row - len(EDGES) + 1}"


def _dead(logits: np.ndarray, who: str) -> list[str]:
    """What is wrong with logits of different inputs, whatever they are compared with."""
    bad = ~np.isfinite(logits).all(axis=1)
    if bad.any():
        where = _where(int(np.flatnonzero(bad)[0]))
        return [f"{who} gives NaN or infinity for {bad.sum()} of {len(bad)} segments (first: {where})"]
    dead = np.ptp(logits, axis=0) == 0
    return [f"{who} gives the same output for every input in {dead.sum()} of {len(dead)} classes"] if dead.any() else []


def expected(logits: np.ndarray, answers: str, activation: str) -> np.ndarray:
    """What an artefact must answer where the run's logits are [n, n_classes], float64.

    Args:
        logits: Of the run.
        answers: As in `Form`.
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
    found[rows, best] = -np.maximum(logsumexp(others, axis=1), np.log(LEAST))
    return found


def _scores(logits: np.ndarray, activation: str) -> np.ndarray:
    # AUROC ranks within a class, which the sigmoid leaves alone
    return logits if activation == "sigmoid" else to_probabilities(logits, activation)
