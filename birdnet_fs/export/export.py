"""The whole way of an export: convert in a worker process, prove parity, write the sidecars, put all in place.

Everything is made in a temporary folder beside the output. Over budget, interrupted or failed, nothing is left.
"""

import importlib.util
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from birdnet_fs.export import embeddings as second
from birdnet_fs.export import parity, processes, runtime, sidecars
from birdnet_fs.export.probe import EDGES, Probe, make_probe
from birdnet_fs.export.worker import OUTPUTS
from birdnet_fs.plumbing.errors import UserError, nearest
from birdnet_fs.plumbing.files import write_json
from birdnet_fs.plumbing.progress import say
from birdnet_fs.plumbing.settings import to_dict
from birdnet_fs.training.run_folder import WEIGHTS, Run


@dataclass(frozen=True)
class Target:
    """What can be written for one kind of host."""

    suffix: str
    inputs: tuple[str, ...]
    precisions: tuple[str, ...]  # the most exact first


TARGETS = {"tflite": Target(".tflite", ("waveform", "features"), ("fp32", "fp16"))}


@dataclass(frozen=True)
class Artefact:
    """One exported file and what was measured on it."""

    path: Path
    n_bytes: int
    parity: parity.Parity


def export_run(
    run: Run,
    output: Path | str,
    *,
    target: str = "tflite",
    name: str = "",
    input: str = "waveform",
    precision: Sequence[str] = ("fp32",),
    embeddings: bool = False,
    audio: Path | None = None,
    n_segments: int = 200,
) -> list[Artefact]:
    """Export a run with its proof of parity.

    Args:
        run: What `load_run` gave.
        output: Folder for the artefacts; made when absent. Files of the same names are replaced, others stay.
        target: A key of `TARGETS`.
        name: What the files are called, `<name>.tflite`, and `<name>_fp16.tflite` in float16; the run folder's name
            when empty.
        input: "waveform" (the front-end is inside) or "features" (its constants lie beside).
        precision: One artefact each: "fp32", "fp16" (weights in float16, float32 in and out).
        embeddings: Give the embedding as well, as a second output, with what enrolment on a device needs beside it.
        audio: Folder of recordings for the parity test when those of the run are gone.
        n_segments: Real segments in the parity test.

    Returns:
        The artefacts in the order of `precision`.

    Raises:
        UserError: A wrong choice, tensorflow or the runtime missing, weights that are not finite, a network that
            cannot be converted, or an artefact over its budget. Nothing is written then.
    """
    output = Path(output)
    precision = tuple(dict.fromkeys(precision))
    name = name or run.path.resolve().name
    _check(target, input, precision, name, output)
    sidecars.label_lines(run.classes)
    _check_weights(run)
    outputs = tuple(OUTPUTS) if embeddings else ("predictions",)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".part-export-", dir=output.parent) as folder:
        work, ready = Path(folder) / "work", Path(folder) / "ready"
        work.mkdir()
        ready.mkdir()
        probe = make_probe(run, audio=audio, n_segments=n_segments)
        measured, reference = measure(run, probe, input, outputs, precision, work)
        broken = {p: m for p, m in measured.items() if m.faults}
        if broken:
            raise UserError(_refusal(run, probe, input, outputs, measured, work))
        enrolment = second.enrolment_of(run) if embeddings else None
        shape = (1, run.frontend.n_samples) if input == "waveform" else (1, *run.input_shape)
        for which, numbers in measured.items():
            artefact = ready / file_name(name, which, target)
            os.replace(work / f"{which}.tflite", artefact)
            golden = sidecars.Golden(probe.waveforms[: len(EDGES)], [rows[: len(EDGES)] for rows in reference])
            sidecars.write_sidecars(
                artefact, run, input=input, input_shape=shape, parity=numbers, golden=golden, enrolment=enrolment
            )
        names = {p: file_name(name, p, target) for p in precision}
        sidecars.write_parity(ready, {names[p]: m for p, m in measured.items()}, earlier=output)
        sizes = {p: (ready / names[p]).stat().st_size for p in precision}
        _publish(ready, output, Path(folder) / "replaced")
    return [Artefact(output / names[p], sizes[p], measured[p]) for p in precision]


def file_name(name: str, precision: str, target: str) -> str:
    """`<name>.tflite` for fp32, else `<name>_<precision>.tflite`."""
    return name + ("" if precision == "fp32" else f"_{precision}") + TARGETS[target].suffix


def job_of(run: Run, input: str, outputs: Sequence[str], precision: Sequence[str], folder: Path) -> dict[str, Any]:
    """What the worker is told."""
    return {
        "run": str(run.path.resolve()),
        "frontend": to_dict(run.frontend),
        "input": input,
        "outputs": list(outputs),
        "precisions": list(precision),
        "folder": str(folder.resolve()),
    }


def measure(
    run: Run, probe: Probe, input: str, outputs: Sequence[str], precision: Sequence[str], work: Path
) -> tuple[dict[str, parity.Parity], list[np.ndarray]]:
    """Convert into `work` (`<precision>.tflite`) and compare: (numbers by precision, the reference's outputs)."""
    inputs = work / "inputs.npy"
    features_file = inputs if input == "features" else None
    reference = parity.reference_answers(run, probe, [OUTPUTS[name] for name in outputs], features_file)
    if features_file is None:
        np.save(inputs, probe.waveforms)
    say(f"Converting {run.experiment.model.name} ({input} in, {', '.join(precision)}) ...")
    write_json(work / "job.json", job_of(run, input, outputs, precision, work))
    done = processes.run_module("birdnet_fs.export.worker", [work / "job.json"], backend="tensorflow")
    if done.returncode:
        raise UserError(
            f"The network {run.experiment.model.name!r} cannot be written as TFLite with builtin operators alone "
            f"(exit status {done.returncode}): {processes.last_words(done)}"
        )
    measured = {}
    for which in precision:
        artefact = runtime.run_tflite(work / f"{which}.tflite", inputs, work / "outputs.npz")
        measured[which] = parity.compare(
            reference[0],
            artefact[0],
            probe,
            which,
            run.activation,
            size=parity.size_of_logits(run, reference[0]),
            constant=int(run.experiment.model.unknown),
        )
        if len(outputs) > 1:
            second_output = second.compare(reference[1], artefact[1], which, len(EDGES))
            measured[which] = measured[which].with_embeddings(second_output)
        say(f"{which}: {measured[which]}")
    return measured, reference


def _refusal(
    run: Run, probe: Probe, input: str, outputs: Sequence[str], measured: dict[str, parity.Parity], work: Path
) -> str:
    """Say what is over budget, and which setting works; the ones not yet measured are tried, most exact first."""
    said = "; ".join(f"{p}: {', '.join(m.faults)}" for p, m in measured.items() if m.faults)
    known = {(input, p): not m.faults for p, m in measured.items()}
    for choice in [(input, "fp32"), ("features", "fp32")]:
        if choice not in known:
            try:
                known[choice] = not measure(run, probe, choice[0], outputs, choice[1:], work)[0][choice[1]].faults
            except UserError:
                known[choice] = False
        if known[choice]:
            way = f"Use --input {choice[0]} --precision {choice[1]}, which is within its budget."
            return f"Nothing was exported, parity failed ({said}). {way}"
    return f"Nothing was exported, parity failed ({said}). No other setting was within its budget."


def _check(target: str, input: str, precision: Sequence[str], name: str, output: Path) -> None:
    if target not in TARGETS:
        raise UserError(f"--target must be one of {', '.join(TARGETS)}.{nearest(target, TARGETS)} Received: {target!r}")
    row = TARGETS[target]
    for what, value, allowed in [("input", input, row.inputs), *(("precision", p, row.precisions) for p in precision)]:
        if value not in allowed:
            raise UserError(
                f"--{what} must be one of {', '.join(allowed)} for {target}.{nearest(value, allowed)} "
                f"Received: {value!r}"
            )
    if not precision:
        raise UserError(f"--precision must name one or more of {', '.join(row.precisions)}. Received: nothing")
    if not name.strip() or Path(name).name != name or name.startswith("."):
        raise UserError(f"--name must be a plain file name without folders. Received: {name!r}")
    if output.exists() and not output.is_dir():
        raise UserError(f"-o/--output must be a folder. Received the file {output}")
    for module in ("tensorflow", "ai_edge_litert"):
        if importlib.util.find_spec(module) is None:
            raise UserError(f'Exporting needs {module}; install it with: pip install "birdnet_fs[export]"')


def _check_weights(run: Run) -> None:
    """Refuse weights that are not finite before anything is started."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        weights = load_file(run.path / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{run.path / WEIGHTS} is not a readable safetensors file ({error}).") from None
    bad = [key for key, value in weights.items() if not np.isfinite(value).all()]
    if bad:
        raise UserError(
            f"The weights of {run.path} must be finite; {bad[0]!r} holds NaN or infinity ({len(bad)} of "
            f"{len(weights)} do). Train again or take an earlier run."
        )


def _publish(ready: Path, output: Path, replaced: Path) -> None:
    """Move the files of `ready` into `output`, networks last; on any error `output` is as it was before."""
    made_folder = not output.exists()
    output.mkdir(exist_ok=True)
    replaced.mkdir()
    suffixes = {row.suffix for row in TARGETS.values()}
    files = sorted(ready.iterdir(), key=lambda path: (path.suffix in suffixes, path.name))
    new = [file.name for file in files if not (output / file.name).exists()]
    try:
        for file in files:
            if file.name not in new:
                os.replace(output / file.name, replaced / file.name)
            os.replace(file, output / file.name)
    except BaseException:
        for name in new:
            (output / name).unlink(missing_ok=True)
        for old in replaced.iterdir():
            os.replace(old, output / old.name)
        if made_folder:
            shutil.rmtree(output, ignore_errors=True)
        raise
