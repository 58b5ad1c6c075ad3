"""One contract over every card: a stand-in of its shape embeds as NumPy does, alone and in any batch."""

import foreign_encoders
import numpy as np
import pytest
import tolerances
from installed import need

from birdnet_fs.core.errors import UserError
from birdnet_fs.encoders.cards import CARDS
from birdnet_fs.encoders.open import normalized, open_encoder

need("ai_edge_litert")
need("onnx")


def write(folder, card, kind="", **changes):
    """A stand-in for a card, and its embedding and scores of waveforms in NumPy."""
    if card.embedding == "before_last_dense":
        batch = changes.get("batch") or -1
        return foreign_encoders.write_tflite(
            folder / f"{card.name}{kind}.tflite", card.n_samples, card.width, card.n_scores, batch=batch
        )
    n_scores = card.n_scores if card.n_scores > 0 else 77
    outputs = ("label:second", "tokens:third", "embedding:first")
    return foreign_encoders.write_onnx(
        folder / f"{card.name}{kind}.onnx",
        card.n_samples,
        card.width,
        outputs=outputs,
        n_scores=n_scores,
        tokens=card.tokens or (1, card.width),
        **changes,
    )


def expected(card, waveforms):
    """Embeddings and scores of the stand-in in float64, with the card's normalization written out."""
    x = waveforms.astype(np.float64)
    if card.normalization == "peak_0.25":
        x = x - x.mean(1, keepdims=True)
        x = x / np.abs(x).max(1, keepdims=True) * 0.25
    embeddings = foreign_encoders.embedding(x, card.width)
    if card.embedding == "before_last_dense":
        return embeddings, foreign_encoders.tflite_scores(x, card.width, card.n_scores)
    return embeddings, foreign_encoders.scores_of(embeddings, card.n_scores if card.n_scores > 0 else 77)


def some_waveforms(card, n):
    return (np.random.default_rng(n).normal(size=(n, card.n_samples)) * 0.1 + 0.02).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("encoders")


@pytest.mark.parametrize("kind", ["open", "one", "three"])
@pytest.mark.parametrize("card", CARDS.values(), ids=CARDS)
def test_every_card_embeds_and_scores_as_numpy_does(folder, card, kind):
    batch = {"open": None, "one": 1, "three": 3}[kind]
    path = write(folder, card, kind, batch=batch)
    encoder = open_encoder(path, card.name, scores=True, threads=1)
    assert encoder.fixed_batch == (batch or 0)
    waveforms = some_waveforms(card, 4)
    embeddings, scores = encoder.embed_and_score(waveforms)
    wanted, wanted_scores = expected(card, waveforms)
    assert embeddings.shape == (4, card.width) and embeddings.dtype == np.float32
    np.testing.assert_allclose(embeddings, wanted, atol=tolerances.ENCODER_STAND_IN * np.abs(wanted).max())
    np.testing.assert_allclose(scores, wanted_scores, atol=tolerances.ENCODER_STAND_IN * np.abs(wanted_scores).max())
    alone = open_encoder(path, card.name, threads=1)
    assert alone.embed_and_score(waveforms)[1].shape == (4, 0)
    one_by_one = np.concatenate([alone.embed(waveform[None]) for waveform in waveforms])
    np.testing.assert_allclose(one_by_one, embeddings, atol=tolerances.ENCODER_STAND_IN * np.abs(wanted).max())


def test_an_open_length_is_filled_with_the_window_of_the_card(folder):
    card = CARDS["birdnet_v3"]
    path = foreign_encoders.write_onnx(
        folder / "open.onnx", 96_000, 1280, outputs=("label", "embedding"), open_length=True
    )
    waveforms = some_waveforms(card, 2)
    found = open_encoder(path).embed(waveforms)
    wanted = foreign_encoders.embedding(waveforms, 1280)
    np.testing.assert_allclose(found, wanted, atol=tolerances.ENCODER_STAND_IN * np.abs(wanted).max())


def test_identity_differs_with_the_file_and_with_the_normalization(folder):
    card = CARDS["perch_v2"]
    path = write(folder, card, "identity")
    identities = {open_encoder(path, name).identity for name in ("perch_v2", "perch_v2_peak")}
    again = open_encoder(path, "perch_v2").identity
    other = foreign_encoders.write_onnx(
        folder / "o.onnx", 160_000, 1536, outputs=("label", "embedding:e"), n_scores=14_795
    )
    assert len(identities) == 2 and again in identities
    assert open_encoder(other, "perch_v2").identity not in identities


def test_peak_normalization_keeps_silence_and_ignores_neighbors():
    rng = np.random.default_rng(0)
    waveforms = np.stack([np.zeros(100), np.full(100, 0.5), rng.normal(size=100), 1e-6 * rng.normal(size=100)])
    found = normalized(waveforms.astype(np.float32), "peak_0.25")
    assert not found[:2].any()
    np.testing.assert_allclose(np.abs(found[2:]).max(1), 0.25)
    np.testing.assert_array_equal(normalized(waveforms[2:3].astype(np.float32), "peak_0.25"), found[2:3])


@pytest.mark.parametrize(
    ("waveforms", "message"),
    [
        (np.zeros((2, 5), np.float32), r"must be \[n, 96000\] \(3 s at 32000 Hz\)"),
        (np.zeros(96_000, np.float32), r"must be \[n, 96000\]"),
        (np.full((1, 96_000), np.nan, np.float32), "NaN or infinite"),
    ],
)
def test_wrong_waveforms_are_refused(folder, waveforms, message):
    encoder = open_encoder(write(folder, CARDS["birdnet_v3"], "wrong"))
    with pytest.raises(UserError, match=message):
        encoder.embed(waveforms)


def test_one_answer_for_all_windows_is_refused(folder):
    path = foreign_encoders.write_onnx(
        folder / "one_row.onnx", 96_000, 1280, outputs=("label", "embedding"), answer_rows=1
    )
    encoder = open_encoder(path)
    with pytest.raises(UserError, match=r"must give \[3, 1280\] for 3 windows; it gives \[1, 1280\]"):
        encoder.embed(np.zeros((3, 96_000), np.float32))


def test_scores_are_refused_where_a_card_has_none(folder):
    path = foreign_encoders.write_onnx(folder / "own.onnx", 80_000, 768, outputs=("embedding:features",))
    own = folder / "own.json"
    own.write_text(
        '{"name": "own", "title": "Own", "formats": ["onnx"], "sample_rate_hz": 16000, "segment_s": 5, "width": 768}'
    )
    assert open_encoder(path, str(own)).embed(np.zeros((1, 80_000), np.float32)).shape == (1, 768)
    with pytest.raises(UserError, match=r"own .* has no scores of its own"):
        open_encoder(path, str(own), scores=True)
    with pytest.raises(UserError, match="threads must be 0"):
        open_encoder(path, str(own), threads=-1)
