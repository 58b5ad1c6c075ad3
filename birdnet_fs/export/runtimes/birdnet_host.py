"""Score with a custom model in the `birdnet` package: `PYTHON birdnet_host.py MODEL LABELS AUDIO SCORES.npz [options]`.

PYTHON belongs to an environment with the package (export/requirements-birdnet.txt, the package birdnet of PyPI);
nothing of birdnet_fs is imported. AUDIO is a recording, or an .npy of waveforms float32 [n, n_samples] at the sample
rate of the model. The package cuts and resamples recordings itself (a Fourier resampler, segment by segment) and pads
the last segment with zeros. It starts worker processes, hence the guard at the end.
"""

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np

LOWEST = -1e30  # a threshold below every score keeps all of them
RATES = {"2.4": 48_000, "3.0": 32_000}


def score(
    model_file: str, labels_file: str, audio: str, *, batch: int = 1, raw: bool = False, embeddings: bool = False
) -> "dict[str, np.ndarray]":
    """Scores of the package for a custom model.

    Args:
        model_file: A TFLite file that the package loads as a custom model.
        labels_file: Labels, one line per class.
        audio: A recording, or `.npy` float32 [n, n_samples].
        batch: Segments per call. Default: 1.
        raw: Return the output of the file without the package's sigmoid. Default: false.
        embeddings: Return the second output as well. Default: false.

    Returns:
        scores float32 [n_segments, n_classes], labels [n_classes], version ("2.4" or "3.0", the BirdNET version the
        package treats the file as) and, if requested, embeddings float32 [n_segments, width].

    Raises:
        SystemExit: The package cannot read `audio`.
    """
    import birdnet

    model = birdnet.load_custom("acoustic", "auto", "tf", model_file, labels_file, library="litert")
    version = str(model.get_version())
    waveforms = [(np.load(audio).reshape(-1), RATES[version])] if audio.endswith(".npy") else None
    settings = {"n_workers": 1, "n_producers": 1, "batch_size": batch}
    prediction_settings = {**settings, "top_k": None, "default_confidence_threshold": LOWEST, "apply_sigmoid": not raw}
    result = (
        model.predict(audio, **prediction_settings)
        if waveforms is None
        else model.predict_arrays(waveforms, **prediction_settings)
    )
    if result.unprocessable_inputs.size:
        raise SystemExit(f"the birdnet package cannot read {audio}")
    ids, given = result.species_ids[0].astype(np.int64), result.species_probs[0]
    scores = np.full((len(ids), result.n_species), np.nan, np.float32)
    np.put_along_axis(scores, ids, given, axis=1)
    found = {"scores": scores, "labels": np.array(result.species_list), "version": np.array(version)}
    if embeddings:
        encoded = model.encode(audio, **settings) if waveforms is None else model.encode_arrays(waveforms, **settings)
        found["embeddings"] = np.asarray(encoded.embeddings[0], np.float32)
    return found


def main() -> None:
    """Score the recording given on the command line and write the scores."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    for name in ("model", "labels", "audio", "scores"):
        parser.add_argument(name)
    parser.add_argument("--batch", type=int, default=1, help="segments per call")
    parser.add_argument("--raw", action="store_true", help="output of the file, without the sigmoid of the package")
    parser.add_argument("--embeddings", action="store_true", help="write the second output as well")
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
