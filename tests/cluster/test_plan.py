"""Plans of shards: deterministic, the largest shard as small as possible, another plan refused."""

import itertools
import json
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from birdnet_fs.cluster import plan as module
from birdnet_fs.cluster.plan import BLOCK, divide, make_plan, read_list, read_plan, write_plan
from birdnet_fs.core.errors import UserError


def recordings(folder: Path, sizes: list[int]) -> Path:
    folder.mkdir()
    for number, size in enumerate(sizes):
        (folder / f"{number:03d}.wav").write_bytes(b"\0" * size)
    return folder


@pytest.mark.parametrize("seed", range(20))
def test_largest_shard_is_as_small_as_of_any_division_into_consecutive_shards(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = (rng.pareto(1.0, rng.integers(1, 10)) * 10_000).astype(int).tolist()
    for n_shards in range(1, len(sizes) + 1):
        shards = divide(sizes, n_shards)
        ends = [0, *itertools.accumulate(shard.n_recordings for shard in shards)]
        assert [shard.first for shard in shards] == ends[:-1] and ends[-1] == len(sizes) and len(shards) == n_shards
        assert all(shard.n_recordings for shard in shards)
        parts = [sizes[shard.first : shard.first + shard.n_recordings] for shard in shards]
        assert [shard.n_bytes for shard in shards] == [*map(sum, parts)]
        weights = np.array(sizes) + BLOCK
        cuts = itertools.combinations(range(1, len(sizes)), n_shards - 1)
        best = min(max(map(sum, np.split(weights, list(cut)))) for cut in cuts)
        assert max(sum(size + BLOCK for size in part) for part in parts) == best


def test_empty_recordings_are_spread_evenly() -> None:
    counts = [shard.n_recordings for shard in divide([0] * 100_000, 64)]
    assert max(counts) == 1563 and min(counts) > 1500


def test_plan_is_the_same_for_the_same_recordings_and_another_one_is_refused(tmp_path: Path) -> None:
    folder, place = recordings(tmp_path / "in", [1000, 20, 3, 0, 500]), tmp_path / "out.shards"
    settings = {"overlap": 0.0, "model": "/a"}
    write_plan(place, make_plan("analyze", settings, [folder], 2))
    before = (place / "plan.json").read_bytes()
    write_plan(place, make_plan("analyze", settings, [folder], 2))
    assert (place / "plan.json").read_bytes() == before
    listed = [each for number in range(2) for each in read_list(place, number, os.fspath(folder))]
    assert listed == [(folder / f"{n:03d}.wav", size) for n, size in enumerate([1000, 20, 3, 0, 500])]
    for others, words in (
        (make_plan("embed", settings, [folder], 2), "shards of another plan, of `analyze`"),
        (make_plan("analyze", {**settings, "overlap": 0.5}, [folder], 2), "with overlap 0.0, and 0.5 was given"),
        (make_plan("analyze", settings, [folder], 3), "with --shards 2"),
        (make_plan("analyze", settings, [folder / "001.wav", folder / "002.wav"], 2), "of 5 recordings"),
    ):
        with pytest.raises(UserError, match=words):
            write_plan(place, others)
    (folder / "001.wav").write_bytes(b"\0" * 21)
    with pytest.raises(UserError, match=r"of 5 recordings with 1,523 bytes .* there are 5 with 1,524 bytes"):
        write_plan(place, make_plan("analyze", settings, [folder], 2))
    changed = json.loads(before)
    changed["shards"][0][1] -= 1
    (place / "plan.json").write_text(json.dumps(changed))
    with pytest.raises(UserError, match="was changed since it was written"):
        read_plan(place)


def test_plan_keeps_names_of_any_bytes_and_what_cannot_be_read(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    name = os.fsencode(folder) + b"/\xff=\n.wav"
    with open(name, "wb") as file:
        file.write(b"x")
    (folder / "gone.wav").symlink_to("nowhere")
    write_plan(tmp_path / "s", make_plan("embed", {}, [folder], 1))
    plan = read_plan(tmp_path / "s")
    assert [os.fsencode(path) for path, _ in read_list(tmp_path / "s", 0, plan.root)] == [name]
    assert len(plan.refused) == 1 and plan.refused[0][0].endswith("gone.wav")


def test_number_of_shards_must_fit_the_recordings(tmp_path: Path) -> None:
    folder = recordings(tmp_path / "in", [1, 1])
    for n_shards in (0, 3):
        with pytest.raises(UserError, match=r"--shards must be in 1\.\.2, for 2 recordings"):
            make_plan("embed", {}, [folder], n_shards)


def test_100000_recordings_are_planned_in_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths as objects would take 60 MB, sizes in a table of stat results 90 MB."""
    names = [f"/data/site{n % 97:02d}/20240501/2024-05-01T{n:06d}.wav" for n in range(100_000)]
    monkeypatch.setattr(module, "list_recordings", lambda inputs: (Path("/data"), sorted(names), []))
    monkeypatch.setattr(module, "_size", lambda name: hash(name) % 1_000_000)
    tracemalloc.start()
    planned = make_plan("embed", {}, ["/data"], 64)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 25_000_000
    weights = [shard.n_bytes + BLOCK * shard.n_recordings for shard in planned.plan.shards]
    assert max(weights) - min(weights) < 2_100_000 and planned.plan.n_recordings == 100_000
