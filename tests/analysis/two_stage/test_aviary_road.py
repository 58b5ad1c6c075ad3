"""The road of ANIMAL-SPOT on soundscapes of the aviary: named clips, detector, classifier, two stages, its files."""

import csv
from dataclasses import replace

import pytest
import soundfile
from animal_spot_clips import LENGTH_S, RATE, SPECIES, write_clips
from command_line import birdnet_fs

from birdnet_fs import schema
from birdnet_fs.data.synthetic import aviary
from birdnet_fs.training.trainer import train

SPEC = schema.FrontEnd(
    sample_rate_hz=RATE, segment_s=LENGTH_S, n_fft=1024, win_length=1024, hop_length=400, n_mels=64, fmin_hz=500.0,
    fmax_hz=14_000.0,
)  # fmt: skip


def trained(folder, root, name):
    experiment = schema.Experiment(
        name=name,
        data=schema.Data(root=str(root), layout="animal_spot", split="70/15/15", noise_label="class"),
        frontend=SPEC,
        model=schema.Model("cnn/small"),
        training=replace(schema.Training(), epochs=12, batch_size=16),
    )
    train(experiment, folder / name)
    return folder / name


@pytest.mark.slow
def test_songs_of_soundscapes_are_found_in_two_stages(tmp_path):
    detector = trained(tmp_path, write_clips(tmp_path / "binary", binary=True), "detector")
    classifier = trained(tmp_path, write_clips(tmp_path / "species", binary=False), "classifier")
    (tmp_path / "tapes").mkdir()
    events = {}
    for number in (0, 1, 4):  # the last one is without birds
        scene = aviary.synthesize_soundscape(SPECIES, number, 30.0, 0)
        soundfile.write(tmp_path / "tapes" / f"tape{number}.wav", scene.waveform, RATE, subtype="PCM_16")
        events[f"tape{number}"] = scene.events
    given = ("analyze", classifier, "tapes", "-o", "out", "--two_stage", detector)
    birdnet_fs(*given, cwd=tmp_path)
    n_right = n_found = n_songs = n_heard = 0
    for tape, songs in events.items():
        log = (tmp_path / "out" / f"{tape}_predict_output.log").read_text()
        assert log.count("|I|time=") == (30_000 - 800) // 100 + 1
        with open(tmp_path / "out" / f"{tape}.annotation.result.txt", encoding="utf-8") as file:
            found = [
                (float(row["Begin time (s)"]), float(row["End time (s)"]), row["Sound type"])
                for row in csv.DictReader(file, delimiter="\t")
            ]
        assert all(label != "noise" and end - start >= 0.1 for start, end, label in found)

        def meets(start, end, label, songs=songs):
            return any(e.label == label and e.onset_s < end and start < e.offset_s for e in songs)

        n_found, n_right = n_found + len(found), n_right + sum(meets(*each) for each in found)
        n_songs += len(songs)
        n_heard += sum(
            any(s < e.offset_s and e.onset_s < t and label == e.label for s, t, label in found) for e in songs
        )
    print(f"{n_right} of {n_found} events are songs of their species; {n_heard} of {n_songs} songs are found")
    assert n_right >= 0.7 * n_found and n_heard >= 0.5 * n_songs
