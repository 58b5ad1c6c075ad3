"""Mining of recordings: phrases are found where they were put, and nothing that is wrong stops it."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import mined_recordings
import numpy as np
import pytest
from mined_recordings import SETTINGS

from birdnet_fs.core.errors import UserError
from birdnet_fs.motifs import extraction
from birdnet_fs.motifs.extraction import extract_motifs
from birdnet_fs.motifs.mined_folder import mined_recordings as read_all
from birdnet_fs.motifs.mining import MiningSettings


@pytest.fixture
def place(tmp_path: Path) -> Path:
    mined_recordings.write_recordings(tmp_path / "in")
    return tmp_path


def extract(place: Path, settings: MiningSettings = SETTINGS, **options: int) -> dict[str, tuple[str, str]]:
    names = {path: path.relative_to(place / "in").as_posix() for path in sorted((place / "in").rglob("*.wav"))}
    ledger = extract_motifs(names, place / "in", place / "out", settings, **options)
    return {names[Path(row.path)]: (row.status, row.reason) for row in ledger.rows}


def test_motifs_are_where_the_phrase_was_put(place: Path) -> None:
    rows = extract(place)
    assert rows["wren/short.wav"] == ("quarantined", "it is shorter than a window of 0.6 s, so that it has no motif.")
    assert rows["wren/silent.wav"] == ("quarantined", "it is silent, so that it has no motif.")
    assert [rows[f"{label}/{i}.wav"] for label in ("owl", "wren") for i in (0, 1)] == [("ok", "")] * 4
    found = {each.source_name: each for each in read_all(place / "out")}
    assert len(found) == 6 and found["owl/1.wav"].label == "owl"
    for name, each in found.items():
        first, second = each.place_s("motif_0"), each.place_s("motif_1")
        if "s" in name.rpartition("/")[2]:
            assert first is second is None and each.metadata["discord_0_s"] is None
            continue
        shift = np.subtract(sorted((first, second)), (mined_recordings.FIRST_S, mined_recordings.SECOND_S))
        assert np.ptp(shift) < 0.021 and (np.abs(shift) < 0.35).all()
        profile = each.profile()
        assert each.metadata["motif_0"] == profile.distances.argmin()
        assert each.metadata["motif_1"] == profile.neighbors[each.metadata["motif_0"]]
        assert profile.distances[each.metadata["discord_0"]] == profile.distances[profile.neighbors >= 0].max()
    metadata = found["owl/0.wav"].metadata
    expected = {
        "feature": "logmel",
        "cens_sample_rate": 50,
        "matrix_profile_window": 30,
        "sample_rate": 32_000,
        "duration_cens": 201,
        "duration_samples": 128_000,
        "duration_seconds": 4.0,
    }
    assert {key: metadata[key] for key in expected} == expected
    assert metadata["motif_0_s"] == metadata["motif_0"] / 50
    arrays = [np.load(place / "out" / "owl" / "0.wav" / name) for name in ("mp.npy", "pi.npy")]
    assert [(a.dtype, a.shape) for a in arrays] == [(np.float64, (172,)), (np.int64, (172,))]


def test_only_what_is_missing_or_changed_is_mined_again(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = extract(place)
    again, original = [], extraction._mine_recording
    monkeypatch.setattr(extraction, "_mine_recording", lambda task: again.append(task.name) or original(task))
    (place / "out" / "owl" / "1.wav" / "metadata.json").unlink()
    os.utime(place / "in" / "wren" / "0.wav", ns=(1, 1))
    (place / "in" / "wren" / "bad.wav").write_bytes(b"x" * 99)
    second = extract(place)
    assert again == ["owl/1.wav", "wren/0.wav", "wren/bad.wav"]
    assert second.pop("wren/bad.wav")[0] == "quarantined" and second == first
    with pytest.raises(UserError, match=r"mined with window = 30, and 40 was asked for; give another folder with -o"):
        extract(place, MiningSettings(SETTINGS.features, 40))


def test_an_interrupt_keeps_what_was_mined(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = extraction._mine_recording

    def stop_at_third(task: extraction._Task) -> object:
        if task.name == "wren/0.wav":
            raise KeyboardInterrupt
        return original(task)

    monkeypatch.setattr(extraction, "_mine_recording", stop_at_third)
    with pytest.raises(KeyboardInterrupt):
        extract(place)
    assert len(list(read_all(place / "out"))) == 2
    assert (place / "out" / "ledger.csv").read_text().count("\n") == 3


def test_a_pair_that_is_too_far_apart_is_no_motif(place: Path) -> None:
    close = extract(place)
    (place / "out").rename(place / "first")
    rows = extract(place, replace(SETTINGS, max_distance=0.01))
    assert close["owl/0.wav"] == ("ok", "")
    assert rows["owl/0.wav"][0] == "quarantined"
    assert re.fullmatch(
        r"its closest windows are 0\.\d\d of the mean distance apart, above 0\.01\.", rows["owl/0.wav"][1]
    )
    metadata = next(iter(read_all(place / "out"))).metadata
    assert metadata["motif_0"] is metadata["motif_1_s"] is None and metadata["discord_0"] is not None
    with pytest.raises(UserError, match=r"--max-distance must be in 0\.\.1\. Received: 2"):
        extract(place, replace(SETTINGS, max_distance=2))


def test_a_sample_is_drawn_by_the_seed(place: Path) -> None:
    few = extract(place, sample_k=3, seed=4)
    assert len(few) == 3
    with pytest.raises(UserError, match="sample_k = 3, and 2 was asked for"):
        extract(place, sample_k=2, seed=4)


def test_wrong_numbers_and_folders_are_refused(place: Path) -> None:
    for settings, options, message in (
        (MiningSettings(SETTINGS.features, 1), {}, "--mp-window must be 2 frames or more. Received: 1"),
        (SETTINGS, {"workers": 0}, "--workers must be 1 or more"),
        (SETTINGS, {"sample_k": -1}, "--sample-k 0 or more"),
    ):
        with pytest.raises(UserError, match=message):
            extract(place, settings, **options)
    (place / "out").mkdir()
    (place / "out" / "mine.txt").touch()
    with pytest.raises(UserError, match="holds other files"):
        extract(place)


@pytest.mark.slow
def test_processes_find_the_same(place: Path) -> None:
    one = extract(place)
    metadata = [json.dumps(each.metadata) for each in read_all(place / "out")]
    (place / "out").rename(place / "first")
    assert extract(place, workers=2) == one
    assert [json.dumps(each.metadata) for each in read_all(place / "out")] == metadata
