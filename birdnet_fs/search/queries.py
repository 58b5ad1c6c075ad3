"""Queries of a search: recordings as examples, or classes of a run as RUN:CLASS."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.text import escaped


@dataclass(frozen=True)
class Queries:
    """Either examples, or a run.

    Attributes:
        examples: Recordings.
        run: Folder of a run; None with examples, or for neither.
        classes: Classes of the run; () = all.
    """

    examples: tuple[Path, ...] = ()
    run: Path | None = None
    classes: tuple[str, ...] = ()


def read_queries(given: Sequence[str]) -> Queries:
    """Divide the arguments of a search into examples and classes of a run.

    A file is an example, a folder is a run, and RUN:CLASS is divided at the colon before which there is a folder.

    Args:
        given: Paths of recordings, or RUN:CLASS, or RUN.

    Returns:
        The queries.

    Raises:
        UserError: An argument is none of these, there are examples and classes, or classes of several runs.
    """
    examples: list[Path] = []
    classes: dict[Path, list[str]] = {}
    for text in given:
        if Path(text).is_file():
            examples.append(Path(text))
            continue
        if Path(text).is_dir():
            classes.setdefault(Path(text), [])
            continue
        colons = [place for place, letter in enumerate(text) if letter == ":"]
        at = next((place for place in colons if Path(text[:place]).is_dir()), -1)
        if at < 0 or not text[at + 1 :]:
            raise UserError(
                "What to look for must be a recording (an example of the sound), or RUN:CLASS with the folder of a "
                f"run. Received: {escaped(text)}, which does not exist"
            )
        classes.setdefault(Path(text[:at]), []).append(text[at + 1 :])
    if examples and classes:
        raise UserError(
            "Give either examples or classes of a run, since their scores cannot be compared. Received: "
            f"{escaped(examples[0])} and {escaped(next(iter(classes)))}"
        )
    if len(classes) > 1:
        raise UserError(
            "Give classes of one run, since the scores of several cannot be compared. Received: "
            + ", ".join(map(escaped, classes))
        )
    run = next(iter(classes), None)
    return Queries(tuple(examples), run, () if run is None else tuple(dict.fromkeys(classes[run])))
