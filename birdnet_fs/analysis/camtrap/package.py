"""Write an analysis as a package of Camtrap DP 1.0.2.

Source: https://camtrap-dp.tdwg.org/data and https://camtrap-dp.tdwg.org/metadata. A deployment is a recorder at a
location, a medium a recording, and an observation a detection (level media, classified by machine); a recording without
detections has one observation of type blank. Times have no fractions there: they are truncated to seconds.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from pathlib import Path, PurePosixPath
from typing import Any

from birdnet_fs import __version__
from birdnet_fs.analysis.camtrap.locations import Location, location_of
from birdnet_fs.analysis.combined.clock_time import ClockTime, recording_start
from birdnet_fs.analysis.combined.read import read_analysis
from birdnet_fs.analysis.combined.write import FinishedRecording
from birdnet_fs.analysis.table_formats.text import comma_table
from birdnet_fs.core.class_names import is_scientific_name, scientific_and_common
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import write_json, write_text
from birdnet_fs.core.lock import locked
from birdnet_fs.core.text import escaped

DESIGNS = ("simpleRandom", "systematicRandom", "clusteredRandom", "experimental", "targeted", "opportunistic")
_BASE = "https://raw.githubusercontent.com/tdwg/camtrap-dp/1.0.2"
_DEPLOYMENTS = ("deploymentID", "locationName", "latitude", "longitude", "deploymentStart", "deploymentEnd")
_MEDIA = (
    "mediaID",
    "deploymentID",
    "captureMethod",
    "timestamp",
    "filePath",
    "filePublic",
    "fileName",
    "fileMediatype",
)
_OBSERVATIONS = (
    "observationID",
    "deploymentID",
    "mediaID",
    "eventStart",
    "eventEnd",
    "observationLevel",
    "observationType",
    "scientificName",
    "classificationMethod",
    "classifiedBy",
    "classificationProbability",
    "observationTags",
)
_TABLES = {"deployments": _DEPLOYMENTS, "media": _MEDIA, "observations": _OBSERVATIONS}
_MEDIATYPES = {"wav": "audio/vnd.wave", "mp3": "audio/mpeg", "opus": "audio/ogg", "aif": "audio/aiff"}


@dataclass(frozen=True)
class Project:
    """Metadata of a Camtrap DP project.

    Attributes:
        title: Title of the project.
        contributor: Person or organization.
        sampling_design: One of DESIGNS.
    """

    title: str
    contributor: str
    sampling_design: str


@locked("output")
def write_package(
    analysis: Path,
    output: Path,
    project: Project,
    locations: Mapping[PurePosixPath, Location],
    *,
    zone: tzinfo | None = None,
    recorder_zone: tzinfo | None = None,
    recordings: Path | None = None,
) -> dict[str, int]:
    """Write the package.

    Args:
        analysis: Output folder of `birdnet-fs analyze`.
        output: Folder, new or empty.
        project: Title, contributor and sampling design.
        locations: Locations by folder, from `read_locations`.
        zone: Zone of the times in the package, and of the recorders' clocks where neither the name nor the metadata of
            a recording states it. Default: None, as they state it.
        recorder_zone: Zone of the recorders' clocks. Default: None, `zone`.
        recordings: Folder of the recordings, where it was moved. Default: None, where they were.

    Returns:
        Number of rows by table.

    Raises:
        UserError: The analysis cannot be read (`read_analysis`), a recording has no location (`location_of`), the
            folder is not empty, or a recording has no clock time with a time zone, or a path that the format cannot
            hold.
    """
    if output.exists() and any(output.iterdir()):
        raise UserError(f"{escaped(output)} must be a new or an empty folder.")
    found = read_analysis(analysis, recordings)
    clocks = [recording_start(each.detections.path, zone, recorder_zone, each.outcome.flags) for each in found]
    _check_clocks(found, clocks)
    rows: dict[str, list[tuple[object, ...]]] = {name: [] for name in _TABLES}
    times: dict[str, list[datetime]] = {}
    used: dict[str, Location] = {}
    for each, clock in zip(found, clocks, strict=True):
        path = _relative(each)
        place = location_of(path, locations)
        used[place.folder] = place
        start, end = _time(clock, 0), _time(clock, each.outcome.duration_s)
        times.setdefault(place.folder, []).extend((start, end))
        kind = _mediatype(path)
        rows["media"].append(
            (path, place.folder, "timeLapse", start.isoformat(), path, "false", path.name, kind),
        )
        rows["observations"] += _observations(each, clock, path, place, len(rows["observations"]))
    for folder, place in sorted(used.items()):
        span = (min(times[folder]).isoformat(), max(times[folder]).isoformat())
        rows["deployments"].append((folder, place.name, place.latitude, place.longitude, *span))
    for name, columns in _TABLES.items():
        write_text(output / f"{name}.csv", comma_table(columns, rows[name]))
    all_times = [time for several in times.values() for time in several]
    write_json(output / "datapackage.json", _descriptor(project, list(used.values()), all_times, rows["observations"]))
    return {name: len(rows[name]) for name in _TABLES}


def _check_clocks(found: Sequence[FinishedRecording], clocks: Sequence[ClockTime]) -> None:
    wrong = [
        (each.detections.path.name, clock.problem or "its local time has no time zone")
        for each, clock in zip(found, clocks, strict=True)
        if clock.start is None or clock.start.tzinfo is None
    ]
    if wrong:
        name, reason = wrong[0]
        raise UserError(
            f"Camtrap DP needs a clock time with a time zone for every recording; {len(wrong)} of {len(found)} have "
            f"none (the first, {escaped(name)}: {reason}). Give the zone with --timezone, or rename these recordings."
        )


def _relative(recording: FinishedRecording) -> PurePosixPath:
    path = PurePosixPath(recording.detections.path.relative_to(recording.detections.root).as_posix())
    if str(path)[0] in "./~" or ".." in str(path) or not str(path).isprintable():
        raise UserError(
            "Camtrap DP needs paths that begin with neither '.', '/' nor '~', and hold no '..'. Received: "
            f"{escaped(path)}; rename it."
        )
    return path


def _time(clock: ClockTime, seconds: float) -> datetime:
    time = clock.at(seconds)
    if time is None:
        raise ValueError("the clock time is not known")
    return time.replace(microsecond=0)


def _mediatype(path: PurePosixPath) -> str:
    ending = path.suffix.lower().lstrip(".")
    return _MEDIATYPES.get(ending, f"audio/{ending or 'basic'}")


def _observations(
    each: FinishedRecording, clock: ClockTime, path: PurePosixPath, place: Location, n_before: int
) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for number, found in enumerate(each.detections.detections, n_before + 1):
        span = (_time(clock, found.onset_s).isoformat(), _time(clock, found.offset_s).isoformat())
        scientific = scientific_and_common(found.label)[0]
        name = scientific if is_scientific_name(scientific) else ""
        tag = f"label:{escaped(found.label).replace('|', '/')}"
        by = ("machine", f"birdnet_fs {__version__}", f"{min(max(found.confidence, 0), 1):.6g}")
        rows.append((f"o{number}", place.folder, path, *span, "media", "animal", name, *by, tag))
    if not rows:
        span = (_time(clock, 0).isoformat(), _time(clock, each.outcome.duration_s).isoformat())
        by = ("machine", f"birdnet_fs {__version__}", "")
        rows.append((f"o{n_before + 1}", place.folder, path, *span, "media", "blank", "", *by, ""))
    return rows


def _descriptor(
    project: Project, places: Sequence[Location], times: Sequence[datetime], observations: Sequence[tuple[object, ...]]
) -> dict[str, Any]:
    names = sorted({str(row[_OBSERVATIONS.index("scientificName")]) for row in observations} - {""})
    return {
        "resources": [
            {
                "name": name,
                "path": f"{name}.csv",
                "profile": "tabular-data-resource",
                "format": "csv",
                "mediatype": "text/csv",
                "encoding": "utf-8",
                "schema": f"{_BASE}/{name}-table-schema.json",
            }
            for name in _TABLES
        ],
        "profile": f"{_BASE}/camtrap-dp-profile.json",
        "name": re.sub(r"[^a-z0-9._-]+", "-", project.title.lower()).strip("-") or "package",
        "created": datetime.now(UTC).replace(microsecond=0).isoformat(),
        "contributors": [{"title": project.contributor, "role": "contact"}],
        "project": {
            "title": project.title,
            "samplingDesign": project.sampling_design,
            "captureMethod": ["timeLapse"],
            "individualAnimals": False,
            "observationLevel": ["media"],
        },
        "spatial": _geometry(places),
        "temporal": {"start": min(times).date().isoformat(), "end": max(times).date().isoformat()},
        "taxonomic": [{"scientificName": name} for name in names],
    }


def _geometry(places: Sequence[Location]) -> dict[str, Any]:
    """GeoJSON of the bounding box, or of the one point."""
    x, y = [each.longitude for each in places], [each.latitude for each in places]
    if len(set(zip(x, y, strict=True))) == 1:
        return {"type": "Point", "coordinates": [x[0], y[0]]}
    west, east, south, north = min(x), max(x), min(y), max(y)
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "coordinates": [ring]}
