"""Few-shot evaluation of timed events: exact excerpts, equal results from every table layout, and errors."""

import json

import numpy as np
import pytest
import soundfile as sf

from birdnet_fs import schema
from birdnet_fs.cli.fewshot_eval import fewshot_eval
from birdnet_fs.core.errors import UserError
from birdnet_fs.data.manifest import read_manifest, write_manifest
from birdnet_fs.data.partition import Partition, write_partition
from birdnet_fs.data.waveforms import Waveforms
from birdnet_fs.inference.embed import Embedder, embed_clips
from birdnet_fs.runs import run as run_folder

RATE = 16_000
PITCHES_HZ = {"high": 6000.0, "low": 900.0, "middle": 2500.0}
N_RECORDINGS, N_TIMES = 4, 3  # events of each class in a recording
EVENT_S = 0.08


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Songs of nine tones, and one label for each in a CSV and, with NEG and UNK, in DCASE's layout."""
    root = tmp_path_factory.mktemp("songs")
    rng = np.random.default_rng(0)
    rows, classes = ["filename,start,end,label"], list(PITCHES_HZ)
    (root / "dcase").mkdir()
    for r in range(N_RECORDINGS):
        song = 0.001 * rng.normal(size=3 * RATE)
        dcase = [f"Audiofilename,Starttime,Endtime,{','.join(classes)}"]
        for i, label in enumerate(rng.permutation(classes * N_TIMES).tolist()):
            onset = 0.1 + 0.3 * i + round(float(rng.uniform(0, 0.1)), 3)
            t = np.arange(round(EVENT_S * RATE)) / RATE
            start = round(onset * RATE)
            song[start : start + len(t)] += 0.3 * np.sin(2 * np.pi * PITCHES_HZ[label] * rng.uniform(0.97, 1.03) * t)
            end = onset + EVENT_S
            rows.append(f"song{r}.wav,{onset:.3f},{end:.3f},{label}")
            said = ["POS" if name == label else "NEG" for name in classes]
            dcase.append(f"song{r}.wav,{onset:.3f},{end:.3f},{','.join(said)}")
        dcase.append(f"song{r}.wav,2.9,2.95,UNK,NEG,UNK")
        sf.write(root / f"song{r}.wav", song, RATE, subtype="FLOAT")
        (root / "dcase" / f"song{r}.csv").write_text("\n".join(dcase))
    (root / "events.csv").write_text("\n".join(rows))
    return root


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    spec = schema.FrontEnd(sample_rate_hz=RATE, segment_s=0.5, hop_length=128, n_mels=32, fmin_hz=200.0, fmax_hz=8000.0)
    experiment = schema.Experiment(name="base", frontend=spec, model=schema.Model("cnn/tiny"))
    weights = run_folder.model_weights(run_folder.build_network(experiment, n_classes=2))
    return run_folder.save_run(tmp_path_factory.mktemp("run") / "run", experiment, ("x", "y"), weights)


def results(run, source, settings=(), output=None, **options):
    fewshot_eval(run.path, source, list(settings), 3, "1", 2, 40, output=output, **options)
    return {(r["recordings"], r["method"]): r for r in json.loads(output.read_text())["results"]}


def test_events_are_cut_at_their_onsets_and_offsets(recordings):
    clips = read_manifest(schema.Data(root=str(recordings), table="events.csv")).clips
    waveforms = Waveforms(clips, RATE)
    assert len(waveforms) == N_RECORDINGS * N_TIMES * 3
    songs = {path.name: sf.read(path, dtype="float32")[0] for path in recordings.glob("*.wav")}
    for i, clip in enumerate(waveforms.clips):
        start, end = round(clip.onset_s * RATE), round(clip.offset_s * RATE)
        assert np.array_equal(waveforms[i], songs[clip.path.name][start:end])
        spectrum = np.abs(np.fft.rfft(waveforms[i]))
        loudest_hz = np.argmax(spectrum) / len(waveforms[i]) * RATE
        assert loudest_hz == pytest.approx(PITCHES_HZ[clip.labels[0]], rel=0.05)
        assert np.abs(waveforms[i][:8]).max() > 0.01 and np.abs(waveforms[i][-8:]).max() > 0.01  # no silence beside it


def test_every_table_layout_gives_the_same_results(run, recordings, tmp_path, capsys):
    events = results(run, recordings / "events.csv", output=tmp_path / "a.json", correlation=True)
    assert "Clips of 0.08 s (median) are padded with silence" in capsys.readouterr().err
    assert set(events) == {
        (recordings_, method)
        for recordings_ in ("across", "within")
        for method in (
            "euclidean",
            "cosine",
            "simpleshot",
            "logistic_regression",
            "correlation",
            "cosine+correlation",
        )
    }
    assert events["across", "correlation"]["accuracy"] == 1.0  # tones 3 % apart within a class, an octave between
    dcase = results(run, recordings, ["data.table=dcase"], tmp_path / "b.json", correlation=True)
    assert f"{N_RECORDINGS} of {N_RECORDINGS * 10} rows have no class or several" in capsys.readouterr().err
    found = read_manifest(schema.Data(root=str(recordings), table="dcase"))
    write_manifest(found, recordings / "manifest.csv")
    manifest = results(run, recordings / "manifest.csv", output=tmp_path / "c.json", correlation=True)
    assert events == dcase == manifest


def test_short_clip_is_padded_or_repeated(run, recordings, tmp_path):
    clips = read_manifest(schema.Data(root=str(recordings), table="events.csv")).clips[:2]
    embedder, waveforms = Embedder(run.build_model(), run.frontend), Waveforms(clips, RATE)
    n = run.frontend.n_samples
    for fill, tail in (("silence", lambda w: np.zeros(n, np.float32)), ("repeat", lambda w: np.tile(w, 10))):
        found = embed_clips(embedder, waveforms, "once", fill)
        for i in range(2):
            window = np.concatenate([waveforms[i], tail(waveforms[i])])[:n]
            assert np.array_equal(found[i], embedder.mean(window[None]))
    with pytest.raises(UserError, match=r"fill must be one of silence, repeat\. Received: 'loop'"):
        results(run, recordings / "events.csv", output=tmp_path / "x.json", fill="loop")


def test_known_classes_need_recordings_not_trained_on(run, recordings, tmp_path):
    manifest = read_manifest(schema.Data(root=str(recordings), table="events.csv"))
    trained = tuple(clip for clip in manifest.clips if clip.path.name == "song0.wav" and clip.labels == ("low",))
    write_partition(run.path / "partition.csv", Partition(manifest, trained, (), ()))
    try:
        with pytest.raises(UserError, match=r"trained on 'low' .* accept them with --known"):
            results(run, recordings / "events.csv", output=tmp_path / "a.json")
        with pytest.raises(UserError, match=r"trained on .*song0.wav \(9 of 36 clips are of such recordings\)"):
            results(run, recordings / "events.csv", output=tmp_path / "a.json", known=True)
        where = ["data.where=filename=song1.wav|song2.wav|song3.wav"]
        found = results(run, recordings / "events.csv", where, tmp_path / "a.json", known=True)
        assert found["across", "cosine"]["n_way"] == 3
    finally:
        (run.path / "partition.csv").unlink()


def table(root, path, change):
    rows = (root / "events.csv").read_text().splitlines()
    path.write_text("\n".join([rows[0], *change(rows[1:])]))
    return path


def test_events_outside_their_recording_are_reported(run, recordings, tmp_path, capsys):
    late = ["song0.wav,2.95,3.2,low", "song1.wav,7.0,7.1,low"]
    source = table(recordings, recordings / "late.csv", lambda rows: rows + late)
    found = results(run, source, output=tmp_path / "a.json")
    printed = capsys.readouterr().err
    assert (
        "36 ok, 1 partial, 1 quarantined" in printed
        and "there is no audio at 7 s; the recording ends earlier" in printed
    )
    assert "1 of 37 clips end after their recording" in printed
    assert found["across", "cosine"]["n_episodes"] == 40


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda rows: [row for row in rows if "low" not in row] + [row for row in rows if "low" in row][:2],
            r"low has 2 clips, fewer than the 3 of an episode",
        ),
        (lambda rows: [row for row in rows if "low" not in row], r"n_way=3 needs at least 3 classes.*2 classes"),
        (lambda rows: [row.rpartition(",")[0] + ",nocall" for row in rows], r"None of the 36 rows .* one class"),
    ],
)
def test_too_few_events_are_refused(run, recordings, tmp_path, change, message):
    source = table(recordings, recordings / "changed.csv", change)
    with pytest.raises(UserError, match=message):
        results(run, source, output=tmp_path / "a.json")


def test_one_recording_has_episodes_within_only(run, recordings, tmp_path, capsys):
    where = ["data.where=filename=song2.wav"]
    found = results(run, recordings / "events.csv", where, tmp_path / "a.json")
    assert {recordings_ for recordings_, _ in found} == {"within"}
    assert "-shot episodes across recordings: " in capsys.readouterr().err


def test_settings_other_than_data_are_refused(run, recordings, tmp_path):
    with pytest.raises(UserError, match=r"must be data\.KEY=VALUE\. Received: frontend\.segment_s=0\.2"):
        results(run, recordings / "events.csv", ["frontend.segment_s=0.2"], tmp_path / "a.json")
