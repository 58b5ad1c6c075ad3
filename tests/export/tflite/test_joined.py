"""A head joined behind a stand-in of every TFLite card gives the scores of the encoder and the head, in any batch."""

import dataclasses
import json
from pathlib import Path

import foreign_encoders
import numpy as np
import preloaded
import pytest
import tolerances
from installed import need
from on_runtime import run_tflite

from birdnet_fs.encoders.cards import CARDS, EncoderCard
from birdnet_fs.encoders.open import normalized
from birdnet_fs.encoders.tflite_graph import read_model, tensor_shape, write_model
from birdnet_fs.export.tflite import edit

need("tensorflow")
N_CLASSES, N_SCORES = 3, 500
SMALL = EncoderCard("small", "small", ("tflite",), 1600, 2.0, 64, embedding="before_last_dense")

# one process writes all jobs, with a head that needs no run folder: square root, then a dense layer
WORK = """
import json, sys
from pathlib import Path
from types import SimpleNamespace
import keras, numpy as np
from birdnet_fs.export.tflite import joined
from birdnet_fs.runs import run as run_folder

def load_run(path):
    with np.load(path) as stored:
        kernel = stored["kernel"]
    features = keras.Input((len(kernel),), name="features")
    embedding = keras.layers.Lambda(keras.ops.sqrt, name="embedding")(features)
    dense = keras.layers.Dense(kernel.shape[1], use_bias=False, name="logits")
    model = keras.Model(features, dense(embedding))
    dense.set_weights([kernel])
    return SimpleNamespace(build_model=lambda: model, activation="sigmoid", classes=tuple("abc"))

run_folder.load_run = load_run
for job in json.loads(Path(sys.argv[1]).read_text()):
    joined.run_job(job)
"""


def kernel(width: int) -> np.ndarray:
    return np.random.default_rng(5).normal(0, 3 / width**0.5, (width, N_CLASSES)).astype(np.float32)


def windows(n: int, n_samples: int) -> np.ndarray:
    """Slow sines of different levels, some far from zero, and a constant window, float32 [n, n_samples]."""
    random = np.random.default_rng(4)
    phase = np.linspace(0, 9, n_samples) * random.uniform(0.3, 1, (n, 1))
    level, offset = 10.0 ** random.uniform(-3, -0.5, (n, 1)), random.choice([0, 0.4], (n, 1))
    rows = level * np.sin(phase) + offset + 0.01 * level * random.standard_normal((n, n_samples))
    rows[1] = 0.1
    return rows.astype(np.float32)


def outputs(card: EncoderCard, waveforms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and transformed embeddings in float64, by the stand-in's own formula."""
    embeddings = np.sqrt(foreign_encoders.embedding(normalized(waveforms, card.normalization), card.width))
    return 1 / (1 + np.exp(-embeddings @ kernel(card.width).astype(np.float64))), embeddings


def peaked(card: EncoderCard) -> EncoderCard:
    return dataclasses.replace(card, name=f"{card.name}_peak", normalization="peak_0.25")


CASES = {  # name: (card, batch of the file)
    "birdnet_v2_4": (CARDS["birdnet_v2_4"], -1),
    "perch_v2_peak": (CARDS["perch_v2_peak"], -1),
    "one": (SMALL, 1),
    "one_peak": (peaked(SMALL), 1),
    "channel": (peaked(SMALL), -1),  # its input is [-1, 1, n_samples]
    "alone": (SMALL, 1),  # its input is [n_samples]
}


def change_input(file: Path, shape: list[int]) -> None:
    """Give the input of a stand-in another shape; its first operator reshapes it in any case."""
    model = read_model(file)
    graph = model.subgraphs[0]
    given = graph.tensors[int(graph.inputs[0])]
    given.shape, given.shapeSignature = np.abs(shape).astype(np.int32), np.array(shape, np.int32)
    write_model(model, file)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    place, jobs = tmp_path_factory.mktemp("joined"), []
    for name, (card, batch) in {**CASES, "stored": (SMALL, -1)}.items():
        encoder = place / f"{name}_encoder.tflite"
        if card.name.startswith("perch"):  # its embedding is an output of the file
            foreign_encoders.write_tflite(encoder, card.n_samples, card.width, N_SCORES)
            model = read_model(encoder)
            graph = model.subgraphs[0]
            graph.outputs = [*graph.outputs, int(graph.operators[-1].inputs[0])]
            write_model(model, encoder)
        else:
            foreign_encoders.write_tflite(encoder, card.n_samples, card.width, N_SCORES, batch=batch)
        if name == "channel":
            change_input(encoder, [-1, 1, card.n_samples])
        if name == "alone":
            change_input(encoder, [card.n_samples])
        np.savez(place / f"{name}_head.npz", kernel=kernel(card.width))
        (place / f"{name}.json").write_text(json.dumps(card.to_json()))
        (place / name).mkdir()
        job = {
            "run": str(place / f"{name}_head.npz"),
            "encoder": str(encoder),
            "card": str(place / f"{name}.json"),
            "precisions": ["fp32"],
            "batch": None if batch < 0 else batch,
            "output_kind": "probabilities",
            "outputs": ["predictions", "embeddings"],
            "folder": str(place / name),
        }
        if name == "birdnet_v2_4":
            job["precisions"] = ["int8", "fp32", "dynamic", "fp16"]
        jobs.append(job)
        np.save(place / f"{name}.npy", windows(6, card.n_samples))
    short = place / "stored_encoder.tflite"  # an encoder that is stored in 16 bits
    from birdnet_fs.export.tflite.weights import store_as_float16

    store_as_float16(short, short)
    jobs[-1]["precisions"] = ["fp16"]
    (place / "jobs.json").write_text(json.dumps(jobs))
    done = preloaded.run_python(["-c", WORK, place / "jobs.json"])
    assert done.returncode == 0, done.stderr
    return place


@pytest.mark.parametrize("name", CASES)
def test_a_joined_file_gives_the_scores_of_encoder_and_head(written: Path, tmp_path: Path, name: str) -> None:
    card, batch = CASES[name]
    wanted = outputs(card, np.load(written / f"{name}.npy"))
    assert np.ptp(wanted[0]) > 0.2
    for n in (1,) if batch == 1 else (1, 4):
        found = run_tflite(written / name / "fp32.tflite", written / f"{name}.npy", tmp_path / "o.npz", batch=n)
        for one, other in zip(found, wanted, strict=True):
            assert np.abs(one - other).max() <= tolerances.JOINED_STAND_IN * np.abs(other).max()


def test_input_outputs_and_operators_are_those_of_any_export(written: Path) -> None:
    for name, (card, batch) in CASES.items():
        model = read_model(written / name / "fp32.tflite")
        graph = model.subgraphs[0]
        assert tensor_shape(graph.tensors[int(graph.inputs[0])]) == (batch, card.n_samples)
        assert [graph.tensors[int(i)].shape[-1] for i in graph.outputs] == [N_CLASSES, card.width]
        (signature,) = model.signatureDefs
        assert [bytes(each.name) for each in signature.outputs] == [b"predictions", b"embeddings"]
        assert not edit.foreign_operators(written / name / "fp32.tflite")


def test_the_classifier_of_the_encoder_is_not_stored(written: Path) -> None:
    encoder, joined = written / "birdnet_v2_4_encoder.tflite", written / "birdnet_v2_4" / "fp32.tflite"
    assert encoder.stat().st_size - joined.stat().st_size > 0.95 * 4 * 1024 * N_SCORES


@pytest.mark.parametrize(("precision", "share"), [("fp16", 0.55), ("dynamic", 0.35)])
def test_lower_precisions_store_encoder_and_head_in_fewer_bits(
    written: Path, tmp_path: Path, precision: str, share: float
) -> None:
    file, exact = written / "birdnet_v2_4" / f"{precision}.tflite", written / "birdnet_v2_4" / "fp32.tflite"
    assert file.stat().st_size < share * exact.stat().st_size
    wanted = outputs(CARDS["birdnet_v2_4"], np.load(written / "birdnet_v2_4.npy"))[0]
    (found, _) = run_tflite(file, written / "birdnet_v2_4.npy", tmp_path / "o.npz", batch=4)
    assert 0 < np.abs(found - wanted).max() <= tolerances.EXPORT_INT8_CHANCE


def test_a_precision_that_cannot_be_written_leaves_its_reason(written: Path) -> None:
    text = (written / "birdnet_v2_4" / "int8.error.txt").read_text()
    assert "round the spectrogram inside the encoder: use fp16, or dynamic" in text
    assert "stored in few bits already: use fp32" in (written / "stored" / "fp16.error.txt").read_text()
    assert not (written / "stored" / "fp16.tflite").exists()
