"""The argument RUN of verbs that also take the file of a foreign encoder."""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.text import escaped

if TYPE_CHECKING:
    from birdnet_fs.data.manifest import Clip
    from birdnet_fs.runs.run import Run

CARD = "model.encoder_card="


def divide_settings(run: Path, settings: Sequence[str]) -> tuple[str, list[str]]:
    """Divide the settings of a verb into the card of an encoder and those for reading recordings.

    Args:
        run: A run folder, or the file of an encoder.
        settings: `KEY=VALUE` each.

    Returns:
        The card, "" without one, and the other settings.

    Raises:
        UserError: A card is given for a run.
    """
    cards = [each.partition("=")[2] for each in settings if each.startswith(CARD)]
    if cards and run.is_dir():
        raise UserError(f"{CARD[:-1]} describes the file of an encoder; {escaped(run)} is a run. Received: {cards[-1]}")
    return (cards[-1] if cards else ""), [each for each in settings if not each.startswith(CARD)]


def check_base(run: Path, card: str) -> None:
    """Check that an argument is a run folder, or a file that is an encoder; UserErrors of both are passed on.

    Args:
        run: A run folder, or the file of an encoder.
        card: Card of the encoder; "" = found by its content.
    """
    if run.is_file():
        from birdnet_fs.inference.embedder import embedder_facts

        embedder_facts(run, card)
    else:
        from birdnet_fs.runs.run import load_run

        load_run(run)


@contextlib.contextmanager
def base_run(run: Path, card: str, clips: "Sequence[Clip]") -> "Iterator[Run]":
    """Open a run, or make the base run of an encoder for the time of the command.

    Args:
        run: A run folder, or the file of an encoder.
        card: Card of the encoder; "" = found by its content.
        clips: Clips to look at the encoder with.

    Yields:
        The run.
    """
    from birdnet_fs.runs.run import load_run

    if not run.is_file():
        yield load_run(run)
        return
    from birdnet_fs import schema
    from birdnet_fs.fewshot.base import write_encoder_base

    with tempfile.TemporaryDirectory(prefix="birdnet_fs_") as folder:
        yield write_encoder_base(schema.Model(encoder=str(run), encoder_card=card), clips, Path(folder) / "encoder")
