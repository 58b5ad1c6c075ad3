"""Clips in folders of classes, as `motifs extract-top-motif` and `classify prepare-dataset` write them.

A file below `LABEL/` is a clip of LABEL. Clips of discords (`discord.*`) are left out: they are the moments that are
like nothing else in their recording, seldom the species. Windows of soundscapes without calls are the class "other".
"""

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from birdnet_fs.audio.find import find_audio
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.json_file import read_json
from birdnet_fs.core.progress import say
from birdnet_fs.core.text import escaped
from birdnet_fs.data.manifest import Clip
from birdnet_fs.motifs.no_call.fit_soundscape import TABLE, read_windows, soundscape_data

OTHER = "other"  # class of windows without calls
CLIP_S = 5.0
_DISCORD = "discord."
# what a name adds to that of its recording: the motif or window, and the number of the augmented clip
_PART = re.compile(r"(\.(motif|window)\.\d+(\.pair)?)?_\d+$")
SETTINGS = "settings.json"  # of augmented clips


@dataclass(frozen=True)
class LabeledClip:
    """A clip of one class.

    Attributes:
        label: The class.
        name: Name of the clip, without its extension.
        recording: The recording it comes from, which a split never divides.
        clip: Audio file, onset and offset in seconds.
    """

    label: str
    name: str
    recording: str
    clip: Clip


def source_recording(name: str) -> str:
    """The recording of an augmented clip.

    >>> source_recording("XC1.motif.0.pair_17"), source_recording("7843_SSW_20170325.window.35_3")
    ('XC1', '7843_SSW_20170325')
    """
    return _PART.sub("", name)


def read_filter_set(path: Path | None) -> tuple[str, ...]:
    """Read the classes that count, as scored_birds.json of BirdCLEF-2022 lists them.

    Args:
        path: JSON file with a list of names; None = no filter.

    Returns:
        The names; () without a filter.

    Raises:
        UserError: The file is not a list of names.
    """
    if path is None:
        return ()
    found = read_json(path, "give a JSON list of classes, as scored_birds.json")
    if not isinstance(found, list) or not found or not all(isinstance(name, str) and name for name in found):
        raise UserError(
            f"{escaped(path)} must be a JSON list of classes, as scored_birds.json. Received: "
            f"{escaped(json.dumps(found)[:80])}"
        )
    return tuple(dict.fromkeys(found))


def motif_clips(root: Path, classes: Collection[str] = ()) -> list[LabeledClip]:
    """Find the clips of every class.

    Args:
        root: Folder with a folder per class.
        classes: Classes that count, beside "other". Default: (), all.

    Returns:
        The clips by class and path.

    Raises:
        UserError: There is no such folder, or no clip of these classes.
    """
    if not root.is_dir():
        raise UserError(f"--motif-root must be a folder with a folder of clips per class. Received: {escaped(root)}")
    found = []
    augmented = (root / SETTINGS).is_file()
    for path in find_audio(root).paths:
        label, *inside = path.relative_to(root).with_suffix("").parts
        if not inside or inside[-1].startswith(_DISCORD) or (classes and label not in (*classes, OTHER)):
            continue
        name = ".".join(inside)
        recording = source_recording(name) if augmented else "/".join(inside[:-1]) or name
        found.append(LabeledClip(label, name, recording, Clip(path, labels=(label,), source=path.name)))
    if not found:
        of = f" of the {len(classes)} classes of the filter" if classes else ""
        raise UserError(f"{escaped(root)} has no clips{of}; LABEL/RECORDING/motif.0.ogg or LABEL/NAME.ogg is expected.")
    missing = [name for name in classes if name not in {each.label for each in found}]
    if missing:
        say(f"{len(missing)} of {len(classes)} classes of the filter have no clips: {_shown(missing)}")
    return found


def other_clips(root: Path | None, default: Path) -> list[LabeledClip]:
    """Windows of soundscapes without calls, as clips of the class "other".

    Args:
        root: Folder of BirdCLEF-2021; None = `default`, where it exists.
        default: Folder that is used where none is given.

    Returns:
        The windows; none where the default does not exist, with a line on stderr.

    Raises:
        UserError: A given folder has no table of labels, or no window is without a call.
    """
    if root is None and not (default / TABLE).is_file():
        say(f"There is no class {OTHER!r}: {default / TABLE} does not exist; name its folder with --birdclef-root.")
        return []
    place = root or default
    windows = read_windows(soundscape_data(place))
    quiet = [clip for clip in windows.clips if not clip.labels]
    if not quiet:
        raise UserError(f"{escaped(place)} has no windows without calls for the class {OTHER!r}.")
    return [
        LabeledClip(OTHER, f"{clip.path.stem}.window.{round(clip.offset_s or 0)}", clip.path.stem, clip)
        for clip in quiet
    ]


def _shown(names: Sequence[str]) -> str:
    return ", ".join(map(escaped, names[:3])) + (", ..." if len(names) > 3 else "")
