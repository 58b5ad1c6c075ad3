"""A head joined behind a stand-in of every TFLite card gives the scores of the encoder and the head, in any batch."""

import dataclasses
import json
from pathlib import Path

import foreign_encoders
import numpy as np
import perch_stand_in
import preloaded
import pytest
import scipy.special
import tolerances
from installed import need
from joined_heads import CLASSES, OWN_COLUMNS, TFLITE, make_run, peaked, scores, scores_of_tokens, windows, write_labels
from on_runtime import run_tflite

from birdnet_fs.encoders.cards import CARDS, EncoderCard
from birdnet_fs.encoders.open import normalized
from birdnet_fs.encoders.tflite_graph import before_last_dense, read_model, tensor_shape, write_model
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


def own(card: EncoderCard, activation: str) -> EncoderCard:
    return dataclasses.replace(card, n_scores=N_SCORES, activation=activation)


CASES = {  # name: (card, batch of the file); "own_..." reads own scores as well
    "birdnet_v2_4": (CARDS["birdnet_v2_4"], -1),
    "one_peak": (peaked(TFLITE), 1),
    "channel": (peaked(TFLITE), -1),  # its input is [-1, 1, n_samples]
    "alone": (TFLITE, 1),  # its input is [n_samples]
    "own_birdnet_v2_4": (own(CARDS["birdnet_v2_4"], "logits"), -1),
    "own_perch_v2_peak": (own(CARDS["perch_v2_peak"], "logits"), -1),
    "own_sigmoid": (own(TFLITE, "sigmoid"), 1),
    "own_softmax": (own(TFLITE, "softmax"), -1),  # needs all scores
    "tokens": (CARDS["perch_v2"], -1),
    "own_float16": (own(TFLITE, "logits"), -1),  # its weights are in 16 bits
}


def change_input(file: Path, shape: list[int]) -> None:
    """Give the input of a stand-in another shape; its first operator reshapes it in any case."""
    model = read_model(file)
    graph = model.subgraphs[0]
    given = graph.tensors[int(graph.inputs[0])]
    given.shape, given.shapeSignature = np.abs(shape).astype(np.int32), np.array(shape, np.int32)
    write_model(model, file)


def write_encoder(file: Path, name: str, card: EncoderCard, batch: int) -> None:
    if name == "tokens":
        perch_stand_in.write_tflite(file)
        return
    of_scores = {"sigmoid": "LOGISTIC", "softmax": "SOFTMAX"}.get(card.activation, "")
    foreign_encoders.write_tflite(file, card.n_samples, card.width, N_SCORES, batch=batch, activation=of_scores)
    if card.name.startswith("perch"):  # its embedding is an output of the file
        model = read_model(file)
        graph = model.subgraphs[0]
        graph.outputs = [*graph.outputs, before_last_dense(model)]
        write_model(model, file)
    if name == "channel":
        change_input(file, [-1, 1, card.n_samples])
    if name == "alone":
        change_input(file, [card.n_samples])
    if name == "own_float16":
        store_as_float16(file, file)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """All files, by one process."""
    place, jobs = tmp_path_factory.mktemp("joined"), []
    for name, (card, batch) in CASES.items():
        encoder, about = place / f"{name}_encoder.tflite", place / f"{name}.json"
        write_encoder(encoder, name, card, batch)
        reads_own, whole = name.startswith("own"), name.startswith(("own", "tokens"))
        about.write_text(json.dumps(card.to_json() | ({} if whole else {"n_scores": 0, "activation": ""})))
        how = "features" if name == "own_sigmoid" else "blend"
        settings = {"own_scores": how, "labels": str(write_labels(place, N_SCORES))} if reads_own else {}
        head = "attentive" if name == "tokens" else "linear"
        make_run(place / f"{name}_run", encoder, str(about), head=head, **settings)
        (place / name).mkdir()
        precisions = {"birdnet_v2_4": ["int8", "fp32", "dynamic", "fp16"], "own_float16": ["fp32", "fp16"]}
        precisions = precisions.get(name, ["fp32"])
        jobs.append(
            {
                "run": str(place / f"{name}_run"),
                "encoder": str(encoder),
                "card": str(about),
                "precisions": precisions,
                "batch": None if batch < 0 else batch,
                "output_kind": "logits" if whole else "probabilities",  # fewer conversions
                "outputs": ["predictions", "embeddings"],
                "own_columns": OWN_COLUMNS if reads_own else (),
                "tokens": name == "tokens",
                "folder": str(place / name),
            }
        )
        np.save(place / f"{name}.npy", windows(6, card.n_samples))
    (place / "jobs.json").write_text(json.dumps(jobs))
    done = preloaded.run_python(["-c", SEVERAL, place / "jobs.json"])
    assert done.returncode == 0, done.stderr
    return place


def expected(written: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, or logits of a head that reads own scores or tokens, and transformed embeddings."""
    card, waveforms = CASES[name][0], np.load(written / f"{name}.npy")
    if name == "tokens":
        return scores_of_tokens(load_run(written / "tokens_run"), perch_stand_in.spatial_embedding(waveforms).mean(2))
    own_logits = foreign_encoders.tflite_scores(normalized(waveforms, card.normalization), card.width, N_SCORES)
    if card.activation == "softmax":
        own_logits = scipy.special.log_softmax(own_logits, axis=1)
    read = own_logits[:, OWN_COLUMNS] if name.startswith("own") else None
    logits, embeddings = scores(load_run(written / f"{name}_run"), card, waveforms, read)
    return logits if read is not None else scipy.special.expit(logits), embeddings


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
        assert [graph.tensors[int(i)].shape[-1] for i in graph.outputs] == [
            len(CLASSES),
            (1 + 3 * (name == "tokens")) * card.width,
        ]
        (signature,) = model.signatureDefs
        assert [bytes(each.name) for each in signature.outputs] == [b"predictions", b"embeddings"]
        assert not edit.foreign_operators(written / name / "fp32.tflite")


@pytest.mark.parametrize("name", ["birdnet_v2_4", "own_birdnet_v2_4", "own_perch_v2_peak"])
def test_scores_of_the_encoder_that_the_head_does_not_read_are_not_stored(written: Path, name: str) -> None:
    encoder, joined = written / f"{name}_encoder.tflite", written / name / "fp32.tflite"
    assert encoder.stat().st_size - joined.stat().st_size > 0.95 * 4 * CASES[name][0].width * N_SCORES


def test_scores_that_cannot_be_computed_alone_are_gathered(written: Path) -> None:
    found = {name: edit.operators(written / name / "fp32.tflite") for name in CASES if name.startswith("own")}
    assert [name for name, operators in found.items() if "GATHER" in operators] == ["own_softmax"]


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
    assert "stored in few bits already: use fp32" in (written / "own_float16" / "fp16.error.txt").read_text()
    assert not (written / "own_float16" / "fp16.tflite").exists()
