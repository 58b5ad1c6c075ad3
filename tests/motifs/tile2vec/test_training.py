"""Training of Tile2Vec: resuming, skipped steps, checkpoints, what is refused, and the run it gives."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from reduced import reduced
from triplet_tones import SETTINGS, Tones

from birdnet_fs.core.errors import UserError
from birdnet_fs.inference.embedder import open_embedder
from birdnet_fs.motifs.tile2vec import training
from birdnet_fs.motifs.tile2vec.batches import FeatureBatch, TripletBatches
from birdnet_fs.motifs.tile2vec.finders import find_batch_size, find_learning_rate, steepest_rate
from birdnet_fs.motifs.tile2vec.settings import Tile2VecSettings, variant_of_width
from birdnet_fs.motifs.tile2vec.step import Stepper
from birdnet_fs.motifs.tile2vec.training import fit_tile2vec, initial_model, rate_of
from birdnet_fs.runs.history import read_history
from birdnet_fs.runs.run import load_run, read_weights


@pytest.fixture(autouse=True)
def narrow() -> Iterator[None]:
    threads = torch.get_num_threads()
    with reduced("tilenet/v2"):
        yield
    torch.set_num_threads(threads)


def batches(settings: Tile2VecSettings = SETTINGS) -> TripletBatches:
    return TripletBatches(Tones(), settings)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was trained without a stop."""
    with reduced("tilenet/v2"):
        return fit_tile2vec(batches(), SETTINGS, tmp_path_factory.mktemp("tile2vec") / "whole").path


def test_loss_falls_and_the_run_is_an_ordinary_one(whole: Path) -> None:
    history = read_history(whole / "history.csv")
    assert len(history) == 2 and history[-1]["train_loss"] < history[0]["train_loss"] < 60
    assert all(row["skipped_steps"] == 0 and row["val_loss"] > 0 for row in history)
    run = load_run(whole)
    assert run.classes == ("no class",) and not (whole / "unfinished").exists()
    start = initial_model(SETTINGS).get_layer("mel").kernel.value.detach().numpy()
    assert np.abs(read_weights(whole / "weights.safetensors")["mel/kernel"] - start).max() > 0
    embedder = open_embedder(whole)
    assert embedder.embed(np.zeros((2, 160_000), np.float32)).shape == (2, 8)


@pytest.mark.parametrize("stop_at", [1, 3, 5])
def test_training_that_was_stopped_goes_on_bit_for_bit(
    whole: Path, tmp_path: Path, stop_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Stepper.step

    def stopping_step(self: Stepper, batch: FeatureBatch, rate: float) -> float | None:
        nonlocal n
        if n == stop_at:
            raise KeyboardInterrupt
        n += 1
        return step(self, batch, rate)

    n = 0
    monkeypatch.setattr(Stepper, "step", stopping_step)
    with pytest.raises(KeyboardInterrupt):
        fit_tile2vec(batches(), SETTINGS, tmp_path / "run")
    assert (tmp_path / "run/unfinished/state.json").is_file() and not (tmp_path / "run/config.json").exists()
    monkeypatch.setattr(Stepper, "step", step)
    other = dataclasses.replace(SETTINGS, learning_rate=1e-4)
    with pytest.raises(UserError, match="unfinished training with other settings or recordings"):
        fit_tile2vec(batches(other), other, tmp_path / "run")
    run = fit_tile2vec(batches(), dataclasses.replace(SETTINGS, threads=0), tmp_path / "run")
    expected, got = (read_weights(path / "weights.safetensors") for path in (whole, run.path))
    assert all(np.array_equal(got[name], value) for name, value in expected.items())
    rows = [read_history(path / "history.csv") for path in (whole, run.path)]
    assert [[row["val_loss"], row["train_loss"]] for row in rows[0]] == [
        [row["val_loss"], row["train_loss"]] for row in rows[1]
    ]


def test_finished_run_is_returned_and_another_one_is_refused(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit_tile2vec(batches(), SETTINGS, whole).path == whole
    assert "already holds this run; it is kept" in capsys.readouterr().err
    other = dataclasses.replace(SETTINGS, margin=1.0)
    with pytest.raises(UserError, match="holds another run; give another --name"):
        fit_tile2vec(batches(other), other, whole)


def test_checkpoint_gives_the_initial_weights_and_must_fit(whole: Path) -> None:
    stored = read_weights(whole / "weights.safetensors")
    model = initial_model(SETTINGS, whole)
    assert all(np.array_equal(v.value.detach().numpy(), stored[v.path]) for v in model.trainable_variables)
    with reduced("tilenet/v4"), pytest.raises(UserError):
        initial_model(dataclasses.replace(SETTINGS, variant="v4"), whole)


def test_epoch_without_a_lower_loss_ends_training_after_the_patience(tmp_path: Path) -> None:
    settings = dataclasses.replace(SETTINGS, patience=1, epochs=9, n_batches=1, batch_size=2, learning_rate=1e-30)
    run = fit_tile2vec(batches(settings), settings, tmp_path / "run")
    history = read_history(run.path / "history.csv")
    waited = [row["val_loss"] >= min(r["val_loss"] for r in history[:i]) for i, row in enumerate(history) if i]
    assert waited == [False] * (len(history) - 2) + [True] and len(history) < 9


def test_time_limit_ends_training_with_a_whole_run(tmp_path: Path) -> None:
    run = fit_tile2vec(batches(), SETTINGS, tmp_path / "run", limit_s=1e-3)
    assert len(read_history(run.path / "history.csv")) == 1
    assert (run.path / "weights.safetensors").is_file()


def test_step_that_is_not_finite_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = initial_model(SETTINGS)
    stepper = Stepper(model, SETTINGS)
    stepper.dtype = torch.bfloat16
    good = batches().training(0)
    bad = good._replace(anchor=np.full_like(good.anchor, np.nan))
    before = [v.value.detach().clone() for v in model.weights]
    assert stepper.step(bad, 1e-3) is None
    assert all(torch.equal(a, v.value) for a, v in zip(before, model.weights, strict=True))
    for _ in range(3):
        stepper.step(bad, 1e-3)
    assert stepper.dtype == torch.float32  # half precision is given up
    silent = good._replace(anchor=np.zeros_like(good.anchor), neighbor=np.zeros_like(good.anchor))
    assert stepper.step(silent, 1e-3) is not None and stepper.n_consecutive == 0
    assert all(bool(torch.isfinite(v.value).all()) for v in model.weights)
    equal = good._replace(neighbor=good.anchor, distant=good.anchor)
    assert stepper.step(equal, 1e-3) is not None
    assert all(bool(torch.isfinite(v.value).all()) for v in model.weights)
    monkeypatch.setattr("birdnet_fs.motifs.tile2vec.step.MOST_SKIPPED", 2)
    with pytest.raises(FloatingPointError):
        for _ in range(3):
            stepper.step(bad, 1e-3)


def test_state_of_a_diverged_training_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverging(self: Stepper, batch: FeatureBatch, rate: float) -> float | None:
        raise FloatingPointError

    monkeypatch.setattr(Stepper, "step", diverging)
    with pytest.raises(UserError, match=r"not finite in many steps in a row.*smaller --learning-rate \(now 0\.001\)"):
        fit_tile2vec(batches(), SETTINGS, tmp_path / "run")
    state = tmp_path / "run/unfinished/state.json"
    state.write_text(state.read_text().replace('"step"', '"steps"'))
    with pytest.raises(UserError, match="damaged state"):
        fit_tile2vec(batches(), SETTINGS, tmp_path / "run")


def test_mel_matrix_has_a_learning_rate_of_its_own_and_the_head_has_none() -> None:
    stepper = Stepper(initial_model(SETTINGS), SETTINGS)
    factors = {group["factor"]: len(group["params"]) for group in stepper.optimizer.param_groups}
    assert factors[SETTINGS.mel_rate] == 1
    held = {id(p) for group in stepper.optimizer.param_groups for p in group["params"]}
    assert not held & {id(v.value) for v in stepper.model.get_layer("logits").weights}
    assert stepper.optimizer.defaults["betas"] == (0.5, 0.999)


@pytest.mark.parametrize("network", ["", "cnn/tiny"])
def test_other_rows_are_distant_segments_and_other_networks_are_trained(network: str, tmp_path: Path) -> None:
    settings = dataclasses.replace(SETTINGS, distant="batch", network=network, margin=1.0, l2=0.0, n_batches=2)
    run = fit_tile2vec(batches(settings), settings, tmp_path / "run")
    history = read_history(run.path / "history.csv")
    assert len(history) == 2 and all(row["train_loss"] > 0 and row["skipped_steps"] == 0 for row in history)
    assert run.experiment.model.name == (network or "tilenet/v2") and run.frontend == settings.frontend
    assert open_embedder(run.path).width == settings.width


def test_default_schedule_is_a_tenth_after_every_epoch() -> None:
    settings = Tile2VecSettings(n_batches=10)
    assert [rate_of(settings, step) for step in (0, 9, 10, 25)] == pytest.approx([1e-3, 1e-3, 1e-4, 1e-5])


def test_finders_answer_for_a_network_that_learns() -> None:
    given, model = batches(), initial_model(SETTINGS)
    rate, curve = find_learning_rate(model, given.training, SETTINGS, n_rates=15)
    assert len(curve) >= 12 and rate is not None and 1e-7 < rate < 1
    assert steepest_rate(curve[:5]) is None
    falling = [(10.0 ** (i / 2 - 7), 60.0 - 10.0 / (1 + np.exp(8 - i))) for i in range(17)]
    assert steepest_rate(falling) == pytest.approx(1e-3)
    fresh, batch = initial_model(SETTINGS), given.training(0)
    weights = [v.value.detach().clone() for v in fresh.weights]
    sizes = [find_batch_size(fresh, batch, SETTINGS, free_bytes=n * 10**6) for n in (1, 1000, 2000, 10**6)]
    assert sizes[0] == 2 and sizes[1] >= 4 and sizes[2] == 2 * sizes[1] and sizes[3] == 4096
    assert all(torch.equal(a, v.value) for a, v in zip(weights, fresh.weights, strict=True))


def test_variant_is_chosen_by_name_or_width() -> None:
    assert [variant_of_width(*given) for given in ((None, None), (None, 512), ("v5", 512), ("v4", None))] == [
        "v2",
        "v4",
        "v5",
        "v4",
    ]
    for wrong in (("v2", 512), (None, 100), ("v9", None)):
        with pytest.raises(UserError, match=r"--variant and --dim must fit: v2 has 64, v4 has 512, v5 has 512"):
            variant_of_width(*wrong)


def test_unknown_network_is_refused() -> None:
    with pytest.raises(UserError, match=r"model\.name must be one of"):
        Tile2VecSettings(network="cnn/enormous")


@pytest.mark.parametrize("name", ["batch_size", "learning_rate", "beta1", "margin", "epochs"])
def test_settings_out_of_range_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=name):
        Tile2VecSettings(**{name: -1})
    assert training.SAVE_EVERY_S > 0
