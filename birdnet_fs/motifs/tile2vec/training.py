"""Training of Tile2Vec: from rows of triplets to an ordinary run folder.

The run has the head "prototypes" without a class of its own, like the base of a foreign encoder: classes are enrolled
into it, or it is evaluated in episodes, exported with embeddings, and used as an encoder. Source: Jean et al. 2019,
https://arxiv.org/abs/1805.02855.
"""

import contextlib
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import keras
import torch

from birdnet_fs.core import stopping
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import write_json
from birdnet_fs.core.json_file import read_json
from birdnet_fs.core.lock import locked
from birdnet_fs.core.progress import say, track
from birdnet_fs.core.random_streams import Stream, integer_seed
from birdnet_fs.core.text import escaped
from birdnet_fs.data.copies import with_fingerprints
from birdnet_fs.data.manifest import Clip, Manifest
from birdnet_fs.data.partition import PARTITION, Partition, write_partition
from birdnet_fs.fewshot.base import PLACEHOLDER
from birdnet_fs.motifs.tile2vec.batches import FeatureBatch, TripletBatches
from birdnet_fs.motifs.tile2vec.settings import Tile2VecSettings
from birdnet_fs.motifs.tile2vec.step import Stepper
from birdnet_fs.motifs.tile2vec.stored_state import State, load_state, save_state
from birdnet_fs.runs.history import HISTORY, Row, write_history
from birdnet_fs.runs.run import (
    CONFIG,
    TILE2VEC,
    UNFINISHED,
    WEIGHTS,
    Run,
    build_network,
    load_run,
    load_weights,
    model_weights,
    save_run,
)
from birdnet_fs.training.loop import device_of
from birdnet_fs.training.schedule import learning_rate
from birdnet_fs.training.trainer import seed_everything

SAVE_EVERY_S = 600.0  # the state is also saved at the end of each epoch and when a signal stops the training
N_AHEAD = 2  # batches that are prepared beside the training


@locked("output")
def fit_tile2vec(
    batches: TripletBatches,
    settings: Tile2VecSettings,
    output: Path,
    *,
    checkpoint: Path | None = None,
    limit_s: float = 0.0,
) -> Run:
    """Train a TileNet on triplets, or go on with a training that was stopped.

    Args:
        batches: Batches of the triplets.
        settings: Settings of the training.
        output: The run folder. Until the run is whole, its folder "unfinished" holds the state after the last step.
        checkpoint: Run folder with initial weights. None: random weights and Slaney's mel matrix.
        limit_s: Seconds of training after which it ends as with early stopping. Default: 0, no limit.

    Returns:
        The run, with the weights of the epoch with the lowest validation loss (of the last epoch without validation),
        history.csv, tile2vec.json and, where whole recordings were read, partition.csv. A finished run of the same
        settings and rows is returned as it is.

    Raises:
        UserError: The folder holds another run or another unfinished training, the weights of `checkpoint` do not fit,
            or the loss stays infinite or NaN.
        Stopped: A signal arrived; the step was finished and the state is saved.
    """
    facts = {"settings": settings.to_json(), "identity": batches.source.identity}
    if (output / CONFIG).is_file():
        return _finished(output, settings, batches.source.identity)
    torch.set_num_threads(settings.threads or torch.get_num_threads())
    with keras.device(device_of("auto")):
        model = initial_model(settings, checkpoint)
    stepper = Stepper(model, settings)
    progress = output / UNFINISHED
    state = load_state(progress, model, stepper.optimizer, settings, batches.source.identity) or State()
    if state.float32:
        stepper.dtype = torch.float32
    if state.step:
        say(f"{escaped(output)}: goes on after step {state.step} ({len(state.history)} epochs).")
    else:
        say(
            f"{model.name}: {model.count_params():,} parameters, {len(batches.training_rows)} rows to "
            f"train on, {len(batches.validation_rows)} for validation"
        )
    if not batches.n_validation:
        say("There are no rows for validation: the weights of the last epoch are used, and no epoch ends it early.")

    def save() -> None:
        save_state(progress, state, model, stepper.optimizer, settings, batches.source.identity)

    try:
        _train(batches, settings, stepper, state, save, limit_s)
    except KeyboardInterrupt:
        if state.step:
            with stopping.finished_first():
                save()
            say(f"The state after step {state.step} is in {escaped(progress)}; the same command goes on from there.")
        raise
    except FloatingPointError:
        save()
        raise UserError(
            f"The loss or its gradient was not finite in many steps in a row; the state is in {escaped(progress)}. "
            f"Start anew with a smaller --learning-rate (now {settings.learning_rate:g})."
        ) from None
    weights = state.best or model_weights(model)

    def others(folder: Path) -> None:
        write_json(folder / TILE2VEC, facts)
        write_history(folder / HISTORY, state.history)
        ledger = batches.source.ledger
        ledger.write(folder / "recordings.csv")
        if batches.source.files:  # so that nobody evaluates the run on what it was trained on
            clips = with_fingerprints(Clip(path.absolute()) for path in batches.source.files)
            write_partition(folder / PARTITION, Partition(Manifest(clips, (), ledger, Path()), clips, (), ()))

    return save_run(output, settings.experiment(output.resolve().name), (PLACEHOLDER,), weights, write_extra=others)


def initial_model(settings: Tile2VecSettings, checkpoint: Path | None = None) -> keras.Model:
    """The network with random weights, or those of a run.

    Args:
        settings: Settings of the training.
        checkpoint: Run folder of the same network. Default: None, random weights.

    Returns:
        A Keras model: power spectra [batch, n_frames, n_bins, 1] -> logits [batch, 1].

    Raises:
        UserError: The weights are of another network.
    """
    seed_everything(integer_seed(settings.seed, Stream.TILE2VEC))
    model = build_network(settings.experiment("tile2vec"), 1)
    for variable in model.get_layer("logits").weights:
        variable.assign(keras.ops.zeros_like(variable))
    if checkpoint is not None:
        load_weights(model, load_run(checkpoint).path / WEIGHTS)
    return model


def _finished(output: Path, settings: Tile2VecSettings, identity: str) -> Run:
    file = output / TILE2VEC
    found = read_json(file, "give another --name") if file.is_file() else {}
    own = found.get("settings") if isinstance(found, dict) else None
    same = isinstance(own, dict) and settings.same_training(Tile2VecSettings.from_json(own))
    if not same or found.get("identity") != identity:
        raise UserError(f"{escaped(output)} holds another run; give another --name.")
    say(f"{escaped(output)} already holds this run; it is kept.")
    return load_run(output)


def _train(
    batches: TripletBatches,
    settings: Tile2VecSettings,
    stepper: Stepper,
    state: State,
    save: Callable[[], None],
    limit_s: float,
) -> None:
    """Train to the end; `state` is where the training is, after each step."""
    total, started = settings.epochs * settings.n_batches, time.monotonic() - state.seconds
    saved = time.monotonic()
    with contextlib.closing(_prepared(batches, range(state.step, total))) as prepared:
        for batch in track(prepared, "training", total=total - state.step, unit="step"):
            with stopping.finished_first():
                rate = rate_of(settings, state.step)
                loss = stepper.step(batch, rate)
                state.n_skipped += loss is None
                state.losses += [] if loss is None else [loss]
                state.step += 1
                state.seconds = time.monotonic() - started
                state.float32 = stepper.dtype == torch.float32
            done = bool(limit_s) and state.seconds > limit_s
            if state.step % settings.n_batches == 0 or done:
                done |= _finish_epoch(batches, settings, stepper, state, rate)
                save()
                saved = time.monotonic()
            elif time.monotonic() - saved > SAVE_EVERY_S:
                save()
                saved = time.monotonic()
            if done:
                return


def _finish_epoch(
    batches: TripletBatches, settings: Tile2VecSettings, stepper: Stepper, state: State, rate: float
) -> bool:
    """Add an epoch to the history; returns whether training stops early."""
    row: Row = {"epoch": len(state.history) + 1, "learning_rate": rate, "skipped_steps": state.n_skipped}
    if state.losses:
        row["train_loss"] = sum(state.losses) / len(state.losses)
    loss = validation_loss(batches, stepper)
    if loss is not None:
        row["val_loss"] = loss
        state.n_waited += 1
        if loss < state.best_loss:
            state.best_loss, state.n_waited, state.best = loss, 0, model_weights(stepper.model)
    state.losses, row["seconds"] = [], round(state.seconds, 1)
    state.history.append(row)
    say(", ".join(f"{name} {value:.4g}" for name, value in row.items()))
    early = bool(settings.patience) and loss is not None and state.n_waited >= settings.patience
    if early:
        say(f"The validation loss did not fall for {settings.patience} epochs; training stops.")
    return early


def validation_loss(batches: TripletBatches, stepper: Stepper) -> float | None:
    """Mean loss of the validation rows; None without such rows, infinite where it is not a number."""
    total, n = 0.0, 0
    for number in range(batches.n_validation):
        batch = batches.validation(number)
        if len(batch.anchor):
            with torch.inference_mode():
                total += len(batch.anchor) * float(stepper.loss(batch, training=False))
            n += len(batch.anchor)
    if not n:
        return None
    return total / n if total == total else float("inf")


def rate_of(settings: Tile2VecSettings, step: int) -> float:
    """Learning rate of a step, numbered from 0."""
    return learning_rate(
        step,
        peak=settings.learning_rate,
        n_steps=settings.epochs * settings.n_batches,
        n_warmup=0,
        schedule=settings.schedule,
        n_steps_per_drop=settings.step_epochs * settings.n_batches,
        factor=settings.step_factor,
    )


def _prepared(batches: TripletBatches, numbers: range) -> Generator[FeatureBatch, None, None]:
    """Training batches, prepared by a thread of their own while others are trained on."""
    pool = ThreadPoolExecutor(1)
    waiting: list[Future[FeatureBatch]] = []
    try:
        for number in numbers:
            waiting.append(pool.submit(batches.training, number))
            if len(waiting) > N_AHEAD:
                yield waiting.pop(0).result()
        while waiting:
            yield waiting.pop(0).result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
