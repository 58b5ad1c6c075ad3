"""Score with the `birdnet` package as a host: `PYTHON host_birdnet.py MODEL LABELS AUDIO SCORES.npz [options]`.

PYTHON is that of an environment that has the package (export/requirements-birdnet.txt, https://pypi.org/project/birdnet);
nothing of ours is imported. AUDIO is a recording, or an .npy of waveforms float32 [n, n_samples] at the rate the model
hears. The host cuts a recording itself, resamples it itself (a Fourier resampler, segment by segment), and puts zeros
behind the last segment. It starts processes of its own, hence the guard at the end.
"""

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np

LOWEST = -1e30  # a threshold below every score: nothing is left out
RATES = {"2.4": 48_000, "3.0": 32_000}


def score(
    model_file: str, labels_file: str, audio: str, *, batch: int = 1, raw: bool = False, embeddings: bool = False
) -> "dict[str, np.ndarray]":
    """What the host answers.

    Args:
        model_file: A TFLite file it takes as a custom model.
        labels_file: A line per class.
        audio: A recording, or `.npy` float32 [n, n_samples].
        batch: Segments at once.
        raw: What the file answers, before the host's own sigmoid.
        embeddings: The second output too.

    Returns:
        scores float32 [n_segments, n_classes], labels [n_classes], version ("2.4" or "3.0": what the host takes the
        file for), and embeddings [n_segments, width] where asked for.
    """
    import birdnet

    model = birdnet.load_custom("acoustic", "auto", "tf", model_file, labels_file, library="litert")
    version = str(model.get_version())
    waveforms = [(np.load(audio).reshape(-1), RATES[version])] if audio.endswith(".npy") else None
    ours = {"n_workers": 1, "n_producers": 1, "batch_size": batch}
    asked = {**ours, "top_k": None, "default_confidence_threshold": LOWEST, "apply_sigmoid": not raw}
    result = model.predict(audio, **asked) if waveforms is None else model.predict_arrays(waveforms, **asked)
    if result.unprocessable_inputs.size:
        raise SystemExit(f"the host cannot read {audio}")
    ids, given = result.species_ids[0].astype(np.int64), result.species_probs[0]
    scores = np.full((len(ids), result.n_species), np.nan, np.float32)
    np.put_along_axis(scores, ids, given, axis=1)
    found = {"scores": scores, "labels": np.array(result.species_list), "version": np.array(version)}
    if embeddings:
        encoded = model.encode(audio, **ours) if waveforms is None else model.encode_arrays(waveforms, **ours)
        found["embeddings"] = np.asarray(encoded.embeddings[0], np.float32)
    return found


def main() -> None:
    """Read the command line, write the scores."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    for name in ("model", "labels", "audio", "scores"):
        parser.add_argument(name)
    parser.add_argument("--batch", type=int, default=1, help="segments at once")
    parser.add_argument("--raw", action="store_true", help="without the host's own sigmoid")
    parser.add_argument("--embeddings", action="store_true", help="the second output too")
    given = parser.parse_args()
    found: dict[str, Any] = score(
        given.model, given.labels, given.audio, batch=given.batch, raw=given.raw, embeddings=given.embeddings
    )
    part = Path(f"{given.scores}.part")
    with open(part, "wb") as file:
        np.savez(file, **found)
    os.replace(part, given.scores)


if __name__ == "__main__":
    main()
