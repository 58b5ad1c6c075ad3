"""Add classes to an exported network on the device, from a few clips each; only NumPy and one runtime are needed.

    python enroll_tflite.py enroll MODEL.tflite CLIPS -o MINE.npz [--background NOISE]
    python enroll_tflite.py score MODEL.tflite MINE.npz AUDIO.wav ... [--top 5] [--json]

CLIPS holds one folder per class. MODEL.tflite must have embeddings (`birdnet-fs export RUN --embeddings`) and its file
"_enrolment.npz" in the same folder. MINE.npz has a few kilobytes and works with every export of that network; its
classes give the same logits as those that `birdnet-fs enroll` makes from the same clips. Needs run_tflite.py,
reading.py and prototypes.py in the same folder.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from prototypes import UNKNOWN, EmbeddingDistance, Prototypes, Support, fit_prototypes, open_prototypes, save_prototypes
from reading import (
    Artifact,
    InputError,
    Recording,
    as_json,
    as_text,
    companion_file,
    cut_segments,
    cut_windows,
    guarded,
    outputs_of,
    pad_to,
    printable,
    read_arrays,
    read_audio,
    sha256,
)
from run_tflite import load

SOUNDS = (".wav", ".flac", ".ogg", ".mp3", ".aif", ".aiff", ".w64", ".rf64", ".caf", ".au")
NO_CLASS = ("noise", "nocall", "no_call", "no call", "no-call", "background", "nothing", "empty")
SILENT_RMS = 1e-5  # -100 dB of full scale, below the noise of 16 bits


def enroll(given: argparse.Namespace) -> int:
    """The command `enroll`: compute prototypes from clips and write them.

    Args:
        given: Arguments of the command line.

    Returns:
        The exit status.

    Raises:
        InputError: An argument or a clip cannot be used.
    """
    if given.output.suffix != ".npz":
        raise InputError(f"-o/--output must be a file that ends in .npz. Received: {given.output}")
    if given.output.exists() and not given.overwrite:
        raise InputError(f"{given.output} exists; give another file with -o, or --overwrite to replace it.")
    if not given.output.parent.is_dir():
        raise InputError(f"-o/--output must be in an existing folder. Received: {given.output}")
    if given.clips is None and not given.remove:
        raise InputError("Nothing to do: give a folder of clips to enroll, or --remove CLASS.")
    if given.n_clips is not None and given.n_clips < 1:
        raise InputError(f"--n_clips must be 1 or more. Received: {given.n_clips}")
    network = open_network(given.model)
    known = exported_support(network) if given.known is None else network.prototypes(given.known).support
    for name in given.remove:
        if name not in known.labels:
            present = ", ".join(sorted(set(known.labels))) or "none"
            raise InputError(f"--remove must name an enrolled class ({present}). Received: {name!r}")
    known = known.without(given.remove)
    if given.clips is not None:
        known = known.plus(embed_clips(network, given.clips, known, given.extend, given.n_clips))
    n_classes = len(set(known.labels))
    if n_classes < 1 or n_classes + given.unknown < 2:
        raise InputError(f"Two or more classes are needed. Received: {', '.join(known.labels) or 'none'}")
    noises = np.empty((0, network.width), np.float32)
    if given.background is not None:
        noises = embed_background(network, given.background)
    new = fit_prototypes(known, noises, network.comparison, network.encoder, unknown=given.unknown)
    save_prototypes(given.output, new)
    print(f"{len(new.names)} classes: {printable(', '.join(new.names))}")
    return 0


def score(given: argparse.Namespace) -> int:
    """The command `score`: print scores of recordings; one that cannot be read is reported and skipped.

    Args:
        given: Arguments of the command line.

    Returns:
        The exit status: 0, 1 if some recordings were skipped, 2 if all were.
    """
    network = open_network(given.model)
    known = network.prototypes(given.prototypes)
    names = list(known.names)
    n_refused = 0
    for path in given.audio:
        try:
            recording = read_recording(network, path)
        except (InputError, OSError) as refused:
            warn(str(refused))
            n_refused += 1
            continue
        parts = list(cut_segments(network.artifact, recording))
        logits = known.logits(np.stack([network.embedding(part) for _, _, part in parts]), network.comparison)
        rows = [(start, end, logits[i]) for i, (start, end, _) in enumerate(parts)]
        if given.json:
            print(json.dumps({"file": str(path), **as_json(names, rows)}))
            continue
        if len(given.audio) > 1:
            print(path)
        for line in as_text(names, rows, "softmax", given.top):
            print(line)
    return 2 if n_refused == len(given.audio) else int(n_refused > 0)


class Network:
    """An exported network with embeddings, and how they are compared.

    Args:
        artifact: The network.
        comparison: Distance by which embeddings are compared.
        constants: Arrays of its file "_enrolment.npz".
    """

    def __init__(self, artifact: Artifact, comparison: EmbeddingDistance, constants: dict[str, np.ndarray]) -> None:
        second = artifact.sidecar["embeddings"]
        self.artifact, self.comparison, self.constants = artifact, comparison, constants
        self.rate, self.width = artifact.sidecar["sample_rate_hz"], second["width"]
        self.n_samples = round(artifact.sidecar["segment_s"] * self.rate)
        self.encoder, self._output = second["enrolment"]["encoder"], second["output"]

    def embedding(self, window: np.ndarray) -> np.ndarray:
        """The embedding [width] of one window [n_samples]."""
        return outputs_of(self.artifact, window)[self._output]

    def prototypes(self, path: Path) -> Prototypes:
        """Read a file of prototypes, which must belong to this network."""
        return open_prototypes(path, self.encoder, self.width)


def open_network(model: Path) -> Network:
    """Open MODEL.tflite with its sidecars.

    Args:
        model: The file.

    Returns:
        The network.

    Raises:
        InputError: The network has no embeddings, or a file is missing, damaged or not supported.
    """
    artifact = load(model)
    second = artifact.sidecar.get("embeddings")
    if not second:
        raise InputError(f"{model} has no embeddings; export the run again: birdnet-fs export RUN --embeddings")
    described = second["enrolment"]
    if not described:
        raise InputError(f"{model} comes from a network whose head reads frames; no classes can be enrolled into it.")
    file = companion_file(model.with_suffix(""), "_enrolment.npz")
    if not file.is_file():
        raise InputError(f"{file} is missing; copy the network together with the files named after it.")
    if sha256(file) != described["sha256"]:
        raise InputError(f"{file} is not the file its sidecar describes (SHA-256 differs); copy both again.")
    constants = read_arrays(file)
    if described["distance"] not in ("euclidean", "cosine", "learnt"):
        raise InputError(
            f"{model} compares by {described['distance']!r}, which this script does not support; use a newer one."
        )
    n_layers = sum(name.startswith("kernel_") for name in constants)
    dense = [(constants[f"kernel_{i}"], constants[f"bias_{i}"]) for i in range(1, n_layers + 1)]
    center = constants.get("centre")
    if described["distance"] == "learnt":  # has no center
        center = np.zeros(second["width"], np.float32)
    check_arrays(file, described["distance"], second["width"], constants, center, dense)
    return Network(artifact, EmbeddingDistance(described["distance"], center, dense), constants)


def check_arrays(
    file: Path,
    distance: str,
    width: int,
    constants: dict[str, np.ndarray],
    center: np.ndarray | None,
    dense: list[tuple[np.ndarray, np.ndarray]],
) -> None:
    """Check the shapes of the arrays that enrollment needs: center [width], kernels [n_in, n_out] and biases [n_out].

    Args:
        file: The file, for the message.
        distance: Distance by which embeddings are compared.
        width: Width of the embeddings.
        constants: Arrays of the file by name.
        center: Center of the embeddings.
        dense: Kernel and bias of each layer of a learned distance.

    Raises:
        InputError: An array is missing, not numbers, or of another shape.
    """
    fits = center is None or center.shape == (width,)
    sizes = [2 * width, *(kernel.shape[-1] if kernel.ndim else 0 for kernel, _ in dense)]
    for i, (kernel, bias) in enumerate(dense):
        fits = fits and kernel.shape == (sizes[i], sizes[i + 1]) and bias.shape == (sizes[i + 1],)
    fits = fits and (distance != "learnt" or (len(dense) > 0 and sizes[-1] == 1))
    if "labels" in constants:
        labels, rows = constants["labels"], constants.get("embeddings", np.empty(0))
        fits = fits and labels.ndim == 1 and labels.dtype.kind == "U" and rows.shape == (len(labels), width)
    numbers = [value for name, value in constants.items() if name != "labels"]
    if not fits or not all(value.dtype.kind in "fiu" and np.isfinite(value).all() for value in numbers):
        raise InputError(f"{file} does not hold what enrollment into this network needs; copy it again.")


def exported_support(network: Network) -> Support:
    """The clips that the run was enrolled with before its export; empty for a run that was not enrolled."""
    if "labels" not in network.constants:
        return Support([], [], np.empty((0, network.width), np.float32))
    labels = network.constants["labels"].tolist()
    return Support(labels, [""] * len(labels), network.constants["embeddings"])


def embed_clips(network: Network, folder: Path, known: Support, extend: bool, n_clips: int | None) -> Support:
    """Embeddings of the clips in a folder with one subfolder per class; unusable files are reported and skipped.

    Args:
        network: The network.
        folder: The folder.
        known: Clips enrolled before; none of them is counted twice.
        extend: Allow clips of classes in `known`.
        n_clips: Number of clips per class. None: all.

    Returns:
        The new clips.

    Raises:
        InputError: The folder is missing or empty, a class exists already, or a class has too few usable clips.
    """
    if not folder.is_dir():
        raise InputError(f"CLIPS must be a folder with a folder of clips for each class. Received: {folder}")
    by_class: dict[str, list[Path]] = {}
    for path in audio_files(folder):
        inner = path.relative_to(folder).parts
        if len(inner) == 1:
            warn(f"{path} is in no class folder and was skipped.")
        else:
            by_class.setdefault(class_label(inner[0], folder), []).append(path)
    if not by_class:
        raise InputError(f"CLIPS must be a folder with a folder of clips for each class; {folder} holds none.")
    both = sorted(set(by_class) & set(known.labels))
    if both and not extend:
        raise InputError(
            f"{both[0]!r} is a class already ({len(both)} in all); add clips to it with --extend, or remove it first "
            "with --remove."
        )
    held = {os.path.realpath(known.files[i]): known.labels[i] for i in range(len(known.files)) if known.files[i]}
    labels, files, rows = [], [], []
    for label, paths in sorted(by_class.items()):
        n_used = n_held = 0
        for path in paths:
            if n_used == n_clips:
                break
            earlier = held.get(os.path.realpath(path), label)
            if earlier != label:
                raise InputError(
                    f"{path} was enrolled as {earlier!r} already, and a clip has one label; remove it from one class."
                )
            if os.path.realpath(path) in held:
                warn(f"{path} was enrolled already and is not counted twice.")
                n_held += 1
                continue
            embedding = embed_clip(network, path)
            if embedding is not None:
                labels.append(label)
                files.append(os.path.abspath(path))
                rows.append(embedding)
                n_used += 1
        if n_clips is not None and n_used < n_clips:
            raise InputError(f"{n_clips} clips of {label!r} are required (--n_clips); {n_used} new ones can be used.")
        if not n_used and not n_held:
            raise InputError(f"No clip of {label!r} can be used: all are broken or silent. Give other recordings.")
    return Support(labels, files, np.stack(rows) if rows else np.empty((0, network.width), np.float32))


def class_label(name: str, folder: Path) -> str:
    """The class that a folder's name stands for: the whole name, as `birdnet-fs enroll` reads it.

    Args:
        name: Name of the folder.
        folder: Folder that holds it, for the error message.

    Returns:
        The class.

    Raises:
        InputError: The name is empty, starts with "-" (but for a number), stands for no class, such as "noise", or
            contains a line break or another control character.
    """
    label = name.strip()
    absent = label.startswith("-") and not label[1:].strip().isdecimal()
    if not label or absent or label.lower() in (*NO_CLASS, UNKNOWN) or ";" in label or any(map(_is_control, label)):
        shown = printable(str(folder / name))
        raise InputError(f"{shown} is not the name of a class; rename it, or give it as --background.")
    return label


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")


def embed_clip(network: Network, path: Path) -> np.ndarray | None:
    """The mean embedding [width] of the windows of a clip; None, with a warning, where the clip cannot be used."""
    try:
        waveform = read_recording(network, path).waveform
        if float(np.sqrt(np.mean(np.square(waveform)))) < SILENT_RMS:
            warn(f"{path} is silent and was skipped.")
            return None
    except (InputError, OSError) as refused:
        warn(f"{refused} It was skipped.")
        return None
    parts = [network.embedding(window) for window in clip_windows(network, waveform)]
    return np.mean(parts, axis=0, dtype=np.float32)


def read_recording(network: Network, path: Path) -> Recording:
    """Read a recording at the sample rate of the network.

    Args:
        network: The network.
        path: The recording.

    Returns:
        The recording.

    Raises:
        InputError: The recording cannot be read, or holds NaN or infinite samples.
    """
    recording = read_audio(path, network.rate)
    if not np.isfinite(recording.waveform).all():
        raise InputError(f"{path} holds NaN or infinite samples, for which no score is defined.")
    return recording


def embed_background(network: Network, folder: Path) -> np.ndarray:
    """Embeddings of every window of the recordings in a folder.

    Args:
        network: The network.
        folder: Folder of recordings with none of the classes.

    Returns:
        float32 [n_windows, width].

    Raises:
        InputError: No recording in the folder can be read.
    """
    found = []
    for path in audio_files(folder) if folder.is_dir() else ():
        try:
            waveform = read_recording(network, path).waveform
        except (InputError, OSError) as refused:
            warn(f"{refused} It was skipped.")
            continue
        found += [network.embedding(window) for window in clip_windows(network, waveform)]
    if not found:
        raise InputError(f"--background must be a folder with readable recordings. Received: {folder}")
    return np.stack(found)


def clip_windows(network: Network, waveform: np.ndarray) -> Iterator[np.ndarray]:
    """Windows [n_samples] of a clip, half a window apart, as in `birdnet-fs enroll`."""
    for start, n_real in cut_windows(len(waveform), network.n_samples, max(1, network.n_samples // 2), network.rate):
        yield pad_to(waveform[start : start + n_real], network.n_samples)


def audio_files(folder: Path) -> list[Path]:
    """Audio files below a folder, sorted, without hidden ones."""
    found = []
    for top, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [os.path.join(top, n) for n in names if n.lower().endswith(SOUNDS) and not n.startswith(".")]
    return [Path(name) for name in sorted(found)]


def warn(text: str) -> None:
    """Print a message to standard error."""
    print(f"enroll_tflite.py: {printable(text)}", file=sys.stderr)


def main() -> int:
    """Run the command line and return the exit status."""
    parser = argparse.ArgumentParser(description="Add classes to an exported TFLite network, and score with them.")
    commands = parser.add_subparsers(required=True, metavar="enroll|score")
    enroll_parser = commands.add_parser("enroll", help="add classes from a few clips each")
    enroll_parser.set_defaults(run=enroll)
    enroll_parser.add_argument(
        "model", type=Path, help="MODEL.tflite with embeddings, with the files named after it in its folder"
    )
    enroll_parser.add_argument("clips", type=Path, nargs="?", help="a folder of clips for each class in this folder")
    enroll_parser.add_argument("-o", "--output", type=Path, required=True, help="the .npz to write")
    enroll_parser.add_argument("--known", type=Path, help=".npz written before; its classes are kept")
    enroll_parser.add_argument("--extend", action="store_true", help="allow clips of classes that are enrolled already")
    enroll_parser.add_argument(
        "--remove", action="append", default=[], metavar="CLASS", help="remove a class; may be repeated"
    )
    enroll_parser.add_argument("--n_clips", type=int, help="use the first N clips of each class; fewer are an error")
    enroll_parser.add_argument(
        "--background", type=Path, help="recordings with none of the classes, to calibrate 'unknown' on"
    )
    enroll_parser.add_argument(
        "--no-unknown", dest="unknown", action="store_false", help="do not add the class 'unknown'"
    )
    enroll_parser.add_argument("--overwrite", action="store_true", help="replace OUTPUT")
    score_parser = commands.add_parser("score", help="print scores of recordings")
    score_parser.set_defaults(run=score)
    score_parser.add_argument("model", type=Path, help="MODEL.tflite with embeddings")
    score_parser.add_argument("prototypes", type=Path, help="file written by `enroll`")
    score_parser.add_argument("audio", type=Path, nargs="+", help="recordings: WAV, or any format of soundfile")
    score_parser.add_argument("--top", type=int, default=5, help="classes shown per segment")
    score_parser.add_argument("--json", action="store_true", help="all logits, as one line of JSON for each recording")
    given = parser.parse_args()
    return guarded("enroll_tflite.py", lambda: int(given.run(given)))


if __name__ == "__main__":
    sys.exit(main())
