"""`birdnet-fs export`: arguments passed to `export_run`, and the table of the results."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from birdnet_fs.cli.main import app
from birdnet_fs.export import export as room

PARITY = SimpleNamespace(auroc_reference=0.9, auroc_artefact=0.89, top1_agreement=0.99, max_abs=1e-5, mean_abs=1e-6)


def test_options_reach_export_run_and_results_are_printed(
    untrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    received = {}

    def export_run(run, folder, **options):
        received.update(options, folder=folder, classes=tuple(run.classes))
        report = SimpleNamespace(by_runtime={"litert": PARITY}, second_route={})
        return [SimpleNamespace(path=folder / "a.tflite", n_bytes=1_500_000, parity_report=report)]

    monkeypatch.setattr(room, "export_run", export_run)
    options = ["--precision", "fp32, int8", "--license", "CC0", "--n_segments", "10", "--any_batch"]
    command = ["export", str(untrained), "-o", str(tmp_path / "out"), *options]
    out = CliRunner().invoke(app, command, catch_exceptions=False).stdout
    assert received["precision"] == ["fp32", "int8"] and received["license"] == "CC0"
    assert (received["n_segments"], received["any_batch"], received["embeddings"]) == (10, True, False)
    assert (received["folder"], received["classes"], received["environments"]) == (tmp_path / "out", ("a", "b"), ())
    row = out.splitlines()[-1].split()
    assert row[1:5] == ["1.50", "litert", "1.0e-05", "1.0e-06"] and out.rstrip().endswith("0.9000 -> 0.8900")
