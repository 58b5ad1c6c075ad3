"""`birdnet-fs manifest`: read a labeled data set of any layout, check every file and write one table."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from birdnet_fs.core.lock import locked
from birdnet_fs.core.progress import say


@locked("output")
def manifest(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="Folder of recordings, or a table.")],
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Settings for reading INPUT, as data.label_column=species."),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Table to write.")] = Path("manifest.csv"),
    layout: Annotated[str, typer.Option(help="Layout of the labels; default: detected.")] = "",
    label_column: Annotated[str, typer.Option(help="Column of the label.")] = "",
    where: Annotated[str, typer.Option(help="Filter of the rows, as set=birds10,split=train|val.")] = "",
    allow: Annotated[bool, typer.Option("--allow", help="Exit with status 0 although rows were refused.")] = False,
) -> None:
    """Summarize a data set, list its faults and write it as one table.

    Every recording is decoded once, and recordings that are there under two names are listed. The table and its ledger
    (manifest.ledger.csv: status and reason of every row, ok, partial or quarantined) are written even when rows were
    refused; the exit status is then 1.
    """
    from birdnet_fs.core.errors import UserError
    from birdnet_fs.core.files import check_output
    from birdnet_fs.core.settings import override
    from birdnet_fs.core.text import escaped
    from birdnet_fs.data.copies import same_sounds, with_fingerprints
    from birdnet_fs.data.manifest import read_manifest, write_manifest
    from birdnet_fs.schema import Experiment

    place = [f"data.root={source}"]
    if source.is_file():
        place = [f"data.root={source.parent}", f"data.table={source.name}"]
    given = {"data.layout": layout, "data.label_column": label_column, "data.where": where}
    place += [f"{key}={value}" for key, value in given.items() if value]
    wrong = next((s for s in settings or [] if not s.startswith("data.")), None)
    if wrong is not None:
        raise UserError(f"Settings of this command must be data.KEY=VALUE. Received: {wrong!r}")
    check_output(output.parent)
    found = read_manifest(override(Experiment(), [*place, *(settings or [])]).data, check=True)
    write_manifest(found, output)
    ledger_path = output.with_suffix(".ledger.csv")
    found.ledger.write(ledger_path)

    for note in found.notes:
        say(f"Note: {note}")
    for same in same_sounds(with_fingerprints(found.clips)):
        how = "with different labels" if same.labels else "more than once"
        say(f"Note: the same recording is there {how}: {same}")
    recordings = {clip.path for clip in found.clips}
    hours = sum(found.durations.get(path, 0.0) for path in recordings) / 3600
    what = "timed events" if found.events else "clips"
    print(f"layout {found.layout}: {len(found.clips)} {what} in {len(recordings)} recordings ({hours:.2f} h)")
    counts = found.ledger.counts()
    print("rows: " + ", ".join(f"{n} {status}" for status, n in counts.items()))
    n_clips = Counter(label for clip in found.clips for label in clip.labels)
    print(f"\n{'class':40} {'clips':>7} {'hours':>8}")
    per_class = found.hours_per_class()
    for name in found.classes:
        print(f"{escaped(name)[:40]:40} {n_clips[name]:7d} {per_class.get(name, 0.0):8.3f}")
    if "" in per_class:
        n_quiet = sum(not clip.labels for clip in found.clips)
        print(f"{'(no label)':40} {n_quiet:7d} {per_class['']:8.3f}")
    for status in ("quarantined", "partial"):
        bad = [row for row in found.ledger.rows if row.status == status]
        if bad:
            print(f"\n{status}: {len(bad)}")
        for row in bad:
            print(f"  {row.place}: {escaped(row.reason)}")
    flagged = [flag for row in found.ledger.rows for flag in (f.split("=")[0] for f in row.flags)]
    if flagged:
        print("\nflags: " + ", ".join(f"{flag} {flagged.count(flag)}" for flag in dict.fromkeys(flagged)))
    print(f"\n{output}\n{ledger_path}")
    if counts["quarantined"] and not allow:
        raise typer.Exit(1)
