"""How well a run tells classes apart from a few clips of each, above all classes that it was never trained on.

A clip is a recording, a part of one, or a timed event in it.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import keras
import numpy as np

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.progress import say
from birdnet_fs.data.episodes import draw_evaluation_episodes
from birdnet_fs.data.manifest import Clip
from birdnet_fs.data.waveforms import Waveforms
from birdnet_fs.fewshot.correlation import correlations, spectrograms
from birdnet_fs.inference.embed import Embedder, embed_clips, training_mean_embedding
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
CORRELATION_METHODS = "cosine"  # what the correlation is added to
SHORT = 0.5  # of the network's input: a word is said when most clips are shorter


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
) -> tuple[list[FewShotAccuracy], dict[str, str]]:
    """Accuracy over episodes of clips.

    Args:
        run: Any trained run with an embedding.
        clips: Labeled, one class each.
        n_way: Classes of an episode.
        shots: Support clips of a class, one set of episodes for each number.
        n_query: Query clips of a class.
        n_episodes: For each number of shots, across recordings and within them apart.
        seed: Of the episodes.
        known: Classes that the run was trained on may stand in episodes, from recordings that it was not trained on.
        fill: What follows a clip that is shorter than the network's input; see `embed_clips`.
        correlation: Also name queries by spectrogram cross-correlation alone ("correlation"), and by the sum of
            cosines and correlations, both standardized over the classes of a query ("cosine+correlation").

    Returns:
        Results by shots, recordings and method (the same episodes for all methods); and why there are none across or
        within recordings, where that is so.

    Raises:
        UserError: The run was trained on one of the recordings or, without `known`, on one of the classes; no clip can
            be read, or no episodes can be drawn.
    """
    _check_new(run, clips, known)
    waveforms = Waveforms(clips, run.frontend.sample_rate_hz)
    _say_what_was_read(waveforms, run.frontend.segment_s, fill)
    with keras.device(device_of("auto")):
        model = run.build_model()
    embeddings = embed_clips(Embedder(model, run.frontend), waveforms, "embedding clips", fill)
    middle = training_mean_embedding(run, model)
    alike = correlations(spectrograms(waveforms, run.frontend)) if correlation else None
    labels = [clip.labels[0] for clip in waveforms.clips]
    groups = [clip.recording_group for clip in waveforms.clips]
    results: list[FewShotAccuracy] = []
    reasons: dict[str, str] = {}
    for n_shot in shots:
        drawn, why = draw_evaluation_episodes(
            labels, groups, n_way=n_way, n_shot=n_shot, n_query=n_query, n_episodes=n_episodes, seed=seed
        )
        reasons |= why
        for episodes in drawn:
            results += [few_shot_accuracy(embeddings, episodes, method, base_mean=middle) for method in METHODS]
            if alike is not None:
                pairs = by_pairs("correlation", alike, episodes)
                results += [
                    summarize(pairs),
                    summarize(combine_standardized(by_embedding(embeddings, episodes, CORRELATION_METHODS), pairs)),
                ]
    return results, reasons


def result_to_json(result: FewShotAccuracy) -> dict[str, Any]:
    """A result as JSON values, without its confusion matrix."""
    return {name: value for name, value in asdict(result).items() if name not in ("confusion", "names")}


def _check_new(run: Run, clips: Sequence[Clip], known: bool) -> None:
    """Refuse what would measure how well the run remembers."""
    trained = provenance(run.path)
    both = sorted(trained.labels & {clip.labels[0] for clip in clips})
    if both and not known:
        raise UserError(
            f"{run.path} was trained on {both[0]!r} ({len(both)} such classes); choose classes that are new to it, for "
            "example with data.where, or let known ones in with --known."
        )
    again = trained.trained_on(clips)
    if again:
        raise UserError(
            f"{run.path} was trained on {again[0].path} ({len(again)} of {len(clips)} clips are of such "
            "recordings); choose others, for example with data.where=split=test."
        )


def _say_what_was_read(waveforms: Waveforms, segment_s: float, fill: str) -> None:
    if waveforms.ledger.counts()["quarantined"]:
        say(waveforms.ledger.summary())
    rows = [row for row in waveforms.ledger.rows if row.status != "quarantined"]
    short = sum("short" in row.flags for row in rows)
    if short:
        say(f"{short} of {len(rows)} clips end behind their recording and are shorter than the table says.")
    median_s = float(np.median([row.duration_s for row in rows]))
    if median_s < SHORT * segment_s:
        rest = "silence (--fill repeat puts the clip there again)" if fill == "silence" else "the clip again and again"
        say(f"The run listens to {segment_s:g} s at a time, clips last {median_s:.2g} s (median): the rest is {rest}.")
