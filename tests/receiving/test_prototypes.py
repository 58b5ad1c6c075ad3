"""Prototypes on the receiving side against the package's own calibration and Keras' layer."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tolerances
from receiving import module

from birdnet_fs.core.errors import UserError
from birdnet_fs.export.parity.embeddings import ARTIFACT_DISTANCES
from birdnet_fs.fewshot.calibration import EmbeddingDistance, calibrate
from birdnet_fs.models.heads.prototypes import PrototypeLogits, dense_layers


@pytest.fixture(scope="module")
def prototypes():
    """`export/prototypes.py` as a module."""
    return module("prototypes")


@pytest.mark.parametrize("distance", ["euclidean", "cosine", "learned"])
@pytest.mark.parametrize("n_noises", [0, 30])
@pytest.mark.parametrize("counts", [(5, 4, 3), (1, 1, 1), (4, 1, 1), (3,), (1,)], ids=str)
def test_prototypes_equal_those_of_the_package(
    prototypes, distance: str, n_noises: int, counts: tuple[int, ...]
) -> None:
    """Its calibration is checked by brute force in tests/fewshot; the logits here are Keras' own layer's."""
    random = np.random.default_rng(len(counts) + n_noises)
    labels = [f"class {c}" for c, n in enumerate(counts) for _ in range(n)]
    means = random.normal(size=(len(counts), 24))
    x = np.concatenate([means[c] + 0.7 * random.normal(size=(n, 24)) for c, n in enumerate(counts)]).astype(np.float32)
    noises, query = (random.normal(size=(n, 24)).astype(np.float32) for n in (n_noises, 7))
    head = PrototypeLogits(len(counts) + 1, distance, 0.7, unknown=True)
    head.build((None, 24))
    dense = dense_layers(head.learned) if distance == "learned" else ()
    center = None if distance == "euclidean" else random.normal(0, 0.2, 24).astype(np.float32)
    center = np.zeros(24, np.float32) if distance == "learned" else center
    way, support = (
        prototypes.EmbeddingDistance(ARTIFACT_DISTANCES.get(distance, distance), center, list(dense)),
        prototypes.Support(labels, [""] * len(x), x),
    )
    if len(x) == 1 and not n_noises:
        with pytest.raises(UserError, match="one clip of one class"):
            calibrate(labels, x, noises, EmbeddingDistance(distance, center, dense), unknown=True)
        with pytest.raises(prototypes.InputError, match="one clip of one class"):
            prototypes.fit_prototypes(support, noises, way, "", unknown=True)
        return
    wanted = calibrate(labels, x, noises, EmbeddingDistance(distance, center, dense), unknown=True)
    found = prototypes.fit_prototypes(support, noises, way, "", unknown=True)
    assert (found.scale, found.unknown) == pytest.approx((wanted.scale, wanted.unknown), rel=tolerances.FLOAT64_SUMS)
    head.scale = wanted.scale
    head.prototypes.assign(wanted.prototypes)
    head.center.assign(wanted.center)
    head.unknown_logit.assign([wanted.unknown])
    expected = keras.ops.convert_to_numpy(head(query))
    size = np.abs(expected).max()
    np.testing.assert_allclose(found.logits(query, way) / size, expected / size, atol=tolerances.PROTOTYPE_LOGITS)


def test_interrupted_writing_keeps_the_earlier_file(prototypes, tmp_path: Path, monkeypatch) -> None:
    support = prototypes.Support(["a", "b"], ["", ""], np.eye(2, dtype=np.float32))
    known = prototypes.fit_prototypes(
        support, np.empty((0, 2)), prototypes.EmbeddingDistance("euclidean", None, []), "e", unknown=False
    )
    prototypes.save_prototypes(tmp_path / "mine.npz", known)
    before = (tmp_path / "mine.npz").read_bytes()
    opened = prototypes.open_prototypes(tmp_path / "mine.npz", "e", 2)
    assert opened.unknown is None and opened.names == ["a", "b"] and opened.scale == known.scale

    def stop(*_):
        raise KeyboardInterrupt

    for name in ("replace", "fsync", "chmod"):
        with monkeypatch.context() as patch:
            patch.setattr(prototypes.os, name, stop)
            with pytest.raises(KeyboardInterrupt):
                prototypes.save_prototypes(tmp_path / "mine.npz", known)
        assert [path.name for path in tmp_path.iterdir()] == ["mine.npz"]
        assert (tmp_path / "mine.npz").read_bytes() == before
