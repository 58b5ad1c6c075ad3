"""The table of pseudo-labels: where it is looked for, and the runs in its pseudo.json."""

import json
from pathlib import Path

import pytest

from birdnet_fs.core.errors import UserError
from birdnet_fs.data.pseudo_label_table import ABOUT, TABLE, find_pseudo_label_table, read_labeling_runs
from birdnet_fs.schema import Data, Experiment, PseudoLabels


def experiment(table: Path | str, fold: int = 1) -> Experiment:
    return Experiment(data=Data(split="folds", fold=fold), pseudo_labels=PseudoLabels(table=str(table)))


@pytest.mark.parametrize("place", ["pseudo.csv", "", "fold1/pseudo.csv"])
def test_table_is_found_as_a_file_in_its_folder_and_in_that_of_the_fold(tmp_path, place):
    table = tmp_path / (place or TABLE)
    table.parent.mkdir(exist_ok=True)
    table.write_text("")
    assert find_pseudo_label_table(experiment(tmp_path / place if place == "pseudo.csv" else tmp_path)) == table


def test_no_table_without_the_setting():
    assert find_pseudo_label_table(experiment("")) is None


def test_missing_table_is_refused_with_the_fold(tmp_path):
    (tmp_path / "fold1").mkdir()
    (tmp_path / "fold1" / TABLE).write_text("")
    with pytest.raises(UserError, match=r"pseudo_labels\.table must be a pseudo\.csv .* named fold2 \(data\.fold\)"):
        find_pseudo_label_table(experiment(tmp_path, fold=2))


def test_labeling_runs_are_those_of_pseudo_json(tmp_path):
    table = tmp_path / TABLE
    assert read_labeling_runs(table) == ()
    (tmp_path / ABOUT).write_text(json.dumps({"runs": ["/runs/a", "/runs/b"]}))
    assert read_labeling_runs(table) == (Path("/runs/a"), Path("/runs/b"))


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"runs": 1}'])
def test_damaged_pseudo_json_is_refused(tmp_path, text):
    (tmp_path / ABOUT).write_text(text)
    said = r"pseudo\.json (must be a JSON object|is not readable JSON) .*; run birdnet-fs pseudo-label again"
    with pytest.raises(UserError, match=said):
        read_labeling_runs(tmp_path / TABLE)
