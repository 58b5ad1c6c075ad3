"""Prototypes against class means by brute force."""

import numpy as np
import tolerances
from embedded_clips import embedded_clips, head_experiment

from birdnet_fs.training.encoder_heads.prototypes import solve_prototypes
from birdnet_fs.training.encoder_heads.transform import fit_transform


def test_prototypes_are_class_means_of_unit_vectors_in_which_clips_count_the_same():
    for multi_label in (False, True):
        data = embedded_clips(multi_label=multi_label)
        transform = fit_transform(data, root=True, each=False)
        experiment = head_experiment("prototypes", multi_label=multi_label)
        (solution,) = solve_prototypes(data, transform, [experiment.model], experiment)
        x = np.sqrt(data.features.astype(float))
        center = np.mean([x[data.clip == i].mean(0) for i in range(data.n_clips)], axis=0)
        for c in range(3):
            clips = [i for i in range(data.n_clips) if data.targets[i, c]]
            points = [[v / np.linalg.norm(v) for v in x[data.clip == i] - center] for i in clips]
            mean = np.mean([np.mean(own, axis=0) for own in points], axis=0)
            np.testing.assert_allclose(solution.weights["logits/prototypes"][c], mean, atol=tolerances.PROTOTYPES)


def test_a_class_without_clips_is_below_all_others():
    data = embedded_clips()
    data.targets[:, 2] = 0
    experiment = head_experiment("prototypes")
    transform = fit_transform(data, root=True, each=False)
    (solution,) = solve_prototypes(data, transform, [experiment.model], experiment)
    logits = solution.score(data)
    assert (logits[:, 2] < logits[:, :2].min(1)).all()
