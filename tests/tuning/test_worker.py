"""Trials that are trained: clips are decoded once, held-out clips are not read, divergence fails one trial only."""

import itertools
import threading
from collections import Counter
from pathlib import Path

import encoder_runs
import numpy as np
import pytest
from installed import need

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.settings import override
from birdnet_fs.data import waveforms
from birdnet_fs.data.partition import partition
from birdnet_fs.data.synthetic.aviary import make_aviary
from birdnet_fs.runs.history import read_history
from birdnet_fs.runs.resolve import is_finished
from birdnet_fs.runs.run import load_run
from birdnet_fs.runs.tensors import read_weights
from birdnet_fs.schema import (
    Categorical,
    Checkpoints,
    Data,
    Experiment,
    Float,
    FrontEnd,
    Model,
    Schedule,
    Space,
    Training,
)
from birdnet_fs.tuning.study import Study
from birdnet_fs.tuning.worker import check_tuning, work

SPACE = Space({"training.learning_rate": Float(1e-4, 1e-2, log=True)}, n_trials=3, n_warmup_epochs=1)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    folder = tmp_path_factory.mktemp("tuning") / "aviary"
    make_aviary(folder, n_species=3, clips_per_species=10, n_soundscapes=0)
    return Experiment(
        name="tiny",
        data=Data(root=str(folder), table="metadata.csv", audio="audio", where="set=aviary", split="70/15/15"),
        frontend=FrontEnd(
            segment_s=3.0, sample_rate_hz=16_000, n_mels=32, fmin_hz=300.0, fmax_hz=8_000.0, normalize="z_score"
        ),
        model=Model("cnn/tiny", dropout=0.0),
        training=Training(
            epochs=2, batch_size=8, threads=1, schedule=Schedule(warmup_epochs=0), checkpoints=Checkpoints(n_best=1)
        ),
    )


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter:
    """Number of times that each file was decoded."""
    counts: Counter = Counter()
    own = waveforms.read_audio

    def counting(path: Path, **settings):
        counts[Path(path)] += 1
        return own(path, **settings)

    monkeypatch.setattr(waveforms, "read_audio", counting)
    return counts


def test_trials_are_runs_and_clips_are_decoded_once(base: Experiment, tmp_path: Path, decoded: Counter) -> None:
    study = Study(tmp_path, check_tuning(base, SPACE), SPACE)
    work(study)
    trials = study.trials()
    assert [trial.state for trial in trials] == ["finished"] * 3
    parts = partition(base)
    assert set(decoded) == {clip.path for clip in (*parts.train, *parts.val)}
    assert set(decoded.values()) == {1}
    assert not set(decoded) & {clip.path for clip in parts.held_out}
    for trial in trials:
        run = load_run(study.trial_folder(trial.number))
        assert f"training.learning_rate={run.experiment.training.learning_rate}" in trial.settings
        assert not (run.path / "checkpoints").exists()
        column = [row["val_macro_auroc"] for row in read_history(run.path / "history.csv")]
        assert list(trial.values.values()) == column
        assert trial.value == max(column)
        assert trial.best_epoch == 1 + int(np.argmax(column))


def test_trial_that_was_stopped_goes_on_under_another_number(base: Experiment, tmp_path: Path, monkeypatch) -> None:
    base = override(base, ["training.epochs=4", "model.dropout=0.2"])
    space = Space({"training.learning_rate": Float(1e-4, 1e-2, log=True)}, n_trials=2)
    whole, stopped = (Study(tmp_path / name, check_tuning(base, space), space) for name in ("whole", "stopped"))
    work(whole)
    stop, remember, n_epochs = threading.Event(), Study.remember_column, []

    def counted(self: Study, column: str) -> None:
        n_epochs.append(column)
        if len(n_epochs) == 2:
            stop.set()
        remember(self, column)

    monkeypatch.setattr(Study, "remember_column", counted)
    with pytest.raises(KeyboardInterrupt):
        work(stopped, stop=stop)
    assert (stopped.trial_folder(0) / "unfinished" / "state").is_dir()
    work(stopped)
    found, expected = stopped.trials(), whole.trials()
    assert [trial.state for trial in found] == ["lost", "finished", "finished"]
    assert [trial.values for trial in found[1:]] == [trial.values for trial in expected]
    assert "Training goes on after" in (stopped.trial_folder(1) / "log.txt").read_text()
    for new, old in ((1, 0), (2, 1)):
        weights = [study.trial_folder(n) / "weights.safetensors" for study, n in ((stopped, new), (whole, old))]
        np.testing.assert_equal(read_weights(weights[0]), read_weights(weights[1]))
    assert not list((tmp_path / "stopped").rglob("unfinished")) and not list(
        (tmp_path / "stopped").rglob("interrupted")
    )


def test_searched_sample_rate_is_decoded_again(base: Experiment, tmp_path: Path, decoded: Counter) -> None:
    space = Space({"frontend.sample_rate_hz": Categorical((16_000, 22_050))}, n_trials=4, sampler="random")
    study = Study(tmp_path, check_tuning(override(base, ["training.epochs=1"]), space), space)
    work(study)
    rates = [trial.params["frontend.sample_rate_hz"] for trial in study.trials()]
    assert set(decoded.values()) == {1 + sum(a != b for a, b in itertools.pairwise(rates))}
    assert len(set(rates)) == 2


def test_divergence_fails_the_trial_and_not_the_study(base: Experiment, tmp_path: Path) -> None:
    space = Space({"training.learning_rate": Categorical((1e-3, 1e30))}, n_trials=2, sampler="random")
    # the first draw of this seed is the rate that diverges, the next two are the other one
    plain = override(base, ["training.optimizer.clip_norm=0", "training.optimizer=sgd", "training.epochs=1", "seed=3"])
    study = Study(tmp_path, check_tuning(plain, space), space)
    work(study)
    states = Counter(trial.state for trial in study.trials())
    assert states["finished"] == 2
    assert states["failed"] >= 1
    for trial in study.trials():
        diverges = trial.params["training.learning_rate"] == "1e+30"
        assert (trial.state == "failed") == diverges
        assert ("became NaN or infinite" in trial.reason) == diverges
        assert not list(study.trial_folder(trial.number).rglob("diverged"))


def test_check_tuning_refuses_missing_validation_clips_and_data(base: Experiment) -> None:
    with pytest.raises(UserError, match=r"Tuning needs validation clips.*data\.val_fraction"):
        check_tuning(override(base, ["data.split=folds", "data.n_folds=3"]), SPACE)
    with pytest.raises(UserError, match="nowhere"):
        check_tuning(override(base, ["data.root=nowhere"]), SPACE)


def test_check_tuning_refuses_an_undefined_objective(base: Experiment) -> None:
    species = partition(base).classes[0]
    alone = override(base, [f"data.where=set=aviary,label={species}", "data.multi_label=true"])
    with pytest.raises(UserError, match=rf"undefined on the .* clips have the label '{species}'"):
        check_tuning(alone, SPACE)


def test_pretrained_run_is_trained_once_for_all_trials(base: Experiment, tmp_path: Path) -> None:
    first = override(base, ["name=first", "training.epochs=1", "training.checkpoints.n_best=0"])
    both = Experiment(**{**vars(base), "pretrain": first})
    space = Space(SPACE.values, n_trials=2)
    study = Study(tmp_path, check_tuning(both, space), space)
    work(study)
    assert [trial.state for trial in study.trials()] == ["finished"] * 2
    assert is_finished(tmp_path / "pretrain", override(first, [f"seed={base.seed}"]))
    assert "pretrain" in (study.trial_folder(0) / "log.txt").read_text()
    assert not (study.trial_folder(0) / "pretrain").exists()


def test_heads_on_an_encoder_are_tuned(tmp_path: Path) -> None:
    need("onnxruntime")
    file, card = encoder_runs.write_encoder(tmp_path / "encoder")
    base = encoder_runs.experiment(file, card, encoder_runs.write_recordings(tmp_path / "recordings"), val_fraction=0.3)
    space = Space({"model.head": Categorical(["linear", "prototypes"])}, n_trials=3, sampler="random")
    study = Study(tmp_path / "study", check_tuning(base, space), space)
    work(study)
    trials = study.trials()
    assert [trial.state for trial in trials] == ["finished"] * 3, [trial.reason for trial in trials]
    assert all(0 < trial.value <= 1 for trial in trials)
    heads = {load_run(study.folder / "trials" / f"{trial.number:04d}").experiment.model.head for trial in trials}
    assert heads <= {"linear", "prototypes"}
