"""Differences, in words, between the labeled recordings of a finished result and those of now.

Recordings are compared by path, size and modification time; where one of these differs, by their fingerprints
(copies.py), so that a copied or touched file is the same recording and a moved one is recognized. A recording of
another size has been replaced, even if its first seconds are the same.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from birdnet_fs.data.copies import fingerprint
from birdnet_fs.data.manifest import Clip

Files = Mapping[str, tuple[int, int]]  # path -> size in bytes, modification time in nanoseconds
Parts = Mapping[str, Sequence[Clip]]  # train, val, held_out -> clips
_Place = tuple[str, float, float | None]


def file_states(paths: Iterable[Path | str]) -> dict[str, tuple[int, int]]:
    """Size and modification time of the files that exist.

    Args:
        paths: Files, existing or not.

    Returns:
        Path -> (size in bytes, modification time in nanoseconds).
    """
    found = {}
    for path in dict.fromkeys(os.fspath(path) for path in paths):
        try:
            about = os.stat(path)
        except OSError:
            continue
        found[path] = (about.st_size, about.st_mtime_ns)
    return found


def file_changes(
    old: Files, new: Files, known: Mapping[str, str], *, identify: Callable[[str], str] = fingerprint
) -> tuple[list[str], dict[str, str]]:
    """Compare two sets of recordings.

    Args:
        old: The recordings before; (-1, -1) where size and time are unknown.
        new: The recordings now, from `file_states`.
        known: Path -> fingerprint of the old recordings; "" or absent where it is unknown.
        identify: Path -> fingerprint of a recording of now. Default: `copies.fingerprint`.

    Returns:
        Texts such as "1 file moved" and "2 recordings added", and the moved ones: old path -> new path.
    """
    gone, added = [path for path in old if path not in new], [path for path in new if path not in old]
    moved = _moved(gone, added, old, new, known, identify)
    n_replaced = sum(
        old[path][0] not in (-1, new[path][0]) or (bool(known.get(path)) and identify(path) != known[path])
        for path in old
        if path in new and old[path] != new[path]
    )
    counts = (
        (len(moved), "file", "moved"),
        (n_replaced, "recording", "replaced"),
        (len(added) - len(moved), "recording", "added"),
        (len(gone) - len(moved), "recording", "removed"),
    )
    return [_counted(n, noun, verb) for n, noun, verb in counts if n], moved


def _moved(
    gone: Sequence[str],
    added: Sequence[str],
    old: Files,
    new: Files,
    known: Mapping[str, str],
    identify: Callable[[str], str],
) -> dict[str, str]:
    """Old path -> new path of the recordings that have the same size, and the same fingerprint or name."""
    by_size: dict[int, list[str]] = {}
    for path in added:
        by_size.setdefault(new[path][0], []).append(path)
    moved: dict[str, str] = {}
    for path in gone:
        size, own = old[path][0], known.get(path, "")
        candidates = [p for p in (added if size == -1 else by_size.get(size, ())) if p not in moved.values()]
        same_name = [p for p in candidates if os.path.basename(p) == os.path.basename(path)]
        found = next((p for p in (*same_name, *candidates) if own and identify(p) == own), None)
        if found is None and not own and size != -1 and len(same_name) == 1:
            found = same_name[0]
        if found is not None:
            moved[path] = found
    return moved


def clip_changes(old: Parts, new: Parts, moved: Mapping[str, str]) -> list[str]:
    """Compare the clips of the recordings that are in both: labels, times, groups and parts.

    Args:
        old: The clips before.
        new: The clips now, with the same keys.
        moved: Old path -> new path of moved recordings.

    Returns:
        Texts such as "1 label changed". A clip in another part is mentioned only when nothing else has changed, since
        parts are drawn anew when a clip changes.
    """
    before, now = _by_place(old, moved), _by_place(new, {})
    both = {path for path, *_ in before} & {path for path, *_ in now}
    gone = Counter(place[0] for place in before if place[0] in both and place not in now)
    added = Counter(place[0] for place in now if place[0] in both and place not in before)
    n_times = sum(min(n, added[path]) for path, n in gone.items())
    common = [place for place in before if place in now]
    n_labels = sum(_labels(before[place]) != _labels(now[place]) for place in common)
    # a clip without a group of its own has the path of its recording as its group
    stayed = [place for place in common if place[0] not in moved.values()]
    n_groups = sum(_groups(before[place]) != _groups(now[place]) for place in stayed)
    found = [
        text
        for n, text in (
            (n_labels, _counted(n_labels, "label", "changed")),
            (n_times, f"{n_times} clip{_s(n_times)} with other times"),
            (added.total() - n_times, _counted(added.total() - n_times, "clip", "added")),
            (gone.total() - n_times, _counted(gone.total() - n_times, "clip", "removed")),
            (n_groups, f"{n_groups} clip{_s(n_groups)} in another group"),
        )
        if n
    ]
    n_parts = sum(
        sorted(part for part, _ in before[place]) != sorted(part for part, _ in now[place]) for place in common
    )
    whole = len(common) == len(before) == len(now)
    if n_parts and whole and not found:
        return [f"{n_parts} clip{_s(n_parts)} in another part (training, validation, held out)"]
    return found


def _by_place(parts: Parts, moved: Mapping[str, str]) -> dict[_Place, list[tuple[str, Clip]]]:
    found: dict[_Place, list[tuple[str, Clip]]] = {}
    for part, clips in parts.items():
        for clip in clips:
            path = os.fspath(clip.path)
            found.setdefault((moved.get(path, path), clip.onset_s, clip.offset_s), []).append((part, clip))
    return found


def _labels(clips: Sequence[tuple[str, Clip]]) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    return sorted((clip.labels, clip.secondary) for _, clip in clips)


def _groups(clips: Sequence[tuple[str, Clip]]) -> set[str]:
    return {clip.group for _, clip in clips}


def _counted(n: int, noun: str, verb: str) -> str:
    return f"{n} {noun}{_s(n)} {verb}"


def _s(n: int) -> str:
    return "" if n == 1 else "s"
