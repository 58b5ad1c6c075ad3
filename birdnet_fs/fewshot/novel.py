"""How well a run tells classes apart that it was never trained on, from a few clips of each."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras

from birdnet_fs.batches.waveforms import Waveforms
from birdnet_fs.fewshot.embed import embed_clips, middle_of_training
from birdnet_fs.plumbing.errors import UserError
from birdnet_fs.plumbing.progress import say
from birdnet_fs.recordings.manifest import Clip
from birdnet_fs.training.episodic import Embedder
from birdnet_fs.training.few_shot_accuracy import Result, evaluate_apart
from birdnet_fs.training.fit import device_of
from birdnet_fs.training.partition import PARTITION, TRAIN, read_partition
from birdnet_fs.training.run_folder import Run

METHODS = ("euclidean", "cosine", "simpleshot", "logistic_regression")


def novel_accuracy(
    run: Run, clips: Sequence[Clip], *, n_way: int, shots: Sequence[int], n_query: int, n_episodes: int, seed: int
) -> tuple[list[Result], dict[str, str]]:
    """Accuracy over episodes of clips whose classes the run does not know.

    Args:
        run: Any trained run with an embedding.
        clips: Labelled, one class each; none of a class the run was trained on.
        n_way: Classes of an episode.
        shots: Support clips of a class, one set of episodes for each number.
        n_query: Query clips of a class.
        n_episodes: For each number of shots, across recordings and within them apart.
        seed: Of the episodes.

    Returns:
        Results by shots, recordings and method (the same episodes for all methods); and why there are none across or
        within recordings, where that is so.

    Raises:
        UserError: A class is known to the run, no clip can be read, or no episodes can be drawn.
    """
    known = {label for clip in _trained(run) for label in clip.labels}
    both = sorted(known & {clip.labels[0] for clip in clips})
    if both:
        raise UserError(
            f"{run.path} was trained on {both[0]!r} ({len(both)} such classes); choose classes that are new to it, for "
            "example with data.where."
        )
    waveforms = Waveforms(clips, run.frontend.sample_rate_hz)
    if waveforms.ledger.counts()["quarantined"]:
        say(waveforms.ledger.summary())
    with keras.device(device_of("auto")):
        model = run.build_model()
    embeddings = embed_clips(Embedder(model, run.frontend), waveforms, "embedding clips")
    middle = middle_of_training(run, model)
    labels = [clip.labels[0] for clip in waveforms.clips]
    groups = [clip.group or str(clip.path) for clip in waveforms.clips]
    results: list[Result] = []
    reasons: dict[str, str] = {}
    for n_shot in shots:
        found, why = evaluate_apart(
            embeddings,
            labels,
            groups,
            METHODS,
            n_way=n_way,
            n_shot=n_shot,
            n_query=n_query,
            n_episodes=n_episodes,
            seed=seed,
            base_mean=middle,
        )
        results += found
        reasons |= why
    return results, reasons


def plain(result: Result) -> dict[str, Any]:
    """A result as JSON values, without its confusion matrix."""
    return {name: value for name, value in asdict(result).items() if name not in ("confusion", "names")}


def _trained(run: Run) -> tuple[Clip, ...]:
    path: Path = run.path / PARTITION
    return read_partition(path, TRAIN) if path.is_file() else ()
