"""Few-shot accuracy of a run on classes that it was not trained on.

A clip is a recording, a part of one, or a timed event in it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.progress import say
from birdnet_fs.data.episodes import EvaluationEpisodes, draw_evaluation_episodes, listed
from birdnet_fs.data.manifest import Clip
from birdnet_fs.data.partition import PARTITION
from birdnet_fs.data.waveforms import Waveforms
from birdnet_fs.fewshot.base import comparing_model, has_classes
from birdnet_fs.fewshot.correlation import correlations, spectrograms
from birdnet_fs.inference.embed import embed_clips, training_mean_embedding
from birdnet_fs.inference.encoder_run import run_embedder
from birdnet_fs.metrics.few_shot import (
    FewShotAccuracy,
    by_embedding,
    by_pairs,
    combine_standardized,
    few_shot_accuracy,
    summarize,
)
from birdnet_fs.runs.provenance import provenance
from birdnet_fs.runs.run import Run
from birdnet_fs.training.loop import device_of

METHODS = ("euclidean", "cosine", "simpleshot", "logistic_regression")
CORRELATION_METHOD = "cosine"  # the correlation is added to the scores of this method, of encoders to simpleshot
N_NAMED = 8  # classes in a message
SHORT = 0.5  # fraction of the network's input; a median length below is reported


@dataclass(frozen=True)
class FewShotEvaluation:
    """Accuracies over episodes, and what could not be evaluated.

    Attributes:
        results: Results by shots, recordings and method, on the same episodes for all methods.
        messages: A sentence for each kind of episodes that could not be drawn, and for each that some classes are left
            out of.
    """

    results: tuple[FewShotAccuracy, ...]
    messages: tuple[str, ...]


def evaluate_few_shot(
    run: Run,
    clips: Sequence[Clip],
    *,
    n_way: int,
    shots: Sequence[int],
    n_query: int,
    n_episodes: int,
    seed: int,
    known: bool = False,
    fill: str = "silence",
    correlation: bool = False,
) -> FewShotEvaluation:
    """Compute the accuracy of a run over episodes of labeled clips.

    Classes with too few clips for an episode are left out and named. A UserError is raised when no clip can be read or
    no episodes of any number of shots can be drawn, and when the run was trained on one of the recordings or, without
    `known`, on one of the classes.

    Args:
        run: Any trained run with an embedding.
        clips: Labeled clips, one class each.
        n_way: Number of classes of an episode, 2 or more.
        shots: Numbers of support clips of a class; each has its own episodes.
        n_query: Number of query clips of a class, 1 or more.
        n_episodes: Number of episodes for each number of shots, across recordings and within recordings.
        seed: Seed of the episodes, 0 or more.
        known: Accept classes that the run was trained on, from recordings that it was not trained on. Default: False.
        fill: Padding of a clip that is shorter than the network's input, one of PADDING_MODES (`embed_clips`). Default:
            "silence".
        correlation: Whether to classify the queries also by spectrogram cross-correlation alone ("correlation"), and by
            the sum of cosines and correlations, both standardized over the classes of a query ("cosine+correlation").
            Default: False.

    Returns:
        The accuracies, and what could not be evaluated.
    """

    def draw(clips: Sequence[Clip], n_drawn: int) -> dict[int, EvaluationEpisodes]:
        """Draw episodes of each number of shots."""
        labels = [clip.labels[0] for clip in clips]
        groups = [clip.recording_group for clip in clips]
        return {
            n_shot: draw_evaluation_episodes(
                labels, groups, n_way=n_way, n_shot=n_shot, n_query=n_query, n_episodes=n_drawn, seed=seed
            )
            for n_shot in shots
        }

    _messages(draw(clips, 1))  # refuses episodes that cannot be drawn before anything is decoded
    _check_not_trained_on(run, clips, known)
    waveforms = Waveforms(clips, run.frontend.sample_rate_hz)
    _report_clips(waveforms, run.frontend.segment_s, fill)
    with keras.device(device_of("auto")):
        model = comparing_model(run)
    embedder = run_embedder(run, model)
    embeddings = embed_clips(embedder, waveforms, "embedding clips", fill)
    if has_classes(run):
        center = training_mean_embedding(run, model, embedder)
    else:
        center = embeddings.mean(0)
        say("The encoder has no training clips here: the mean of all clips, without their labels, is subtracted.")
    pair_correlations = correlations(spectrograms(waveforms, run.frontend)) if correlation else None
    results: list[FewShotAccuracy] = []
    every = draw(waveforms.clips, n_episodes)
    messages = _messages(every)
    for episodes in (one for drawn in every.values() for one in drawn.drawn):
        results += [few_shot_accuracy(embeddings, episodes, method, base_mean=center) for method in METHODS]
        if pair_correlations is not None:
            fused = "simpleshot" if run.experiment.model.encoder else CORRELATION_METHOD
            pairs = by_pairs("correlation", pair_correlations, episodes)
            results += [
                summarize(pairs),
                summarize(combine_standardized(by_embedding(embeddings, episodes, fused, base_mean=center), pairs)),
            ]
    return FewShotEvaluation(tuple(results), tuple(messages))


def _messages(every: Mapping[int, EvaluationEpisodes]) -> list[str]:
    """Sentences on episodes, by number of shots, that cannot be drawn or lack classes; UserError if none can be."""
    messages = []
    for n_shot, found in every.items():
        for recordings, why in found.reasons.items():
            messages.append(f"No {n_shot}-shot episodes {recordings} recordings: {why}")
        for recordings, classes in found.left_out.items():
            messages.append(
                f"{len(classes)} classes are left out of the {n_shot}-shot episodes {recordings} recordings: "
                f"{listed(classes, N_NAMED)}."
            )
    if not any(found.drawn for found in every.values()):
        raise UserError(" ".join(messages))
    return messages


def result_to_json(result: FewShotAccuracy) -> dict[str, Any]:
    """Convert a result to JSON values, without its confusion matrix."""
    return {name: value for name, value in asdict(result).items() if name not in ("confusion", "names")}


def _check_not_trained_on(run: Run, clips: Sequence[Clip], known: bool) -> None:
    """Refuse classes (unless `known`) and recordings that the run was trained on."""
    if not has_classes(run) and not (run.path / PARTITION).is_file():  # the base of a foreign encoder
        return
    trained = provenance(run.path)
    both = sorted(trained.labels & {clip.labels[0] for clip in clips})
    if both and not known:
        raise UserError(
            f"{run.path} was trained on {both[0]!r} ({len(both)} such classes); choose other classes, for "
            "example with data.where, or accept them with --known."
        )
    again = trained.trained_on(clips)
    if again:
        raise UserError(
            f"{run.path} was trained on {again[0].path} ({len(again)} of {len(clips)} clips are of such "
            "recordings); choose others, for example with data.where=split=test."
        )


def _report_clips(waveforms: Waveforms, segment_s: float, fill: str) -> None:
    if waveforms.ledger.counts()["quarantined"]:
        say(waveforms.ledger.summary())
    rows = [row for row in waveforms.ledger.rows if row.status != "quarantined"]
    short = sum("short" in row.flags for row in rows)
    if short:
        say(f"{short} of {len(rows)} clips end after their recording and are shorter than in the table.")
    median_s = float(np.median([row.duration_s for row in rows]))
    if median_s < SHORT * segment_s:
        how = "padded with silence (--fill repeat repeats them)" if fill == "silence" else "repeated"
        say(f"Clips of {median_s:.2g} s (median) are {how} to the input of {segment_s:g} s.")
