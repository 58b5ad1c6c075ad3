"""Run a TFLite file with the runtime alone: `python -m birdnet_fs.export.runtime MODEL INPUTS.npy OUTPUTS.npz`.

A process of its own, because some files abort the process that opens them (SIGABRT inside the runtime) and because
neither Keras nor TensorFlow may help it.
"""

import sys
from pathlib import Path

import numpy as np

from birdnet_fs.export import processes
from birdnet_fs.plumbing.errors import UserError


def run_tflite(model: Path, inputs: Path, outputs: Path) -> list[np.ndarray]:
    """What a TFLite file answers, computed in a subprocess.

    Args:
        model: The file, with one input of batch 1.
        inputs: `.npy` float32 [n, ...], one row per input; a missing last axis (channels) is filled with copies.
        outputs: `.npz` that the subprocess writes.

    Returns:
        float32 [n, ...] of each output in the file's order, the logits [n, n_classes] first.

    Raises:
        UserError: The runtime refused the file or died on it; its last words are given.
    """
    done = processes.run_module("birdnet_fs.export.runtime", [model, inputs, outputs], stale=True)
    if done.returncode:
        why = f"exit status {done.returncode}: {processes.last_words(done)}"
        raise UserError(f"The runtime cannot run the converted network ({why})")
    with np.load(outputs, allow_pickle=False) as stored:
        return [stored[f"arr_{i}"] for i in range(len(stored.files))]


def main(model: str, inputs: str, outputs: str) -> None:
    """Feed every row of `inputs` to the file and save what it gives."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=model, num_threads=1)
    interpreter.allocate_tensors()
    given, wanted = interpreter.get_input_details(), interpreter.get_output_details()
    if len(given) != 1:
        raise SystemExit(f"one input expected, found {len(given)}")
    shape = tuple(given[0]["shape"])
    rows = np.load(inputs, mmap_mode="r", allow_pickle=False)
    results: list[list[np.ndarray]] = [[] for _ in wanted]
    for row in rows:
        value = row[None] if row.ndim + 1 == len(shape) else np.broadcast_to(row[None, ..., None], shape)
        interpreter.set_tensor(given[0]["index"], np.ascontiguousarray(value, np.float32))
        interpreter.invoke()
        for found, output in zip(results, wanted, strict=True):
            found.append(interpreter.get_tensor(output["index"])[0].copy())
    with open(outputs, "wb") as file:
        np.savez(file, *(np.stack(found) for found in results))


if __name__ == "__main__":
    main(*sys.argv[1:])
