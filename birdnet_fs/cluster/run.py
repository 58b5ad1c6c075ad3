"""One shard: its recordings through the engine of the command, and its result as one Parquet file, written at once.

A shard whose command was killed goes on from its unfinished results, which are those of the command itself: finished
recordings of `analyze`, parts of the store of `embed`. A result counts while it is of this plan and its recordings are
as they were. The metadata of the file hold the outcome of every recording.
"""

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from birdnet_fs.analysis.resume import Content
from birdnet_fs.cluster.plan import Plan, read_list, result_file, work_folder
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.lock import folder_lock
from birdnet_fs.core.text import escaped

KEY = b"birdnet_fs_shard"  # in the metadata of the Parquet file
Facts = dict[str, Any]


def run_shard(
    folder: Path,
    plan: Plan,
    number: int,
    work: Callable[[Sequence[Path], Path], None],
    write_result: Callable[[Path, Sequence[Path], Plan, Path], None],
) -> None:
    """Do the work of a shard, unless its result is there.

    Args:
        folder: Folder of the shards.
        plan: The plan.
        number: The shard, 0 or more.
        work: Function of recordings and a folder, in which it keeps results and goes on from those that are there.
        write_result: Function of that folder, all recordings of the shard, the plan, and the file to write.

    Raises:
        UserError: There is no such shard, another process works on it, or `work` refuses the recordings or settings.
    """
    if not 0 <= number < len(plan.shards):
        raise UserError(f"--shard must be in 0..{len(plan.shards) - 1}. Received: {number}")
    place = work_folder(folder, number)
    with folder_lock(place):
        if is_done(folder, plan, number):
            return
        recordings = [path for path, _ in read_list(folder, number, plan.root)]
        there = [path for path in recordings if path.exists()]
        if there:  # the others are in the ledger, as recordings that cannot be read
            work(there, place)
        write_result(place, recordings, plan, result_file(folder, number))
        shutil.rmtree(place, ignore_errors=True)


def is_done(folder: Path, plan: Plan, number: int) -> bool:
    """Whether the result of a shard is there, of this plan, and its recordings are as they were.

    Args:
        folder: Folder of the shards.
        plan: The plan.
        number: The shard.

    Returns:
        False when the shard is to be done.
    """
    try:
        facts = read_facts(result_file(folder, number), plan)
    except UserError:
        return False
    return all(_is_unchanged(os.path.join(plan.root, each["path"]), each["content"]) for each in facts["recordings"])


def read_facts(file: Path, plan: Plan) -> Facts:
    """Metadata of a result.

    Args:
        file: The result.
        plan: The plan that it must be of.

    Returns:
        The plan's hash, the settings of the results, and a list of recordings with path (below the root) and content.

    Raises:
        UserError: The result is missing, damaged or of another plan.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        facts = json.loads((pq.read_schema(file).metadata or {})[KEY])
        if facts["plan"] != plan.hash():
            raise UserError(f"{escaped(file)} is a shard of another plan; delete it and give the same command again.")
        return {**facts, "recordings": list(facts["recordings"])}
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{escaped(file)} is missing or damaged; give the same command again.") from None


def metadata(
    plan: Plan, settings: Mapping[str, Any] | None, recordings: Sequence[Mapping[str, Any]]
) -> dict[bytes, bytes]:
    """Metadata of a result for its schema.

    Args:
        plan: The plan.
        settings: Settings that the results depend on; None when nothing could be read.
        recordings: Path below the root, content and outcome of each.

    Returns:
        The metadata.
    """
    return {KEY: json.dumps({"plan": plan.hash(), "settings": settings, "recordings": list(recordings)}).encode()}


def same_settings(folder: Path, plan: Plan) -> tuple[Mapping[str, Any] | None, list[Facts]]:
    """Settings of the results of all shards, and their metadata.

    Args:
        folder: Folder of the shards.
        plan: The plan.

    Returns:
        The settings, None when no recording of any shard could be read; and the metadata of each shard.

    Raises:
        UserError: A result is missing, or two were made with other models or settings.
    """
    found = [read_facts(result_file(folder, number), plan) for number in range(len(plan.shards))]
    known = [(number, facts["settings"]) for number, facts in enumerate(found) if facts["settings"] is not None]
    for number, settings in known[1:]:
        if settings != known[0][1]:
            raise UserError(
                f"{escaped(result_file(folder, known[0][0]))} and {escaped(result_file(folder, number))} were made "
                "with different models or settings; delete those of the wrong one and give the same command again."
            )
    return (known[0][1] if known else None), found


def _is_unchanged(name: str, content: Mapping[str, Any] | None) -> bool:
    try:
        if content is None:  # it could not be read
            Content.of(Path(name))
            return False
        about = os.stat(name)
        if (about.st_size, about.st_mtime_ns) == (content["n_bytes"], content["mtime_ns"]):
            return True
        found = Content.of(Path(name))
        return found.samples == (content["n_bytes"], content["head"], content["tail"])
    except OSError:
        return content is None
