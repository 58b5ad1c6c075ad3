"""`birdnet-fs doctor`: a summary of the machine, the installed packages and their state, for a bug report."""

import importlib.metadata
import platform
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from birdnet_fs import __version__
from birdnet_fs.core.text import count, escaped

if TYPE_CHECKING:
    from birdnet_fs.core.installation.imports import Imported
    from birdnet_fs.core.installation.packages import Package
    from birdnet_fs.core.installation.resources import Memory

# extra -> what it adds, for all but "test" and "all"
ADDS = {
    "export": "TFLite files and their verification",
    "onnx": "ONNX, TorchScript and pt2 files and their verification",
    "openvino": "OpenVINO files, and ONNX files on its runtime",
    "onnx2tf": "a second converter to TFLite, in an environment of its own",
    "tune": "search of settings",
    "track": "trainings in MLflow and TensorBoard",
    "search": "Parquet tables of embedding stores",
    "motifs": "motif mining on chroma features",
    "hoplite": "databases of perch-hoplite",
    "gbm": "boosted trees on embeddings of motifs",
    "slurm": "jobs of `cluster` by submitit",
    "smote": "synthetic embeddings of rare classes",
    "wandb": "trainings in Weights & Biases",
}
RUNTIMES = {
    "ai-edge-litert": ("TFLite files", "export"),
    "onnxruntime": ("ONNX files", "onnx"),
    "openvino": ("OpenVINO and ONNX files", "openvino"),
    "tensorflow-cpu": ("writing of TFLite files, Keras on TensorFlow", "export"),
}
LOW_MEMORY = 2 << 30  # bytes; a training of a small network and one of the exports need about 1.5 GiB
LOW_DISK = 1 << 30  # bytes; the environment with all extras has 4 GB, a run 10-100 MB


def doctor() -> None:
    """Print the state of this machine and of the installed packages, and one line for a bug report.

    Every compiled package is imported in a process of its own and does one small piece of work, so that a broken one is
    named rather than ending the command. Nothing is changed. The exit status is 1 when something that is needed or was
    installed does not work, and 0 otherwise. The last line holds no paths and no names of files.
    """
    from birdnet_fs.core.installation import imports, packages, resources

    problems: list[str] = []
    try:
        needed = packages.packages()
        extras = {name: packages.packages(name) for name in packages.extras() if name in ADDS}
    except importlib.metadata.PackageNotFoundError:
        needed, extras = [], {}
        problems.append("birdnet_fs runs from its folder and is not installed; install it with: pip install -e .")
    installed = [name for name in imports.CODE if packages.version(name)]
    found = imports.try_imports(installed, n_workers=resources.n_cpus())
    memory, disk = resources.memory(), resources.free_disk(Path())
    problems += _package_problems(needed, extras) + _import_problems(found) + _low(memory, disk)

    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    print(f"birdnet_fs   {__version__}, Python {platform.python_version()}, {system}")
    where = "a container or job" if memory.is_limited else "this machine"
    print(
        f"machine      {count(resources.n_cpus(), 'core')}, {_gib(memory.total)} of memory in {where}, "
        f"{_gib(memory.available)} available"
    )
    temporary = Path(tempfile.gettempdir())
    print(f"disk         {_gib(disk)} free here, {_gib(resources.free_disk(temporary))} in {escaped(temporary)}")
    print(f"accelerators {_accelerators(found)}")
    audio = found.get("soundfile")
    if audio and audio.works:
        formats = [name.lower() for name in ("WAV", "FLAC", "OGG", "MP3") if name in audio.facts["formats"]]
        print(f"audio        libsndfile {audio.facts['libsndfile']} reads {', '.join(formats)}")
    for i, (name, (opens, extra)) in enumerate(RUNTIMES.items()):
        print(f"{'runtimes' if not i else '':12s} {_runtime(name, opens, extra, found.get(name))}")
    for i, (name, parts) in enumerate(extras.items()):
        print(f"{'extras' if not i else '':12s} {_extra(name, parts)}")
    clusters = [name for name in ("sbatch", "qsub") if shutil.which(name)]
    print(f"clusters     {', '.join(clusters) or 'neither sbatch nor qsub found'}")
    for i, problem in enumerate(problems or ["none"]):
        print(f"{'problems' if not i else '':12s} {escaped(problem)}")
    print("\nFor a bug report:")
    print(_line(system, memory, needed, extras, found, len(problems)))
    if problems:
        raise typer.Exit(1)


def _package_problems(needed: "list[Package]", extras: "dict[str, list[Package]]") -> list[str]:
    problems = [f"{one.name}{one.versions} is needed and not installed" for one in needed if not one.installed]
    seen = {one.name: one for parts in (needed, *extras.values()) for one in parts if one.installed}
    problems += [
        f"{one.name} {one.installed} is outside the tested versions; install it with: pip install "
        f'"{one.name}{one.versions}"'
        for one in seen.values()
        if not one.is_in_range
    ]
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        problems.append(f"Python {platform.python_version()} is outside the tested versions 3.11-3.13")
    return problems


def _import_problems(found: "dict[str, Imported]") -> list[str]:
    problems = [f"{one.name} is installed and does not work: {one.failed}" for one in found.values() if one.failed]
    facts = found["torch"].facts if "torch" in found else {}
    problems += [f"a GPU cannot be used by torch: {reason}" for reason in facts.get("failed", ())]
    return problems


def _low(memory: "Memory", disk: int) -> list[str]:
    problems = []
    if 0 < memory.available < LOW_MEMORY:
        problems.append(f"{_gib(memory.available)} of memory are available; {_gib(LOW_MEMORY)} or more are needed")
    if 0 < disk < LOW_DISK:
        problems.append(f"{_gib(disk)} are free on this disk; {_gib(LOW_DISK)} or more are needed")
    return problems


def _accelerators(found: "dict[str, Imported]") -> str:
    torch = found.get("torch")
    if torch is None or not torch.works:
        return "unknown, since torch does not work"
    gpus = [f"{gpu['name']} ({_gib(gpu['memory'])}, capability {gpu['capability']})" for gpu in torch.facts["gpus"]]
    if gpus:
        return ", ".join(gpus)
    built = torch.facts["cuda_build"]
    return "none found by torch" + (f" (built for CUDA {built})" if built else ", which is built for the CPU only")


def _runtime(name: str, opens: str, extra: str, result: "Imported | None") -> str:
    from birdnet_fs.core.installation.packages import version

    if result is None:
        return f'{name:15s} not installed; {opens}: pip install "birdnet_fs[{extra}]"'
    details = ", ".join(result.facts.get("providers", result.facts.get("devices", [])))
    state = f"{version(name)} works" if result.works else f"{version(name)} does not work"
    return f"{name:15s} {state}; {opens}" + (f" ({details})" if details else "")


def _extra(name: str, parts: "list[Package]") -> str:
    missing = [one.name for one in parts if not one.installed]
    if not missing:
        state = "installed" if parts else "not for this version of Python"
        return f"{name:15s} {state}; {ADDS[name]}"
    state = "not installed" if len(missing) == len(parts) else f"incomplete, {' and '.join(missing)} missing"
    return f'{name:15s} {state}; {ADDS[name]}: pip install "birdnet_fs[{name}]"'


def _line(
    system: str,
    memory: "Memory",
    needed: "list[Package]",
    extras: "dict[str, list[Package]]",
    found: "dict[str, Imported]",
    n_problems: int,
) -> str:
    from birdnet_fs.core.installation import resources

    every = {one.name: one.installed for parts in (needed, *extras.values()) for one in parts if one.installed}
    facts: dict[str, Any] = found["torch"].facts if "torch" in found else {}
    gpus = ", ".join(gpu["name"] for gpu in facts.get("gpus", ())) or "no GPU"
    broken = [one.name for one in found.values() if one.failed]
    return " | ".join(
        (
            f"birdnet_fs {__version__}",
            f"Python {platform.python_version()}",
            system,
            f"{count(resources.n_cpus(), 'core')}, {_gib(memory.total)}",
            gpus,
            " ".join(f"{name} {version}" for name, version in every.items()),
            f"broken: {', '.join(broken)}" if broken else count(n_problems, "problem"),
        )
    )


def _gib(n_bytes: int) -> str:
    return f"{n_bytes / (1 << 30):.1f} GiB" if n_bytes else "an unknown amount"
