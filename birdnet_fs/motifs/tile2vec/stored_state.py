"""The state of an unfinished Tile2Vec training on disk: weights, optimizer and history, as safetensors and JSON."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import torch

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import write_json
from birdnet_fs.core.folders import atomic_folder
from birdnet_fs.core.json_file import read_json
from birdnet_fs.core.text import escaped
from birdnet_fs.motifs.tile2vec.settings import Tile2VecSettings
from birdnet_fs.runs.history import Row, Weights
from birdnet_fs.runs.run import model_weights
from birdnet_fs.runs.tensors import read_weights

TENSORS, FACTS = "state.safetensors", "state.json"
REMEDY = "delete this folder to start anew"
PRESENT, BEST, MOMENTS = "present/", "best/", ("exp_avg", "exp_avg_sq")


@dataclass
class State:
    """Progress of a training.

    Attributes:
        step: Number of finished steps.
        history: Rows of the finished epochs.
        best: Weights of the epoch with the lowest validation loss; empty before the first epoch.
        best_loss: Lowest validation loss.
        n_waited: Number of epochs since then.
        losses: Losses of the steps of the present epoch.
        n_skipped: Number of steps without an update, because a value was not finite.
        float32: Whether half precision was given up.
        seconds: Time spent.
    """

    step: int = 0
    history: list[Row] = field(default_factory=list)
    best: Weights = field(default_factory=dict)
    best_loss: float = math.inf
    n_waited: int = 0
    losses: list[float] = field(default_factory=list)
    n_skipped: int = 0
    float32: bool = False
    seconds: float = 0.0


def save_state(
    folder: Path,
    state: State,
    model: keras.Model,
    optimizer: torch.optim.Optimizer,
    settings: Tile2VecSettings,
    identity: str,
) -> None:
    """Write the state, whole or not at all; an earlier one is replaced.

    Args:
        folder: Folder of the state.
        state: Progress of the training.
        model: The network.
        optimizer: The optimizer (AdamW).
        settings: Settings of the training.
        identity: Identity of the rows it trains on.

    Raises:
        OSError: The state cannot be written; the earlier one is as it was.
    """
    from safetensors.numpy import save

    tensors = {PRESENT + name: value for name, value in model_weights(model).items()}
    tensors |= {BEST + name: value for name, value in state.best.items()}
    steps = []
    for number, parameter in enumerate(_parameters(optimizer)):
        known = optimizer.state.get(parameter, {})
        steps.append(float(known["step"]) if known else 0.0)
        tensors |= {f"{name}/{number}": known[name].cpu().numpy() for name in MOMENTS if known}
    facts = {
        "settings": settings.to_json(),
        "identity": identity,
        "step": state.step,
        "history": state.history,
        "best_loss": state.best_loss if math.isfinite(state.best_loss) else None,
        "n_waited": state.n_waited,
        "losses": state.losses,
        "n_skipped": state.n_skipped,
        "float32": state.float32,
        "seconds": state.seconds,
        "optimizer_steps": steps,
    }
    with atomic_folder(folder) as part:
        buffer = save({name: np.ascontiguousarray(v).reshape(v.shape) for name, v in tensors.items()})
        (part / TENSORS).write_bytes(buffer)
        write_json(part / FACTS, facts)


def load_state(
    folder: Path, model: keras.Model, optimizer: torch.optim.Optimizer, settings: Tile2VecSettings, identity: str
) -> State | None:
    """Read a state into a network and its optimizer.

    Args:
        folder: Folder of the state.
        model: The network; its weights are set.
        optimizer: The optimizer; its moments are set.
        settings: Settings of the training that goes on.
        identity: Identity of the rows it trains on.

    Returns:
        The state; None where there is none.

    Raises:
        UserError: The state is damaged, or that of a training with other settings or rows.
    """
    if not (folder / FACTS).is_file():
        return None
    facts: Any = read_json(folder / FACTS, REMEDY)
    try:
        if not settings.same_training(Tile2VecSettings.from_json(facts["settings"])) or facts["identity"] != identity:
            raise UserError(
                f"{escaped(folder)} holds an unfinished training with other settings or recordings; give another "
                "--name, or delete it."
            )
        tensors = read_weights(folder / TENSORS)
        for variable in model.weights:
            if "seed_generator" not in variable.path:
                variable.assign(tensors[PRESENT + variable.path])
        for number, parameter in enumerate(_parameters(optimizer)):
            if step := float(facts["optimizer_steps"][number]):
                moments = {n: torch.from_numpy(tensors[f"{n}/{number}"]).to(parameter.device) for n in MOMENTS}
                optimizer.state[parameter] = {"step": torch.tensor(step), **moments}
        best_loss = facts["best_loss"]
        return State(
            step=int(facts["step"]),
            history=list(facts["history"]),
            best={name.removeprefix(BEST): value for name, value in tensors.items() if name.startswith(BEST)},
            best_loss=math.inf if best_loss is None else float(best_loss),
            n_waited=int(facts["n_waited"]),
            losses=[float(loss) for loss in facts["losses"]],
            n_skipped=int(facts["n_skipped"]),
            float32=bool(facts["float32"]),
            seconds=float(facts["seconds"]),
        )
    except (KeyError, TypeError, IndexError, ValueError, AttributeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{escaped(folder)} holds a damaged state of a training ({error}); {REMEDY}.") from None


def _parameters(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
