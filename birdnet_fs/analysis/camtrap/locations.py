"""The table of locations: folder, latitude, longitude and, if known, name of the location of each recorder."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.text import escaped

COLUMNS = ("folder", "latitude", "longitude")
NAME = "name"


@dataclass(frozen=True)
class Location:
    """Place of a recorder.

    Attributes:
        folder: Folder of its recordings, relative to the input folder of the analysis; "." is that folder.
        latitude: Degrees, WGS84, -90..90.
        longitude: Degrees, WGS84, -180..180.
        name: Name of the location; "" where none is given.
    """

    folder: str
    latitude: float
    longitude: float
    name: str = ""


def read_locations(path: Path) -> dict[PurePosixPath, Location]:
    """Read a table of locations.

    Args:
        path: CSV with the columns folder, latitude, longitude and, if given, name.

    Returns:
        Locations by folder.

    Raises:
        UserError: The file cannot be read, lacks a column or a row, names a folder twice, or a number is out of range.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"The table of locations {escaped(path)} cannot be read ({error}).") from None
    if not rows or not set(COLUMNS) <= rows[0].keys():
        raise UserError(f"{escaped(path)} must have the columns {', '.join(COLUMNS)} and a row for each recorder.")
    found: dict[PurePosixPath, Location] = {}
    for number, row in enumerate(rows, 2):
        folder = PurePosixPath((row["folder"] or ".").strip().replace("\\", "/"))
        if folder in found or folder.is_absolute() or ".." in folder.parts:
            raise UserError(
                f"{escaped(path)} row {number}: each folder must be there once, relative to the input folder. "
                f"Received: {str(folder)!r}"
            )
        latitude = _degrees(row["latitude"], 90, path, number, "latitude")
        longitude = _degrees(row["longitude"], 180, path, number, "longitude")
        found[folder] = Location(str(folder), latitude, longitude, (row.get(NAME) or "").strip())
    return found


def location_of(recording: PurePosixPath, locations: Mapping[PurePosixPath, Location]) -> Location:
    """The location of a recording: that of the innermost folder that is listed.

    Args:
        recording: Path relative to the input folder.
        locations: Locations by folder, from `read_locations`.

    Returns:
        The location.

    Raises:
        UserError: None of the folders of the recording is listed.
    """
    for folder in recording.parents:
        if folder in locations:
            return locations[folder]
    raise UserError(
        f"The table of locations must hold a folder of every recording; {escaped(recording)} is in none of "
        f"{', '.join(map(str, list(locations)[:5]))}. Add its folder, or one above it ('.' is the input folder)."
    )


def _degrees(text: str | None, limit: float, path: Path, number: int, name: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = float("nan")
    if not -limit <= value <= limit:
        raise UserError(
            f"{escaped(path)} row {number}: {name} must be degrees in -{limit:g}..{limit:g}. Received: {text!r}"
        )
    return value
