"""The manifest: faults of rows and files, row filters, background, binary labels and real tables."""

import csv
import os

import numpy as np
import pytest
import soundfile as sf
from label_layouts import as_csv, tone

from birdnet_fs.audio.read import read_audio
from birdnet_fs.core.errors import UserError
from birdnet_fs.data.manifest import read_background, read_manifest, write_manifest
from birdnet_fs.data.segments import cut_segments
from birdnet_fs.schema import Data


def make(root, n):
    rng = np.random.default_rng(0)
    for i in range(n):
        sf.write(root / f"{i:03}.wav", rng.normal(0, 0.1, 4000), 8000)
    lines = [f"{i:03}.wav,{'ab'[i % 2]}" for i in range(n)]
    (root / "metadata.csv").write_text("filename,label\n" + "\n".join(lines) + "\n")


def waveforms(manifest):
    return {clip.path.name: read_audio(clip.path, sample_rate_hz=8000).waveform for clip in manifest.clips}


def test_broken_files_are_quarantined_and_the_others_unchanged(tmp_path):
    make(tmp_path, 200)
    data = Data(str(tmp_path))
    clean = waveforms(read_manifest(data, check=True))
    assert len(clean) == 200
    (tmp_path / "010.wav").write_bytes(b"")
    (tmp_path / "020.wav").write_bytes(b"<html>not found</html>")
    (tmp_path / "030.wav").unlink()
    (tmp_path / "040.wav").write_bytes(np.random.default_rng(1).bytes(5000))
    (tmp_path / "050.wav").write_bytes((tmp_path / "050.wav").read_bytes()[:4000])
    found = read_manifest(data, check=True)
    assert found.ledger.counts() == {"ok": 195, "partial": 1, "quarantined": 4}
    refused = {row.source: row.reason for row in found.ledger.rows if row.status == "quarantined"}
    assert list(refused) == [f"metadata.csv row {i + 2}" for i in (10, 20, 30, 40)] and all(refused.values())
    left = waveforms(found)
    assert len(left) == 196 and left.pop("050.wav").size == (4000 - 44) // 2
    assert all(np.array_equal(wave, clean[name]) for name, wave in left.items())
    assert found.durations[tmp_path / "050.wav"] == (4000 - 44) / 2 / 8000


def test_all_faults_are_found_in_one_pass(tmp_path, capsys):
    make(tmp_path, 4)
    (tmp_path / "sub").mkdir()
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        sf.write(tmp_path / folder / "same.wav", np.ones(10) * 0.1, 8000)
    (tmp_path / "t.csv").write_text(
        "filename,label,start,end,fold\n"
        "000.wav,a,,,0\n"
        "gone.wav,,,,\n"
        "001.wav,,,,\n"
        "000.wav,a,,,0\n"
        "000.wav,b,,,0\n"
        "002.wav,a,2,1,\n"
        "003.wav,a,x,nan,zero\n"
        "sub,a,,,\n"
        "same.wav,a,,,\n"
        "003.wav,typo,,,\n"
        ",a,,,\n"
    )
    found = read_manifest(Data(str(tmp_path), table="t.csv"), classes=("a", "b", "type"))
    assert [clip.path.name for clip in found.clips] == ["000.wav"] and found.classes == ("a", "b", "type")
    reasons = {int(row.source.split()[-1]): row.reason for row in found.ledger.rows if row.status == "quarantined"}
    expected = {
        3: ("no audio file gone.wav was found", "label is empty"),
        4: ("label is empty",),
        5: ("repeats t.csv row 2",),
        6: ("another label",),
        7: ("end (1 s) must be later than its start (2 s)",),
        8: ("onset must be seconds", "offset must be seconds", "fold must be a whole number"),
        9: ("a folder",),
        10: ("2 audio files are called same.wav",),
        11: ("'typo' is not one of the classes. Did you mean 'type'?",),
        12: ("names no audio file",),
    }
    assert set(reasons) == set(expected)
    for row, parts in expected.items():
        assert all(part in reasons[row] for part in parts), reasons[row]
    said = capsys.readouterr().err
    assert "10 quarantined" in said and "t.csv row 3" in said and "and 5 more" in said


def test_manifest_without_usable_rows_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text("filename,label\ngone.wav,a\n")
    with pytest.raises(UserError, match=r"None of the 1 rows can be used(.|\n)*row 2: .*gone.wav"):
        read_manifest(Data(str(tmp_path), table="t.csv"))
    with pytest.raises(UserError, match=r"must be a file in .* Did you mean 't.csv'"):
        read_manifest(Data(str(tmp_path), table="tt.csv"))
    with pytest.raises(UserError, match="must be a folder that exists"):
        read_manifest(Data(str(tmp_path / "none")))
    (tmp_path / "t.csv").unlink()
    with pytest.raises(UserError, match="No labeled recordings"):
        read_manifest(Data(str(tmp_path)))


def test_file_that_breaks_later_is_left_out_of_the_segments(tmp_path):
    make(tmp_path, 4)
    found = read_manifest(Data(str(tmp_path)))
    (tmp_path / "002.wav").write_bytes(b"RIFF")
    segments = cut_segments(found, segment_s=0.25, segment_hop_s=0, min_overlap_s=0.1, sample_rate_hz=8000)
    assert len(segments) == 6 and found.ledger.counts()["quarantined"] == 1


def test_names_that_are_not_utf8_are_preserved(tmp_path):
    name = os.fsdecode(b"caf\xe9 [1].wav")
    folder = tmp_path / "a [b]"
    folder.mkdir()
    sf.write(tmp_path / "x.wav", np.ones(800) * 0.1, 8000)
    os.rename(tmp_path / "x.wav", folder / name)
    found = read_manifest(Data(str(tmp_path)), check=True)
    assert [(clip.path.name, clip.labels) for clip in found.clips] == [(name, ("a [b]",))]
    write_manifest(found, tmp_path / "manifest.csv")
    assert read_manifest(Data(str(tmp_path), table="manifest.csv")).clips[0].path == found.clips[0].path
    found.ledger.write(tmp_path / "ledger.csv")
    assert "caf\\udce9 [1].wav" in (tmp_path / "ledger.csv").read_text(encoding="utf-8")
    (tmp_path / "latin.csv").write_bytes(b"filename,label\na [b]/caf\xe9 [1].wav,a\n")  # a table in the same encoding
    assert read_manifest(Data(str(tmp_path), table="latin.csv")).clips[0].path == found.clips[0].path


def test_row_filter_and_background_select_rows(tmp_path):
    as_csv(tmp_path)
    chosen = read_manifest(Data(str(tmp_path), where="site=s1,split=train|val"))
    assert [clip.path.name for clip in chosen.clips] == ["a.wav"]
    with pytest.raises(UserError, match=r"has no column 'sites'. Did you mean 'site'"):
        read_manifest(Data(str(tmp_path), where="sites=s1"))
    with pytest.raises(UserError, match=r"selects none of the 3 rows .*site has s1, s2"):
        read_manifest(Data(str(tmp_path), where="site=s3"))
    with pytest.raises(UserError, match="column=value"):
        read_manifest(Data(str(tmp_path), where="site"))
    background = read_background(Data(str(tmp_path), background="site=s1"))
    assert [clip.labels for clip in background.clips] == [(), ()]
    assert read_background(Data(str(tmp_path))).clips == ()
    tone(tmp_path / "quiet" / "night" / "n.wav")
    tone(tmp_path / "quiet" / "m.wav")
    for folder in ("quiet", str(tmp_path / "quiet")):
        found = read_background(Data(str(tmp_path), where="site=s1", background=folder)).clips
        assert [(clip.path.name, clip.labels) for clip in found] == [("m.wav", ()), ("n.wav", ())]


@pytest.mark.shared
def test_real_tables_have_the_known_clips(shared_data):
    data = Data(str(shared_data), table="metadata.csv", audio="audio", where="set=birds10")
    found = read_manifest(data)
    assert len(found.clips) == 100 and len(found.classes) == 10 and not found.events
    assert {clip.fold for clip in found.clips} == {0, 1, 2, 3, 4} and len({clip.group for clip in found.clips}) > 90
    assert found.hours_per_class()["Junco hyemalis"] == pytest.approx(10 * 6 / 3600)
    weak = Data(str(shared_data), table="metadata.csv", audio="audio", where="set=spinetail", multi_label=True)
    assert read_manifest(weak).clips[0].labels == ("CRER", "SP")
    timed = Data(str(shared_data), table="annotations.csv", audio="audio", where="set=spinetail", multi_label=True)
    raven = Data(str(shared_data), table="raven", audio="audio", multi_label=True)
    events = read_manifest(timed)
    selections = [clip for clip in read_manifest(raven).clips if clip.path.stem == "spinetail"]
    assert events.events and len(events.clips) == len(selections) == 18
    assert [clip.labels for clip in events.clips] == [clip.labels for clip in selections]


@pytest.fixture
def call_folder(tmp_path):
    for name in ("Parus major/a.wav", "Corvus corax/b.wav", "noise/c.wav", "nocall/d.wav"):
        file = tmp_path / name
        file.parent.mkdir()
        sf.write(file, np.zeros(8000), 8000)
    return tmp_path


def test_binary_label_replaces_every_label_and_noise_has_none(call_folder):
    plain = read_manifest(Data(root=str(call_folder), multi_label=True))
    assert {clip.path.name: clip.labels for clip in plain.clips} == {
        "a.wav": ("Parus major",),
        "b.wav": ("Corvus corax",),
        "c.wav": (),
        "d.wav": (),
    }
    found = read_manifest(Data(root=str(call_folder), multi_label=True, binary_label="call"))
    assert found.classes == ("call",)
    assert {clip.path.name: clip.labels for clip in found.clips} == {
        "a.wav": ("call",),
        "b.wav": ("call",),
        "c.wav": (),
        "d.wav": (),
    }
    assert all(row.status == "ok" for row in found.ledger.rows)


def test_binary_label_replaces_several_and_secondary_labels(call_folder):
    with (call_folder / "table.csv").open("w", newline="") as file:
        rows = [["filename", "label", "secondary_labels"], ["Parus major/a.wav", "x;y", "z"], ["noise/c.wav", "", "z"]]
        csv.writer(file).writerows(rows)
    found = read_manifest(Data(root=str(call_folder), table="table.csv", multi_label=True, binary_label="call"))
    assert next((clip.labels, clip.secondary) for clip in found.clips) == (("call",), ())


def test_binary_label_needs_several_labels():
    with pytest.raises(UserError, match=r"data\.binary_label=call needs data\.multi_label=true"):
        Data(binary_label="call")


def test_binary_label_without_negative_examples_gives_a_message(call_folder, capsys):
    data = Data(root=str(call_folder), multi_label=True, binary_label="call")
    read_manifest(data)
    assert "no negative examples" not in capsys.readouterr().err
    for name in ("noise/c.wav", "nocall/d.wav"):
        (call_folder / name).unlink()
    read_manifest(data)
    assert "every clip has a label, so there are no negative examples" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("header", "timed_rows", "events"),
    [
        ("filename,start,end,label", "auto", True),
        ("filename,start,end,label", "clips", False),
        ("rank,recording,start_s,end_s,score,query,label", "auto", False),
        ("rank,recording,start_s,end_s,score,query,label", "events", True),
    ],
)
def test_rows_of_a_search_table_are_clips_and_the_rest_of_their_recording_is_unknown(
    tmp_path, header, timed_rows, events
):
    make(tmp_path, 2)
    rows = (("000.wav", "0", "0.1", "a"), ("000.wav", "0.2", "0.3", "noise"), ("001.wav", "0.1", "0.2", ""))
    names = header.split(",")
    of = {"filename": 0, "recording": 0, "start": 1, "start_s": 1, "end": 2, "end_s": 2, "label": 3}
    lines = [",".join(row[of[name]] if name in of else "1" for name in names) for row in rows]
    (tmp_path / "t.csv").write_text("\n".join([header, *lines]) + "\n")
    found = read_manifest(Data(str(tmp_path), table="t.csv", multi_label=True, timed_rows=timed_rows))
    assert found.events == events
    assert [(c.path.name, c.onset_s, c.offset_s, c.labels) for c in found.clips] == [
        ("000.wav", 0.0, 0.1, ("a",)),
        ("000.wav", 0.2, 0.3, ()),
    ]
    assert [(row.source, row.reason) for row in found.ledger.rows if row.status == "quarantined"] == [
        ("t.csv row 4", "its label is empty.")
    ]
