"""The script that runs a model file, as a process of its own."""

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch

from birdnet_fs.export.runtimes import run_model


def start(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", run_model.__file__, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=False)


def test_packages_are_listed_as_json_without_importing_this_package() -> None:
    done = start("--packages")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found == run_model.installed_runtimes() and found["numpy"] == version("numpy")


def test_every_output_is_saved_in_order(tmp_path: Path) -> None:
    class Two(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return 2 * x, x.sum(1)

    torch.jit.save(torch.jit.trace(Two(), torch.zeros(2, 3)), str(tmp_path / "two.pt"))
    rows = np.arange(21, dtype=np.float32).reshape(7, 3)
    np.save(tmp_path / "inputs.npy", rows)
    done = start("torch", tmp_path / "two.pt", tmp_path / "inputs.npy", tmp_path / "outputs.npz", 3)
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "outputs.npz", allow_pickle=False) as stored:
        assert stored.files == ["arr_0", "arr_1"]
        assert np.array_equal(stored["arr_0"], 2 * rows) and np.array_equal(stored["arr_1"], rows.sum(1))


@pytest.mark.parametrize("engine", ["onnxruntime", "ai-edge-litert"])
def test_a_broken_file_ends_with_an_error_status(tmp_path: Path, engine: str) -> None:
    (tmp_path / "broken").write_bytes(b"no network")
    np.save(tmp_path / "inputs.npy", np.zeros((1, 3), np.float32))
    done = start(engine, tmp_path / "broken", tmp_path / "inputs.npy", tmp_path / "outputs.npz")
    assert done.returncode != 0 and not (tmp_path / "outputs.npz").exists()
