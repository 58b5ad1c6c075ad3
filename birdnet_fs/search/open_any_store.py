"""Open what can be searched: a store, or a database of perch-hoplite with the encoder that it was made with."""

import dataclasses
from pathlib import Path

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.progress import say
from birdnet_fs.core.text import escaped
from birdnet_fs.inference.embedder import embedder_facts
from birdnet_fs.search.hoplite import read_hoplite
from birdnet_fs.search.kinds import HOPLITE_SQLITE, STORE
from birdnet_fs.search.store import Store, open_store

SAME_S = 1e-3  # seconds by which windows of a database and of an encoder may differ


def open_any_store(path: Path, *, encoder: Path | None = None, card: str = "") -> Store:
    """Open a store or a database of perch-hoplite; UserErrors of `open_store` and `read_hoplite` are passed on.

    Args:
        path: The folder.
        encoder: The encoder, which a database of perch-hoplite that was not written here does not name. Default: None.
        card: Card of that encoder. Default: "", found by its content.

    Returns:
        The store.

    Raises:
        UserError: The encoder does not fit the embeddings of the database.
    """
    if (path / STORE).is_file() or not (path / HOPLITE_SQLITE).is_file():
        return open_store(path)
    store = read_hoplite(path)
    header = store.header
    if header.identity or encoder is None:
        return store
    facts = embedder_facts(encoder, card)
    if facts.width != header.width or abs(facts.segment_s - header.segment_s) > SAME_S:
        raise UserError(
            f"{escaped(path)} holds {header.width} values for windows of {header.segment_s:g} s, and "
            f"{escaped(encoder)} gives {facts.width} for {facts.segment_s:g} s; name the encoder that it was made with."
        )
    say(f"{escaped(path)} does not prove its encoder ({escaped(header.encoder)}); taken to be {escaped(encoder)}.")
    known = dataclasses.replace(
        header,
        encoder=facts.name,
        path=facts.path,
        card=facts.card,
        identity=facts.identity,
        license=facts.license,
        sample_rate_hz=facts.sample_rate_hz,
    )
    return dataclasses.replace(store, header=known)
