"""`birdnet-fs submission` and `score-submission` on a small tree."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from birdnet_fs.cli.main import app


@pytest.fixture
def competition(tmp_path: Path) -> Path:
    """A competition of two classes, which the model has by its own name and by its scientific name."""
    root = tmp_path / "data"
    (root / "test_soundscapes").mkdir(parents=True)
    noise = np.random.default_rng(0).normal(0, 0.1, 4 * 8000 * 5)
    soundfile.write(root / "test_soundscapes/s_1.flac", noise, 8000)
    (root / "test_soundscapes/s_2.ogg").write_bytes(b"broken")
    (root / "taxonomy.csv").write_text("primary_label,scientific_name,common_name\nx1,B,Bee\na,Parus major,Tit\n")
    rows = "".join(f"s_{n}_{end},0,0,0\n" for n in (1, 2) for end in (5, 10, 15, 20))
    (root / "sample_submission.csv").write_text("row_id,x1,a,elsewhere\n" + rows)
    return root


def test_submission_and_its_score(untrained: Path, competition: Path, tmp_path: Path) -> None:
    output = tmp_path / "submission.csv"
    arguments = ["submission", str(untrained), str(competition), "-o", str(output), "--competition", "2025"]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "2 of 3 classes of the competition are of the model, 1 of them by scientific or common name" in done.stderr
    assert "4 of 8 rows, of 1 recordings, have no scores and get the mean of each class" in done.stderr
    assert "8 rows, 4 with scores" in done.stdout
    lines = output.read_text().splitlines()
    assert lines[0] == "row_id,x1,a,elsewhere" and len(lines) == 9
    assert "quarantined" in (tmp_path / "submission.ledger.csv").read_text()
    solution = tmp_path / "solution.csv"
    solution.write_text(
        lines[0] + "\n" + "".join(f"{line.split(',')[0]},{i % 2},0,1\n" for i, line in enumerate(lines[1:]))
    )
    arguments = ["score-submission", str(output), str(solution), "-o", str(tmp_path / "auc.csv")]
    scored = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert "macro ROC-AUC nan over 2 classes with a positive" in scored.stdout
    assert "1 classes are positive in every row, first elsewhere" in scored.stderr
    assert (tmp_path / "auc.csv").read_text().startswith("class,auc\nx1,0.")


def test_status_is_1_when_no_recording_could_be_scored(untrained: Path, competition: Path, tmp_path: Path) -> None:
    (competition / "test_soundscapes/s_1.flac").unlink()
    output = tmp_path / "submission.csv"
    arguments = ["submission", str(untrained), str(competition), "-o", str(output), "--competition", "birdclef2025"]
    assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 1
    assert len(output.read_text().splitlines()) == 9
    (competition / "test_soundscapes/s_2.ogg").unlink()
    dry = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert dry.exit_code == 0 and "as in a notebook's run before it is submitted" in dry.stderr
