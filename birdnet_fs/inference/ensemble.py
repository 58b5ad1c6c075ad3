"""Several runs as one engine: the mean, the power mean, the smallest or the mean rank of their probabilities.

Sources: H. van Veen, "Kaggle Ensembling Guide" (2015,
https://www.kdnuggets.com/2015/06/ensembles-kaggle-data-science-competition-p1.html) for averaging, for rank averaging
and for its "historical ranks"; the entries to BirdCLEF are compared by macro AUROC, which ranks alone decide (Kahl
et al. 2024, https://ceur-ws.org/Vol-3740/paper-184.pdf), and average the folds of several networks in these ways. The
first place of BirdCLEF 2024 took the smallest probability, so that a class counts where every network gives it.

Ranks need reference scores. Ranking the windows of one batch against each other would make the score of a window depend
on the other windows, so every member has a table of its scores of clips that it was not trained on (its held-out clips;
for folds these are the out-of-fold scores), and the score of a window becomes its position among those, 0..1.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import sha256
from birdnet_fs.data.windows import clip_rule
from birdnet_fs.inference.activations import SMALLEST, to_logits, to_probabilities
from birdnet_fs.inference.calibration.apply import calibrated
from birdnet_fs.inference.calibration.stored import read_calibration
from birdnet_fs.inference.clips import mean_over_windows
from birdnet_fs.inference.encoder_features import EncoderFeatures, open_features
from birdnet_fs.inference.engine import Engine, NumpyFunction, build_on_device, lowered_network, torch_runtime
from birdnet_fs.runs.ensemble import POWER, load_ensemble
from birdnet_fs.runs.run import ENSEMBLE

N_POINTS = 1001  # of a table of positions: every thousandth, or all clips where there are fewer
_BATCH = 64  # windows per call of a network
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class EnsembleMember:
    """One run of an ensemble.

    Attributes:
        frontend: Front-end of its network.
        activation: "softmax" or "sigmoid".
        columns: [n_classes], for each class of the ensemble its column in the logits of the member.
        network: Features [n, *input_shape] -> logits [n, n_classes], classes in the member's order.
        encoder: Encoders whose embeddings the network reads; None: it reads the features of the front-end. Members
            with the same encoders share their embeddings. Default: None.
        table: float32 [n_points, n_classes], from `position_table`, classes in the ensemble's order. Default: None,
            which is allowed unless ranks are combined.
    """

    frontend: schema.FrontEnd
    activation: str
    columns: NDArray[np.intp]
    network: NumpyFunction
    table: np.ndarray | None = None
    encoder: EncoderFeatures | None = None


@dataclass(frozen=True)
class CombinedInputSpec:
    """Input of an ensemble: the highest sample rate, the longest segment and the whole frequency range of its members.

    Attributes:
        sample_rate_hz: Samples per second of the waveforms.
        segment_s: Length of a segment in seconds.
        fmin_hz: Lowest frequency.
        fmax_hz: Highest frequency.
    """

    sample_rate_hz: int
    segment_s: float
    fmin_hz: float
    fmax_hz: float

    @property
    def n_samples(self) -> int:
        """Samples in one segment."""
        return round(self.segment_s * self.sample_rate_hz)

    @classmethod
    def from_frontends(cls, specs: Sequence[schema.FrontEnd]) -> "CombinedInputSpec":
        """The combined input of front-ends."""
        return cls(
            max(spec.sample_rate_hz for spec in specs),
            max(spec.segment_s for spec in specs),
            min(spec.fmin_hz for spec in specs),
            max(spec.fmax_hz for spec in specs),
        )


def combine_scores(scores: np.ndarray, how: str, *, activation: str = "softmax", power: float = POWER) -> Floats:
    """Combine the scores of several members.

    Args:
        scores: [n_members, n, n_classes]: probabilities, or with "rank" positions in 0..1 (`positions`).
        how: "mean": of the probabilities. "rank": mean of the positions. "power": the mean of p ** power, with softmax
            divided by its sum over the classes; with sigmoid its power-th root, which ranks clips in the same order and
            keeps the probability of members that agree, so that thresholds keep their meaning. "min": the smallest;
            with softmax divided by its sum over the classes.
        activation: "softmax" or "sigmoid", of the probabilities. Default: "softmax".
        power: Exponent of "power", above 0; above 1 high probabilities count more, below 1 less. Default: POWER.

    Returns:
        float64 [n, n_classes] in 0..1.

    >>> combine_scores([[[0.8, 0.2]], [[0.4, 0.6]]], "power").round(2).tolist()
    [[0.67, 0.33]]
    """
    given = np.asarray(scores, np.float64)
    if how == "min":
        least = given.min(axis=0)
        if activation == "sigmoid":
            return least
        least = np.maximum(least, SMALLEST)  # members may exclude every class
        return least / least.sum(axis=1, keepdims=True)
    if how != "power":
        return given.mean(axis=0)
    # relative to the largest of a row, so that no power underflows to 0
    largest = np.maximum(given.max(axis=(0, 2) if activation == "softmax" else 0, keepdims=True), SMALLEST)
    raised = ((given / largest) ** power).mean(axis=0)
    if activation == "softmax":
        return raised / raised.sum(axis=1, keepdims=True)
    return raised ** (1 / power) * largest[0]


def position_table(scores: np.ndarray) -> np.ndarray:
    """Reference scores for `positions`.

    Args:
        scores: Scores [n, n_classes] of clips that were not trained on.

    Returns:
        float32 [n_points, n_classes], ascending: the quantiles of the scores at n_points evenly spread places (Hazen's
        definition); all scores where there are N_POINTS clips or fewer.

    Raises:
        UserError: There are no rows.
    """
    if not len(scores):
        raise UserError("Ranks need the scores of clips that were not trained on; the table of scores has no rows.")
    n_points = min(len(scores), N_POINTS)
    places = (np.arange(n_points) + 0.5) / n_points
    return np.quantile(np.asarray(scores, np.float64), places, axis=0, method="hazen").astype(np.float32)


def positions(scores: np.ndarray, table: np.ndarray) -> Floats:
    """Positions of scores among those of a table, by class: 0 = below all, 1 = above all.

    A score that is in the table has its mid-rank there, (rank - 1/2) / n_points, ties averaged. Other scores are
    interpolated linearly, also between 0 and the lowest and between the highest and 1. A higher score never has a lower
    position, and the position of one score does not depend on the others.

    Args:
        scores: Probabilities [n, n_classes].
        table: [n_points, n_classes], from `position_table`.

    Returns:
        float64 [n, n_classes] in 0..1.

    >>> positions(np.array([[0.5], [0.25], [1.0]]), np.array([[0.25], [0.5], [0.5], [0.75]])).ravel().tolist()
    [0.5, 0.125, 1.0]
    """
    found = np.empty(np.shape(scores))
    for c, column in enumerate(np.asarray(table, np.float64).T):
        values, first, n_equal = np.unique(column, return_index=True, return_counts=True)
        places = (first + n_equal / 2) / len(column)
        below, above = int(values[0] > 0), int(values[-1] < 1)
        values = np.concatenate([[0.0] * below, values, [1.0] * above])
        found[:, c] = np.interp(scores[:, c], values, np.concatenate([[0.0] * below, places, [1.0] * above]))
    return found


def open_ensemble(path: Path | str, *, threads: int = 0, n_members: int = 0) -> Engine:
    """The engine of an ensemble folder; `open.open_engine` calls this for one.

    Args:
        path: The folder.
        threads: CPU threads of the model, 1 or more. Default: 0, the runtime decides.
        n_members: Number of members to use, the first ones. Default: 0, all.

    Returns:
        The engine.
    """
    found = load_ensemble(path)
    tables = found.positions() if found.how == "rank" else [None] * len(found.members)
    runs = found.members[: n_members or None]
    encoders = {run.path: open_features(run, threads=threads) for run in runs if run.experiment.model.encoder}
    members = [
        EnsembleMember(
            run.frontend,
            run.activation,
            columns,
            lowered_network(build_on_device(run, threads=threads)),
            table,
            encoders.get(run.path),
        )
        for run, columns, table in zip(runs, found.columns, tables, strict=False)
    ]
    # the file holds the SHA-256 of the rest
    identity = " ".join([sha256(found.path / ENSEMBLE), *(each.identity for each in encoders.values())])
    identity += f" first {n_members}" if len(runs) < len(found.members) else ""
    engine = ensemble_engine(members, found.classes, how=found.how, power=found.power, identity=identity)
    return calibrated(engine, read_calibration(found.path, found.classes))


def ensemble_engine(
    members: Sequence[EnsembleMember], classes: Sequence[str], *, how: str, power: float = POWER, identity: str
) -> Engine:
    """An engine that gives the combined scores of its members.

    A segment is as long as the longest of the members and has the highest of their rates. It is resampled to each rate
    once, from the segment alone, so that its score does not depend on the neighboring segments (soxr HQ: but for the
    first and last two frames, features are within 0.03 dB of those of a recording decoded at that rate), and each
    distinct front-end is computed once. For a member with a shorter segment, windows cover the segment and the mean of
    their probabilities is taken, as for clips; zeros that pad the end of a segment are left out.

    Args:
        members: Members in any order; all "softmax" or all "sigmoid" unless `how` is "rank".
        classes: Names, in the order of the members' `columns`.
        how: "mean", "power", "min" or "rank". With "rank" every member has a table, and the scores of the engine are
            mean positions among held-out clips, by class: they rank clips and are no probabilities.
        power: Exponent of "power". Default: POWER.
        identity: Text that changes when a member does.

    Returns:
        The engine.
    """
    spec = CombinedInputSpec.from_frontends([member.frontend for member in members])
    ranks = how == "rank"
    activation = "sigmoid" if ranks else members[0].activation

    def forward(waveforms: np.ndarray) -> np.ndarray:
        inputs = _MemberInputs(waveforms, spec)
        scores = np.stack([_scores(member, inputs) for member in members])
        combined = combine_scores(scores, how, activation=activation, power=power)
        return to_logits(combined, activation).astype(np.float32)

    one_label = ranks and {member.activation for member in members} == {"softmax"}
    given = (tuple(classes), spec, activation, identity, forward, ranks, one_label)
    return Engine(*given, runtime=torch_runtime())


def _scores(member: EnsembleMember, inputs: "_MemberInputs") -> Floats:
    """Scores of one member for each waveform: probabilities or, with a table, positions; [n, n_classes]."""
    from birdnet_fs.frontend.in_numpy import network_input

    features, n_windows = inputs.features(member.frontend, member.encoder)

    def read(rows: np.ndarray) -> np.ndarray:
        return rows if member.encoder else network_input(rows, member.frontend)

    parts = [member.network(read(features[start : start + _BATCH])) for start in range(0, len(features), _BATCH)]
    found = to_probabilities(np.concatenate(parts), member.activation)
    mean = mean_over_windows(found, n_windows)[:, member.columns]
    return mean if member.table is None else positions(mean, member.table)


class _MemberInputs:
    """Features of a batch of waveforms [n, n_samples] for each member, each rate and front-end computed once."""

    def __init__(self, waveforms: np.ndarray, spec: CombinedInputSpec) -> None:
        self._spec = spec
        self._at = {spec.sample_rate_hz: waveforms}
        self._features: dict[schema.FrontEnd | str, tuple[np.ndarray, NDArray[np.intp]]] = {}
        real = waveforms != 0
        # seconds up to the last sample that is not zero
        self._real_s = np.where(real.any(1), waveforms.shape[1] - real[:, ::-1].argmax(1), 0) / spec.sample_rate_hz

    def features(self, spec: schema.FrontEnd, encoder: EncoderFeatures | None) -> tuple[np.ndarray, NDArray[np.intp]]:
        """Features of all windows in order, by the front-end or the encoder, and how many each waveform has."""
        from birdnet_fs.frontend.in_numpy import log_mel

        same = replace(spec, preset="", n_channels=1)  # further channels are copies
        key = encoder.identity if encoder else same
        if key not in self._features:
            rule = clip_rule(same.n_samples, same.sample_rate_hz)
            rows = [
                rule.cut(row[: max(same.n_samples, round(real_s * same.sample_rate_hz))])
                for row, real_s in zip(self._resampled(same), self._real_s, strict=True)
            ]
            windows = np.concatenate(rows)
            features = encoder.features(windows) if encoder else log_mel(windows, same)
            self._features[key] = features, np.array([len(row) for row in rows])
        return self._features[key]

    def _resampled(self, spec: schema.FrontEnd) -> np.ndarray:
        rate = spec.sample_rate_hz
        if rate not in self._at:
            given = self._at[self._spec.sample_rate_hz]
            found = soxr.resample(given.T, self._spec.sample_rate_hz, rate, quality="HQ").T
            n_samples = round(self._spec.segment_s * rate)
            found = np.pad(found[:, :n_samples], ((0, 0), (0, max(0, n_samples - found.shape[1]))))
            self._at[rate] = np.ascontiguousarray(found, np.float32)
        return self._at[rate]
