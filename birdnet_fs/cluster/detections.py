"""Results of shards of `analyze`: one row per detection with full precision, and the tables that are made of them."""

import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from birdnet_fs.analysis.analyze import Progress, write_tables
from birdnet_fs.analysis.combined.options import TableOptions
from birdnet_fs.analysis.combined.stored import SUFFIX, read_stored
from birdnet_fs.analysis.detections import Detection, RecordingDetections
from birdnet_fs.analysis.output import LEDGER, OutputFolder, Place
from birdnet_fs.analysis.resume import DONE, Content, Outcome, Stamp, read_stamp
from birdnet_fs.analysis.scoring.recording_detections import quarantined
from birdnet_fs.cluster.plan import Plan, result_file
from birdnet_fs.cluster.run import Facts, metadata, same_settings
from birdnet_fs.core.files import atomic_path
from birdnet_fs.core.text import escaped, unmark_formula
from birdnet_fs.data.ledger import Ledger
from birdnet_fs.runs.folder_kind import refuse_other_results

COLUMNS = ("onset_s", "offset_s", "label", "confidence")
GONE = "cannot be read (No such file or directory)"  # the reason of one process, when it was there to be listed


def write_detections(work: Path, recordings: Sequence[Path], plan: Plan, file: Path) -> None:
    """Write the result of a shard.

    Args:
        work: Output folder of the analysis of its recordings.
        recordings: All recordings of the shard.
        plan: The plan.
        file: The file.

    Raises:
        UserError: The output folder does not hold an outcome of every recording that is there.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    stamps = dict(_stamps(work))
    reasons = _reasons(work)
    settings = {stamp.settings for stamp, _ in stamps.values()}
    facts: list[Facts] = []
    columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    numbers: list[int] = []
    for number, path in enumerate(recordings):
        stamp, stored = stamps.get(os.fspath(path), (None, None))
        about: Facts = {"path": os.path.relpath(path, plan.root), "content": None, "detections": None}
        if stamp is None or stored is None:
            outcome = quarantined(reasons.get(escaped(path), GONE))
            if not stamp and escaped(path) in reasons:
                about["content"] = _content(path)
        else:
            outcome, about["content"] = stamp.outcome, asdict(stamp.content)
            scalars = ("low_hz", "high_hz", "window_s", "hop_s", "n_windows", "log")
            about["detections"] = {name: getattr(stored, name) for name in scalars}
            for name in COLUMNS:
                columns[name] += [getattr(each, name) for each in stored.detections]
            numbers += [number] * len(stored.detections)
        facts.append({**about, "outcome": asdict(outcome)})
    names = [each["path"].encode("utf-8", "backslashreplace").decode() for each in facts]
    types = {"label": pa.string()}
    table = pa.table(
        {
            "recording": pa.DictionaryArray.from_arrays(pa.array(numbers, pa.int32()), pa.array(names, pa.string())),
            **{name: pa.array(values, types.get(name, pa.float64())) for name, values in columns.items()},
        }
    )
    key = {"settings": settings.pop()} if settings else None
    with atomic_path(file) as part:
        pq.write_table(table.replace_schema_metadata(metadata(plan, key, facts)), part)


def merge_detections(
    folder: Path,
    plan: Plan,
    output: Path,
    *,
    formats: Sequence[str],
    table_options: TableOptions,
    with_log: bool = False,
    overwrite: bool = False,
) -> Ledger:
    """Write the output folder of one analysis of all recordings from the results of all shards.

    Args:
        folder: Folder of the shards.
        plan: The plan.
        output: Output folder.
        formats: Keys of `table_formats.FORMATS`.
        table_options: Tables over all recordings, and the style of tables.
        with_log: Whether every recording has a prediction log of ANIMAL-SPOT. Default: False.
        overwrite: Whether tables are replaced that were edited. Default: False.

    Returns:
        The ledger, also written to `output/ledger.csv`; UserErrors of `same_settings` and `write_tables` are passed on.
    """
    settings, shards = same_settings(folder, plan)
    root = Path(plan.root)
    shard_of: dict[Path, int] = {}
    contents: dict[Path, Content] = {}
    for number, facts in enumerate(shards):
        for each in facts["recordings"]:
            path = root / each["path"]
            shard_of[path] = number
            if each["content"] is not None:
                contents[path] = Content(**each["content"])
    key = str((settings or {"settings": ""})["settings"])
    target = OutputFolder(output, root, formats, key, overwrite, table_options, with_log)
    refuse_other_results(output, "an analysis")

    def score(places: Iterator[Place]) -> Iterator[tuple[Place, RecordingDetections | None, Outcome]]:
        opened, found = -1, dict[Path, tuple[RecordingDetections | None, Outcome]]()
        for place in places:
            number = shard_of[place.recording]
            if number != opened:
                opened, found = number, _read(result_file(folder, number), shards[number], root)
            yield place, *found[place.recording]

    refused = [(Path(path), reason) for path, reason in plan.refused]
    return write_tables(target, target.places(list(shard_of), contents), score, Progress(len(shard_of)), refused)


def _read(file: Path, facts: Facts, root: Path) -> dict[Path, tuple[RecordingDetections | None, Outcome]]:
    """Detections and outcome of every recording of a shard."""
    import pyarrow.parquet as pq

    table = pq.read_table(file)
    numbers = table["recording"].combine_chunks().indices.to_pylist() if len(table) else []
    rows = list(zip(*(table[name].to_pylist() for name in COLUMNS), strict=True))
    detections: dict[int, list[Detection]] = {}
    for number, row in zip(numbers, rows, strict=True):
        detections.setdefault(number, []).append(Detection(*row))
    found: dict[Path, tuple[RecordingDetections | None, Outcome]] = {}
    for number, each in enumerate(facts["recordings"]):
        path, outcome = root / each["path"], {**each["outcome"], "flags": tuple(each["outcome"]["flags"])}
        about = each["detections"]
        scored = about and RecordingDetections(path, root, detections=tuple(detections.get(number, ())), **about)
        found[path] = (scored, Outcome(**outcome))
    return found


def _stamps(work: Path) -> Iterator[tuple[str, tuple[Stamp, RecordingDetections | None]]]:
    """Stamps and stored detections by the path of the recording."""
    done = work / DONE
    for name in sorted(os.listdir(done)) if done.is_dir() else ():
        stamp = read_stamp(done / name) if name.endswith(".json") else None
        if stamp is not None and stamp.settings:
            file = (done / name).with_suffix(SUFFIX)
            stored = read_stored(file, Path(stamp.content.path), Path(stamp.root))
            yield stamp.content.path, (stamp, stored)


def _reasons(work: Path) -> dict[str, str]:
    """Reasons of quarantined recordings by path as it is written."""
    if not (work / LEDGER).is_file():
        return {}
    with open(work / LEDGER, encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["status"] == "quarantined"]
    return {unmark_formula(row["path"]): unmark_formula(row["reason"]) for row in rows}


def _content(path: Path) -> Facts | None:
    try:
        return asdict(Content.of(path))
    except OSError:
        return None
