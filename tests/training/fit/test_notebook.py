"""The notebook examples/train_keras.ipynb, run from top to bottom on the aviary."""

import csv
import json
from pathlib import Path

import preloaded
import pytest
from installed import need

from birdnet_fs.runs.run import load_run

NOTEBOOK = Path(__file__).parents[3] / "examples" / "train_keras.ipynb"


def cells() -> list[str]:
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize(
    ("backend", "policy", "with_export"),
    [
        ("torch", "float32", False),
        pytest.param("torch", "mixed_float16", True, marks=pytest.mark.slow),
        pytest.param("tensorflow", "float32", True, marks=pytest.mark.slow),
        pytest.param("tensorflow", "mixed_float16", False, marks=pytest.mark.slow),
    ],
)
def test_notebook_trains_five_folds_and_evaluates_them(
    backend: str, policy: str, with_export: bool, recordings: Path, tmp_path: Path
) -> None:
    """Everything but the export, whose conversion alone takes 15 s of CPU, is run by the fast test."""
    if backend == "tensorflow" or with_export:
        need("tensorflow")
    code = "\n".join(cells() if with_export else cells()[:-1])
    assert "export" in cells()[-1]
    settings = {"DATA": str(recordings), "RUNS": str(tmp_path / "runs"), "EPOCHS": "2", "POLICY": policy}
    settings["PYTHONPATH"] = str(NOTEBOOK.parents[1])  # of the commands that the notebook starts
    done = preloaded.run_python(["-c", code], backend=backend, environment=settings, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"{backend} " in done.stdout and policy in done.stdout
    for fold in range(5):
        run = load_run(tmp_path / "runs" / f"fold{fold}")
        about = json.loads((run.path / "keras_fit.json").read_text())
        assert run.experiment.data.fold == fold and run.multi_label
        assert (about["backend"], about["dtype_policy"], about["epochs"]) == (backend, policy, 2)
    with (tmp_path / "runs" / "oof.csv").open(encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == 30  # every clip of the aviary, once
    assert (tmp_path / "runs" / "report.html").is_file()
    assert (tmp_path / "runs" / "exported").is_dir() == with_export
