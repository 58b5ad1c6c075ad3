"""A folder from which a Kaggle notebook writes a submission offline: models, readers, wheels and the notebook.

Code competitions run notebooks without internet, so that packages that the image lacks have to be uploaded as wheels.
Nothing in the bundle needs Keras, torch or this package: the readers of the root folder export/ need NumPy, soundfile,
soxr and one runtime.

The image has Python 3.12 and NumPy 2.0.2 (November 2026); its glibc is that of Ubuntu 22.04, 2.35.
"""

import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from birdnet_fs.analysis.competition.class_names import Names
from birdnet_fs.core.csv_files import csv_writer
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import write_json, write_text
from birdnet_fs.core.folders import atomic_folder
from birdnet_fs.core.lock import locked
from birdnet_fs.core.progress import say
from birdnet_fs.core.text import escaped
from birdnet_fs.export.export import export_run
from birdnet_fs.runs.ensemble import is_ensemble, load_ensemble
from birdnet_fs.runs.run import CALIBRATION, load_run

PYTHON = "3.12"
PLATFORMS = (*(f"manylinux_2_{minor}_x86_64" for minor in range(35, 16, -1)), "manylinux2014_x86_64")
NUMPY = "numpy==2.0.2"  # that of the image, so that it is not replaced there
RUNTIMES: Mapping[str, tuple[str, str, str]] = {  # name -> target of the export, module, package
    "litert": ("tflite", "ai_edge_litert", "ai-edge-litert"),
    "onnxruntime": ("onnx", "onnxruntime", "onnxruntime"),
}
READERS = ("kaggle_submission.py", "kaggle_rows.py", "reading.py", "run_tflite.py", "run_onnx.py")
NOTEBOOK = "kaggle_birdclef2025.ipynb"
BUNDLE = "bundle.json"


@dataclass(frozen=True)
class Bundle:
    """Contents and sizes of a written bundle.

    Attributes:
        path: The folder.
        models: Names of the networks in it.
        n_bytes: Size of all files.
        n_wheel_bytes: Size of the wheels.
    """

    path: Path
    models: tuple[str, ...]
    n_bytes: int
    n_wheel_bytes: int


def source_folder(given: Path | None = None) -> Path:
    """The folder of the source of this package, with the readers and the notebook.

    Args:
        given: The folder. Default: the one that holds this package.

    Returns:
        The folder.

    Raises:
        UserError: The readers or the notebook are not there.
    """
    folder = given or Path(__file__).parents[2]
    needed = [*(Path("export", name) for name in READERS), Path("examples", NOTEBOOK)]
    lacking = next((path for path in needed if not (folder / path).is_file()), None)
    if lacking:
        raise UserError(
            f"The bundle needs {lacking} of the source of birdnet_fs, which is not in {escaped(folder)}; give the "
            "folder of the source with --source."
        )
    return folder


@locked("output")
def make_bundle(
    model: Path,
    output: Path,
    *,
    recording_s: int = 60,
    taxonomy: Mapping[str, Names] | None = None,
    runtime: str = "litert",
    precision: str = "fp32",
    wheels: Path | None = None,
    source: Path | None = None,
    audio: Path | None = None,
    n_segments: int = 1000,
) -> Bundle:
    """Write a bundle, whole or not at all; UserErrors of the export are passed on.

    Args:
        model: Run folder, ensemble that combines by the mean, or exported file.
        output: Folder to write: new, empty, or an earlier bundle, which is replaced.
        recording_s: Length of the recordings of the competition in seconds. Default: 60.
        taxonomy: (scientific name, common name) by label of the competition. Default: none; the notebook reads
            taxonomy.csv of the competition.
        runtime: A key of RUNTIMES; not used for an exported file. Default: "litert".
        precision: Precision of the export. Default: "fp32".
        wheels: Folder of wheels to copy instead of downloading them. Default: they are downloaded.
        source: Folder of the source of this package. Default: the one that holds this package.
        audio: Recordings for the parity test of the export. Default: those of the run.
        n_segments: Segments of the parity test. Default: 1000.

    Returns:
        What was written.

    Raises:
        UserError: The output holds something else, the ensemble combines otherwise, or pip cannot download the wheels.
    """
    if output.is_dir() and any(output.iterdir()) and not (output / BUNDLE).is_file():
        raise UserError(f"{escaped(output)} holds other files; give a new folder with -o.")
    folder = source_folder(source)
    if model.is_file():
        runtime = "onnxruntime" if model.suffix.lower() == ".onnx" else "litert"
    target, module, package = RUNTIMES[runtime]
    with atomic_folder(output) as part:
        (part / "wheels").mkdir()
        if wheels:
            for path in sorted(wheels.glob("*.whl")):
                shutil.copyfile(path, part / "wheels" / path.name)
        else:
            _download((NUMPY, "soundfile", "soxr", package), part / "wheels")
        models = _models(model, part / "models", target, precision, audio, n_segments)
        (part / "readers").mkdir()
        for name in READERS:
            shutil.copyfile(folder / "export" / name, part / "readers" / name)
        shutil.copyfile(folder / "examples" / NOTEBOOK, part / NOTEBOOK)
        if taxonomy:
            with open(part / "taxonomy.csv", "w", encoding="utf-8", newline="") as file:
                writer = csv_writer(file)
                writer.writerow(["primary_label", "scientific_name", "common_name"])
                writer.writerows([label, *names] for label, names in taxonomy.items())
        packages = {"numpy": "numpy", "soundfile": "soundfile", "soxr": "soxr", module: package}
        about = {"format": 1, "models": models, "recording_s": recording_s, "packages": packages, "python": PYTHON}
        write_json(part / BUNDLE, about)
        write_text(part / "README.md", _README)
        sizes = {path: path.stat().st_size for path in part.rglob("*") if path.is_file()}
    n_wheels = sum(size for path, size in sizes.items() if path.suffix == ".whl")
    return Bundle(output, tuple(models), sum(sizes.values()), n_wheels)


def _models(model: Path, folder: Path, target: str, precision: str, audio: Path | None, n_segments: int) -> list[str]:
    """Put the networks into the bundle; returns their paths in it."""
    if model.is_file():
        folder.mkdir()
        for path in sorted(model.parent.iterdir()):
            if path.is_file() and path.name.startswith((f"{model.stem}_", f"{model.stem}.")):
                shutil.copyfile(path, folder / path.name)
        return [f"models/{model.name}"]
    if is_ensemble(model):
        ensemble = load_ensemble(model)
        if ensemble.how != "mean":
            raise UserError(
                f"The notebook averages probabilities, and {escaped(model)} combines them by {ensemble.how}; make an "
                "ensemble with --combine mean."
            )
        if (Path(model) / CALIBRATION).is_file():
            raise UserError(
                f"The notebook averages the scores of the members, and the calibration of {escaped(model)} is that of "
                "their mean, which it cannot apply; give the ensemble that was calibrated."
            )
        runs = ensemble.members
    else:
        runs = (load_run(model),)
    found = []
    for number, run in enumerate(runs):
        say(f"kaggle-bundle: exporting network {number + 1} of {len(runs)}")
        written = export_run(
            run,
            folder / str(number),
            target=target,
            name="model",
            precision=[precision],
            audio=audio,
            n_segments=n_segments,
        )
        found.append(f"models/{number}/{written[0].path.name}")
    return found


def _download(packages: Sequence[str], folder: Path) -> None:
    """Download wheels for the image, with everything they need."""
    platforms = [text for name in PLATFORMS for text in ("--platform", name)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(folder), "--only-binary", ":all:"]
    command += ["--python-version", PYTHON, "--implementation", "cp", *platforms, *packages]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        reason = errors[-1].removeprefix("ERROR: ").rstrip(".") if errors else "pip is not installed"
        raise UserError(
            f"pip could not download the wheels ({escaped(reason)}); give the command where a package registry can be "
            "reached, or a folder of wheels with --wheels."
        )


_README = f"""# A bundle of birdnet-fs for Kaggle

Upload this folder as a data set named birdnet-fs-bundle, open {NOTEBOOK} as a notebook of the competition, attach both
data sets, turn the internet off and submit. `models/` has the networks with their labels, `readers/` the scripts that
run them (NumPy, soundfile, soxr and one runtime), `wheels/` the packages for Python {PYTHON} that the image may lack.

    python readers/kaggle_submission.py models/MODEL DATA -o submission.csv --time_budget 85min
"""
