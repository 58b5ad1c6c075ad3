"""The synthetic aviary: files that agree with its tables, reproducible, and scenes that agree with their events."""

import csv
import hashlib

import numpy as np
import pytest
import soundfile as sf
import tolerances

from birdnet_fs.core.errors import UserError
from birdnet_fs.data.synthetic import aviary
from birdnet_fs.data.synthetic import song as song_synthesis


def rows(path, delimiter=","):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter=delimiter))


def digest(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("aviary") / "a"
    return aviary.make_aviary(folder, n_species=3, clips_per_species=7, n_soundscapes=2, soundscape_s=12.5, seed=4)


def test_every_row_is_a_file_of_the_stated_length(small):
    table = rows(small / "metadata.csv")
    assert {row["filename"] for row in table} == {path.name for path in (small / "audio").iterdir()}
    counts = {kind: sum(row["set"] == kind for row in table) for kind in {row["set"] for row in table}}
    assert counts == {"aviary": 21, "aviary_soundscape": 2, "aviary_background": 10}
    for row in table:
        info = sf.info(small / "audio" / row["filename"])
        assert (info.samplerate, info.channels, info.format, info.subtype) == (32_000, 1, "FLAC", "PCM_16")
        assert info.frames / 32_000 == float(row["duration"]) == float(row["end"])


def test_columns_are_those_of_the_real_data(small, shared_data):
    for name in ("metadata.csv", "annotations.csv"):
        assert set(rows(small / name)[0]) <= set(rows(shared_data / name)[0])


def test_no_group_is_in_two_folds_and_every_class_is_in_every_fold(small):
    table = rows(small / "metadata.csv")
    folds = {}
    for row in table:
        folds.setdefault(row["group"], set()).add((row["fold"], row["split"]))
    assert all(len(found) == 1 for found in folds.values())
    clips = [row for row in table if row["set"] == "aviary"]
    assert len({row["group"] for row in clips}) == 15  # five individuals of each species, some in two clips
    assert {(row["label"], row["fold"]) for row in clips} == {
        (species.latin, str(fold)) for species in song_synthesis.SPECIES[:3] for fold in range(5)
    }
    assert all(row["label"] in row["labels"].split(";") for row in clips)


def test_raven_tables_equal_the_annotations(small):
    annotations = rows(small / "annotations.csv")
    assert annotations
    for stem in ("aviary_soundscape_00", "aviary_soundscape_01"):
        table = rows(small / "raven" / f"{stem}.Table.1.selections.txt", "\t")
        from_raven = [(r["Begin Time (s)"], r["End Time (s)"], r["Low Freq (Hz)"], r["Annotation"]) for r in table]
        mine = [row for row in annotations if row["filename"] == f"{stem}.flac"]
        assert from_raven == [(r["start"], r["end"], r["low_hz"], r["label"]) for r in mine]


def test_same_seed_gives_the_same_bytes_and_another_seed_others(small, tmp_path):
    settings = {"n_species": 3, "clips_per_species": 7, "n_soundscapes": 2, "soundscape_s": 12.5}
    assert digest(aviary.make_aviary(tmp_path / "again", **settings, seed=4)) == digest(small)
    other = digest(aviary.make_aviary(tmp_path / "other", **settings, seed=5))
    assert all(other[name] != value for name, value in digest(small).items() if name.endswith(".flac"))


def test_recording_does_not_depend_on_the_number_of_others():
    species = song_synthesis.SPECIES[:3]
    first = aviary.synthesize_soundscape(species, 1, 10.0, seed=0)
    aviary.synthesize_soundscape(species, 0, 10.0, seed=0)
    again = aviary.synthesize_soundscape(species, 1, 10.0, seed=0)
    np.testing.assert_array_equal(first.waveform, again.waveform)
    assert first.events == again.events


@pytest.mark.parametrize("number", range(4))
def test_songs_are_nonzero_exactly_during_their_events(number):
    scene = aviary.synthesize_soundscape(song_synthesis.SPECIES, number, 30.0, seed=1)
    assert scene.events
    inside = np.zeros(len(scene.songs), bool)
    for event in scene.events:
        onset, offset = round(event.onset_s * 32_000), round(event.offset_s * 32_000)
        inside[onset:offset] = True
        edge = scene.songs[onset : onset + 64], scene.songs[offset - 64 : offset]
        assert all(np.abs(part).max() > 0 for part in edge)
    assert not scene.songs[~inside].any()
    assert np.abs(scene.waveform).max() <= 1


def test_signal_to_noise_ratio_is_the_requested_one():
    rng = np.random.default_rng(3)
    song = song_synthesis.synthesize_song(song_synthesis.Individual.draw(song_synthesis.SPECIES[0], rng), rng)
    scene = aviary._scene(160_000, [("x", song, 1000, 6.0)], rng)
    noise = scene.waveform - scene.songs
    low, high = song.low_hz * 0.8, song.high_hz * 1.25
    spectrum = np.abs(np.fft.rfft(noise.astype(np.float64))) ** 2
    hz = np.fft.rfftfreq(160_000, 1 / 32_000)
    noise_power = 2 * spectrum[(hz >= low) & (hz < high)].sum() / 160_000**2
    song_power = np.mean(scene.songs[1000 : 1000 + len(song.waveform)].astype(np.float64) ** 2)
    assert 10 * np.log10(song_power / noise_power) == pytest.approx(6.0, abs=tolerances.SNR_DB)


def test_every_fifth_soundscape_and_the_background_are_empty():
    assert aviary.synthesize_soundscape(song_synthesis.SPECIES, 4, 6.0, seed=0).events == ()
    assert aviary.synthesize_background(0, seed=0).events == ()
    assert np.std(aviary.synthesize_background(0, seed=0).waveform) > 0


def test_about_and_classes_name_the_synthetic_species(small):
    assert (small / "ABOUT.txt").read_text(encoding="utf-8").startswith("Synthetic aviary")
    assert (small / "classes.txt").read_text(encoding="utf-8").splitlines()[0] == "Sibilus aureus_Gilded piper"


def test_existing_aviary_is_kept_and_other_folders_are_refused(small, tmp_path):
    before = (small / "metadata.csv").stat().st_mtime_ns
    settings = {"n_species": 3, "clips_per_species": 7, "n_soundscapes": 2, "soundscape_s": 12.5}
    assert aviary.make_aviary(small, **settings, seed=4) == small
    assert (small / "metadata.csv").stat().st_mtime_ns == before
    with pytest.raises(UserError, match="must be new or empty"):
        aviary.make_aviary(small, **settings, seed=5)
    (tmp_path / "mine.wav").write_bytes(b"x")
    with pytest.raises(UserError, match="must be new or empty"):
        aviary.make_aviary(tmp_path)
    assert (tmp_path / "mine.wav").exists()


@pytest.mark.parametrize(
    "setting", [{"n_species": 1}, {"n_species": 99}, {"clips_per_species": 4}, {"soundscape_s": 1.0}, {"seed": -1}]
)
def test_numbers_out_of_range_are_refused(setting, tmp_path):
    with pytest.raises(UserError, match=next(iter(setting))):
        aviary.make_aviary(tmp_path / "a", **setting)
