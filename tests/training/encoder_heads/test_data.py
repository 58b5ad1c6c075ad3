"""Clips and their windows: weights, means, parts, and data that is refused."""

import dataclasses

import numpy as np
import pytest
from embedded_clips import embedded_clips

from birdnet_fs.core.errors import UserError
from birdnet_fs.training.encoder_heads.data import Views, check_data


def test_every_clip_has_the_same_weight_and_its_mean():
    data = embedded_clips()
    for i in range(data.n_clips):
        own = data.clip == i
        assert data.weights[own].sum() == pytest.approx(1 / data.n_clips)
        np.testing.assert_allclose(data.means(data.features)[i], data.features[own].mean(0, dtype=float))


def test_a_part_holds_the_windows_of_its_clips():
    data = embedded_clips()
    part = data.part(np.array([1, 4, 5]))
    assert part.n_clips == 3 and part.groups == [data.groups[i] for i in (1, 4, 5)]
    for new, old in enumerate((1, 4, 5)):
        np.testing.assert_array_equal(part.features[part.clip == new], data.features[data.clip == old])
        np.testing.assert_array_equal(part.targets[new], data.targets[old])


def test_a_part_has_the_views_of_its_clips_that_have_nothing_of_other_clips():
    data = embedded_clips()
    features = np.arange(10, dtype=np.float32)[:, None]
    view = np.array([0, 0, 1, 2, 2, 2, 3, 4, 4, 4])
    clip, partner = np.array([1, 4, 5, 2, 4]), np.array([1, 5, 7, 2, 4])
    views = Views(features, view, clip, partner, np.arange(15, dtype=np.float32).reshape(5, 3))
    part = dataclasses.replace(data, augmented=views).part(np.array([1, 4, 5])).augmented
    assert part.features.ravel().tolist() == [0, 1, 2, 7, 8, 9] and part.view.tolist() == [0, 0, 1, 2, 2, 2]
    assert part.clip.tolist() == [0, 1, 1] and part.partner.tolist() == [0, 2, 1]
    np.testing.assert_array_equal(part.targets, views.targets[[0, 1, 4]])


def test_views_are_further_clips_of_the_group_of_their_clip():
    data = embedded_clips()
    own = np.array([3, 0])
    views = Views(data.features[:3] + 1, np.array([0, 0, 1]), own, own, data.targets[own])
    fitted = dataclasses.replace(data, augmented=views).with_views()
    check_data(fitted, 3)
    assert fitted.n_clips == data.n_clips + 2 and fitted.groups[-2:] == [data.groups[3], data.groups[0]]
    np.testing.assert_array_equal(fitted.features[fitted.clip == data.n_clips], views.features[:2])
    assert fitted.weights[-1] == pytest.approx(1 / fitted.n_clips) and data.with_views() is data


def test_tokens_are_averaged():
    data = embedded_clips()
    tokens = np.stack([data.features, 3 * data.features], axis=1)
    np.testing.assert_allclose(dataclasses.replace(data, features=tokens).embeddings, 2 * data.features, rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": np.zeros((3, 2, 2, 2), np.float32)}, "Embeddings must be"),
        ({"groups": ["a"]}, "Embeddings must be"),
        ({"targets": np.zeros((30, 2), np.float32)}, "targets must be .* 3 classes"),
        ({"clip": embedded_clips().clip[::-1]}, "in the order of their clips"),
    ],
)
def test_shapes_that_disagree_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        check_data(dataclasses.replace(embedded_clips(), **changes), 3)


def test_numbers_that_are_not_finite_are_refused_with_their_group():
    data = embedded_clips()
    data.features[data.clip == 7] = np.nan
    with pytest.raises(UserError, match=rf"1 of 30 training clips .*number 7, group {data.groups[7]}"):
        check_data(data, 3)
