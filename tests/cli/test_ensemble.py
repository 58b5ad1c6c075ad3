"""`birdnet-fs ensemble`: members and wrong arguments."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from birdnet_fs.cli.ensemble import make_ensemble, members_of
from birdnet_fs.cli.main import app
from birdnet_fs.core.errors import UserError


def test_members_of_reads_the_folds_of_cv(tmp_path: Path) -> None:
    assert members_of(tmp_path) == [tmp_path]
    (tmp_path / "fold0").mkdir()
    with pytest.raises(UserError, match=r"holds folds but no cv\.json; combine them first"):
        members_of(tmp_path)
    rows = [{"seed": 0, "fold": n, "run": str(tmp_path / f"fold{n}")} for n in (0, 1)]
    (tmp_path / "cv.json").write_text(json.dumps({"folds": rows}))
    assert [folder.name for folder in members_of(tmp_path)] == ["fold0", "fold1"]


def test_make_ensemble_refuses_repeated_members_and_missing_scores(untrained: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"must differ; .* was given twice"):
        make_ensemble([untrained, untrained], tmp_path / "out", combine="mean")
    other = Path(shutil.copytree(untrained, tmp_path / "other"))
    with pytest.raises(UserError, match=r"Ranks need the scores of held-out clips, .* has no scores\.csv"):
        make_ensemble([untrained, other], tmp_path / "out", combine="rank")


def test_several_runs_need_an_output_folder(untrained: Path, tmp_path: Path) -> None:
    other = shutil.copytree(untrained, tmp_path / "other")
    with pytest.raises(UserError, match="The output folder is missing"):
        CliRunner().invoke(app, ["ensemble", str(untrained), str(other)], catch_exceptions=False)
