"""`birdnet-fs encoders`: the list, the inspection of a file, and a card of one's own."""

import json

import foreign_encoders
import pytest
from installed import need

from birdnet_fs.cli.encoders import encoders
from birdnet_fs.core.errors import UserError
from birdnet_fs.encoders.cards import CARDS
from birdnet_fs.encoders.open import open_encoder

need("ai_edge_litert")
need("onnx")
NOTHING = {
    "card": "",
    "sample_rate_hz": 0,
    "segment_s": 0.0,
    "embedding": "",
    "normalization": "none",
    "output": None,
}


def test_the_list_states_license_and_origin_of_every_card(capsys):
    encoders(None, **NOTHING)
    text = capsys.readouterr().out
    for card in CARDS.values():
        assert card.name in text and card.license in text and card.obtain in text


def test_a_file_is_described_with_its_card_and_license(tmp_path, capsys):
    file = foreign_encoders.write_tflite(tmp_path / "model.tflite", 144_000, 1024, 6522)
    encoders(file, **NOTHING)
    text = capsys.readouterr().out
    assert "INPUT [n, 144000] float32" in text and "card: birdnet_v2_4" in text and "CC BY-NC-SA 4.0" in text


def test_a_card_of_ones_own_is_written_and_used(tmp_path, capsys):
    file = foreign_encoders.write_onnx(tmp_path / "frogs.onnx", 80_000, 96, outputs=("label:y", "embedding:x"))
    with pytest.raises(UserError, match="none of the encoder cards"):
        encoders(file, **NOTHING)
    card = tmp_path / "frogs.json"
    own = {**NOTHING, "sample_rate_hz": 16_000, "segment_s": 5.0, "embedding": "x", "output": card}
    encoders(file, **own)
    assert "card: frogs" in capsys.readouterr().out
    assert json.loads(card.read_text())["width"] == 96
    assert open_encoder(file, str(card)).width == 96
    encoders(file, **{**NOTHING, "card": str(card)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embedding": "z"}, "--embedding must be 'y' or 'x'. Received: 'z'"),
        ({"segment_s": 0.0}, "needs --sample_rate HZ and --segment S"),
        ({"segment_s": 4.0}, r"would not fit .*\[n, 80000\].*\[n, 64000\] was expected"),
        ({"normalization": "loud"}, "normalization must be none or peak_0.25"),
        ({"output": "card.txt"}, "A card is a .json file"),
    ],
)
def test_wrong_descriptions_are_refused_and_write_nothing(tmp_path, change, message):
    file = foreign_encoders.write_onnx(tmp_path / "frogs.onnx", 80_000, 96, outputs=("label:y", "embedding:x"))
    own = {**NOTHING, "sample_rate_hz": 16_000, "segment_s": 5.0, "embedding": "x", "output": "card.json", **change}
    own["output"] = tmp_path / own["output"]
    with pytest.raises(UserError, match=message):
        encoders(file, **own)
    assert not own["output"].exists()


def test_options_without_a_file_are_refused():
    with pytest.raises(UserError, match="give the encoder"):
        encoders(None, **{**NOTHING, "card": "perch_v2"})
