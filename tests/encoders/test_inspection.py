"""Which card fits a file: by format, input and widths together, never by the position of an output."""

import foreign_encoders
import pytest
from installed import need

from birdnet_fs.core.errors import UserError
from birdnet_fs.encoders.cards import CARDS
from birdnet_fs.encoders.inspection import choose_card, embedding_of, fitting_cards, inspect_file, scores_of

need("ai_edge_litert")
need("onnx")


@pytest.mark.parametrize("outputs", [("embedding:b", "label:a"), ("label:a", "embedding:b")])
def test_birdnet_v3_is_found_with_its_outputs_in_any_order(tmp_path, outputs):
    file = foreign_encoders.write_onnx(tmp_path / "v3.onnx", 96_000, 1280, outputs=outputs, n_scores=70)
    facts = inspect_file(file)
    card = choose_card(facts)
    assert card.name == "birdnet_v3"
    assert embedding_of(facts, card).name == "b" and scores_of(facts, card).name == "a"
    assert scores_of(facts, card).width == 70


def test_birdnet_v2_4_is_found_by_the_input_of_its_last_layer(tmp_path):
    facts = inspect_file(foreign_encoders.write_tflite(tmp_path / "a.tflite", 144_000, 1024, 6522))
    assert choose_card(facts).name == "birdnet_v2_4"
    assert facts.inner.shape == (-1, 1024) and facts.inputs[0].shape == (-1, 144_000)


def test_a_file_that_fits_two_cards_is_asked_about(tmp_path):
    shape = {"outputs": ("label", "tokens:spatial_embedding", "embedding"), "n_scores": 14_795, "tokens": (16, 4, 1536)}
    facts = inspect_file(foreign_encoders.write_onnx(tmp_path / "perch.onnx", 160_000, 1536, **shape))
    assert [card.name for card in fitting_cards(facts)] == ["perch_v2", "perch_v2_peak"]
    with pytest.raises(UserError, match=r"more than one .* model.encoder_card=NAME .*perch_v2 .*; perch_v2_peak"):
        choose_card(facts)
    assert choose_card(facts, "perch_v2_peak") is CARDS["perch_v2_peak"]


def test_the_number_of_samples_alone_identifies_nothing(tmp_path):
    protoclr = inspect_file(foreign_encoders.write_onnx(tmp_path / "p.onnx", 96_000, 384, outputs=("embedding:emb",)))
    with pytest.raises(UserError, match=r"none of the encoder cards .*\[n, 96000\].*emb \[n, 384\].*-o card.json"):
        choose_card(protoclr)
    with pytest.raises(UserError, match=r"birdnet_v3 does not fit .*one output with 1280 values was expected"):
        choose_card(protoclr, "birdnet_v3")


def test_two_outputs_of_the_width_of_an_embedding_are_not_guessed(tmp_path):
    file = foreign_encoders.write_onnx(
        tmp_path / "v3.onnx", 96_000, 1280, outputs=("embedding:a", "label:b"), n_scores=1280
    )
    assert fitting_cards(inspect_file(file)) == []


def test_a_named_card_that_does_not_fit_is_refused_with_the_one_that_does(tmp_path):
    facts = inspect_file(foreign_encoders.write_tflite(tmp_path / "a.tflite", 144_000, 1024, 6522))
    with pytest.raises(UserError, match=r"perch_v2 does not fit .*\[n, 160000\] was expected.*birdnet_v2_4 would fit"):
        choose_card(facts, "perch_v2")


def test_another_number_of_scores_is_not_birdnet(tmp_path):
    facts = inspect_file(foreign_encoders.write_tflite(tmp_path / "a.tflite", 144_000, 1024, 12))
    with pytest.raises(UserError, match="one output with 6522 scores was expected"):
        choose_card(facts, "birdnet_v2_4")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.tflite", None, "there is no such file"),
        ("a.pb", b"x", "must be a .tflite or .onnx file"),
        ("a.tflite", b"", "its first bytes are not those of one"),
        ("a.tflite", b"\0\0\0\0TFL3" + b"\xff" * 200, "damaged TFLite file"),
        ("a.tflite", b"\x10\0\0\0TFL3" + bytes(200), "TFLite file"),
        ("a.onnx", b"nonsense", "does not load in onnxruntime"),
        ("a.onnx", b"", "does not load in onnxruntime"),
    ],
)
def test_files_that_are_no_encoders_are_refused_in_one_sentence(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        choose_card(inspect_file(tmp_path / name))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_every_truncation_of_a_tflite_file_is_refused(tmp_path):
    file = foreign_encoders.write_tflite(tmp_path / "a.tflite", 3200, 16, 3)
    content = file.read_bytes()
    for size in range(0, len(content), 97):
        file.write_bytes(content[:size])
        try:
            choose_card(inspect_file(file))
        except UserError as error:
            assert "\n" not in str(error)
        else:
            raise AssertionError(f"{size} bytes were taken for an encoder")
