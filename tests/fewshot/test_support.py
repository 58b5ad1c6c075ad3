"""The support of an enrolled run: stored and read again, and its errors."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.data.manifest import Clip
from birdnet_fs.fewshot.support import SUPPORT, Support, excerpt_key, read_support, write_support
from birdnet_fs.runs.run import Run

CLIPS = (
    Clip(Path("/none/a.wav"), 0.5, 1.25, ("wren",)),
    Clip(Path("/none/b, c.wav"), labels=("owl",)),
    Clip(Path("/none/a.wav"), 1 / 3, None, ("wren",)),
)
SUPPORT_OF_TWO = Support(CLIPS, np.arange(12, dtype=np.float32).reshape(3, 4))


def run_at(path: Path) -> Run:
    return Run(path, schema.Experiment(name="x"), ("wren", "owl"))


def test_support_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_support(tmp_path, SUPPORT_OF_TWO)
    found = read_support(run_at(tmp_path), width=4)
    assert [dataclasses.replace(clip, fingerprint="") for clip in found.clips] == list(CLIPS)
    np.testing.assert_array_equal(found.embeddings, SUPPORT_OF_TWO.embeddings)
    assert (found.labels, found.classes) == (("wren", "owl", "wren"), ("owl", "wren"))


def test_support_without_a_class_and_sum_of_two() -> None:
    rest = SUPPORT_OF_TWO.without(["wren"])
    assert rest.clips == CLIPS[1:2]
    np.testing.assert_array_equal(rest.embeddings, SUPPORT_OF_TWO.embeddings[1:2])
    both = rest + SUPPORT_OF_TWO
    assert both.clips == (CLIPS[1], *CLIPS) and both.embeddings.shape == (4, 4)


def test_excerpt_key_is_that_of_the_samples_and_the_times() -> None:
    one = dataclasses.replace(CLIPS[0], fingerprint="f")
    assert excerpt_key(one) == excerpt_key(dataclasses.replace(one, path=Path("/other.flac")))
    assert excerpt_key(one) != excerpt_key(dataclasses.replace(one, onset_s=0.25))


def test_run_without_support_has_an_empty_one(tmp_path: Path) -> None:
    found = read_support(run_at(tmp_path), width=4)
    assert found.clips == () and found.embeddings.shape == (0, 4)


def test_damaged_or_unfitting_support_is_refused(tmp_path: Path) -> None:
    write_support(tmp_path, SUPPORT_OF_TWO)
    with pytest.raises(UserError, match=r"must hold 3 embeddings of width 5.*Received: \[3, 4\]"):
        read_support(run_at(tmp_path), width=5)
    (tmp_path / SUPPORT).write_bytes(b"half")
    with pytest.raises(UserError, match=r"The support in .* is damaged"):
        read_support(run_at(tmp_path), width=4)
