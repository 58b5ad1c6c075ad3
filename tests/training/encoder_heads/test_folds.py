"""Grouped folds inside the training clips."""

import dataclasses

import numpy as np
from embedded_clips import embedded_clips, head_experiment

from birdnet_fs.training.encoder_heads import folds as module
from birdnet_fs.training.encoder_heads.folds import inner_folds, out_of_fold
from birdnet_fs.training.encoder_heads.prototypes import solve_prototypes
from birdnet_fs.training.encoder_heads.transform import fit_transform


def test_folds_never_divide_a_group_and_cover_all_clips():
    for multi_label in (False, True):
        data = embedded_clips(multi_label=multi_label)
        folds = inner_folds(data, seed=1)
        assert len(folds) == module.N_FOLDS
        assert sorted(np.concatenate(folds)) == list(range(data.n_clips))
        held = [{data.groups[i] for i in fold} for fold in folds]
        assert sum(map(len, held)) == len(set.union(*held))


def test_what_cannot_be_held_out_stays_in_training(recwarn, capsys):
    data = embedded_clips()
    assert inner_folds(dataclasses.replace(data, groups=["one"] * data.n_clips), seed=1) == []
    truth = data.targets.argmax(1)
    groups = [f"all of {label}" if label == 1 else group for label, group in zip(truth, data.groups, strict=True)]
    folds = inner_folds(dataclasses.replace(data, groups=groups), seed=1)
    assert len(folds) == module.N_FOLDS and set(truth[np.concatenate(folds)]) == {0, 2}
    single = [str(label) for label in truth]
    assert inner_folds(dataclasses.replace(data, groups=single), seed=1) == []
    assert capsys.readouterr() == ("", "") and not recwarn.list


def test_folds_depend_on_the_seed_alone():
    data = embedded_clips()
    first, again, other = (np.concatenate(inner_folds(data, seed)).tolist() for seed in (1, 1, 2))
    assert first == again != other


def test_large_data_holds_out_one_fold(monkeypatch):
    monkeypatch.setattr(module, "MAX_NUMBERS", 100)
    assert len(inner_folds(embedded_clips(), seed=1)) == 1


def test_logits_of_a_clip_come_from_a_head_that_was_not_fitted_to_its_group():
    """Every group has a dimension of its own, by which the head recognizes clips of groups that it was fitted to."""
    data = embedded_clips(separation=0.0)
    names = sorted(set(data.groups))
    leak = np.array([names.index(group) for group in data.groups])
    features = np.concatenate([data.features * 0.01, 10 * np.eye(len(names))[leak][data.clip]], axis=1)
    data = dataclasses.replace(data, features=features.astype(np.float32))
    experiment = head_experiment("prototypes")

    def solve(part):
        return solve_prototypes(part, fit_transform(part, root=False, each=False), [experiment.model], experiment)

    truth = data.targets.argmax(1)[data.clip]
    assert (solve(data)[0].score(data).argmax(1) == truth).mean() == 1
    held, (logits,) = out_of_fold(solve, data, inner_folds(data, seed=1))
    assert held.n_clips == data.n_clips
    assert (logits.argmax(1) == truth).mean() < 0.7
