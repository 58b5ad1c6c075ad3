"""Kaggle bundles and the notebook, which runs without Keras, torch and this package."""

import csv
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import preloaded
import pytest
from artifacts import CLASSES, write_artifact
from receiving import BLOCKER

from birdnet_fs.core.errors import UserError
from birdnet_fs.data.synthetic.aviary import make_aviary
from birdnet_fs.export.kaggle_bundle import READERS, make_bundle, source_folder

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "examples" / "kaggle_birdclef2025.ipynb"
TAXONOMY = {"gilpip": ("Sibilus aureus", "Gilded piper"), "mirpip": ("Sibilus inversus", "Mirror piper")}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    """A bundle of an exported file, with a stand-in for the wheels."""
    folder = tmp_path_factory.mktemp("bundle")
    (folder / "wheels").mkdir()
    (folder / "wheels" / "soxr-1.0-cp312-abi3-manylinux_2_28_x86_64.whl").write_bytes(b"x" * 1000)
    model = write_artifact(folder / "artifact")
    made = make_bundle(model, folder / "bundle", taxonomy=TAXONOMY, wheels=folder / "wheels")
    assert made.models == ("models/model.onnx",) and made.n_wheel_bytes == 1000 and made.n_bytes > 30_000
    return made.path


@pytest.fixture(scope="module")
def competition(tmp_path_factory) -> Path:
    """A competition whose recordings are soundscapes of the aviary, with a stub of a sample."""
    folder = tmp_path_factory.mktemp("competition")
    aviary = make_aviary(folder / "aviary", n_species=2, clips_per_species=5, n_soundscapes=2, soundscape_s=10.0)
    root = folder / "birdclef-2025"
    (root / "test_soundscapes").mkdir(parents=True)
    for path in (aviary / "audio").glob("aviary_soundscape_*"):
        shutil.copy(path, root / "test_soundscapes")
    (root / "sample_submission.csv").write_text("row_id,gilpip,mirpip\nsoundscape_8358733_5,0,0\n")
    return root


def cells() -> list[str]:
    """The code of the notebook, cell by cell."""
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_notebook_runs_from_top_to_bottom_without_frameworks(bundle: Path, competition: Path, tmp_path: Path) -> None:
    code = "\n".join(cells())
    places = {"BUNDLE": str(bundle), "DATA": str(competition), "OUTPUT": str(tmp_path / "submission.csv")}
    done = preloaded.run_python(["-c", f"{BLOCKER}\n{code}"], backend="", environment=places, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "installed: nothing" in done.stdout and "24 rows, 4 with scores" in done.stdout
    with open(tmp_path / "submission.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["row_id"] for row in rows][:2] == ["aviary_soundscape_00_5", "aviary_soundscape_00_10"]
    scores = np.array([[float(row["gilpip"]), float(row["mirpip"])] for row in rows])
    assert len(np.unique(scores, axis=0)) == 5  # of four windows, and their mean


def test_bundle_has_the_files_that_the_notebook_reads(bundle: Path) -> None:
    about = json.loads((bundle / "bundle.json").read_text())
    assert about["packages"]["onnxruntime"] == "onnxruntime" and about["recording_s"] == 60
    assert sorted(path.name for path in (bundle / "readers").iterdir()) == sorted(READERS)
    assert (bundle / NOTEBOOK.name).read_bytes() == NOTEBOOK.read_bytes()
    assert sorted(p.name for p in (bundle / "models").iterdir()) == ["model.json", "model.onnx", "model_Labels.txt"]
    assert "gilpip,Sibilus aureus,Gilded piper" in (bundle / "taxonomy.csv").read_text()


def test_without_a_registry_pip_is_answered_with_one_sentence(bundle: Path, tmp_path: Path, monkeypatch) -> None:
    for name, value in (
        ("PIP_CONFIG_FILE", "/dev/null"), ("PIP_INDEX_URL", "http://127.0.0.1:9/simple"), ("PIP_RETRIES", "0"),
        ("PIP_FIND_LINKS", ""), ("PIP_EXTRA_INDEX_URL", ""),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError) as refused:
        make_bundle(bundle / "models" / "model.onnx", tmp_path / "out")
    assert "pip could not download the wheels (" in str(refused.value) and "--wheels" in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_other_folders_are_not_replaced(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="holds other files"):
        make_bundle(bundle / "models" / "model.onnx", tmp_path)
    with pytest.raises(UserError, match=r"needs export/kaggle_submission\.py of the source"):
        source_folder(tmp_path)


def without_network() -> list[str]:
    """Beginning of a command that runs in a network namespace of its own, without any connection."""
    for options in (["-n"], ["-r", "-n"]):  # the second as an ordinary user
        command = ["unshare", *options]
        if shutil.which("unshare") and not subprocess.run([*command, "true"], capture_output=True).returncode:
            return command
    pytest.skip("the network cannot be cut off here (unshare -n)")


OFFLINE = """
import socket
try:
    socket.create_connection(("192.0.2.1", 80), timeout=5)
    raise SystemExit("there is a network")
except OSError as error:
    assert error.errno == 101, error  # the network is unreachable
"""


@pytest.mark.slow
def test_bundle_of_a_run_works_in_a_bare_environment_without_network(
    competition: Path, tmp_path: Path, monkeypatch
) -> None:
    """Wheels from the registry, a Python in which nothing else is installed, and no network."""
    from run_to_export import SPEC, make_run

    from birdnet_fs import schema
    from birdnet_fs.export import kaggle_bundle

    offline = without_network()
    monkeypatch.setattr(kaggle_bundle, "PYTHON", f"{sys.version_info.major}.{sys.version_info.minor}")
    data = schema.Data(root="gone", multi_label=True)
    experiment = schema.Experiment(name="small", frontend=SPEC, model=schema.Model("cnn/tiny"), data=data)
    run = make_run(tmp_path / "run", experiment, CLASSES)
    audio = competition / "test_soundscapes"
    made = make_bundle(run.path, tmp_path / "bundle", taxonomy=TAXONOMY, audio=audio, n_segments=8)
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "bare")], check=True)
    places = {"BUNDLE": str(made.path), "DATA": str(competition), "OUTPUT": str(tmp_path / "submission.csv")}
    environment = {"PATH": "/usr/bin:/bin", "PIP_CONFIG_FILE": "/dev/null", **places}
    code = (
        "\n".join([OFFLINE, *cells()])
        + "\nassert not {'keras', 'torch', 'tensorflow', 'birdnet_fs'} & set(sys.modules)"
    )
    command = [*offline, str(tmp_path / "bare/bin/python"), "-c", code]
    start = time.monotonic()
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    print(f"the notebook took {time.monotonic() - start:.1f} s, installing the wheels included")
    assert done.returncode == 0, done.stderr
    assert "'ai-edge-litert'" in done.stdout and "24 rows, 4 with scores" in done.stdout
    listed = [str(tmp_path / "bare/bin/python"), "-m", "pip", "list", "--format", "freeze"]
    packages = subprocess.run(listed, env=environment, capture_output=True, text=True).stdout.lower()
    assert {"numpy", "soundfile", "soxr"} <= {line.partition("==")[0] for line in packages.splitlines()}
