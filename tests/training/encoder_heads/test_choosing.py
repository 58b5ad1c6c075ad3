"""Candidates, ties, and what is chosen on folds."""

import dataclasses

import numpy as np
import pytest
from embedded_clips import clips_with_class_in_tokens, embedded_clips, head_experiment

from birdnet_fs.core.errors import UserError
from birdnet_fs.training.encoder_heads import choosing
from birdnet_fs.training.encoder_heads.choosing import KINDS, candidates, choose, default
from birdnet_fs.training.encoder_heads.folds import inner_folds
from birdnet_fs.training.encoder_heads.solution import Solution


def test_candidates_fill_in_what_is_open():
    data = embedded_clips()
    found = candidates(data, head_experiment("linear").model)
    assert [model.encoder_head.l2 for model in found] == list(KINDS["linear"].l2)
    assert {model.encoder_head.transform for model in found} == {"sqrt"}
    negative = dataclasses.replace(data, features=data.features - 1)
    expected = [head_experiment("linear", l2=0.5, transform="none").model]
    assert candidates(negative, head_experiment("linear", l2=0.5).model) == expected
    given = dataclasses.replace(head_experiment("cosine").model, logit_scale=3.0)
    assert [model.logit_scale for model in candidates(data, given)] == [3.0]
    assert default(found).encoder_head.l2 == choosing.DEFAULT_L2


def test_auto_tries_every_head_that_fits_the_features():
    heads = {model.head for model in candidates(embedded_clips(), head_experiment("auto").model)}
    assert heads == set(KINDS) - {"attentive"}
    heads = {model.head for model in candidates(clips_with_class_in_tokens(), head_experiment("auto").model)}
    assert heads == set(KINDS)


def test_heads_that_do_not_fit_are_refused():
    data = embedded_clips()
    with pytest.raises(UserError, match=r"attentive needs tokens .* \[\d+, 12\]; set model.head=auto"):
        candidates(data, head_experiment("attentive").model)
    with pytest.raises(UserError, match=r"transform=sqrt needs embeddings of 0 or more"):
        candidates(dataclasses.replace(data, features=-data.features), head_experiment("auto", transform="sqrt").model)


def fake_solve(quality: dict[str, float]):
    """Heads whose logits are the truth times a factor plus noise, which is the same for all."""

    def solve(data, found, experiment):
        def score(model):
            def logits(given):
                noise = np.random.default_rng(0).standard_normal((len(given.clip), 3))
                return quality[model.head] * given.targets[given.clip] + noise

            return logits

        return [Solution(model, {}, score(model)) for model in found]

    return solve


@pytest.mark.parametrize(
    ("quality", "winner"),
    [
        ({"prototypes": 2.0, "linear": 2.0, "mlp": 2.0}, "prototypes"),
        ({"prototypes": 1.0, "linear": 2.0, "mlp": 2.001}, "linear"),
        ({"prototypes": 1.0, "linear": 2.0, "mlp": 4.0}, "mlp"),
    ],
)
@pytest.mark.parametrize("multi_label", [False, True])
def test_the_best_head_wins_and_ties_go_to_the_simplest(monkeypatch, quality, winner, multi_label):
    monkeypatch.setattr(choosing, "solve", fake_solve(quality))
    data, experiment = embedded_clips(), head_experiment("auto", multi_label=multi_label)
    found = [head_experiment(head, transform="none").model for head in quality]
    chosen = choose(found, data, inner_folds(data, 1), experiment)
    assert chosen.model.head == winner == chosen.choices["chosen"]["head"]
    by = "macro_auroc" if multi_label else "log_loss"
    assert chosen.choices["criterion"] == by
    scores = {row["head"]: row[by] for row in chosen.choices["candidates"]}
    sign = -1 if multi_label else 1
    for head, difference in chosen.choices["better_by"].items():
        assert difference == pytest.approx(sign * (scores[head] - scores[winner]))
        assert f"{head} by {difference:.4f}" in chosen.remark
    assert chosen.remark.startswith(f"model.head={winner}")


def test_a_given_scale_is_kept(monkeypatch):
    monkeypatch.setattr(choosing, "solve", fake_solve({"cosine": 2.0}))
    data, experiment = embedded_clips(), head_experiment("cosine")
    model = dataclasses.replace(experiment.model, logit_scale=7.0)
    chosen = choose([model], data, inner_folds(data, 1), dataclasses.replace(experiment, model=model))
    assert chosen.scale == pytest.approx(1) and chosen.choices == {} and chosen.remark == ""
