"""A head joined behind a stand-in of every ONNX card gives the scores of encoder and head, in any batch."""

import dataclasses
import json
from pathlib import Path

import foreign_encoders
import numpy as np
import onnx
import onnxruntime
import perch_stand_in
import pytest
import tolerances
from joined_heads import OWN_COLUMNS, make_run, peaked, scores, scores_of_tokens, windows, write_labels
from onnx import TensorProto, helper, numpy_helper, parser, version_converter
from scipy.special import expit, softmax

from birdnet_fs.core.errors import UserError
from birdnet_fs.encoders.cards import CARDS, EncoderCard
from birdnet_fs.encoders.open import normalized
from birdnet_fs.export.encoder_output import EncoderOutput
from birdnet_fs.export.onnx import joined
from birdnet_fs.export.onnx.encoder_graph import read_encoder
from birdnet_fs.export.onnx.precision import join_models

N_CLASSES, N_SCORES = 3, 300
SMALL = EncoderCard("small", "small", ("onnx",), 1600, 2.0, 64, embedding="embedding")


def kernel(width: int) -> np.ndarray:
    return np.random.default_rng(5).normal(0, 3 / width**0.5, (width, N_CLASSES)).astype(np.float32)


def expected(card: EncoderCard, waveforms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and embeddings of `head_of` in float64, by the stand-in's own formula."""
    embeddings = np.sqrt(foreign_encoders.embedding(normalized(waveforms, card.normalization), card.width))
    return expit(embeddings @ kernel(card.width).astype(np.float64)), embeddings


def head_of(width: int, opset: int = 20) -> onnx.ModelProto:
    """Square root, then a dense layer and a sigmoid; its names occur in the stand-ins as well."""
    given, found = f"float[batch, {width}]", f"float[batch, {N_CLASSES}]"
    text = f"""<ir_version: 10, opset_import: ["" : {opset}]>
    head ({given} features) => ({found} predictions, {given} embeddings) {{
        embeddings = Sqrt (features)
        label = MatMul (embeddings, _w)
        predictions = Sigmoid (label)
    }}"""
    model = parser.parse_model(text)
    model.graph.initializer.append(numpy_helper.from_array(kernel(width), "_w"))
    return model


def write(file: Path, card: EncoderCard, encoder: Path, batch: int | None) -> Path:
    network = joined.join_encoder(encoder, EncoderOutput(card), head_of(card.width))
    onnx.save(join_models(joined.window_model(card, network, batch), network, "window/"), file)
    return file


def answers(file: Path, waveforms: np.ndarray, batch: int) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    found = [session.run(None, {name: waveforms[i : i + batch]}) for i in range(0, len(waveforms), batch)]
    return [np.concatenate(each) for each in zip(*found, strict=True)]


def change_input(file: Path, shape: list[int | str]) -> None:
    """Give the input of a stand-in another shape; its first node reshapes it in any case."""
    model = onnx.load(file)
    del model.graph.input[:]
    model.graph.input.append(helper.make_tensor_value_info("in_", TensorProto.FLOAT, shape))
    onnx.save(model, file)


CASES = {  # name: (card, batch, options of the stand-in, shape of its input)
    "birdnet_v3": (CARDS["birdnet_v3"], None, {"outputs": ("label", "embedding"), "open_length": True}, None),
    "perch_v2": (CARDS["perch_v2"], None, {"outputs": ("label", "tokens", "embedding"), "tokens": (4, 2, 1536)}, None),
    "perch_v2_peak": (CARDS["perch_v2_peak"], None, {}, None),
    "one_peak": (peaked(SMALL), 1, {"batch": 1}, None),
    "channel": (peaked(SMALL), None, {}, ["batch", 1, 3200]),  # BirdAVES and others
    "alone": (SMALL, 1, {"batch": 1}, [3200]),
    "odd_names": (
        dataclasses.replace(SMALL, embedding="predictions"),
        None,
        {"outputs": ("label:embeddings", "embedding:predictions")},
        None,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_joined_file_gives_the_scores_of_encoder_and_head(tmp_path: Path, name: str) -> None:
    card, batch, options, shape = CASES[name]
    encoder = foreign_encoders.write_onnx(tmp_path / "encoder.onnx", card.n_samples, card.width, **options)
    if shape:
        change_input(encoder, shape)
    file = write(tmp_path / "joined.onnx", card, encoder, batch)
    waveforms = windows(6, card.n_samples)
    wanted = expected(card, waveforms)
    assert np.ptp(wanted[0]) > 0.2
    for n in (1,) if batch == 1 else (1, 4):
        for found, other in zip(answers(file, waveforms, n), wanted, strict=True):
            assert np.abs(found - other).max() <= tolerances.JOINED_STAND_IN * np.abs(other).max()
    model = onnx.load(file)
    (given,) = model.graph.input
    sizes = [each.dim_value or each.dim_param for each in given.type.tensor_type.shape.dim]
    assert (given.name, sizes) == ("waveform", [batch or "batch", card.n_samples])
    assert [output.name for output in model.graph.output] == ["predictions", "embeddings"]
    assert not any(node.op_type == "Tile" for node in model.graph.node)  # what only the tokens need


@pytest.mark.parametrize(
    ("name", "classifier"),
    [
        ("birdnet_v3", ("MatMul", "Sigmoid")),
        ("perch_v2", ("Gemm",)),
        ("perch_v2_peak", ("MatMul",)),
        ("small", ("Gemm", "Softmax")),  # needs all scores
        ("small", ()),  # columns of the embedding
    ],
)
def test_own_scores_are_put_behind_the_embedding(tmp_path: Path, name: str, classifier: tuple[str, ...]) -> None:
    card = CARDS.get(name, SMALL)
    apply = {"Sigmoid": expit, "Softmax": lambda x: softmax(x, axis=1)}.get("".join(classifier[1:]), lambda x: x)
    card = dataclasses.replace(card, n_scores=N_SCORES, activation="logits")
    encoder = tmp_path / "encoder.onnx"
    options = {"outputs": ("label", "embedding"), "n_scores": N_SCORES, "classifier": classifier}
    foreign_encoders.write_onnx(encoder, card.n_samples, card.width, **options)
    model = read_encoder(encoder, EncoderOutput(card, OWN_COLUMNS))
    onnx.save(model, tmp_path / "cut.onnx")
    waveforms = windows(6, card.n_samples)
    embeddings = foreign_encoders.embedding(waveforms, card.width)
    own = foreign_encoders.class_scores(embeddings, N_SCORES)
    own = apply(own) if classifier else foreign_encoders.scores_of(embeddings, N_SCORES)
    for n in (1, 4):
        [found] = answers(tmp_path / "cut.onnx", waveforms, n)
        for one, other in ((found[:, : card.width], embeddings), (found[:, card.width :], own[:, OWN_COLUMNS])):
            assert np.abs(one - other).max() <= tolerances.JOINED_STAND_IN * np.abs(other).max()
    alone = classifier and "Softmax" not in classifier
    assert any(node.op_type == "Gather" and "own" in node.output[0] for node in model.graph.node) == (not alone)
    if alone:
        saved = encoder.stat().st_size - (tmp_path / "cut.onnx").stat().st_size
        assert saved > 0.95 * 4 * card.width * N_SCORES


@pytest.mark.parametrize("opset", [17, 21])
def test_an_encoder_of_another_operator_set_is_joined(tmp_path: Path, opset: int) -> None:
    encoder = foreign_encoders.write_onnx(tmp_path / "encoder.onnx", SMALL.n_samples, SMALL.width)
    onnx.save(version_converter.convert_version(onnx.load(encoder), opset), encoder)
    file = write(tmp_path / "joined.onnx", peaked(SMALL), encoder, None)
    waveforms = windows(6, SMALL.n_samples)
    wanted = expected(peaked(SMALL), waveforms)[0]
    assert np.abs(answers(file, waveforms, 3)[0] - wanted).max() <= tolerances.JOINED_STAND_IN
    assert joined.opset_of(onnx.load(file)) == max(opset, 20)


def test_an_operator_set_that_cannot_be_raised_is_refused(tmp_path: Path) -> None:
    old = foreign_encoders.write_onnx(tmp_path / "encoder.onnx", SMALL.n_samples, SMALL.width)
    model = onnx.load(old)
    model.opset_import[0].version = 1  # Identity and others of that version have no adapter
    with pytest.raises(UserError, match=r"uses operator set 1 of ONNX and the head needs 18; it cannot be raised"):
        joined.with_same_opset(model, model, "encoder.onnx")


def test_a_job_writes_the_precisions_or_the_reason(tmp_path: Path) -> None:
    card, encoder = dataclasses.replace(peaked(SMALL), n_scores=N_SCORES, activation="sigmoid"), tmp_path / "e.onnx"
    foreign_encoders.write_onnx(
        encoder, card.n_samples, card.width, n_scores=N_SCORES, classifier=("MatMul", "Sigmoid")
    )
    (tmp_path / "card.json").write_text(json.dumps(card.to_json()))
    labels = str(write_labels(tmp_path, N_SCORES))
    run = make_run(tmp_path / "run", encoder, str(tmp_path / "card.json"), own_scores="blend", labels=labels)
    job = {
        "run": str(run.path),
        "encoder": str(encoder),
        "card": str(tmp_path / "card.json"),
        "formats": ["onnx"],
        "precisions": ["fp32", "fp16", "dynamic", "int8"],
        "batch": None,
        "output_kind": "probabilities",
        "outputs": ["predictions", "embeddings"],
        "own_columns": OWN_COLUMNS,
        "folder": str(tmp_path),
    }
    joined.run_job(job)
    waveforms = windows(6, card.n_samples)
    own = foreign_encoders.embedding(normalized(waveforms, card.normalization), card.width)
    own = foreign_encoders.class_scores(own, N_SCORES)[:, OWN_COLUMNS]
    logits, embeddings = scores(run, card, waveforms, own)
    wanted = expit(logits), embeddings
    for precision in ("fp32", "fp16", "dynamic"):
        for found, other in zip(answers(tmp_path / f"{precision}.onnx", waveforms, 3), wanted, strict=True):
            limit = tolerances.JOINED_STAND_IN if precision == "fp32" else tolerances.EXPORT_INT8_CHANCE
            assert 0 < np.abs(found - other).max() <= limit * np.abs(other).max()
    assert "round the spectrogram inside the encoder: use fp16" in (tmp_path / "int8.onnx.error.txt").read_text()
    facts = {each.key: each.value for each in onnx.load(tmp_path / "fp16.onnx").metadata_props}
    assert (facts["sample_rate_hz"], facts["output"], facts["precision"]) == ("1600", "probabilities", "fp16")


def test_a_head_on_tokens_is_joined_behind_them_and_nothing_else_is_kept(tmp_path: Path) -> None:
    """The classifier of the stand-in, and its output spectrogram, are not in the file."""
    encoder, card = perch_stand_in.write_onnx(tmp_path / "encoder.onnx"), CARDS["perch_v2"]
    (tmp_path / "card.json").write_text(json.dumps(card.to_json()))
    run = make_run(tmp_path / "run", encoder, "perch_v2", head="attentive")
    job = {
        "run": str(run.path),
        "encoder": str(encoder),
        "card": str(tmp_path / "card.json"),
        "formats": ["onnx"],
        "precisions": ["fp32"],
        "batch": None,
        "output_kind": "logits",
        "outputs": ["predictions", "embeddings"],
        "tokens": True,
        "folder": str(tmp_path),
    }
    joined.run_job(job)
    waveforms = windows(3, card.n_samples)
    wanted = scores_of_tokens(run, perch_stand_in.spatial_embedding(waveforms).mean(2))
    for found, other in zip(answers(tmp_path / "fp32.onnx", waveforms, 2), wanted, strict=True):
        assert np.abs(found - other).max() <= tolerances.JOINED_STAND_IN * np.abs(other).max()
    model = onnx.load(tmp_path / "fp32.onnx")
    assert [output.name for output in model.graph.output] == ["predictions", "embeddings"]
    sizes = [int(np.prod(each.dims)) for each in model.graph.initializer]
    assert perch_stand_in.N_SCORES * 4 not in sizes
    part = read_encoder(encoder, EncoderOutput(card, tokens=True))
    assert part.ByteSize() < encoder.stat().st_size - 4 * 4 * perch_stand_in.N_SCORES
    assert perch_stand_in.N_BANDS * perch_stand_in.WIDTH in [int(np.prod(each.dims)) for each in part.graph.initializer]


def test_8_bits_for_few_weights_are_refused(tmp_path: Path) -> None:
    encoder = foreign_encoders.write_onnx(tmp_path / "encoder.onnx", SMALL.n_samples, SMALL.width)
    settings = {"spec": None, "input": "waveform", "axes": "time_first", "outputs": ("predictions",), "activation": ""}
    given = EncoderOutput(SMALL)
    settings |= {"facts": {}, "calibrated": None, "encoder": encoder, "given": given}
    writer = joined.JoinedWriter(None, batch=None, calibration=None, **settings)
    network = joined.join_encoder(encoder, given, head_of(SMALL.width))
    network.graph.initializer.append(numpy_helper.from_array(np.ones((300, 300), np.float32), "kernel"))
    writer.__dict__["_network"] = network
    with pytest.raises(UserError, match=r"hold 2\d?% of those of encoder and head; use fp16 instead"):
        writer.onnx("dynamic")


def test_an_encoder_with_weights_in_other_files_is_refused(tmp_path: Path) -> None:
    encoder = foreign_encoders.write_onnx(tmp_path / "one.onnx", SMALL.n_samples, SMALL.width)
    apart = tmp_path / "apart.onnx"
    onnx.save(onnx.load(encoder), apart, save_as_external_data=True, location="weights.bin", size_threshold=1024)
    with pytest.raises(UserError, match=r"apart\.onnx keeps its weights in other files; save the encoder as one file"):
        read_encoder(apart, EncoderOutput(SMALL))
    whole = tmp_path / "whole.onnx"  # what the message says
    onnx.save(onnx.load(apart), whole)
    assert read_encoder(whole, EncoderOutput(SMALL)).graph.output[0].name == "embedding"


def test_what_nested_graphs_and_functions_need_is_kept(tmp_path: Path) -> None:
    """A value that only a branch reads, and a function of the file's own."""
    text = """<ir_version: 9, opset_import: ["" : 18, "own" : 1]>
    nested (float[batch, 4] x) => (float[batch, 4] y, float[batch, 4] z) <float[4] two = {2, 2, 2, 2}> {
        doubled = own.twice (x)
        zero = Constant <value_int = 0> ()
        n = ReduceMax (x)
        positive = Greater (n, n)
        y = If (positive) <
            then_branch = a () => (float[batch, 4] p) { p = Identity (x) },
            else_branch = b () => (float[batch, 4] q) { q = Mul (doubled, two) }>
        z = Neg (x)
    }
    <domain: "own", opset_import: ["" : 18]>
    twice (a) => (b) { b = Add (a, a) }
    """
    file = tmp_path / "nested.onnx"
    onnx.save(parser.parse_model(text), file)
    card = EncoderCard("nested", "nested", ("onnx",), 4, 1.0, 4, embedding="y")
    model = read_encoder(file, EncoderOutput(card))
    operators = {node.op_type for node in model.graph.node}
    assert "If" in operators and "Neg" not in operators and not model.functions
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.array([[1, -2, 3, 4]], np.float32)
    assert session.run(None, {"x": x})[0].tolist() == (4 * x).tolist()
