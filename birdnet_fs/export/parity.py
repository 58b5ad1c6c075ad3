"""The gate: a converted network is let out only when it answers as the network it came from.

Reference: the NumPy front-end and the Keras network on the training backend. Artefact: the file itself, run by the
real runtime in a process of its own. Both see the same waveforms, at the edges (silence, clipping, padding) and real.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from birdnet_fs import schema
from birdnet_fs.export.embeddings import EmbeddingParity
from birdnet_fs.export.probe import EDGES, Probe
from birdnet_fs.plumbing.progress import track
from birdnet_fs.training.run_folder import Run

if TYPE_CHECKING:
    import keras

_BATCH = 8
USUAL_LOGITS = 30.0  # as large as the logits get that the budgets were measured on


@dataclass(frozen=True)
class Budget:
    """What a precision may cost. Every figure compares logits of the artefact with those of the reference."""

    max_abs: float  # largest difference of any logit of any segment
    mean_abs: float  # mean difference
    top1: float  # lowest share of segments with the same best class (one within 2 x max_abs of the best counts)
    auroc: float  # largest change of macro AUROC
    device: float  # largest difference of a logit for the golden waveforms on another machine
    reason: str

    def at(self, size: float) -> "Budget":
        """The budget for logits that compare (cosines or distances times a scale) and get as large as `size`."""
        factor = max(1.0, size / USUAL_LOGITS)
        wider = {name: getattr(self, name) * factor for name in ("max_abs", "mean_abs", "device")}
        return dataclasses.replace(self, **wider)


BUDGETS = {
    "fp32": Budget(
        max_abs=1e-4,
        mean_abs=2e-5,
        top1=1.0,
        auroc=1e-3,
        device=1e-3,
        reason="the same arithmetic in another order (nine networks measured at 6e-6 or less); on other machines sums "
        "are in yet another order, which a pure tone shows most (tflite-runtime 2.14: 2.8e-4)",
    ),
    "fp16": Budget(
        max_abs=1e-1,
        mean_abs=1e-2,
        top1=0.99,
        auroc=5e-3,
        device=1e-1,
        reason="weights keep 11 bits (a trained cnn/small: 0.08 on 200 real segments, mean 0.002); "
        "0.1 in a logit moves a probability by at most 0.025",
    ),
}


@dataclass(frozen=True)
class Parity:
    """The numbers of one artefact; `faults` is empty when it may leave."""

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
    embeddings: EmbeddingParity | None = None  # of an artefact that gives them too

    def to_json(self) -> dict[str, Any]:
        """The numbers with the budget they were held against, as JSON values (NaN becomes null)."""
        values = {k: v for k, v in vars(self).items() if k not in ("faults", "budget", "embeddings")}
        plain = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
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


def reference_answers(
    run: Run, probe: Probe, layers: Sequence[str], features_file: Path | None = None
) -> list[np.ndarray]:
    """What the run itself answers: float32 [n, width] of each layer.

    Args:
        run: The run.
        probe: The waveforms.
        layers: "logits", and "embedding" where the artefact gives it too.
        features_file: Where to keep the features, `.npy` float32 [n, n_frames, n_mels], for an artefact that is
            given features; None when it is given waveforms.
    """
    import keras

    from birdnet_fs import models

    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        with keras.device("cpu"):  # a GPU may round matrix products to 10 bits
            model = models.with_outputs(run.build_model(), layers)
    finally:
        keras.config.set_dtype_policy(policy)
    return _ask(model, run.frontend, probe.waveforms, features_file)


def _ask(
    model: "keras.Model", spec: schema.FrontEnd, waveforms: np.ndarray, features_file: Path | None
) -> list[np.ndarray]:
    from birdnet_fs.frontend.in_numpy import log_mel, network_input

    kept = None
    if features_file is not None:
        kept = np.lib.format.open_memmap(features_file, "w+", np.float32, (len(waveforms), *spec.shape))
    answers: list[list[np.ndarray]] = [[] for _ in model.outputs]
    for start in track(range(0, len(waveforms), _BATCH), "Reference", unit="batch"):
        features = log_mel(waveforms[start : start + _BATCH], spec)
        if kept is not None:
            kept[start : start + _BATCH] = features
        found = model.predict_on_batch(network_input(features, spec))
        for rows, output in zip(answers, found if len(answers) > 1 else [found], strict=True):
            rows.append(np.asarray(output, np.float32))
    if kept is not None:
        kept.flush()
    return [np.concatenate(rows) for rows in answers]


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
    size: float = 1.0,
    constant: int = 0,
) -> Parity:
    """Hold an artefact's logits against the reference's.

    Args:
        reference: float32 [n, n_classes].
        artefact: float32 [n, n_classes], the same rows.
        probe: What was asked.
        precision: Which budget of `BUDGETS` holds.
        activation: "softmax" or "sigmoid", which makes the scores that AUROC ranks.
        size: Of the logits of a head that compares (`size_of_logits`); above 30 the budget grows with it.
        constant: How many of the last classes have one logit for every input by design ("unknown").
    """
    budget = BUDGETS[precision].at(size)
    alive = reference.shape[1] - constant
    faults = [*_dead(reference[:, :alive], "the network itself"), *_dead(artefact[:, :alive], "the artefact")]
    error = np.abs(artefact.astype(np.float64) - reference)
    max_abs, mean_abs = float(error.max()), float(error.mean())
    best = np.take_along_axis(reference, artefact.argmax(axis=1)[:, None], axis=1)[:, 0]
    top1 = float(np.mean(best >= reference.max(axis=1) - 2 * budget.max_abs))
    faults += _over("largest difference of a logit", max_abs, budget.max_abs)
    faults += _over("mean difference of the logits", mean_abs, budget.mean_abs)
    if not top1 >= budget.top1:
        faults.append(f"the best class agrees on {top1:.1%} of the segments (budget {budget.top1:.1%})")
    auroc_reference = auroc_artefact = None
    if probe.targets is not None and np.isfinite(artefact).all() and np.isfinite(reference).all():
        from birdnet_fs.training.metrics import macro_auroc

        labelled = slice(len(EDGES), None)
        values = [macro_auroc(probe.targets[labelled], _scores(x[labelled], activation)) for x in (reference, artefact)]
        if values[0].n_scored_classes:
            auroc_reference, auroc_artefact = (float(v.value) for v in values)
            faults += _over("change of macro AUROC", abs(auroc_artefact - auroc_reference), budget.auroc)
    return Parity(
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
    )


def _over(what: str, value: float, limit: float) -> list[str]:
    return [] if value <= limit else [f"{what} {value:.3g} (budget {limit:g})"]  # NaN is over every limit


def _dead(logits: np.ndarray, who: str) -> list[str]:
    """What is wrong with logits of different inputs, whatever they are compared with."""
    bad = ~np.isfinite(logits).all(axis=1)
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        where = EDGES[first] if first < len(EDGES) else f"real segment {first - len(EDGES) + 1}"
        return [f"{who} gives NaN or infinity for {bad.sum()} of {len(bad)} segments (first: {where})"]
    dead = np.ptp(logits, axis=0) == 0
    return [f"{who} gives the same output for every input in {dead.sum()} of {len(dead)} classes"] if dead.any() else []


def _scores(logits: np.ndarray, activation: str) -> np.ndarray:
    x = logits.astype(np.float64)
    if activation == "sigmoid":
        return x  # AUROC ranks within a class, which the sigmoid leaves alone
    x = np.exp(x - x.max(axis=1, keepdims=True))
    return x / x.sum(axis=1, keepdims=True)
