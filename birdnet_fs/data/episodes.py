"""Few-shot episodes: a few classes, a few support clips of each to learn from and a few query clips to classify.

Source: Vinyals et al. 2016, "Matching Networks for One Shot Learning", https://arxiv.org/abs/1606.04080. Clips of one
recording share its individual, its microphone and its background. By default no recording therefore gives both support
and query clips; otherwise the accuracy measures how well a recording is recognized, not a species.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from birdnet_fs.core.errors import UserError, nearest
from birdnet_fs.core.random_streams import Stream, generator
from birdnet_fs.data.episode_sampling import (
    Integers,
    Items,
    divisible,
    draw_across_recordings,
    draw_distinct,
    draw_within_recordings,
)

# "across": no recording gives both support and query clips of an episode; "within": the support and query clips of a
# class come from one recording; "any": clips are drawn regardless of their recordings
RECORDINGS = ("across", "within", "any")


@dataclass(frozen=True)
class EpisodeIndices:
    """Episodes as indices of items (clips); the classes of an episode are in random order.

    Attributes:
        names: All class names, sorted.
        classes: int64 [n_episodes, n_way], indices into `names`, distinct within an episode.
        support: int64 [n_episodes, n_way, n_shot], indices of items.
        query: int64 [n_episodes, n_way, n_query], indices of items, none of them in the support of the episode.
        recordings: One of RECORDINGS.
    """

    names: tuple[str, ...]
    classes: Integers
    support: Integers
    query: Integers
    recordings: str


def listed(classes: Mapping[str, str], n_named: int) -> str:
    """Write classes with their reasons (`undrawable_classes`) as part of a sentence.

    Args:
        classes: Class name -> reason.
        n_named: Largest number of classes to name.

    Returns:
        The text; the number of further classes comes last.

    >>> listed({"wren": "has 1 clip", "owl": "has 2 clips"}, 1)
    'wren has 1 clip; and 1 more classes'
    """
    shown = "; ".join(f"{name} {why}" for name, why in list(classes.items())[:n_named])
    return shown + (f"; and {len(classes) - n_named} more classes" if len(classes) > n_named else "")


def draw_episodes(
    labels: Sequence[str],
    groups: Sequence[str],
    *,
    n_way: int,
    n_shot: int,
    n_query: int,
    n_episodes: int,
    seed: int,
    stream: Stream = Stream.TRAINING_EPISODES,
    epoch: int = 0,
    recordings: str = "across",
) -> EpisodeIndices:
    """Draw episodes; the same arguments always give the same episodes.

    Classes, and the clips of a class, are drawn without replacement. With "across" each recording is assigned to the
    support with probability n_shot / (n_shot + n_query), changed as little as needed for every class to have enough
    clips on both sides; a recording with several classes of the episode is on the same side for all of them.

    Args:
        labels: Class of each item.
        groups: Recording (or individual) of each item.
        n_way: Classes per episode, 2 or more.
        n_shot: Support clips per class, 1 or more.
        n_query: Query clips per class, 1 or more.
        n_episodes: Number of episodes, 1 or more.
        seed: Seed of the draw.
        stream: Random stream of the draw, so that training, validation and test episodes are independent. Default:
            training.
        epoch: Epoch number; each epoch has its own episodes. Default: 0.
        recordings: Recordings that support and query clips come from, one of RECORDINGS. Default: "across".

    Returns:
        The episodes as indices of items.

    Raises:
        UserError: A setting is out of range, there are fewer classes than `n_way`, or a class has too few clips or
            recordings (see `undrawable_classes`).
    """
    _check_sizes(n_way, n_shot, n_query, n_episodes)
    found = undrawable_classes(labels, groups, n_shot=n_shot, n_query=n_query, recordings=recordings)
    if found:
        raise UserError(
            f"Episodes of n_shot={n_shot} and n_query={n_query} with recordings={recordings!r} cannot be drawn: "
            f"{listed(found, 3)}. Add clips, leave these classes out, use a smaller n_shot or n_query, or set "
            f"recordings to another of {', '.join(RECORDINGS)}."
        )
    items = Items(labels, groups)
    if len(items.names) < n_way:
        raise UserError(
            f"n_way={n_way} needs at least {n_way} classes; use a smaller n_way. Received: {len(items.names)} classes"
        )
    rng = generator(seed, stream, epoch)
    classes = draw_distinct(rng, np.full(n_episodes, len(items.names)), n_way)
    k = n_shot + n_query
    if recordings == "any":
        places = items.first_item[classes][..., None] + draw_distinct(rng, items.n_items[classes], k)
    elif recordings == "within":
        places = draw_within_recordings(rng, items, classes, k)
    else:
        classes, places = draw_across_recordings(rng, items, classes, n_shot, n_query)
    clips = items.order[places]
    return EpisodeIndices(items.names, classes, clips[..., :n_shot], clips[..., n_shot:], recordings)


def _check_sizes(n_way: int, n_shot: int, n_query: int, n_episodes: int) -> None:
    if n_way < 2 or min(n_shot, n_query, n_episodes) < 1:
        raise UserError(
            "n_way must be 2 or more, n_shot, n_query and n_episodes 1 or more. "
            f"Received: {n_way}, {n_shot}, {n_query}, {n_episodes}"
        )


@dataclass(frozen=True)
class EvaluationEpisodes:
    """Evaluation episodes of one number of shots.

    Attributes:
        drawn: The kinds of episodes that can be drawn, "across" before "within".
        reasons: Error message by name of the kind, for kinds that cannot be drawn.
        left_out: Classes with too few clips or recordings by name of the kind, for drawn kinds; each class with the
            reason as the end of a sentence that starts with its name.
    """

    drawn: tuple[EpisodeIndices, ...]
    reasons: dict[str, str]
    left_out: dict[str, dict[str, str]]


def draw_evaluation_episodes(
    labels: Sequence[str], groups: Sequence[str], *, n_way: int, n_shot: int, n_query: int, n_episodes: int, seed: int
) -> EvaluationEpisodes:
    """Draw evaluation episodes twice: with support and query across recordings, and within recordings.

    Classes with too few clips or recordings for a kind are left out of it, as long as `n_way` classes remain.

    Args:
        labels: Class of each item.
        groups: Recording (or individual) of each item.
        n_way: Classes per episode, 2 or more.
        n_shot: Support clips per class, 1 or more.
        n_query: Query clips per class, 1 or more.
        n_episodes: Episodes of each kind, 1 or more.
        seed: Seed of the draw.

    Returns:
        The episodes, the kinds that cannot be drawn, and the classes that are left out.

    Raises:
        UserError: A setting is out of range, or `labels` and `groups` differ in length or are empty.
    """
    _check_sizes(n_way, n_shot, n_query, n_episodes)
    drawn: list[EpisodeIndices] = []
    reasons: dict[str, str] = {}
    left_out: dict[str, dict[str, str]] = {}
    n_classes = len(set(labels))
    for recordings in ("across", "within"):
        rare = undrawable_classes(labels, groups, n_shot=n_shot, n_query=n_query, recordings=recordings)
        if n_classes - len(rare) < n_way <= n_classes:
            reasons[recordings] = (
                f"n_way={n_way} needs {n_way} classes with enough clips, and {n_classes - len(rare)} of {n_classes} "
                f"have them: {listed(rare, 3)}. Add clips, or use a smaller n_way, n_shot or n_query."
            )
            continue
        rare = rare if n_way <= n_classes else {}
        kept = np.array([i for i, label in enumerate(labels) if label not in rare])
        try:
            found = draw_episodes(
                [labels[i] for i in kept],
                [groups[i] for i in kept],
                n_way=n_way,
                n_shot=n_shot,
                n_query=n_query,
                n_episodes=n_episodes,
                seed=seed,
                stream=Stream.EVALUATION_EPISODES,
                recordings=recordings,
            )
        except UserError as error:
            reasons[recordings] = str(error)
            continue
        drawn.append(dataclasses.replace(found, support=kept[found.support], query=kept[found.query]))
        if rare:
            left_out[recordings] = rare
    return EvaluationEpisodes(tuple(drawn), reasons, left_out)


def undrawable_classes(
    labels: Sequence[str], groups: Sequence[str], *, n_shot: int, n_query: int, recordings: str = "across"
) -> dict[str, str]:
    """Find the classes that have too few clips or recordings for an episode.

    Args:
        labels: Class of each item.
        groups: Recording (or individual) of each item.
        n_shot: Support clips per class, 1 or more.
        n_query: Query clips per class, 1 or more.
        recordings: One of RECORDINGS. Default: "across".

    Returns:
        Class name -> the reason, as the end of a sentence that starts with the name.

    Raises:
        UserError: `labels` and `groups` differ in length or are empty, or `recordings` is not one of RECORDINGS.

    >>> undrawable_classes(["wren", "wren", "owl", "owl"], ["a", "b", "c", "c"], n_shot=1, n_query=1)
    {'owl': 'has one recording only'}
    """
    if len(labels) != len(groups) or not len(labels):
        raise UserError(
            f"labels and groups must have the same length, 1 or more. Received: {len(labels)} and {len(groups)}"
        )
    if recordings not in RECORDINGS:
        raise UserError(
            f"recordings must be one of {', '.join(RECORDINGS)}.{nearest(recordings, RECORDINGS)} "
            f"Received: {recordings!r}"
        )
    items, k, found = Items(labels, groups), n_shot + n_query, {}
    for c, name in enumerate(items.names):
        counts = items.n_in_cell[items.first_cell[c] : items.first_cell[c + 1]]
        n = int(counts.sum())
        if n < k:
            found[name] = f"has {n} clips, fewer than the {k} of an episode"
        elif recordings == "across" and len(counts) == 1:
            found[name] = "has one recording only"
        elif recordings == "across" and not divisible(counts, n_shot, n_query):
            found[name] = f"has {len(counts)} recordings that cannot be divided into {n_shot} and {n_query} clips"
        elif recordings == "within" and counts.max() < k:
            found[name] = f"has at most {counts.max()} clips in a recording, fewer than the {k} of an episode"
    return found
