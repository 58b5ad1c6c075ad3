"""Validation and test episodes over clips and parts of clips."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.random_streams import Stream
from birdnet_fs.data.manifest import Clip
from birdnet_fs.data.windows import clip_rule
from birdnet_fs.inference import embed
from birdnet_fs.inference.embed import Item
from birdnet_fs.schema import (
    Episodes,
)
from birdnet_fs.training.episodic.items import draw_items


def clips(*rows: tuple[str, str]) -> list[Clip]:
    return [Clip(Path(f"{i}.wav"), labels=(label,), group=group) for i, (label, group) in enumerate(rows)]


def test_windows_of_one_recording_share_no_samples(tmp_path: Path) -> None:
    """Each species is one ramp: a sample says where in the clip it stood."""
    settings = Episodes(n_way=2, n_shot=2, n_query=3, same_recording=True)
    items, episodes = draw_items(clips(("a", "1"), ("b", "2")), settings, 50, 0, Stream.TEST_EPISODES)
    assert episodes.recordings == "within" and len(items) == 2 * 2 * 3
    ramp = np.arange(1, 1001, dtype=np.float32)
    rule = clip_rule(300, 100)
    samples = [set(embed._windows(ramp, item, rule).ravel().tolist()) - {0.0} for item in items]
    for support, query in zip(episodes.support, episodes.query, strict=True):
        for own, others in zip(support, query, strict=True):
            assert not set.union(*(samples[i] for i in own)) & set.union(*(samples[i] for i in others))
    assert set.union(*samples[:6]) == set(ramp.tolist())  # all of a clip is used
    short = [embed._windows(ramp[:100], item, rule) for item in items]
    assert all(window.shape == (1, 300) for window in short)


def test_recordings_are_across_or_any() -> None:
    several = clips(*[("a", f"a{i}") for i in range(4)], *[("b", f"b{i}") for i in range(4)])
    settings = Episodes(n_way=2, n_shot=2, n_query=2)
    items, episodes = draw_items(several, settings, 5, 0, Stream.TEST_EPISODES)
    assert episodes.recordings == "across" and items == [Item(i) for i in range(8)]
    mixed = clips(*[("a", "1")] * 4, ("b", "2"), ("b", "3"))
    items, episodes = draw_items(mixed, dataclasses.replace(settings, same_recording=True), 5, 0, Stream.TEST_EPISODES)
    assert episodes.recordings == "any"
    assert items[:4] == [Item(i) for i in range(4)] and {item.part for item in items[4:]} == {0, 1}
    with pytest.raises(UserError, match="a has one recording only"):
        draw_items(mixed, settings, 5, 0, Stream.TEST_EPISODES)
