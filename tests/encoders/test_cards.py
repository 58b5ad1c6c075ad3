"""Cards of encoders: their facts, and cards that users write."""

import dataclasses
import json

import pytest

from birdnet_fs.core.errors import UserError
from birdnet_fs.encoders.cards import CARDS, EncoderCard, find_card, read_card

OWN = {"name": "frog", "title": "Frog", "formats": ["onnx"], "sample_rate_hz": 16000, "segment_s": 5, "width": 768}


def test_cards_state_the_published_inputs_and_widths():
    facts = {name: (card.n_samples, card.sample_rate_hz, card.width) for name, card in CARDS.items()}
    assert facts == {
        "birdnet_v2_4": (144_000, 48_000, 1024),
        "birdnet_v3": (96_000, 32_000, 1280),
        "perch_v2": (160_000, 32_000, 1536),
        "perch_v2_peak": (160_000, 32_000, 1536),
    }
    assert all(card.license != "not stated" and card.obtain and card.source for card in CARDS.values())


def test_a_written_card_reads_back_equal(tmp_path):
    for card in CARDS.values():
        file = tmp_path / f"{card.name}.json"
        file.write_text(json.dumps(card.to_json()))
        assert read_card(file) == card == find_card(str(file))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sample_rate_hz": 0}, "sample_rate_hz must be in 1..500000. Received: 0"),
        ({"sample_rate_hz": "16000"}, "'sample_rate_hz' must be a whole number. Received: '16000'"),
        ({"sample_rate_hz": True}, "'sample_rate_hz' must be a whole number"),
        ({"segment_s": 1e9}, "segment_s must be above 0, up to 600"),
        ({"segment_s": float("nan")}, "NaN is no number in JSON"),
        ({"segment_s": 0.00001}, "whole number of samples"),
        ({"width": 10**9}, "width must be in 1..65536"),
        ({"formats": ["savedmodel"]}, "formats must be tflite, onnx or both"),
        ({"formats": "onnx"}, "'formats' must be a list"),
        ({"normalization": "peak"}, "normalization must be none or peak_0.25"),
        ({"n_scores": 5}, "activation must be logits, sigmoid or softmax"),
        ({"activation": "relu", "n_scores": 5}, "activation must be logits, sigmoid or softmax"),
        ({"embeding": "x"}, "no field 'embeding'. Did you mean 'embedding'?"),
        ({"width": None}, "'width' must be a whole number"),
    ],
)
def test_a_wrong_card_is_refused_with_the_field(tmp_path, change, message):
    file = tmp_path / "card.json"
    file.write_text(json.dumps({**OWN, **change}))
    with pytest.raises(UserError) as caught:
        read_card(file)
    assert message in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[]", b"{", b"[" * 100_000, b'{"name": "a"}'])
def test_a_file_that_is_no_card_is_refused(tmp_path, content):
    file = tmp_path / "card.json"
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"card\.json"):
        read_card(file)


def test_unknown_names_are_answered_with_the_known_ones():
    with pytest.raises(
        UserError, match=r"birdnet_v2_4, birdnet_v3, perch_v2, perch_v2_peak.*Did you mean 'birdnet_v3'"
    ):
        find_card("birdnet_3")
    with pytest.raises(UserError, match="No such file"):
        find_card("missing.json")


def test_a_card_holds_a_whole_number_of_samples():
    card = EncoderCard(**{**OWN, "formats": ("onnx",)})
    assert card.n_samples == 80_000
    assert dataclasses.replace(card, segment_s=0.2).n_samples == 3200
