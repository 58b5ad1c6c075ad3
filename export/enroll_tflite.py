"""New classes for an exported network on the device itself, from a few clips each: NumPy and one runtime, nothing else.

    python enroll_tflite.py enroll MODEL.tflite CLIPS -o MINE.npz [--background NOISE]
    python enroll_tflite.py score MODEL.tflite MINE.npz AUDIO.wav ... [--top 5] [--json]

CLIPS holds a folder for each class. MODEL.tflite must give embeddings (`birdnet-fs export RUN --embeddings`), with
MODEL_enrolment.npz beside it; MINE.npz is a few kilobytes and goes with every export of that network. The classes
answer as those that `birdnet-fs enroll` makes of the same clips. Needs run_tflite.py, reading.py and prototypes.py
beside it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from prototypes import UNKNOWN, Prototypes, Support, Way, learn, open_prototypes, save
from reading import (
    Artifact,
    Recording,
    Refused,
    answers_of,
    as_json,
    as_text,
    beside,
    padded,
    read_audio,
    segments,
    windows,
)
from run_tflite import load

SOUNDS = (".wav", ".flac", ".ogg", ".mp3", ".aif", ".aiff", ".w64", ".rf64", ".caf", ".au")
NO_CLASS = ("noise", "nocall", "no_call", "no call", "no-call", "background", "nothing", "empty")
SILENT_RMS = 1e-5  # -100 dB of full scale: below the noise of 16 bits


def enroll(given: argparse.Namespace) -> int:
    """Learn classes from clips and write them."""
    if given.output.suffix != ".npz":
        raise Refused(f"-o/--output must be a file that ends in .npz. Received: {given.output}")
    if given.output.exists() and not given.overwrite:
        raise Refused(f"{given.output} exists already; give another file with -o, or --overwrite to replace it.")
    if not given.output.parent.is_dir():
        raise Refused(f"-o/--output must lie in a folder that exists. Received: {given.output}")
    if given.clips is None and not given.remove:
        raise Refused("Nothing to do: give a folder of clips to learn from, or --remove CLASS.")
    if given.n_clips is not None and given.n_clips < 1:
        raise Refused(f"--n_clips must be 1 or more. Received: {given.n_clips}")
    network = open_network(given.model)
    known = support_of(network) if given.known is None else network.prototypes(given.known).support
    for name in given.remove:
        if name not in known.labels:
            there = ", ".join(sorted(set(known.labels))) or "none"
            raise Refused(f"--remove must name a class that is known already ({there}). Received: {name!r}")
    known = known.without(given.remove)
    if given.clips is not None:
        known = known.plus(embed_clips(network, given.clips, known, given.extend, given.n_clips))
    n_classes = len(set(known.labels))
    if n_classes < 1 or n_classes + given.unknown < 2:
        raise Refused(f"Two or more classes are needed to tell apart. Received: {', '.join(known.labels) or 'none'}")
    noises = np.empty((0, network.width), np.float32)
    if given.background is not None:
        noises = background(network, given.background)
    new = learn(known, noises, network.way, network.encoder, unknown=given.unknown)
    save(given.output, new)
    print(f"{len(new.names)} classes: {', '.join(new.names)}")
    return 0


def score(given: argparse.Namespace) -> int:
    """Say what is heard in recordings; one that cannot be read is said and the others go on."""
    network = open_network(given.model)
    known = network.prototypes(given.prototypes)
    labels = [name if "_" in name else f"{name}_{name}" for name in known.names]
    n_refused = 0
    for path in given.audio:
        try:
            recording = recording_of(network, path)
        except (Refused, OSError) as refused:
            say(str(refused))
            n_refused += 1
            continue
        parts = list(segments(network.artifact, recording))
        logits = known.logits(np.stack([network.embedding(part) for _, _, part in parts]), network.way)
        rows = [(start, end, logits[i]) for i, (start, end, _) in enumerate(parts)]
        if given.json:
            print(json.dumps({"file": str(path), **as_json(labels, rows)}))
            continue
        if len(given.audio) > 1:
            print(path)
        for line in as_text(labels, rows, "softmax", given.top):
            print(line)
    return 2 if n_refused == len(given.audio) else int(n_refused > 0)


class Network:
    """An exported network that gives embeddings, and how it compares them."""

    def __init__(self, artifact: Artifact, way: Way, constants: dict[str, np.ndarray]) -> None:
        second = artifact.sidecar["embeddings"]
        self.artifact, self.way, self.constants = artifact, way, constants
        self.rate, self.width = artifact.sidecar["sample_rate_hz"], second["width"]
        self.n_samples = round(artifact.sidecar["segment_s"] * self.rate)
        self.encoder, self._output = second["enrolment"]["encoder"], second["output"]

    def embedding(self, window: np.ndarray) -> np.ndarray:
        """The embedding [width] of one window [n_samples]."""
        return answers_of(self.artifact, window)[self._output]

    def prototypes(self, path: Path) -> Prototypes:
        """The classes of a file, which must be this network's."""
        return open_prototypes(path, self.encoder, self.width)


def open_network(model: Path) -> Network:
    """Open MODEL.tflite with the files beside it."""
    artifact = load(model)
    second = artifact.sidecar.get("embeddings")
    if not second:
        raise Refused(f"{model} gives no embeddings; export the run again: birdnet-fs export RUN --embeddings")
    described = second["enrolment"]
    if not described:
        raise Refused(f"{model} comes from a network whose head reads frames; no classes can be enrolled into it.")
    file = beside(model.with_suffix(""), "_enrolment.npz")
    if not file.is_file():
        raise Refused(f"{file} is missing; copy the network together with the files named after it.")
    if hashlib.sha256(file.read_bytes()).hexdigest() != described["sha256"]:
        raise Refused(f"{file} is not the file its sidecar describes (SHA-256 differs); copy both again.")
    with np.load(file, allow_pickle=False) as stored:
        constants = {name: stored[name] for name in stored.files}
    if described["distance"] not in ("euclidean", "cosine", "learnt"):
        raise Refused(f"{model} compares by {described['distance']!r}, which this script does not know; take a newer.")
    n_layers = sum(name.startswith("kernel_") for name in constants)
    dense = [(constants[f"kernel_{i}"], constants[f"bias_{i}"]) for i in range(1, n_layers + 1)]
    center = constants.get("centre")
    if described["distance"] == "learnt":  # knows no center
        center = np.zeros(second["width"], np.float32)
    return Network(artifact, Way(described["distance"], center, dense), constants)


def support_of(network: Network) -> Support:
    """The clips that the run was enrolled with before it was exported; none where it was trained otherwise."""
    if "labels" not in network.constants:
        return Support([], [], np.empty((0, network.width), np.float32))
    labels = network.constants["labels"].tolist()
    return Support(labels, [""] * len(labels), network.constants["embeddings"])


def embed_clips(network: Network, folder: Path, known: Support, extend: bool, n_clips: int | None) -> Support:
    """Embeddings of the clips in `folder`, one sub-folder for each class; what cannot be used is said."""
    if not folder.is_dir():
        raise Refused(f"CLIPS must be a folder with a folder of clips for each class. Received: {folder}")
    by_class: dict[str, list[Path]] = {}
    for path in sounds(folder):
        inner = path.relative_to(folder).parts
        if len(inner) == 1:
            say(f"{path} lies in no class' folder and was left out.")
        else:
            by_class.setdefault(label_of(inner[0], folder), []).append(path)
    if not by_class:
        raise Refused(f"CLIPS must be a folder with a folder of clips for each class; {folder} holds none.")
    both = sorted(set(by_class) & set(known.labels))
    if both and not extend:
        raise Refused(
            f"{both[0]!r} is a class already ({len(both)} such); add clips to it with --extend, or take it out first "
            "with --remove."
        )
    held = {os.path.realpath(known.files[i]): known.labels[i] for i in range(len(known.files)) if known.files[i]}
    labels, files, rows = [], [], []
    for label, paths in sorted(by_class.items()):
        n_used = n_held = 0
        for path in paths:
            if n_used == n_clips:
                break
            whose = held.get(os.path.realpath(path), label)
            if whose != label:
                raise Refused(f"{path} was learned as {whose!r} already, and a clip has one label; take it out of one.")
            if os.path.realpath(path) in held:
                say(f"{path} was learned already and is not counted twice.")
                n_held += 1
                continue
            embedding = embedded(network, path)
            if embedding is not None:
                labels.append(label)
                files.append(os.path.abspath(path))
                rows.append(embedding)
                n_used += 1
        if n_clips is not None and n_used < n_clips:
            raise Refused(f"{n_clips} clips of {label!r} were asked for (--n_clips); {n_used} new ones can be used.")
        if not n_used and not n_held:
            raise Refused(f"No clip of {label!r} can be learned from: all are broken or silent. Give other recordings.")
    return Support(labels, files, np.stack(rows) if rows else np.empty((0, network.width), np.float32))


def label_of(name: str, folder: Path) -> str:
    """The class of a folder's name: what stands before a comma."""
    label = name.split(",")[0].strip()
    if not label or label.startswith("-") or label.lower() in (*NO_CLASS, UNKNOWN):
        raise Refused(f"{folder / name} is no class' name; rename it, or give it as --background.")
    return label


def embedded(network: Network, path: Path) -> np.ndarray | None:
    """The mean embedding of the windows of a clip; None, with a word, where it cannot be used."""
    try:
        waveform = recording_of(network, path).waveform
        if float(np.sqrt(np.mean(np.square(waveform)))) < SILENT_RMS:
            say(f"{path} is silent and was left out.")
            return None
    except (Refused, OSError) as refused:
        say(f"{refused} It was left out.")
        return None
    parts = [network.embedding(window) for window in clip_windows(network, waveform)]
    return np.mean(parts, axis=0, dtype=np.float32)


def recording_of(network: Network, path: Path) -> Recording:
    """A recording at the network's rate, every sample a number."""
    recording = read_audio(path, network.rate)
    if not np.isfinite(recording.waveform).all():
        raise Refused(f"{path} holds NaN or infinite samples; a network gives no meaning to those.")
    return recording


def background(network: Network, folder: Path) -> np.ndarray:
    """Embeddings of every window of the recordings in `folder`: what is to be refused is heard window by window."""
    found = []
    for path in sounds(folder) if folder.is_dir() else ():
        try:
            waveform = recording_of(network, path).waveform
        except (Refused, OSError) as refused:
            say(f"{refused} It was left out.")
            continue
        found += [network.embedding(window) for window in clip_windows(network, waveform)]
    if not found:
        raise Refused(f"--background must be a folder with recordings that can be read. Received: {folder}")
    return np.stack(found)


def clip_windows(network: Network, waveform: np.ndarray) -> Iterator[np.ndarray]:
    """Windows [n_samples] of a clip, half a window apart, as `birdnet-fs enroll` cuts it."""
    for start, n_real in windows(len(waveform), network.n_samples, max(1, network.n_samples // 2), network.rate):
        yield padded(waveform[start : start + n_real], network.n_samples)


def sounds(folder: Path) -> list[Path]:
    """Audio files below a folder, sorted; hidden ones are left out."""
    found = []
    for top, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [os.path.join(top, n) for n in names if n.lower().endswith(SOUNDS) and not n.startswith(".")]
    return [Path(name) for name in sorted(found)]


def say(text: str) -> None:
    """Tell the user, beside the results."""
    print(f"enroll_tflite.py: {text}", file=sys.stderr)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Teach an exported TFLite network new classes, and score with them.")
    verbs = parser.add_subparsers(required=True, metavar="enroll|score")
    learns = verbs.add_parser("enroll", help="learn classes from a few clips each")
    learns.set_defaults(run=enroll)
    learns.add_argument(
        "model", type=Path, help="MODEL.tflite with embeddings, with the files named after it beside it"
    )
    learns.add_argument("clips", type=Path, nargs="?", help="a folder of clips for each class in this folder")
    learns.add_argument("-o", "--output", type=Path, required=True, help="the .npz to write")
    learns.add_argument("--known", type=Path, help=".npz written before: its classes are kept and added to")
    learns.add_argument("--extend", action="store_true", help="add clips to classes that are known already")
    learns.add_argument(
        "--remove", action="append", default=[], metavar="CLASS", help="leave a class out; may be given again"
    )
    learns.add_argument("--n_clips", type=int, help="learn from the first N clips of each class; fewer are refused")
    learns.add_argument(
        "--background", type=Path, help="recordings with none of the classes, to calibrate 'unknown' on"
    )
    learns.add_argument("--no-unknown", dest="unknown", action="store_false", help="always name one of the classes")
    learns.add_argument("--overwrite", action="store_true", help="replace OUTPUT")
    scores = verbs.add_parser("score", help="say what is heard in recordings")
    scores.set_defaults(run=score)
    scores.add_argument("model", type=Path, help="MODEL.tflite with embeddings")
    scores.add_argument("prototypes", type=Path, help="what `enroll` wrote")
    scores.add_argument("audio", type=Path, nargs="+", help="recordings; WAV, or anything soundfile reads")
    scores.add_argument("--top", type=int, default=5, help="classes shown per segment")
    scores.add_argument("--json", action="store_true", help="all logits, as one line of JSON for each recording")
    given = parser.parse_args()
    try:
        return int(given.run(given))
    except (Refused, OSError) as error:
        say(str(error))
        return 2


if __name__ == "__main__":
    sys.exit(main())
