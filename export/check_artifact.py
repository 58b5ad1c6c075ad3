"""Check an exported network on the machine it will run on; only NumPy and one runtime are needed.

    python check_artifact.py MODEL.tflite (or MODEL.onnx)

Verifies that the files are those that were exported (SHA-256), that they belong together (labels, shapes), that no
class has a constant output, and that the runtime of this machine gives the expected scores (and embeddings) for the
golden waveforms. Needs reading.py and run_tflite.py (or run_onnx.py) in the same folder. Exit status: 0 if all checks
passed, 1 if one failed, 2 if the network could not be loaded.
"""

import argparse
import importlib
import sys
from pathlib import Path

import numpy as np
from reading import (
    Artifact,
    InputError,
    as_floats,
    companion_file,
    guarded,
    outputs_of,
    printable,
    read_arrays,
    sha256,
)

READERS = {".tflite": "run_tflite", ".onnx": "run_onnx"}
SUM_TOLERANCE = 1e-3  # of the sum of softmax probabilities in a segment


def check(model: Path) -> list[tuple[str, bool, str]]:
    """Run all checks.

    Args:
        model: MODEL.tflite or MODEL.onnx, with the files named after it in the same folder.

    Returns:
        (name, passed, detail) of every check, in order.

    Raises:
        InputError: The file has another suffix, or cannot be loaded.
    """
    stem = model.with_suffix("")
    if model.suffix.lower() not in READERS:
        raise InputError(f"MODEL must end in {' or '.join(READERS)}. Received: {model}")
    load = importlib.import_module(READERS[model.suffix.lower()]).load
    artifact = load(model, verify=False)  # compares labels, shapes and sidecar; the digest is checked below
    sidecar = artifact.sidecar
    found = [("files belong together", True, f"{len(artifact.labels)} labels, input {sidecar['input_shape']}")]
    digest = sha256(model)
    found.append(("SHA-256 of the network", digest == sidecar["sha256"], digest))
    if sidecar["input"] == "features":
        digest = sha256(companion_file(stem, "_frontend.npz"))
        found.append(("SHA-256 of the front-end", digest == sidecar.get("frontend_sha256"), digest))
    second = sidecar.get("embeddings")
    if second and second["enrolment"]:
        digest = sha256(companion_file(stem, "_enrolment.npz"))
        found.append(("SHA-256 of what enrollment needs", digest == second["enrolment"]["sha256"], digest))
    repeated = len(artifact.labels) - len(set(artifact.labels))
    found.append(("labels are unique", repeated == 0, f"{repeated} repeated"))
    expected = read_golden(companion_file(stem, "_golden.npz"), artifact)
    waveforms = expected["waveforms"] / np.float32(32768)
    answers = [outputs_of(artifact, row.astype(np.float32)) for row in waveforms]
    given = np.stack([answer[0] for answer in answers])
    finite = all(bool(np.isfinite(output).all()) for answer in answers for output in answer)
    found.append(("no NaN or infinity", finite, f"{len(given)} golden waveforms"))
    alive = given[:, : given.shape[1] - sidecar.get("n_constant", 0)]  # the logit of "unknown" is constant
    dead = int((np.ptp(alive, axis=0) == 0).sum())
    found.append(("no class is dead", dead == 0, f"{dead} of {alive.shape[1]} constant"))
    kind = sidecar["output"]
    if kind == "probabilities":
        within = bool((given >= 0).all() and (given <= 1).all())
        if sidecar["activation"] == "softmax":
            within = within and bool(np.allclose(given.sum(axis=1), 1, atol=SUM_TOLERANCE))
        found.append(("scores are probabilities", within, f"{given.min():.3g} to {given.max():.3g}"))
    errors = {f"golden {kind}": (np.abs(given - expected[kind]), "tolerance")}
    if second:
        lengths = np.linalg.norm(np.stack([a[second["output"]] for a in answers]) - expected["embeddings"], axis=1)
        errors["golden embeddings"] = (lengths, "embeddings_tolerance")
    for what, (differences, allowed) in errors.items():
        error, tolerance = float(differences.max()), float(expected[allowed])
        found.append((what, error <= tolerance, f"largest difference {error:.2e}, allowed {tolerance:g}"))
    return found


def read_golden(file: Path, artifact: Artifact) -> dict[str, np.ndarray]:
    """Read the golden waveforms and the expected outputs.

    Args:
        file: MODEL_golden.npz.
        artifact: The network.

    Returns:
        Array by name: waveforms [n, n_samples], scores [n, n_classes] and, with embeddings, these [n, width].

    Raises:
        InputError: The file is damaged, or an array is missing or has another shape than the network's.
    """
    expected, sidecar = read_arrays(file), artifact.sidecar
    n_samples = round(sidecar["segment_s"] * sidecar["sample_rate_hz"])
    n = len(expected["waveforms"]) if "waveforms" in expected and expected["waveforms"].ndim else 0
    shapes = {"waveforms": (n, n_samples), sidecar["output"]: (n, len(artifact.labels)), "tolerance": ()}
    if second := sidecar.get("embeddings"):
        shapes |= {"embeddings": (n, second["width"]), "embeddings_tolerance": ()}
    for name, shape in shapes.items():
        if not n or name not in expected or expected[name].shape != shape:
            raise InputError(f"{file} must hold {name!r} of shape {list(shape)}; copy it again.")
    return {name: value if name == "waveforms" else as_floats(file, name, value) for name, value in expected.items()}


def main() -> int:
    """Run the command line and return the exit status."""
    parser = argparse.ArgumentParser(description="Check an exported network on this machine.")
    parser.add_argument(
        "model", type=Path, help="MODEL.tflite or MODEL.onnx, with the files named after it in its folder"
    )
    given = parser.parse_args()
    return guarded("check_artifact.py", lambda: _check_and_print(given.model))


def _check_and_print(model: Path) -> int:
    found = check(model)
    for what, passed, detail in found:
        print(f"{'ok  ' if passed else 'FAIL'}  {what}: {printable(detail)}")
    return 0 if all(passed for _, passed, _ in found) else 1


if __name__ == "__main__":
    sys.exit(main())
