"""The commands of the BirdCLEF-2022 notes, from `motifs extract` to submission.csv, on a small tree in that layout."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from motif_folders import HZ, song
from soundscapes import RATE, window, write_soundscapes

from birdnet_fs.cli.main import main

BIRDS = (*HZ, "elepai")


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["birdnet-fs", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """birdclef-2021 with soundscapes, birdclef-2022 with recordings of two species, scored_birds.json and test.csv."""
    write_soundscapes(tmp_path / "birdclef-2021", 6, 8)
    rng, new = np.random.default_rng(3), tmp_path / "birdclef-2022"
    for bird, hz in HZ.items():
        (new / "train_audio" / bird).mkdir(parents=True)
        for number in range(4):
            soundfile.write(new / f"train_audio/{bird}/XC{number}.ogg", song(rng, hz, 12.0), RATE)
    (new / "scored_birds.json").write_text(json.dumps(BIRDS))
    (new / "test_soundscapes").mkdir()
    test = np.concatenate([song(rng, HZ["akiapo"]), song(rng, HZ["houfin"]), window(rng, False)])
    soundfile.write(new / "test_soundscapes/soundscape_1.ogg", test, RATE)
    asked = [(f, b, e) for f in ("soundscape_1", "soundscape_2") for e in (5, 10, 15) for b in BIRDS]
    rows = "".join(f"{f}_{b}_{e},{f},{b},{e}\n" for f, b, e in asked)
    (new / "test.csv").write_text("row_id,file_id,bird,end_time\n" + rows)
    return tmp_path


def targets(path: Path) -> dict[str, bool]:
    with open(path, encoding="utf-8", newline="") as file:
        return {row["row_id"]: row["target"] == "True" for row in csv.DictReader(file)}


@pytest.mark.slow
def test_chain_of_commands_from_recordings_to_a_submission(tree, untrained, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tree)
    mining = ["--cens-sr", 10, "--mp-window", 30, "--feature", "shape"]
    train_audio = "birdclef-2022/train_audio"
    assert run(monkeypatch, "motifs", "extract", train_audio, "-o", "mined", *mining) == 0
    assert run(monkeypatch, "motifs", "extract", train_audio, "-o", "mined-k", *mining, "--sample-k", 4) == 0
    assert run(monkeypatch, "motifs", "extract-top-motif", "mined", "--output", "top") == 0
    classify = ["--birdclef-root", "birdclef-2021", "--filter-set", "birdclef-2022/scored_birds.json"]
    prepare = ["classify", "prepare-dataset", "--motif-root", "top", *classify, "--num-per-class", 30]
    assert run(monkeypatch, *prepare, "augmented") == 0
    assert {path.name for path in Path("augmented").iterdir() if path.is_dir()} == {*HZ, "other"}
    assert "1 of 3 classes of the filter have no clips: elepai" in capsys.readouterr().err
    train = ["classify", "train", *classify, "--motif-root", "augmented"]
    assert run(monkeypatch, *train, "--no-use-ref-motif", "--embedding-checkpoint", untrained, "model-run") == 0
    reference = ["--use-ref-motif", "--ref-motif-root", "mined-k", "--embedding-checkpoint", "logmel", "--dim", 384]
    assert run(monkeypatch, *train, *reference, "model-ref") == 0
    printed = capsys.readouterr().out
    scores = [float(line.split()[-1]) for line in printed.splitlines() if line.startswith("test score: ")]
    assert len(scores) == 2 and 0 <= scores[0] <= 1 and scores[1] > 0.6
    assert len(list(Path("model-ref/reference_motifs").iterdir())) == 4
    predict = ["classify", "predict", "--birdclef-root", "birdclef-2022", "--classifier-source"]
    for model in ("model-run", "model-ref"):
        assert run(monkeypatch, *predict, model, f"{model}.csv") == 0
        found = targets(Path(f"{model}.csv"))
        asked = [line.split(",")[0] for line in Path("birdclef-2022/test.csv").read_text().splitlines()[1:]]
        assert list(found) == asked
        assert not any(target for name, target in found.items() if "elepai" in name or "soundscape_2" in name)
    printed = capsys.readouterr()
    assert "18 rows, 9 with scores" in printed.out and "9 of 18 rows, of 1 recordings, have no scores" in printed.err
    right = targets(Path("model-ref.csv"))
    assert right["soundscape_1_akiapo_5"] and right["soundscape_1_houfin_10"]
    assert not right["soundscape_1_houfin_15"] and not right["soundscape_1_akiapo_15"]
    assert "there is no recording called soundscape_2" in Path("model-ref.ledger.csv").read_text()


def test_wrong_arguments_are_one_sentence(tree, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tree)
    train = ["classify", "train", "--motif-root", "birdclef-2022/train_audio", "out"]
    for options, message in (
        (["--use-ref-motif"], "--use-ref-motif and --ref-motif-root FOLDER belong together; give both or neither"),
        (["--dim", 64], "has a width of 384; leave --dim out, or give --dim 384. Received: 64"),
        (["--motif-root", "none"], "--motif-root must be a folder with a folder of clips per class. Received: none"),
        (["--filter-set", "birdclef-2022/test.csv"], "test.csv is not readable JSON"),
        (["--use-ref-motif", "--ref-motif-root", "top"], "`birdnet-fs motifs extract` was expected"),
    ):
        assert run(monkeypatch, *train, *options) == 2
        assert message in capsys.readouterr().err and not Path("out").exists()
    predict = ["classify", "predict", "--birdclef-root", "birdclef-2022", "--classifier-source", "none", "x.csv"]
    assert run(monkeypatch, *predict) == 2 and "`birdnet-fs classify train` was expected" in capsys.readouterr().err
