"""A head joined behind a stand-in of every TFLite card gives the scores of the encoder and the head, in any batch."""

import json
from pathlib import Path

import foreign_encoders
import numpy as np
import preloaded
import pytest
import scipy.special
import tolerances
from installed import need
from joined_heads import CLASSES, TFLITE, make_run, peaked, scores, windows
from on_runtime import run_tflite

from birdnet_fs.encoders.cards import CARDS, EncoderCard
from birdnet_fs.encoders.tflite_graph import read_model, tensor_shape, write_model
from birdnet_fs.export.tflite import edit
from birdnet_fs.export.tflite.weights import store_as_float16
from birdnet_fs.runs.run import load_run

need("tensorflow")
N_SCORES = 500  # of a stand-in
SEVERAL = """
import json, sys
from pathlib import Path
from birdnet_fs.export.tflite import joined
for job in json.loads(Path(sys.argv[1]).read_text()):
    joined.run_job(job)
"""


CASES = {  # name: (card, batch of the file)
    "birdnet_v2_4": (CARDS["birdnet_v2_4"], -1),
    "perch_v2_peak": (CARDS["perch_v2_peak"], -1),
    "one": (TFLITE, 1),
    "one_peak": (peaked(TFLITE), 1),
    "channel": (peaked(TFLITE), -1),  # its input is [-1, 1, n_samples]
    "alone": (TFLITE, 1),  # its input is [n_samples]
}


def change_input(file: Path, shape: list[int]) -> None:
    """Give the input of a stand-in another shape; its first operator reshapes it in any case."""
    model = read_model(file)
    graph = model.subgraphs[0]
    given = graph.tensors[int(graph.inputs[0])]
    given.shape, given.shapeSignature = np.abs(shape).astype(np.int32), np.array(shape, np.int32)
    write_model(model, file)


def write_encoder(file: Path, name: str, card: EncoderCard, batch: int) -> None:
    foreign_encoders.write_tflite(file, card.n_samples, card.width, N_SCORES, batch=batch)
    if card.name.startswith("perch"):  # its embedding is an output of the file
        model = read_model(file)
        graph = model.subgraphs[0]
        graph.outputs = [*graph.outputs, int(graph.operators[-1].inputs[0])]
        write_model(model, file)
    if name == "channel":
        change_input(file, [-1, 1, card.n_samples])
    if name == "alone":
        change_input(file, [card.n_samples])
    if name == "stored":  # an encoder whose weights are in 16 bits
        store_as_float16(file, file)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """All files, by one process."""
    place, jobs = tmp_path_factory.mktemp("joined"), []
    for name, (card, batch) in {**CASES, "stored": (TFLITE, -1)}.items():
        encoder, about = place / f"{name}_encoder.tflite", place / f"{name}.json"
        write_encoder(encoder, name, card, batch)
        about.write_text(json.dumps({**card.to_json(), "n_scores": 0, "activation": ""}))
        make_run(place / f"{name}_run", encoder, str(about))
        (place / name).mkdir()
        precisions = {"birdnet_v2_4": ["int8", "fp32", "dynamic", "fp16"], "stored": ["fp16"]}.get(name, ["fp32"])
        jobs.append(
            {
                "run": str(place / f"{name}_run"),
                "encoder": str(encoder),
                "card": str(about),
                "precisions": precisions,
                "batch": None if batch < 0 else batch,
                "output_kind": "probabilities",
                "outputs": ["predictions", "embeddings"],
                "folder": str(place / name),
            }
        )
        np.save(place / f"{name}.npy", windows(6, card.n_samples))
    (place / "jobs.json").write_text(json.dumps(jobs))
    done = preloaded.run_python(["-c", SEVERAL, place / "jobs.json"])
    assert done.returncode == 0, done.stderr
    return place


def expected(written: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and transformed embeddings."""
    logits, embeddings = scores(load_run(written / f"{name}_run"), CASES[name][0], np.load(written / f"{name}.npy"))
    return scipy.special.expit(logits), embeddings


@pytest.mark.parametrize("name", CASES)
def test_a_joined_file_gives_the_scores_of_encoder_and_head(written: Path, tmp_path: Path, name: str) -> None:
    wanted = expected(written, name)
    assert np.ptp(wanted[0]) > 0.2
    for n in (1,) if CASES[name][1] == 1 else (1, 4):
        found = run_tflite(written / name / "fp32.tflite", written / f"{name}.npy", tmp_path / "o.npz", batch=n)
        for one, other in zip(found, wanted, strict=True):
            assert np.abs(one - other).max() <= tolerances.JOINED_STAND_IN * np.abs(other).max()


def test_input_outputs_and_operators_are_those_of_any_export(written: Path) -> None:
    for name, (card, batch) in CASES.items():
        model = read_model(written / name / "fp32.tflite")
        graph = model.subgraphs[0]
        assert tensor_shape(graph.tensors[int(graph.inputs[0])]) == (batch, card.n_samples)
        assert [graph.tensors[int(i)].shape[-1] for i in graph.outputs] == [len(CLASSES), card.width]
        (signature,) = model.signatureDefs
        assert [bytes(each.name) for each in signature.outputs] == [b"predictions", b"embeddings"]
        assert not edit.foreign_operators(written / name / "fp32.tflite")


def test_the_classifier_of_the_encoder_is_not_stored(written: Path) -> None:
    encoder, joined = written / "birdnet_v2_4_encoder.tflite", written / "birdnet_v2_4" / "fp32.tflite"
    assert encoder.stat().st_size - joined.stat().st_size > 0.95 * 4 * 1024 * N_SCORES


@pytest.mark.parametrize(("precision", "share"), [("fp16", 0.6), ("dynamic", 0.4)])
def test_lower_precisions_store_encoder_and_head_in_fewer_bits(
    written: Path, tmp_path: Path, precision: str, share: float
) -> None:
    file, exact = written / "birdnet_v2_4" / f"{precision}.tflite", written / "birdnet_v2_4" / "fp32.tflite"
    assert file.stat().st_size < share * exact.stat().st_size
    wanted = expected(written, "birdnet_v2_4")[0]
    (found, _) = run_tflite(file, written / "birdnet_v2_4.npy", tmp_path / "o.npz", batch=4)
    assert 0 < np.abs(found - wanted).max() <= tolerances.EXPORT_INT8_CHANCE


def test_a_precision_that_cannot_be_written_leaves_its_reason(written: Path) -> None:
    text = (written / "birdnet_v2_4" / "int8.error.txt").read_text()
    assert "round the spectrogram inside the encoder: use fp16, or dynamic" in text
    assert "stored in few bits already: use fp32" in (written / "stored" / "fp16.error.txt").read_text()
    assert not (written / "stored" / "fp16.tflite").exists()
