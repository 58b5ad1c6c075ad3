"""A study with a stub for the training: how many trials there are, who goes on, what is kept, what comes to nothing."""

import json
import math
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from optuna.trial import TrialState

from birdnet_fs.core.errors import UserError
from birdnet_fs.schema import Categorical, Experiment, Float, Space, Training
from birdnet_fs.training.loop import DivergedError
from birdnet_fs.tuning import liveness, worker
from birdnet_fs.tuning.study import ALIVE, JOURNAL, Study, read_study
from birdnet_fs.tuning.trial_summary import TrialSummary, best_first
from birdnet_fs.tuning.worker import LOG, MAX_CONSECUTIVE_FAILURES

BASE = Experiment(name="base", seed=3, training=Training(epochs=6))
SPACE = Space({"training.learning_rate": Float(1e-4, 1e-1, log=True), "model.dropout": Float(0.0, 0.5)}, n_trials=12)
COLUMN = "val_macro_auroc"


def work(study: Study, train_one: Callable[..., None]) -> None:
    worker.work(study, train_one=train_one, free_memory=lambda: None)


def height(experiment: Experiment) -> float:
    """Highest at a learning rate of .01."""
    return 1 - abs(math.log10(experiment.training.learning_rate) + 2) / 4 - experiment.model.dropout / 100


def learn(experiment: Experiment, folder: Path, *, pretrained, read, watch) -> None:
    """A training that gets better by a sixth each epoch, and a little worse in the last."""
    history = []
    for epoch in range(1, experiment.training.epochs + 1):
        share = epoch / experiment.training.epochs if epoch < experiment.training.epochs else 0.8
        history.append({"epoch": epoch, COLUMN: height(experiment) * share})
        watch(COLUMN, history)
    (folder / "weights.safetensors").write_bytes(b"w")


def first_then(n: int, then: Callable[[], None]) -> Callable[..., None]:
    """`learn` for n trials, and then in the second epoch of the next something else."""
    calls = []

    def train(experiment: Experiment, folder: Path, *, watch, **others) -> None:
        calls.append(folder)

        def also(column: str, history: list) -> None:
            watch(column, history)
            if len(calls) == n + 1 and len(history) == 2:
                then()

        learn(experiment, folder, watch=also, **others)

    return train


def interrupt() -> None:
    raise KeyboardInterrupt


def diverge() -> None:
    raise DivergedError("The loss became NaN in epoch 3", {}, [])


def study_in(folder: Path, space: Space = SPACE, **settings) -> Study:
    return Study(folder, BASE, space, **{"grace_s": 0.5, **settings})


def outcome(study: Study) -> list[tuple]:
    return [(t.settings, t.values, t.state) for t in study.trials() if t.counts]


def test_study_draws_prunes_and_removes_unused_weights(tmp_path: Path) -> None:
    study = study_in(tmp_path / "s")
    work(study, train_one=learn)
    trials = study.trials()
    assert [t.number for t in trials] == list(range(12))
    assert {t.state for t in trials} == {"finished", "pruned"}
    for trial in trials:
        stored = json.loads((study.trial_folder(trial.number) / "trial.json").read_text())
        assert tuple(stored["settings"]) == trial.settings
        assert (study.trial_folder(trial.number) / LOG).is_file()
        assert not (study.trial_folder(trial.number) / "alive.json").exists()
    best = best_first(trials)
    assert best[0].best_epoch == 5
    assert best[0].value == max(t.value or 0 for t in trials)
    kept = {path.parent.name for path in tmp_path.rglob("weights.safetensors")}
    assert kept == {f"{trial.number:04d}" for trial in best[:3]}
    # median: a pruned trial was below the median of those trained to their end before, after as many epochs
    for trial in (t for t in trials if t.state == "pruned"):
        n = len(trial.values)
        others = sorted(t.values[n] for t in trials if t.state == "finished" and t.number < trial.number)
        assert n >= SPACE.n_warmup_epochs
        assert len(others) >= SPACE.n_startup_trials
        assert max(trial.values.values()) < (others[len(others) // 2] + others[(len(others) - 1) // 2]) / 2


def test_stopped_study_continues_with_the_same_draws(tmp_path: Path) -> None:
    whole, halved = study_in(tmp_path / "a"), study_in(tmp_path / "b", n_trials=5)
    work(whole, train_one=learn)
    work(halved, train_one=learn)
    assert len(halved.trials()) == 5
    again = study_in(tmp_path / "b")
    work(again, train_one=learn)
    assert outcome(again) == outcome(whole)
    work(study_in(tmp_path / "b"), train_one=lambda *_, **__: pytest.fail("nothing is left to train"))


def test_interrupted_trial_is_tried_again(tmp_path: Path) -> None:
    whole, stopped = study_in(tmp_path / "a"), study_in(tmp_path / "b")
    work(whole, train_one=learn)
    with pytest.raises(KeyboardInterrupt):
        work(stopped, train_one=first_then(4, interrupt))
    assert [t.state for t in stopped.trials()][4:] == ["lost", "waiting"]
    work(study_in(tmp_path / "b"), train_one=learn)
    assert outcome(stopped) == outcome(whole)  # later draws are those of a study that was never stopped


def test_stop_event_interrupts_the_trial_after_its_epoch(tmp_path: Path) -> None:
    study, stop = study_in(tmp_path), threading.Event()
    with pytest.raises(KeyboardInterrupt):
        worker.work(study, train_one=first_then(1, stop.set), free_memory=lambda: None, stop=stop)
    assert [(t.state, len(t.values)) for t in study.trials()] == [("finished", 6), ("lost", 2), ("waiting", 0)]


def test_trial_of_a_dead_process_is_retried_twice_at_most(tmp_path: Path) -> None:
    taken = []
    for _ in range(4):  # each by a process that touches its file no more
        study = study_in(tmp_path, n_trials=1, grace_s=60)
        taken.append(study.next())
        os.utime(study.trial_folder(taken[-1].number) / ALIVE, (0, 0))
    params = [trial.params for trial in taken if trial is not None]
    assert params[0] == params[1] == params[2] != params[3]
    assert [t.state for t in study_in(tmp_path).trials()] == ["lost", "lost", "lost", "running"]


def test_worker_takes_over_a_trial_whose_file_is_not_touched(tmp_path: Path) -> None:
    """All that is missing is at work in another process, which turns out to be dead."""
    other = study_in(tmp_path, n_trials=2)
    taken = [other.next(), other.next()]
    assert None not in taken
    study = study_in(tmp_path, n_trials=2)
    work(study, train_one=learn)
    assert [t.state for t in study.trials()] == ["lost", "lost", "finished", "finished"]
    assert [t.params for t in study.trials()[:2]] == [t.params for t in study.trials()[2:]]


def test_worker_leaves_trials_to_living_processes(tmp_path: Path) -> None:
    other = study_in(tmp_path, n_trials=2, grace_s=6)
    trial = other.next()
    assert trial is not None
    with other.alive(trial):
        study = study_in(tmp_path, n_trials=2, grace_s=6)
        work(study, train_one=learn)
    assert [t.state for t in study.trials()] == ["running", "finished"]


def test_process_considered_gone_does_not_report_its_trial(tmp_path: Path) -> None:
    study = study_in(tmp_path, n_trials=2)

    def others_take_over() -> None:
        frozen = study._study.get_trials()[-1]
        study._retry(frozen, "its process ended")

    work(study, train_one=first_then(0, others_take_over))
    states = [t.state for t in study.trials()]
    assert states[0] == "lost"
    assert states.count("finished") == 2
    assert "has taken over the trial" in (study.trial_folder(0) / LOG).read_text()


def test_several_workers_make_n_trials_in_total(tmp_path: Path) -> None:
    def one() -> None:
        study = study_in(tmp_path, grace_s=6)
        while (trial := study.next()) is not None:
            with study.alive(trial):
                trial.report(0.5, step=1)
                study.tell(trial, TrialState.COMPLETE, value=0.5)

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    trials = study_in(tmp_path).trials()
    assert [t.state for t in trials] == ["finished"] * 12
    assert len({t.settings or tuple(t.params.values()) for t in trials}) == 12  # no draw came twice


def test_diverged_trial_fails_and_the_study_continues(tmp_path: Path) -> None:
    study = study_in(tmp_path, n_trials=4)
    work(study, train_one=first_then(2, diverge))
    states = [t.state for t in study.trials()]
    assert states == ["finished", "finished", "failed", "finished", "finished"]
    assert study.trials()[2].reason == "The loss became NaN in epoch 3"


def test_unexpected_error_is_logged_with_its_traceback(tmp_path: Path) -> None:
    study = study_in(tmp_path, n_trials=2)
    work(study, train_one=first_then(0, lambda: print(1 // 0)))
    assert study.trials()[0].reason.startswith("ZeroDivisionError")
    assert "Traceback" in (study.trial_folder(0) / LOG).read_text()


def test_conflicting_settings_are_pruned_with_the_reason(tmp_path: Path) -> None:
    space = Space({"frontend.fmax_hz": Categorical((8_000.0, 20_000.0))}, n_trials=8)
    study = study_in(tmp_path, space)
    work(study, train_one=learn)
    trials = study.trials()
    assert len(trials) == 8
    for trial in trials:
        beyond = trial.params["frontend.fmax_hz"] == "20000.0"
        assert trial.state == ("impossible" if beyond else "finished")
        assert ("frontend.fmin_hz < fmax_hz <= sample_rate_hz / 2" in trial.reason) == beyond
    assert {t.state for t in trials} == {"impossible", "finished"}


def test_many_consecutive_failures_end_the_study(tmp_path: Path) -> None:
    def broken(*_, **__) -> None:
        raise UserError("No clip is left.")

    study = study_in(tmp_path, n_trials=50)
    with pytest.raises(UserError, match=rf"{MAX_CONSECUTIVE_FAILURES} trials in a row failed.*No clip is left"):
        work(study, train_one=broken)


def test_undefined_metric_fails_the_trial(tmp_path: Path) -> None:
    def undefined(experiment, folder, *, watch, **_) -> None:
        watch(COLUMN, [{"epoch": 1, COLUMN: math.nan}])

    study = study_in(tmp_path, n_trials=50)
    with pytest.raises(UserError, match="val_macro_auroc was undefined in every epoch"):
        work(study, train_one=undefined)
    assert study.trials()[0].state == "failed"


def test_hyperband_ends_most_trials_early(tmp_path: Path) -> None:
    space = Space(SPACE.values, n_trials=30, pruner="hyperband", n_warmup_epochs=1, sampler="random")
    study = study_in(tmp_path, space)
    work(study, train_one=learn)
    lengths = [len(t.values) for t in study.trials()]
    assert sum(n < 6 for n in lengths) > 8
    assert lengths.count(6) >= 3


def test_folder_of_another_study_is_refused(tmp_path: Path) -> None:
    study_in(tmp_path)
    with pytest.raises(UserError, match=r"other settings \(the first that differs: seed=4\)"):
        Study(tmp_path, Experiment(name="base", seed=4, training=Training(epochs=6)), SPACE)
    with pytest.raises(UserError, match=r"another search space .*model.dropout"):
        study_in(tmp_path, Space({**SPACE.values, "model.dropout": Float(0.0, 0.4)}))
    Study(tmp_path, Experiment(name="base", seed=3, training=Training(epochs=6, threads=2)), SPACE)  # another machine


def test_incomplete_last_line_is_dropped_and_damaged_journal_refused(tmp_path: Path) -> None:
    study = study_in(tmp_path, n_trials=3)
    work(study, train_one=learn)
    before = outcome(study)
    journal = tmp_path / JOURNAL
    with open(journal, "ab") as file:
        file.write(b'{"op_code":4,"worker')
    again = study_in(tmp_path, n_trials=4)
    assert outcome(again) == before
    work(again, train_one=learn)
    assert len(outcome(again)) == 4
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:5], b"oops\n", *lines[5:]]))
    with pytest.raises(UserError, match=r"journal\.log is damaged"):
        study_in(tmp_path)


def test_lock_of_a_dead_process_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = study_in(tmp_path, n_trials=1)
    (tmp_path / "draw.lock").touch()
    monkeypatch.setattr(liveness, "GRACE_S", 3.0)
    work(study, train_one=learn)
    assert len(study.trials()) == 1


def test_optuna_opens_the_journal(tmp_path: Path) -> None:
    study = study_in(tmp_path)
    work(study, train_one=learn)
    theirs = read_study(tmp_path)
    best = best_first(study.trials())[0]
    assert theirs.best_trial.number == best.number
    assert theirs.best_value == best.value == TrialSummary.of(theirs.best_trial).value
    with pytest.raises(UserError, match="A study with"):
        read_study(tmp_path / "nowhere")
