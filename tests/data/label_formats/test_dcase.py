"""DCASE's tables: one class, which is named as their folder, and events that are unknown."""

import numpy as np
import soundfile as sf

from birdnet_fs.data.manifest import read_manifest, write_manifest
from birdnet_fs.data.partition import clips_to_train_on, partition, read_partition, write_partition
from birdnet_fs.data.segments import cut_segments
from birdnet_fs.data.targets import clip_targets
from birdnet_fs.frontend import PRESETS
from birdnet_fs.schema import Data, Experiment


def test_the_class_of_the_column_call_is_the_folder(tmp_path):
    for folder in ("HT", "JD"):
        (tmp_path / folder).mkdir()
        sf.write(tmp_path / folder / "a.wav", 0.1 * np.sin(np.arange(16_000)), 8000)
        rows = "a.wav,0.1,0.2,POS\na.wav,0.5,0.6,NEG\na.wav,1.0,1.1,UNK\n"
        (tmp_path / folder / "a.csv").write_text(f"Audiofilename,Starttime,Endtime,CALL\n{rows}")
    found = read_manifest(Data(str(tmp_path)))
    assert (found.layout, found.classes) == ("dcase", ("HT", "JD"))
    assert [(clip.path.parent.name, clip.labels) for clip in found.clips] == [
        ("HT", ("HT",)),
        ("HT", ()),
        ("HT", ()),
        ("JD", ("JD",)),
        ("JD", ()),
        ("JD", ()),
    ]
    assert [clip.unknown for clip in found.clips] == [(), (), ("HT",), (), (), ("JD",)]


def unknown_events(folder):
    """Six recordings of 9 s: 0.wav is unknown in both classes, 1.wav in B from 3 to 6 s."""
    rows = {0: "0,9,UNK,UNK", 1: "0,3,POS,NEG\n1.wav,3,6,POS,UNK", **dict.fromkeys(range(2, 6), "0,6,NEG,POS")}
    for i, row in rows.items():
        sf.write(folder / f"{i}.wav", np.random.default_rng(i).normal(0, 0.1, 72_000), 8000)
        (folder / f"{i}.csv").write_text(f"Audiofilename,Starttime,Endtime,A,B\n{i}.wav,{row}\n")


def test_unknown_events_are_neither_positive_nor_negative(tmp_path):
    unknown_events(tmp_path)
    data = Data(str(tmp_path), fold=-1, multi_label=True)
    found = read_manifest(data)
    assert found.classes == ("A", "B") and found.clips[0].unknown == ("A", "B") and found.clips[2].unknown == ("B",)
    write_manifest(found, tmp_path / "m" / "manifest.csv")
    assert read_manifest(Data(str(tmp_path / "m"), multi_label=True)).clips == found.clips
    clips = clips_to_train_on(found, Experiment(data=data, frontend=PRESETS["birdnet_3s_48k"]))
    assert {clip.path.name for clip in clips} == {f"{i}.wav" for i in range(1, 6)}  # of 0.wav nothing is known
    one = [clip for clip in clips if clip.path.name == "1.wav"]
    assert [(clip.labels, clip.unknown) for clip in one] == [(("A",), ()), (("A",), ("B",)), ((), ())]
    assert clip_targets(one, ("A", "B"), multi_label=True, data=data).tolist() == [[1, 0], [1, -1], [0, 0]]
    segments = cut_segments(found, segment_s=3.0, segment_hop_s=0, min_overlap_s=0.1, sample_rate_hz=8000)
    assert [segment.unknown for segment in segments[:3]] == [("A", "B")] * 3  # evaluation leaves them out


def test_unknown_windows_are_stored_and_not_scored(tmp_path, capsys):
    unknown_events(tmp_path)
    for fold in range(2):
        data = Data(str(tmp_path), fold=fold, n_folds=2, multi_label=True)
        parts = partition(Experiment(data=data, frontend=PRESETS["birdnet_3s_48k"]))
        assert not any(clip.unknown for clip in (*parts.val, *parts.held_out))
        write_partition(tmp_path / "p.csv", parts)
        assert [clip.unknown for clip in read_partition(tmp_path / "p.csv", "train")] == [
            c.unknown for c in parts.train
        ]
        unknown = [clip for clip in parts.train if clip.unknown]
        held_out = {clip.path.name for clip in parts.held_out}
        assert bool(unknown) != ("1.wav" in held_out)
    assert "overlap unknown events (UNK) and are left out" in capsys.readouterr().err


def test_one_class_for_all_keeps_unknown_events_unknown(tmp_path):
    unknown_events(tmp_path)
    found = read_manifest(Data(str(tmp_path), multi_label=True, binary_label="call"))
    assert [(clip.labels, clip.unknown) for clip in found.clips[:3]] == [
        ((), ("call",)),
        (("call",), ()),
        (("call",), ()),
    ]
