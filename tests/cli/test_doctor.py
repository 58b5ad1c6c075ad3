"""The command on this machine, and what it says of machines on which something is missing or broken."""

import re
import tomllib
from pathlib import Path

import pytest
import typer
from command_line import birdnet_fs

from birdnet_fs.cli import doctor as module
from birdnet_fs.cli.doctor import ADDS, doctor
from birdnet_fs.core.installation import imports, packages, resources
from birdnet_fs.core.installation.imports import Imported
from birdnet_fs.core.installation.packages import Package
from birdnet_fs.core.installation.resources import Memory

ROOT = Path(__file__).parents[2]
TORCH = {"threads": 2, "cuda_build": "", "gpus": [], "failed": []}


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch):
    """Another machine: what is installed, what works, and what is free."""

    def become(found: dict[str, Imported], installed: dict[str, list[Package]], free: int = 16 << 30) -> None:
        monkeypatch.setattr(packages, "packages", lambda extra="": installed.get(extra, []))
        monkeypatch.setattr(packages, "extras", lambda: [*installed, "test", "all"])
        monkeypatch.setattr(packages, "version", lambda name: "1.0" if name in found else "")
        monkeypatch.setattr(imports, "try_imports", lambda names, **_: {name: found[name] for name in names})
        monkeypatch.setattr(resources, "memory", lambda: Memory(32 << 30, free, is_limited=True))
        monkeypatch.setattr(resources, "free_disk", lambda _: free)
        monkeypatch.setattr(resources, "n_cpus", lambda: 4)

    return become


def test_doctor_finds_nothing_wrong_here_and_its_line_has_no_paths(tmp_path: Path) -> None:
    done = birdnet_fs("doctor", cwd=tmp_path)
    lines = done.stdout.splitlines()
    said = {line.split()[0]: line for line in lines if line and not line.startswith(" ")}
    assert {"birdnet_fs", "machine", "disk", "accelerators", "audio", "runtimes", "extras", "problems"} <= set(said)
    assert done.returncode == (0 if said["problems"].split() == ["problems", "none"] else 1)
    assert "does not work" not in done.stdout and "ai-edge-litert" in done.stdout
    line = lines[lines.index("For a bug report:") + 1]
    assert line == lines[-1] and not re.search(r"(^|[\s=])/|\\|" + re.escape(Path.home().name + "/"), line)
    assert re.search(r"torch 2\.\d+", line) and re.search(r"numpy \d", line)
    assert list(tmp_path.iterdir()) == []


def test_every_extra_is_described() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(ADDS) == set(declared) - {"test", "all"}


def test_a_broken_a_missing_and_a_too_new_package_are_problems(pretend, capsys: pytest.CaptureFixture[str]) -> None:
    found = {
        "torch": Imported("torch", TORCH | {"cuda_build": "13.0", "failed": ["no kernel image is available"]}),
        "lightgbm": Imported("lightgbm", failed="OSError: libgomp.so.1: cannot open"),
    }
    installed = {
        "": [Package("keras", ">=3.15.1", ""), Package("torch", "<=2.13.0", "2.14.0")],
        "gbm": [Package("lightgbm", ">=4.7", "4.7.0")],
        "onnx": [Package("onnx", ">=1.17", "1.23"), Package("onnxruntime", ">=1.20", "")],
        "tune": [Package("optuna", ">=5.0", "")],
    }
    pretend(found, installed, free=1 << 29)
    with pytest.raises(typer.Exit) as ended:
        doctor()
    out = capsys.readouterr().out
    assert ended.value.exit_code == 1
    for sentence in (
        "keras>=3.15.1 is needed and not installed",
        'torch 2.14.0 is outside the tested versions; install it with: pip install "torch<=2.13.0"',
        "lightgbm is installed and does not work: OSError: libgomp.so.1: cannot open",
        "a GPU cannot be used by torch: no kernel image is available",
        "0.5 GiB of memory are available; 2.0 GiB or more are needed",
        "0.5 GiB are free on this disk",
        "4 cores, 32.0 GiB of memory in a container or job",
        "none found by torch (built for CUDA 13.0)",
        "incomplete, onnxruntime missing",
        'tune            not installed; search of settings: pip install "birdnet_fs[tune]"',
    ):
        assert sentence in out, sentence
    assert out.splitlines()[-1].endswith("broken: lightgbm")


def test_gpus_are_named_with_memory_and_capability(pretend, capsys: pytest.CaptureFixture[str]) -> None:
    gpu = {"name": "NVIDIA V100", "memory": 16 << 30, "capability": "7.0"}
    pretend({"torch": Imported("torch", TORCH | {"gpus": [gpu], "cuda_build": "12.6"})}, {"": []})
    doctor()
    out = capsys.readouterr().out
    assert "accelerators NVIDIA V100 (16.0 GiB, capability 7.0)" in out and "problems     none" in out
    assert " | NVIDIA V100 | " in out.splitlines()[-1]


def test_a_package_that_is_run_from_its_folder_is_said(monkeypatch: pytest.MonkeyPatch, pretend, capsys) -> None:
    pretend({"torch": Imported("torch", TORCH)}, {})

    def absent(extra: str = "") -> list[Package]:
        raise module.importlib.metadata.PackageNotFoundError

    monkeypatch.setattr(packages, "packages", absent)
    with pytest.raises(typer.Exit):
        doctor()
    assert "birdnet_fs runs from its folder and is not installed" in capsys.readouterr().out
