"""Evaluations side by side."""

import json

import pytest

from birdnet_fs.core.errors import UserError
from birdnet_fs.reports.compare import comparison_lines, read_evaluations


def evaluation(folder, auroc, n=100, **changes):
    folder.mkdir()
    metrics = {"macro_auroc": auroc, "macro_auroc_ci": [0.1, 0.2], "cmap": 0.5, "accuracy": 0.25}
    (folder / "metrics.json").write_text(json.dumps({**metrics, "n_segments": n, "n_groups": 7, **changes}))
    return folder


def test_the_gap_is_the_headline(tmp_path):
    values = {"random": 0.95, "grouped": 0.9, "site": 0.8}
    folders = {name: evaluation(tmp_path / name, value) for name, value in values.items()}
    lines = comparison_lines(read_evaluations(folders))
    assert lines[0].startswith("gap 0.150 macro AUROC, from random 0.950 to site 0.800;")
    assert len(lines) == 5 and lines[3].split()[:5] == ["grouped", "0.900", "(0.100", "to", "0.200)"]
    folders["other"] = evaluation(tmp_path / "other", None, n=90, macro_auroc_ci=[None, None])
    lines = comparison_lines(read_evaluations(folders))
    assert "not of the same number of clips" in lines[1] and lines[-1].split()[:2] == ["other", "-"]


def test_folders_without_metrics_are_refused(tmp_path):
    one = evaluation(tmp_path / "one", 0.5)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"must hold the metrics\.json of birdnet-fs evaluate, train or cv"):
        read_evaluations({"a": one, "b": tmp_path / "empty"})
    with pytest.raises(UserError, match="Two evaluations or more were expected"):
        read_evaluations({"a": one})
