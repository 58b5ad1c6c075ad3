"""Entries of a data folder that cannot be used: unreadable folders and tables, broken links, files of other kinds."""

from pathlib import Path

from birdnet_fs.core.text import escaped
from birdnet_fs.data.label_formats.source import TABLES, Source
from birdnet_fs.data.ledger import Ledger


def refused(source: Source) -> dict[Path, str]:
    """Folders, links, pipes and tables that could not be listed or opened so far.

    Args:
        source: The data folder; only the listings that were needed are looked at.

    Returns:
        One sentence for each.
    """
    made = vars(source)  # a listing is stored there at its first access
    found = dict(source.unreadable)
    if "found_audio" in made:
        found.update(source.found_audio.refused)
    if "listed" in made:
        for path, reason in ((Path(name), reason) for name, reason in source.listed.refused):
            if path.suffix.lower() in (*TABLES, ""):
                found.setdefault(path, reason)
    return found


def account(source: Source, ledger: Ledger, *, whole: bool) -> None:
    """Add what could not be listed or opened to a ledger, and the kinds of other files to the notes of the source.

    Where one table names the recordings, its rows are the inputs, and the rest of the folder is a note.

    Args:
        source: The data folder, after its rows were read.
        ledger: Ledger of the rows.
        whole: Whether every audio file of the folder is an input, as in the layouts without a table.
    """
    found = refused(source)
    if whole:
        source.notes.extend(source.found_audio.notes)
    elif source.table_path is not None and found:  # its rows are the inputs, and name their recordings
        path, reason = next(iter(found.items()))
        source.notes.append(f"Not read: {len(found)} folders, links or tables (the first: {escaped(path)}: {reason})")
        return
    for path, reason in found.items():
        ledger.add(path, "quarantined", reason)


def other_files(source: Source) -> str:
    """Sentences on the files and folders that were found but cannot be used, each after a space; "" = none."""
    unused = [f"{escaped(path)}: {reason}" for path, reason in refused(source).items()]
    return "".join(f" {each}" for each in [*source.found_audio.notes, *unused])
