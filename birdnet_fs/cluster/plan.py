"""Plan of shards: which recordings each has, decided once, with a hash by which another plan is recognized.

The folder `OUTPUT.shards`, beside the output folder, holds plan.json and, for shard 3 of a plan,

    00003.json      its recordings: [path below the root, size in bytes] each
    00003           its unfinished results, from which the same command goes on
    00003.log       what its command has printed
    00003.parquet   its result, written at once when it is whole

Shards are consecutive parts of the sorted recordings, so that merging them is appending, and of all such divisions one
whose largest shard is smallest. A recording counts as its size and one block of a disk, since an empty one takes time
as well. The same recordings and settings give the same plan.
"""

import hashlib
import json
import os
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from birdnet_fs.analysis.inputs import list_recordings
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import write_text
from birdnet_fs.core.json_file import read_json
from birdnet_fs.core.text import escaped

PLAN, FORMAT = "plan.json", 1
BLOCK = 4096  # bytes that are added to the size of a recording
MAX_SHARDS = 99_999
REMEDY = "give another folder with -o, or delete the folder of the shards to plan anew"


class Shard(NamedTuple):
    """Consecutive recordings of a plan."""

    first: int  # number of its first recording
    n_recordings: int
    n_bytes: int


@dataclass(frozen=True)
class Plan:
    """A plan.

    Attributes:
        verb: Command whose work is divided.
        settings: Settings that results depend on, as JSON values.
        root: Folder that holds all inputs, absolute.
        refused: (path, reason) of what cannot be read.
        shards: The shards in the order of their recordings.
        recordings: SHA-256 over the paths and sizes of all recordings, hexadecimal.
    """

    verb: str
    settings: Mapping[str, Any]
    root: str
    refused: tuple[tuple[str, str], ...]
    shards: tuple[Shard, ...]
    recordings: str

    @property
    def n_recordings(self) -> int:
        """Number of recordings in all shards."""
        return sum(shard.n_recordings for shard in self.shards)

    @property
    def n_bytes(self) -> int:
        """Size of all recordings."""
        return sum(shard.n_bytes for shard in self.shards)

    def hash(self) -> str:
        """SHA-256 of the plan, hexadecimal."""
        return hashlib.sha256(json.dumps(self._facts(), sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """The content of plan.json."""
        return {"format": FORMAT, "hash": self.hash(), **self._facts()}

    def _facts(self) -> dict[str, Any]:
        return {
            "verb": self.verb,
            "settings": dict(self.settings),
            "root": self.root,
            "recordings": self.recordings,
            "refused": [list(each) for each in self.refused],
            "shards": [list(shard) for shard in self.shards],
        }


class Planned(NamedTuple):
    """A plan that is not written yet, with its recordings."""

    plan: Plan
    names: list[str]  # absolute paths, sorted
    sizes: list[int]  # bytes


def shards_folder(output: Path) -> Path:
    """Folder of the shards of an output folder, beside it: the output folder is as one process writes it."""
    whole = Path(os.path.abspath(output))
    return whole.with_name(f"{whole.name}.shards")


def result_file(folder: Path, number: int) -> Path:
    """File of the result of a shard."""
    return folder / f"{number:05d}.parquet"


def list_file(folder: Path, number: int) -> Path:
    """File with the recordings of a shard."""
    return folder / f"{number:05d}.json"


def log_file(folder: Path, number: int) -> Path:
    """File with what the command of a shard has printed."""
    return folder / f"{number:05d}.log"


def work_folder(folder: Path, number: int) -> Path:
    """Folder of the unfinished results of a shard, whose lock is that of the shard."""
    return folder / f"{number:05d}"


def divide(sizes: Sequence[int], n_shards: int) -> list[Shard]:
    """Divide recordings into consecutive shards of which the largest is as small as possible.

    Args:
        sizes: Size of each recording in bytes, 0 or more, in the order of the recordings.
        n_shards: Number of shards, 1 or more.

    Returns:
        The shards, none of them empty.

    Raises:
        UserError: There are fewer recordings than shards.

    >>> divide([10, 10, 10, 10, 10], 2)
    [Shard(first=0, n_recordings=3, n_bytes=30), Shard(first=3, n_recordings=2, n_bytes=20)]
    """
    if not 1 <= n_shards <= min(len(sizes), MAX_SHARDS):
        raise UserError(
            f"--shards must be in 1..{min(len(sizes), MAX_SHARDS)}, for {len(sizes)} recordings. Received: {n_shards}"
        )
    totals = [0, *accumulate(size + BLOCK for size in sizes)]
    low, high = max(sizes) + BLOCK, totals[-1]
    while low < high:
        middle = (low + high) // 2
        if len(_filled(totals, middle, n_shards)) <= n_shards:
            high = middle
        else:
            low = middle + 1
    counts = _filled(totals, low, n_shards)
    while len(counts) < n_shards:  # fewer are enough for the largest: halve those with most recordings
        place = max(range(len(counts)), key=counts.__getitem__)
        counts[place : place + 1] = [counts[place] - counts[place] // 2, counts[place] // 2]
    firsts = [0, *accumulate(counts)]
    return [
        Shard(first, n, totals[first + n] - totals[first] - n * BLOCK) for first, n in zip(firsts, counts, strict=False)
    ]


def _filled(totals: Sequence[int], limit: int, n_shards: int) -> list[int]:
    """Numbers of recordings in shards of at most `limit`, one filled after the other, until there are too many."""
    counts: list[int] = []
    first = 0
    while first < len(totals) - 1 and len(counts) <= n_shards:
        after = bisect_right(totals, totals[first] + limit) - 1
        counts.append(after - first)
        first = after
    return counts


def make_plan(verb: str, settings: Mapping[str, Any], inputs: Sequence[Path | str], n_shards: int) -> Planned:
    """List recordings and divide them; nothing is written. UserErrors of `list_recordings` and `divide` are passed on.

    Args:
        verb: Command whose work is divided.
        settings: Settings that results depend on.
        inputs: Recordings, and folders searched at any depth.
        n_shards: Number of shards.

    Returns:
        The plan and its recordings.

    Raises:
        UserError: None of the inputs is a recording.
    """
    root, names, refused = list_recordings(inputs)
    if not names:
        raise UserError(f"No recording can be read: {escaped(refused[0][0])}: {refused[0][1]}")
    sizes, known = [], hashlib.sha256()
    for name in names:
        size = _size(name)
        sizes.append(size)
        known.update(b"%s\0%d\n" % (os.fsencode(name), size))
    why = tuple((os.fspath(path), reason) for path, reason in refused)
    plan = Plan(verb, settings, os.fspath(root), why, tuple(divide(sizes, n_shards)), known.hexdigest())
    return Planned(plan, names, sizes)


def _size(name: str) -> int:
    try:
        return os.stat(name).st_size
    except OSError:  # the shard says what is wrong
        return 0


def write_plan(folder: Path, planned: Planned) -> None:
    """Write a plan that is not there yet; plan.json is written last.

    Args:
        folder: Folder of the shards.
        planned: The plan.

    Raises:
        UserError: The folder holds another plan, or something else.
    """
    if (folder / PLAN).is_file():
        compare(read_plan(folder), planned.plan, folder)
        return
    folder.mkdir(parents=True, exist_ok=True)
    prefix = os.path.join(planned.plan.root, "")
    for number, shard in enumerate(planned.plan.shards):
        part = slice(shard.first, shard.first + shard.n_recordings)
        named = zip(planned.names[part], planned.sizes[part], strict=True)
        rows = [[name[len(prefix) :], size] for name, size in named]
        # names may hold bytes that are not UTF-8, which JSON in ASCII keeps
        write_text(list_file(folder, number), json.dumps(rows) + "\n")
    write_text(folder / PLAN, json.dumps(planned.plan.to_json(), indent=1) + "\n")


def read_plan(folder: Path) -> Plan:
    """Read plan.json.

    Args:
        folder: Folder of the shards.

    Returns:
        The plan.

    Raises:
        UserError: There is none, or it is damaged or of another version.
    """
    found = read_json(folder / PLAN, REMEDY, max_bytes=100_000_000)
    try:
        if found["format"] != FORMAT:
            raise UserError(f"{escaped(folder / PLAN)} is of another version of birdnet_fs; {REMEDY}.")
        shards = tuple(Shard(*map(int, each)) for each in found["shards"])
        refused = tuple((str(path), str(reason)) for path, reason in found["refused"])
        plan = Plan(
            str(found["verb"]), dict(found["settings"]), str(found["root"]), refused, shards, found["recordings"]
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{escaped(folder / PLAN)} does not describe a plan; {REMEDY}.") from None
    if plan.hash() != found.get("hash"):
        raise UserError(f"{escaped(folder / PLAN)} was changed since it was written; {REMEDY}.")
    return plan


def compare(there: Plan, wanted: Plan, folder: Path) -> None:
    """Refuse a plan of other recordings or settings.

    Args:
        there: The plan in the folder.
        wanted: Plan of the command.
        folder: Folder of the shards.

    Raises:
        UserError: The plans differ; it names the first difference.
    """
    why = other_settings(there, wanted.verb, wanted.settings, len(wanted.shards))
    if not why and there.hash() != wanted.hash():
        why = f"of {there.n_recordings} recordings with {there.n_bytes:,} bytes in {escaped(there.root)}"
        now = f"{wanted.n_recordings} with {wanted.n_bytes:,} bytes in {escaped(wanted.root)}"
        why += f"; there are {now} now, or others of them"
    if why:
        raise UserError(f"{escaped(folder)} holds shards of another plan, {why}; {REMEDY}.")


def other_settings(plan: Plan, verb: str, settings: Mapping[str, Any], n_shards: int) -> str:
    """Describe the first difference between a plan and a command, apart from the recordings.

    Args:
        plan: The plan.
        verb: Command whose work is divided.
        settings: Settings that results depend on.
        n_shards: Number of shards.

    Returns:
        A clause such as "with --shards 3"; "" = there is no difference.
    """
    if plan.verb != verb:
        return f"of `{plan.verb}`"
    if len(plan.shards) != n_shards:
        return f"with --shards {len(plan.shards)}"
    for key in {**plan.settings, **settings}:
        before, now = plan.settings.get(key), settings.get(key)
        if before != now:
            return f"with {key} {escaped(before)}, and {escaped(now)} was given"
    return ""


def read_list(folder: Path, number: int, root: str) -> list[tuple[Path, int]]:
    """Recordings of a shard.

    Args:
        folder: Folder of the shards.
        number: The shard.
        root: Folder that holds all inputs.

    Returns:
        Absolute path and size in bytes of each.

    Raises:
        UserError: The list is missing or damaged.
    """
    file = list_file(folder, number)
    rows = read_json(file, REMEDY, max_bytes=10_000_000_000)
    try:
        return [(Path(os.path.join(root, path)), int(size)) for path, size in rows]
    except (TypeError, ValueError):
        raise UserError(f"{escaped(file)} does not list recordings; {REMEDY}.") from None
