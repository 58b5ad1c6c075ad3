"""Listing of the files below a folder in which nothing is left out without being reported.

Names of any bytes are listed (`glob` treats brackets as patterns). Folders that cannot be read, broken and looping
links, links to folders, pipes and devices are reported with a reason; nothing here opens a file, so that a pipe without
a writer cannot block.
"""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class FolderFiles:
    """Everything below a folder."""

    files: tuple[str, ...]  # regular files and links to them, sorted; without hidden ones
    refused: tuple[tuple[str, str], ...]  # (path, one sentence) of everything else, sorted
    hidden: tuple[str, ...]  # names that start with a dot, sorted; hidden folders are not searched


def list_files(folder: Path | str) -> FolderFiles:
    """List all files below a folder, at any depth, in constant time per file.

    Args:
        folder: Folder to search.

    Returns:
        The files, and what is there but cannot be searched or read.

    Raises:
        OSError: The folder itself does not exist or cannot be read.
    """
    files: list[str] = []
    refused: list[tuple[str, str]] = []
    hidden: list[str] = []
    top = os.fspath(folder)
    folders = [top]
    while folders:
        here = folders.pop()
        try:
            with os.scandir(here) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        hidden.append(entry.path)
                    elif entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    elif entry.is_file(follow_symlinks=False):
                        files.append(entry.path)
                    elif problem := _problem(entry):
                        refused.append((entry.path, problem))
                    else:
                        files.append(entry.path)
        except OSError as error:
            if here == top:
                raise
            refused.append((here, f"the folder cannot be read ({error.strerror})."))
    return FolderFiles(tuple(sorted(files)), tuple(sorted(refused)), tuple(sorted(hidden)))


def _problem(entry: "os.DirEntry[str]") -> str:
    """Reason for an unusable entry, neither a folder nor a regular file; "" for a link to a regular file."""
    if not entry.is_symlink():
        return "this is a device or a pipe, not a file."
    try:
        if entry.is_file():
            return ""
        if entry.is_dir():
            return "this is a link to a folder, which is not followed; give the folder itself as well."
        target = os.readlink(entry.path)
    except OSError as error:
        return f"the link cannot be followed ({error.strerror})."
    if os.path.exists(entry.path):
        return "this is a link to a device or a pipe, not a file."
    return f"this link points to {target}, which does not exist."
