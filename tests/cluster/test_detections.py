"""An analysis in shards: the output folder is that of one process, to the byte, however often shards are stopped."""

import os
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from killed import contents
from level_model import LevelModel, write_wav

from birdnet_fs.analysis.analyze import analyze
from birdnet_fs.analysis.combined.options import TableOptions, table_options
from birdnet_fs.cluster.detections import merge_detections, write_detections
from birdnet_fs.cluster.plan import Plan, make_plan, read_plan, result_file, work_folder, write_plan
from birdnet_fs.cluster.run import is_done, run_shard
from birdnet_fs.core.errors import UserError

FORMATS = ("csv", "raven", "kaleidoscope")
TABLES = table_options("csv,parquet", relative_paths=True)


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings in folders: equal names, a broken and an empty one, an ambiguous end, a name of any bytes."""
    folder = tmp_path_factory.mktemp("field")
    for number in range(11):
        level = 0.05 + 0.02 * (number % 5)
        write_wav(
            folder / f"site{number % 3}" / f"2024050{number % 9 + 1}_0530{number:02d}.wav", 3 + number, number, level
        )
    shutil.copy(folder / "site0" / "20240501_053000.wav", folder / "site1" / "=20240501_053000.WAV")
    (folder / "site1" / "broken.wav").write_bytes(b"<html>")
    (folder / "site2" / "empty.wav").write_bytes(b"")
    (folder / "site2" / "link.wav").symlink_to("nowhere")
    whole = (folder / "site0" / "20240501_053000.wav").read_bytes()
    (folder / "site2" / "half.wav").write_bytes(whole[: len(whole) // 2])
    with open(os.fsencode(folder) + b"/site2/\xff.wav", "wb") as file:
        file.write(whole)
    return folder


@pytest.fixture(scope="module")
def expected(field: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes | str]:
    output = tmp_path_factory.mktemp("one") / "out"
    analyze(LevelModel().engine, [field], output, formats=FORMATS, table_options=TABLES)
    return contents(output)


def work(model: LevelModel, recordings: Sequence[Path], place: Path, **options: Any) -> None:
    analyze(model.engine, recordings, place, table_options=TableOptions(combined=()), **options)


def planned(field: Path, folder: Path, n_shards: int = 4) -> Plan:
    write_plan(folder, make_plan("analyze", {}, [field], n_shards))
    return read_plan(folder)


def test_shards_that_are_interrupted_give_the_tables_of_one_process(
    field: Path, expected: dict[str, bytes | str], tmp_path: Path
) -> None:
    folder, output = tmp_path / "out.shards", tmp_path / "out"
    plan = planned(field, folder)
    n_stopped = 0
    for number in (2, 0, 3, 1):
        for stop_after in (4, 12, 10**9):
            try:
                run_shard(folder, plan, number, partial(work, LevelModel(stop_after)), write_detections)
            except KeyboardInterrupt:
                n_stopped += 1
                assert not result_file(folder, number).exists() and work_folder(folder, number).is_dir()
    assert n_stopped >= 6
    merge_detections(folder, plan, output, formats=FORMATS, table_options=TABLES)
    assert contents(output) == expected
    again = LevelModel()
    for number in range(4):
        run_shard(folder, plan, number, partial(work, again), write_detections)
    merge_detections(folder, plan, output, formats=FORMATS, table_options=TABLES)
    assert again.n_windows == 0 and contents(output) == expected
    assert not any(work_folder(folder, number).exists() for number in range(4))
    analyze(again.engine, [field], output, formats=FORMATS, table_options=TABLES)
    assert again.n_windows == 0 and contents(output) == expected, "one process goes on with what was merged"


def test_recording_that_changes_or_disappears_is_scored_again_or_listed(
    field: Path, expected: dict[str, bytes | str], tmp_path: Path
) -> None:
    here = tmp_path / "field"
    shutil.copytree(field, here, symlinks=True)
    folder, output = tmp_path / "out.shards", tmp_path / "out"
    plan = planned(here, folder)
    (here / "site0" / "20240501_053000.wav").unlink()  # after the plan
    for number in range(4):
        run_shard(folder, plan, number, partial(work, LevelModel()), write_detections)
    assert all(is_done(folder, plan, number) for number in range(4))
    other = here / "site0" / "20240504_053003.wav"
    os.utime(other, ns=(1, 1))  # a copy
    assert all(is_done(folder, plan, number) for number in range(4))
    data = bytearray(other.read_bytes())
    data[-1000:] = bytes(1000)
    other.write_bytes(data)
    assert [is_done(folder, plan, number) for number in range(4)].count(False) == 1
    for number in range(4):
        run_shard(folder, plan, number, partial(work, LevelModel()), write_detections)
    ledger = merge_detections(folder, plan, output, formats=("csv",), table_options=TableOptions())
    assert len(ledger.rows) == 17 and sum(row.status == "quarantined" for row in ledger.rows) == 4
    analyze(LevelModel().engine, [here], tmp_path / "one", table_options=TableOptions())
    found, wanted = contents(output), contents(tmp_path / "one")
    gone = "20240501_053000.wav,quarantined,cannot be read (No such file or directory),,0.000,"
    ledgers = [(place / "ledger.csv").read_text(encoding="utf-8").splitlines() for place in (output, tmp_path / "one")]
    assert [line for line in ledgers[0] if not line.endswith(gone)] == ledgers[1]
    assert {**found, "ledger.csv": b""} == {**wanted, "ledger.csv": b""}


def test_shards_of_other_models_or_plans_are_not_merged(field: Path, tmp_path: Path) -> None:
    folder = tmp_path / "s"
    plan = planned(field, folder, 2)
    run_shard(folder, plan, 0, partial(work, LevelModel()), write_detections)
    with pytest.raises(UserError, match=r"00001\.parquet is missing or damaged"):
        merge_detections(folder, plan, tmp_path / "out", formats=("csv",), table_options=TABLES)
    run_shard(folder, plan, 1, partial(work, LevelModel(), min_confidence=0.9), write_detections)
    with pytest.raises(UserError, match="made with different models or settings"):
        merge_detections(folder, plan, tmp_path / "out", formats=("csv",), table_options=TABLES)
    other = planned(field, tmp_path / "t", 3)
    shutil.copy(result_file(folder, 0), result_file(tmp_path / "t", 0))
    assert not is_done(tmp_path / "t", other, 0)
