"""Scores of the classes of a run for the windows of a store: its head on the stored embeddings, without audio."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from birdnet_fs.core.errors import UserError, nearest
from birdnet_fs.core.text import escaped
from birdnet_fs.inference.encoder_run import OpenedHead, open_head
from birdnet_fs.runs.run import load_run
from birdnet_fs.search.inner_products import widened
from birdnet_fs.search.label_selection import ClassScores
from birdnet_fs.search.neighbors import WindowScores
from birdnet_fs.search.store import Store, StoreHeader


def open_store_head(header: StoreHeader, run: Path, *, threads: int = 0) -> OpenedHead:
    """Open the head of a run for the embeddings of a store.

    UserErrors of `load_run` and `open_head` are passed on: the folder is no run, or a run without an encoder.

    Args:
        header: The content of the store.json of a store.
        run: Folder of a run on the encoder of the store.
        threads: CPU threads of torch. Default: 0, left as they are.

    Returns:
        The head.

    Raises:
        UserError: The head reads the embeddings of another encoder or of several, or more than embeddings.
    """
    if not header.identity:
        raise UserError("This database does not name its encoder; give the file that it was made with: --encoder FILE.")
    head = open_head(load_run(run), threads=threads)
    shown, encoder = escaped(run), head.encoders.encoders[0]
    if head.identity_of_encoder != header.identity:
        other = "" if encoder.name != header.encoder else "; the file or its card is another version"
        raise UserError(
            f"The store was made with the encoder {escaped(header.encoder)} ({escaped(header.path)}), and {shown} is a "
            f"head on {escaped(encoder.name)} ({escaped(encoder.path)}){other}; embed the recordings with the encoder "
            "of the run."
        )
    if head.encoders.own_classes:
        raise UserError(
            f"The head of {shown} also reads the encoder's own scores, which a store does not hold; train it with "
            "model.encoder_head.own_scores=none."
        )
    if head.encoders.input_shape != (header.width,):
        raise UserError(
            f"The head of {shown} reads {list(head.encoders.input_shape)} values of a window, and the store holds "
            f"{header.width}; train a head on the embedding."
        )
    return head


def class_scores(head: OpenedHead, classes: Sequence[str] = ()) -> ClassScores:
    """The scores of some classes of a head.

    Args:
        head: The head.
        classes: Their names. Default: (), all.

    Returns:
        The scores, computed when they are asked for.

    Raises:
        UserError: A name is not one of the classes.
    """
    for name in classes:
        if name not in head.classes:
            shown = ", ".join(map(escaped, head.classes[:20])) + (", ..." if len(head.classes) > 20 else "")
            raise UserError(
                f"{escaped(name)!r} is not a class of the run.{nearest(name, head.classes)} Its classes: {shown}"
            )
    names = tuple(classes) or head.classes
    columns = [head.classes.index(name) for name in names]
    return ClassScores(names, lambda embeddings: head.probabilities(embeddings)[:, columns], head.activation)


def best_of_classes(store: Store, scores: ClassScores) -> WindowScores:
    """Highest score of every window over some classes.

    Args:
        store: The store.
        scores: The classes.

    Returns:
        float32 probabilities, and the class of each.
    """
    values, which = np.empty(len(store), np.float32), np.empty(len(store), np.int32)
    for first, block in widened(store.blocks):
        given = scores.score(block)
        place = slice(first, first + len(block))
        values[place], which[place] = given.max(axis=1), given.argmax(axis=1)
    values[store.recording < 0] = -np.inf
    return WindowScores(values, which, scores.names)
