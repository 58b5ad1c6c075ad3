"""Augmented clips."""

import json

import numpy as np
import pytest
import soundfile
from motif_folders import write_motifs

from birdnet_fs.core.errors import UserError
from birdnet_fs.motifs.classifier.clips import motif_clips
from birdnet_fs.motifs.classifier.prepare import SAMPLE_RATE_HZ, ClipChanges, changed, prepare_dataset


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("motifs")
    write_motifs(folder, 2)
    (folder / "houfin" / "XC1" / "motif.0.ogg").write_bytes(b"no audio")
    return motif_clips(folder)


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.ogg"))}


def test_classes_have_the_same_number_and_broken_sources_are_listed(clips, tmp_path):
    ledger = prepare_dataset(clips, tmp_path / "out", num_per_class=5)
    files = content(tmp_path / "out")
    assert len([name for name in files if name.startswith("akiapo/XC")]) == 5
    bad = [row for row in ledger.rows if row.status == "quarantined"]
    assert len(files) + len(bad) == 10 and bad and all("motif.0.ogg" in row.reason for row in bad)
    name = next(iter(files))
    about = soundfile.info(tmp_path / "out" / name)
    assert (about.samplerate, about.frames, about.format) == (SAMPLE_RATE_HZ, 5 * SAMPLE_RATE_HZ, "OGG")


def test_a_second_call_writes_what_is_missing_and_more_adds(clips, tmp_path):
    out = tmp_path / "out"
    prepare_dataset(clips, out, num_per_class=3)
    before = content(out)
    gone = next(iter(before))
    audio = soundfile.read(out / gone)[0]
    (out / gone).unlink()
    prepare_dataset(clips, out, num_per_class=4)
    after = content(out)
    assert np.array_equal(soundfile.read(out / gone)[0], audio)
    assert before.keys() < after.keys()
    kept = [name for name in before if name != gone]
    assert all(after[name] == before[name] for name in kept)
    with pytest.raises(UserError, match="holds clips of another seed"):
        prepare_dataset(clips, out, num_per_class=3, seed=1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("x")
    with pytest.raises(UserError, match="holds other files"):
        prepare_dataset(clips, tmp_path / "mine", num_per_class=3)


def test_recordings_of_prepared_clips_are_those_of_their_sources(clips, tmp_path):
    prepare_dataset(clips, tmp_path / "out", num_per_class=4, limit=5)
    found = motif_clips(tmp_path / "out")
    assert 1 <= len(found) <= 5 and {each.recording for each in found} <= {"XC0", "XC1"}
    assert json.loads((tmp_path / "out" / "settings.json").read_text())["seed"] == 0


def test_changes_stay_within_their_limits():
    t = np.arange(5 * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    tone = (0.1 * np.sin(2 * np.pi * 4000 * t)).astype(np.float32)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        pitched = changed(tone, ClipChanges(p=1, gain_db=0, shift=0, snr_db=(90, 90)), rng)
        peak = np.abs(np.fft.rfft(pitched)).argmax() / 5
        assert 4000 * 2 ** (-1 / 12) - 20 < peak < 4000 * 2 ** (1 / 12) + 20 and abs(peak - 4000) > 1
    louder = changed(
        tone, ClipChanges(p=1, semitones=0, shift=0, snr_db=(90, 90), gain_db=60), np.random.default_rng(7)
    )
    assert np.abs(louder).max() <= 1
    same = changed(tone, ClipChanges(p=0), np.random.default_rng(0))
    assert np.array_equal(same, tone)
    silent = changed(np.zeros_like(tone), ClipChanges(p=1), np.random.default_rng(0))
    assert not silent.any()
