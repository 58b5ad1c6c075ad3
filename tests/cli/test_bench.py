"""`birdnet-fs bench`: its table and JSON, with the measurement replaced."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from birdnet_fs.cli.bench import bench
from birdnet_fs.export.runtimes import benchmark


@pytest.fixture(autouse=True)
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure_in_turns(paths, **options):
        return [
            SimpleNamespace(path=path, median_ms=2.0 * (i + 1), minimum_ms=1.0, real_time=1500.0, load_s=0.01,
                            n_bytes=3_000_000, peak_bytes=50_000_000, base_bytes=40_000_000, input="features",
                            to_json=lambda path=path: {"path": str(path), **options})
            for i, path in enumerate(paths)
        ]  # fmt: skip

    monkeypatch.setattr(benchmark, "measure_in_turns", measure_in_turns)


def test_bench_prints_one_row_per_artifact_and_the_ratio(capsys) -> None:
    bench(Path("a.tflite"), against=Path("b.tflite"))
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines() if line.startswith(("a.tflite ", "b.tflite "))]
    assert rows[0][:2] == ["a.tflite", "2.000"] and rows[1][:2] == ["b.tflite", "4.000"]
    assert "a.tflite is 2.00 times as fast as b.tflite" in out
    assert "a.tflite reads features: the front-end is not included." in out


def test_bench_prints_json(capsys) -> None:
    bench(Path("a.tflite"), threads=2, batch_size=4, seconds=1.0, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found == {"artifacts": [{"path": "a.tflite", "threads": 2, "batch": 4, "seconds": 1.0}]}
