"""Synthetic embeddings of rare classes: points between a clip and one of its nearest neighbors of the same class.

SMOTE, Chawla et al. 2002, https://arxiv.org/abs/1106.1813, by imbalanced-learn. The points lie between the mean
embeddings of clips, since labels belong to clips. Heads are fitted to them and never scored on them.
"""

import importlib.util

import numpy as np

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.random_streams import Stream, integer_seed
from birdnet_fs.training.encoder_heads.data import HeadData

NEIGHBORS = 5  # as in the paper; fewer where a class has fewer other clips
MIN_CLIPS = 2  # of a class, for a point between two of them


def check_smote() -> None:
    """Check that imbalanced-learn is installed.

    Raises:
        UserError: The library is not installed.
    """
    if importlib.util.find_spec("imblearn") is None:
        raise UserError(
            "model.encoder_head.smote needs the library imbalanced-learn, which is not installed. Install it with "
            "pip install 'birdnet_fs[smote]', or set model.encoder_head.smote=false."
        )


def with_smote(data: HeadData, seed: int) -> HeadData:
    """Data that a head is fitted to: the clips, their views, and synthetic clips.

    Each class with MIN_CLIPS clips or more gets as many synthetic ones that it has as many clips as the most frequent
    class; a class with fewer stays as it is.

    Args:
        data: The clips, one label each.
        seed: Seed of the experiment.

    Returns:
        The data; synthetic clips come last, have one window each and are a group of their own.
    """
    from imblearn.over_sampling import SMOTE

    whole, inputs = data.with_views(), data.inputs
    points = data.means(inputs.reshape(len(inputs), -1))
    label = data.targets.argmax(1)
    counts = np.bincount(label, minlength=data.targets.shape[1])
    made, classes = [points[:0]], list[int]()
    for number in np.flatnonzero((counts >= MIN_CLIPS) & (counts < counts.max())).tolist():
        n_wanted = int(counts.max() - counts[number])
        sampler = SMOTE(
            sampling_strategy={1: int(counts.max())},
            k_neighbors=min(NEIGHBORS, int(counts[number]) - 1),
            random_state=integer_seed(seed, Stream.HEAD_SMOTE, number),
        )
        made.append(sampler.fit_resample(points, label == number)[0][len(points) :])
        classes += [number] * n_wanted
    features = np.concatenate(made).reshape(-1, *data.input_shape).astype(np.float32)
    own = None if data.own is None else np.concatenate([whole.own, features[:, -data.n_own :]])
    features = features if data.own is None else features[:, : -data.n_own]
    n_new = len(classes)
    return HeadData(
        np.concatenate([whole.features, features]),
        np.concatenate([whole.clip, whole.n_clips + np.arange(n_new)]),
        np.concatenate([whole.targets, np.eye(data.targets.shape[1], dtype=np.float32)[classes]]),
        [*whole.groups, *["synthetic"] * n_new],
        own=own,
    )
