"""An analysis that is killed (SIGKILL) at any time, also half-way through a table, ends as an undisturbed one."""

import random
from pathlib import Path

import pytest
from killed import contents, killed_again_and_again, leftovers
from level_model import LevelModel, write_wav

from birdnet_fs.analysis.analyze import analyze
from birdnet_fs.analysis.table_formats import FORMATS


@pytest.mark.parametrize("n_kills", [8, pytest.param(60, marks=pytest.mark.slow)])
def test_analysis_that_is_killed_again_and_again_gives_the_tables_of_an_undisturbed_one(
    tmp_path: Path, n_kills: int
) -> None:
    for i in range(12):
        write_wav(tmp_path / "in" / f"{i}.wav", 4, seed=i)
    (tmp_path / "in" / "broken.wav").write_bytes(b"no audio at all")

    def run() -> None:
        analyze(LevelModel().engine, [tmp_path / "in"], tmp_path / "out", min_confidence=0.0, formats=list(FORMATS))

    rng = random.Random(0)
    killed_again_and_again(tmp_path, run, rng, 0, 1)
    whole = contents(tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "before")
    n, n_half_written = killed_again_and_again(tmp_path / "out", run, rng, n_kills, 80)
    print(f"analyze: {n} kills, {n_half_written} of them while something was half-written")
    assert n >= 8 and n_half_written >= 2
    assert contents(tmp_path / "out") == whole and leftovers(tmp_path) == []
