"""`birdnet-fs motifs embed fit | summary | apply` as a user runs them, and the run in the verbs for ordinary runs."""

import re
import signal
import sys
import time
from pathlib import Path

import mined_recordings
import profile_tables
import pytest
from command_line import birdnet_fs, started
from reduced import reduced

from birdnet_fs.cli.main import main
from birdnet_fs.motifs.triplets import read_triplets

SMALL = ("--batches", 2, "--epochs", 2, "--batch-size", 4, "--val-fraction", 0.3, "--threads", 1, "--patience", 0)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["birdnet-fs", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended, reduced("tilenet/v2"):
        main()
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return profile_tables.write(tmp_path_factory.mktemp("mined"))


def test_fit_on_mined_recordings_and_on_triplets(data, tmp_path: Path, monkeypatch, capsys) -> None:
    table, audio = data
    monkeypatch.chdir(tmp_path)
    command = ("motifs", "embed", "fit", table, audio, "--name", "mine", *SMALL)
    assert run(monkeypatch, *command) == 0
    printed = capsys.readouterr()
    assert printed.out.strip() == "runs/mine" and "next: birdnet-fs enroll runs/mine" in printed.err
    assert run(monkeypatch, *command) == 0 and "it is kept" in capsys.readouterr().err
    assert run(monkeypatch, *command, "--margin", 1) == 2 and "holds another run" in capsys.readouterr().err
    assert run(monkeypatch, "motifs", "generate-triplets", table, "--samples", 30, "-o", tmp_path) == 0
    (triplets,) = tmp_path.glob("*.parquet")
    assert run(monkeypatch, "motifs", "extract-triplets", triplets, audio, "-o", tmp_path / "cuts") == 0
    further = ("--checkpoint", "runs/mine", "--name", "more", *SMALL)
    assert run(monkeypatch, "motifs", "embed", "fit", triplets, tmp_path / "cuts", *further) == 0
    assert run(monkeypatch, "motifs", "embed", "fit", triplets, audio, *further) == 2
    assert "holds no extracted triplets" in capsys.readouterr().err
    assert run(monkeypatch, "motifs", "embed", "apply", "runs/mine", audio, "-o", tmp_path / "store") == 0
    assert "9 ok" in capsys.readouterr().out


def test_recordings_that_the_other_verbs_mined_are_read(tmp_path: Path, monkeypatch, capsys) -> None:
    """Windows of .6 s: the segments of the network reach beyond the slices, and beyond recordings of 4 s."""
    mined, table = mined_recordings.mined(tmp_path), tmp_path / "mined.parquet"
    assert run(monkeypatch, "motifs", "consolidate", mined, "-o", table) == 0
    assert run(monkeypatch, "motifs", "generate-triplets", table, "--samples", 20, "-o", tmp_path / "triplets") == 0
    assert "2 of 6 recordings are in no triplet: 0 without a class, 2 without a motif" in capsys.readouterr().err
    (triplets,) = (tmp_path / "triplets").iterdir()
    found = [t for t in read_triplets(triplets) if t.a == t.b]
    apart_s = mined_recordings.SECOND_S - mined_recordings.FIRST_S
    assert found and all(abs(abs(t.a_loc - t.b_loc) - apart_s) < 0.05 for t in found)  # frames of 20 ms
    shortest = (*SMALL, "--epochs", 1, "--batches", 1)
    command = ("motifs", "embed", "fit", table, tmp_path / "in", "-o", tmp_path / "run", *shortest)
    assert run(monkeypatch, *command) == 0
    rows = (tmp_path / "run" / "recordings.csv").read_text()
    assert rows.count("quarantined") == 2


def test_summary_prints_layers_and_the_answers_of_the_finders(data, monkeypatch, capsys) -> None:
    assert run(monkeypatch, "motifs", "embed", "summary", *data, "--steps", 12, "--batch-size", 2, "--threads", 1) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^mel +65 x 64 x 1 +131,136$", printed, re.MULTILINE)
    assert re.search(r"^batch size: (\d+) triplets fit", printed, re.MULTILINE)
    assert "learning rate: " in printed and "are trained; embedding of 64" in printed


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--dim", 100), "--variant and --dim must fit"),
        (("--compression", "db"), "--compression must be one of log, none. Received: 'db'"),
        (("--name", "a/b"), "--name must be a plain name"),
        (("--batch-size", 1), "batch_size must be 2"),
        (("--batch-size", 500, "--name", "large"), "fewer than a batch of 500"),
    ],
)
def test_unclear_options_are_refused(options, words: str, data, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "motifs", "embed", "fit", *data, *options) == 2
    assert words in capsys.readouterr().err


@pytest.mark.slow
def test_run_is_evaluated_enrolled_analyzed_exported_and_goes_on_after_a_signal(data, tmp_path: Path) -> None:
    table, audio = data
    command = ("motifs", "embed", "fit", table, audio, "-o", "run", *SMALL, "--batches", "4")
    process = started(*command, cwd=tmp_path)
    while not (tmp_path / "run/unfinished/state.json").exists() and process.poll() is None:
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=300)
    assert process.returncode in (143, 0) and "Traceback" not in said
    if process.returncode:
        assert "the same command goes on from there" in said and not (tmp_path / "run/config.json").exists()
    again = birdnet_fs(*map(str, command), cwd=tmp_path)
    assert "goes on after step" in again.stderr or "it is kept" in again.stderr
    shots = ("--ways", "2", "--shots", "1", "--queries", "1", "--episodes", "20")
    refused = birdnet_fs("fewshot-eval", "run", str(audio), *shots, cwd=tmp_path, check=False)
    assert refused.returncode == 2 and "was trained on" in refused.stderr
    _, others = profile_tables.write(tmp_path / "others", seed=1)
    birdnet_fs("fewshot-eval", "run", str(others), *shots, "-o", "few.json", cwd=tmp_path)
    birdnet_fs("enroll", "run", str(others), "-o", "enrolled", cwd=tmp_path)
    assert "inherited" in (tmp_path / "enrolled" / "partition.csv").read_text()
    birdnet_fs("analyze", "enrolled", str(audio), "-o", "tables", cwd=tmp_path)
    assert list((tmp_path / "tables").rglob("*.csv"))
    exported = birdnet_fs(
        "export", "enrolled", "--embeddings", "-o", "out", "--audio", str(audio), "--n_segments", "20", cwd=tmp_path
    )
    assert exported.returncode == 0 and list((tmp_path / "out").glob("*.tflite"))
    refused = birdnet_fs("export", "enrolled", "--precision", "int8", "-o", "out8", cwd=tmp_path, check=False)
    assert refused.returncode == 2 and "use --precision fp32 or fp16" in refused.stderr
