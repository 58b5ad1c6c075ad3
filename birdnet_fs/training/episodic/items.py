"""Validation and test episodes, drawn over clips or over parts of clips.

The classes of these episodes are not trained on.
"""

from collections.abc import Sequence

from birdnet_fs import schema
from birdnet_fs.batches.loader import EpisodeOrder
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.random_streams import Stream
from birdnet_fs.data.episodes import EpisodeIndices, draw_episodes
from birdnet_fs.data.manifest import Clip
from birdnet_fs.data.partition import Partition
from birdnet_fs.data.waveforms import Waveforms
from birdnet_fs.inference.embed import Item


def check_episodes(parts: Partition, settings: schema.Episodes, seed: int) -> None:
    """Check that all episodes can be drawn, before anything is decoded.

    Args:
        parts: The divided clips.
        settings: Settings of the episodes.
        seed: Seed of the experiment.

    Raises:
        UserError: There are too few classes or clips, or classes of validation or test are also trained on.
    """
    EpisodeOrder(parts.train, settings, seed)
    for name, n_episodes, clips, stream in (
        ("n_val", settings.n_val, parts.val, Stream.VALIDATION_EPISODES),
        ("n_test", settings.n_test, parts.held_out, Stream.TEST_EPISODES),
    ):
        if n_episodes and not clips:
            raise UserError(f"episodes.{name}={n_episodes} needs classes that are not trained on; there are none.")
        if n_episodes:
            draw_items(clips, settings, n_episodes, seed, stream)
    if (settings.n_val or settings.n_test) and not parts.classes_unseen_in_training:
        trained = {label for clip in parts.train for label in clip.labels}
        both = sorted({label for clip in (*parts.val, *parts.held_out) for label in clip.labels} & trained)
        raise UserError(
            "Episodes of validation and test need classes that are not trained on; the split has "
            f"{len(both)} on both sides (the first: {both[0]}). Use data.split=classes, or another data.split_column."
        )


def episode_order(waveforms: Waveforms, settings: schema.Episodes, seed: int, classes: Sequence[str]) -> EpisodeOrder:
    """Build the episodes to train on.

    Args:
        waveforms: The training clips that could be read.
        settings: Settings of the episodes.
        seed: Seed of the experiment.
        classes: Names of the training classes.

    Returns:
        The order in which a loader reads the clips.

    Raises:
        UserError: No clip of a class could be read, or too few to draw from.
    """
    lost = sorted(set(classes) - {clip.labels[0] for clip in waveforms.clips})
    if lost:
        raise UserError(f"None of the clips of {lost[0]} could be read; repair its recordings or leave the class out.")
    return EpisodeOrder(waveforms.clips, settings, seed)


def draw_items(
    clips: Sequence[Clip], settings: schema.Episodes, n_episodes: int, seed: int, stream: Stream
) -> tuple[list[Item], EpisodeIndices]:
    """Draw episodes over whole clips, or over parts of the clips of classes that have too few.

    With `settings.same_recording`, a class with fewer clips than an episode needs contributes windows: each clip is cut
    into two halves, and the windows of a half are either in the support or in the queries of an episode, so that
    support and queries share no audio.

    Args:
        clips: Labeled clips, one class each.
        settings: Uses `n_way`, `n_shot`, `n_query` and `same_recording`.
        n_episodes: Number of episodes, 1 or more.
        seed: Seed of the experiment.
        stream: Random stream of the episodes.

    Returns:
        The items, and episodes as indices of items. Their `recordings` is "across"; with `same_recording` it is
        "within" when every class has one recording, else "any".

    Raises:
        UserError: There are too few classes or clips.
    """
    n_clips: dict[str, int] = {}
    for clip in clips:
        n_clips[clip.labels[0]] = n_clips.get(clip.labels[0], 0) + 1
    items = []
    for i, clip in enumerate(clips):
        if settings.same_recording and n_clips[clip.labels[0]] < settings.n_shot + settings.n_query:
            n = max(settings.n_shot, settings.n_query)
            items += [Item(i, half, place, n) for half in (0, 1) for place in range(n)]
        else:
            items.append(Item(i))
    recordings = [clip.recording_group for clip in clips]
    groups = [f"{item.clip} {item.part}" if settings.same_recording else recordings[item.clip] for item in items]
    episodes = draw_episodes(
        [clips[item.clip].labels[0] for item in items],
        groups,
        n_way=settings.n_way,
        n_shot=settings.n_shot,
        n_query=settings.n_query,
        n_episodes=n_episodes,
        seed=seed,
        stream=stream,
    )
    if settings.same_recording:
        of_class = {(clip.labels[0], recording) for clip, recording in zip(clips, recordings, strict=True)}
        kind = "within" if len(of_class) == len(n_clips) else "any"
        episodes = EpisodeIndices(episodes.names, episodes.classes, episodes.support, episodes.query, kind)
    return items, episodes
