"""Features of heads: embeddings of one encoder, of several of other rates and windows, and encoders that moved."""

import dataclasses
import shutil

import encoder_runs
import foreign_encoders
import numpy as np
import pytest
import soxr
from installed import need

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.inference.embedder import embedder_facts
from birdnet_fs.inference.encoder_features import EncoderFeatures, features_of_settings

need("onnxruntime")

ATOL = 1e-5  # float32 sums of 100 samples and 32 products of size 1, with a margin of 10


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoders")
    first, card = encoder_runs.write_encoder(folder)
    second = foreign_encoders.write_onnx(folder / "half.onnx", 800, 12, outputs=("embedding",))
    half = card.with_name("half.json")
    half.write_text(
        '{"name": "half", "title": "Half", "formats": ["onnx"], "sample_rate_hz": 8000, "segment_s": 0.1, "width": 12}'
    )
    return first, card, second, half


def settings(*encoders, **head) -> schema.Model:
    return schema.Model(
        encoder=",".join(map(str, encoders[::2])),
        encoder_card=",".join(map(str, encoders[1::2])),
        encoder_head=schema.EncoderHead(**head),
    )


def test_one_encoder_gives_its_embeddings(encoders):
    features = features_of_settings(settings(*encoders[:2]))
    windows = np.random.default_rng(0).uniform(-1, 1, (3, encoder_runs.N_SAMPLES)).astype(np.float32)
    assert (features.sample_rate_hz, features.n_samples, features.input_shape) == (16_000, 3200, (24,))
    expected = foreign_encoders.embedding(windows, 24)
    np.testing.assert_allclose(features.features(windows), expected, atol=ATOL)


def test_encoders_of_other_rate_and_window_are_concatenated(encoders):
    """The second is resampled, and embeds the windows at 0, .05 and .1 s, whose mean counts."""
    features = features_of_settings(settings(*encoders))
    windows = np.random.default_rng(0).uniform(-1, 1, (2, encoder_runs.N_SAMPLES)).astype(np.float32)
    found = features.features(windows)
    assert features.input_shape == (36,) and found.shape == (2, 36)
    np.testing.assert_allclose(found[:, :24], foreign_encoders.embedding(windows, 24), atol=ATOL)
    for row, given in zip(windows, found[:, 24:], strict=True):
        half = soxr.resample(row, 16_000, 8000, quality="HQ")[:1600]
        cut = np.stack([half[start : start + 800] for start in (0, 400, 800)])
        expected = foreign_encoders.embedding(cut, 12).mean(0)
        np.testing.assert_allclose(given, expected, atol=ATOL)


def test_average_needs_encoders_of_one_width(encoders):
    with pytest.raises(UserError, match=r"average needs encoders of one width; .* small 24, half 12"):
        features_of_settings(settings(*encoders, combine="average"))


def test_average_of_an_encoder_with_itself_is_its_embedding(encoders):
    windows = np.random.default_rng(0).uniform(-1, 1, (2, encoder_runs.N_SAMPLES)).astype(np.float32)
    both = features_of_settings(settings(*encoders[:2], *encoders[:2], combine="average"))
    one = features_of_settings(settings(*encoders[:2]))
    np.testing.assert_array_equal(both.features(windows), one.features(windows))


def test_a_card_is_needed_for_each_encoder(encoders):
    with pytest.raises(UserError, match="one card for each of the 2 encoders"):
        features_of_settings(dataclasses.replace(settings(*encoders), encoder_card=str(encoders[1])))


def test_identity_depends_on_encoder_card_and_combination(encoders, tmp_path):
    copied = shutil.copy(encoders[0], tmp_path / "elsewhere.onnx")
    one, same = (features_of_settings(settings(file, encoders[1])).identity for file in (encoders[0], copied))
    assert one == same
    facts = embedder_facts(encoders[0], str(encoders[1]))
    other = dataclasses.replace(facts, identity="x")
    assert EncoderFeatures((other,), (encoders[0],), ("",)).identity != one
    both = features_of_settings(settings(*encoders)).identity
    assert len({one, both, features_of_settings(settings(*encoders[2:])).identity}) == 3
