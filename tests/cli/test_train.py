"""`birdnet-fs train`: suggestions, existing run folders and headline metrics."""

import pytest

from birdnet_fs.cli.train import advice


@pytest.mark.parametrize(("auroc", "told"), [(0.49, True), (0.599, True), (0.6, False), (0.98, False), (None, False)])
def test_a_run_that_guesses_is_told_what_to_try(auroc: float | None, told: bool) -> None:
    sentence = advice({"macro_auroc": auroc, "accuracy": 0.1})
    assert bool(sentence) is told
    assert not told or ("near chance level" in sentence and "training.learning_rate" in sentence)


def test_runs_that_learn_in_episodes_have_no_such_number() -> None:
    assert advice({"test_acc": 0.2}) == ""
