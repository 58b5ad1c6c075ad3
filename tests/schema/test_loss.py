"""Checks of the loss settings."""

import pytest

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.settings import override
from birdnet_fs.schema import Experiment


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("training.loss=asymmetric", "training.loss=asymmetric needs data.multi_label=true"),
        ("training.loss=soft_auc", "training.loss=soft_auc needs data.multi_label=true"),
        ("training.loss=bce", "training.loss=bce needs data.multi_label=true"),
        ("training.loss=ce data.multi_label=true", "training.loss=ce needs data.multi_label=false"),
        ("training.loss=circle", "training.loss=circle needs model.head=cosine. Received: 'linear'"),
        ("training.loss.margin=1", "training.loss.margin must be in [0, 1)"),
        ("training.loss.frame_loss=0.5", "training.loss.frame_loss needs model.head=sed"),
        ("training.loss.focal_gamma=0.5", "training.loss.focal_gamma must be 1 or more"),
        ("training.loss.label_smoothing=1", "training.loss.label_smoothing must be in [0, 1)"),
        ("training.loss.rare_class_weight=0.5", "training.loss.rare_class_weight must be 1 (none) or more"),
        (
            "model.head=cosine training.loss=arcface training.loss.class_weights=inverse",
            "training.loss=arcface takes no training.loss.class_weights; use training.sampling",
        ),
        (
            "model.head=cosine training.loss=arcface augmentation.mixup.p=0.5",
            "needs one class per clip, not a mixture; set augmentation.mixup.p=0. Received: 'augmentation.mixup.p'",
        ),
        (
            "model.head=cosine training.loss=arcface data.multi_label=true",
            "training.loss=arcface needs data.multi_label=false",
        ),
        ("model.head=sed training.loss=arcface", "training.loss=arcface needs model.head=cosine. Received: 'sed'"),
    ],
)
def test_loss_refuses_what_does_not_fit(settings: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        override(Experiment(), settings.split())
    assert words in str(caught.value)
