"""The gate: a converted network is let out only when it answers as the network it came from.

Reference: the NumPy front-end and the run's network on the training backend, as `analyze` computes it. Artefact: the
file itself, run by a real runtime in a process of its own. Both see the same waveforms, at the edges (silence,
clipping, padding) and real. What 8 bits cost depends on how far the logits of a network lie apart, so their budgets
are shares of that.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit, softmax

from birdnet_fs.export.embeddings import EmbeddingParity
from birdnet_fs.export.probe import EDGES, Probe
from birdnet_fs.plumbing.progress import track
from birdnet_fs.training.run_folder import Run

_BATCH = 8
USUAL_SCALE = 30.0  # of cosines, up to which the budgets hold; beyond it they grow in proportion
# So they do with the logits of a segment: those of real segments stay below about 10 in the networks measured, while
# silence drives some to 30 or 300, and all that they are computed from (a trained B0: 1.1e-4 there, 1e-5 elsewhere).
USUAL_LOGITS = 10.0
# And with what the network itself leaves open: Keras and PyTorch, adding up in other orders, answer silence 5e-5 apart
# with a trained B0, real segments 1e-5 or less. A quarter of the float32 budget is taken for usual.
USUAL_DOUBT = 7.5e-5
STEEPEST = {"sigmoid": 0.25, "softmax": 0.5}  # the most that a probability moves for a difference in the logits


@dataclass(frozen=True)
class Budget:
    """What a precision may cost. Every figure compares answers of the artefact with those of the reference."""

    max_abs: float  # largest difference of any logit of any segment
    mean_abs: float  # mean difference
    tie: float  # a class this close to the best one counts as the best
    top1: float  # lowest share of segments with the same best class
    auroc: float  # largest change of macro AUROC
    device: float  # largest difference of a logit for the golden waveforms on another machine
    reason: str
    of_spread: bool = False  # whether differences are shares of the logits' spread (standard deviation within a class)
    real_only: bool = False  # whether made waveforms need no more than finite answers

    def at(self, size: float, spread: float, steepest: float = 1.0) -> "Budget":
        """The budget for one network, as differences in its answers.

        Args:
            size: Of logits that compare (cosines or distances times a scale), as large as they get.
            spread: Standard deviation of the logits within a class.
            steepest: Of `STEEPEST`, for an artefact that answers probabilities.
        """
        factor = steepest * (spread if self.of_spread else max(1.0, size / USUAL_SCALE))
        scaled = {name: getattr(self, name) * factor for name in ("max_abs", "mean_abs", "tie", "device")}
        return dataclasses.replace(self, **scaled, of_spread=False)


BUDGETS = {
    "fp32": Budget(
        max_abs=3e-4,
        mean_abs=2e-5,
        tie=6e-4,
        top1=1.0,
        auroc=1e-3,
        device=1e-3,
        reason="the same arithmetic in another order (nine networks, features in: 6e-6 or less; the front-end in "
        "float32 moves quiet bands, 1.4e-4 in the worst of 1,000 segments of the aviary); other machines add up in "
        "yet another order, which a pure tone shows most (tflite-runtime 2.14: 2.8e-4)",
    ),
    "fp16": Budget(
        max_abs=1e-1,
        mean_abs=1e-2,
        tie=2e-1,
        top1=0.99,
        auroc=5e-3,
        device=1e-1,
        reason="weights keep 11 bits (a trained cnn/small: 0.08 on 200 real segments, mean 0.002); "
        "0.1 in a logit moves a probability by at most 0.025",
    ),
    "dynamic": Budget(
        max_abs=0.5,
        mean_abs=0.05,
        tie=0.1,
        top1=0.95,
        auroc=0.01,
        device=0.5,
        of_spread=True,
        reason="weights keep 8 bits (a trained cnn/small: 0.03 of the spread on real segments, mean 0.01)",
    ),
    "int8": Budget(
        max_abs=1.5,
        mean_abs=0.2,
        tie=0.4,
        top1=0.90,
        auroc=0.01,
        device=0.5,
        of_spread=True,
        real_only=True,
        reason="weights and activations keep 8 bits, between bounds that real segments set; silence and clipping lie "
        "outside of those (trained: EfficientNetV2-B0 0.4 of the spread, mean 0.06; trained for it 0.14, mean 0.02)",
    ),
}


@dataclass(frozen=True)
class Parity:
    """The numbers of one artefact on one runtime; `faults` is empty when it may leave.

    Differences are of logits, or of probabilities where the artefact answers those.
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
    from birdnet_fs.models.lowering import lower

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
        answers: What the artefact answers, "logits" or "probabilities".
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
    steepest = STEEPEST[activation] if answers == "probabilities" else 1.0
    budget = BUDGETS[precision].at(size, spread, steepest)
    if answers == "probabilities":
        reference, activation = probabilities(reference, activation), "sigmoid"  # AUROC ranks what is given
    faults = [*_dead(reference[:, :alive], "the network itself"), *_dead(artefact[:, :alive], "the artefact")]
    rows = slice(len(EDGES) if budget.real_only else 0, None)
    error = np.abs(artefact.astype(np.float64) - reference)
    largest = error.max(axis=1)
    max_abs, mean_abs = float(largest[rows].max()), float(error[rows].mean())
    best = np.take_along_axis(reference, artefact.argmax(axis=1)[:, None], axis=1)[:, 0]
    top1 = float(np.mean(best >= reference.max(axis=1) - budget.tie))
    one, many = ("a logit", "the logits") if answers == "logits" else ("a probability", "the probabilities")
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
        from birdnet_fs.training.metrics import macro_auroc

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


def probabilities(logits: np.ndarray, activation: str) -> np.ndarray:
    """Logits [n, n_classes] through "sigmoid" or "softmax", in float64."""
    x = logits.astype(np.float64)
    return expit(x) if activation == "sigmoid" else softmax(x, axis=1)


def _scores(logits: np.ndarray, activation: str) -> np.ndarray:
    # AUROC ranks within a class, which the sigmoid leaves alone
    return logits if activation == "sigmoid" else probabilities(logits, activation)
