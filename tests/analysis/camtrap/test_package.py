"""Packages of Camtrap DP: validated by frictionless against the fields of the standard, and refused without places."""

import csv
import json
from zoneinfo import ZoneInfo

import pytest
from level_model import CLASSES, LevelModel, write_wav

from birdnet_fs.analysis.analyze import analyze
from birdnet_fs.analysis.camtrap.locations import read_locations
from birdnet_fs.analysis.camtrap.package import DESIGNS, Project, write_package
from birdnet_fs.core.errors import UserError

TIME = {"type": "datetime", "format": "%Y-%m-%dT%H:%M:%S%z"}
NEEDED, ID = {"constraints": {"required": True}}, {"constraints": {"required": True, "unique": True}}
# fields of https://camtrap-dp.tdwg.org/data (1.0.2) that a package of this program has, and all that are required
FIELDS = {
    "deployments": {
        "deploymentID": ID,
        "locationName": {},
        "latitude": {"type": "number", "constraints": {"required": True, "minimum": -90, "maximum": 90}},
        "longitude": {"type": "number", "constraints": {"required": True, "minimum": -180, "maximum": 180}},
        "deploymentStart": {**TIME, **NEEDED},
        "deploymentEnd": {**TIME, **NEEDED},
    },
    "media": {
        "mediaID": ID,
        "deploymentID": NEEDED,
        "captureMethod": {"constraints": {"enum": ["activityDetection", "timeLapse"]}},
        "timestamp": {**TIME, **NEEDED},
        "filePath": {"constraints": {"required": True, "pattern": r"^(?=^[^./~])(^((?!\.{2}).)*$).*$"}},
        "filePublic": {"type": "boolean", **NEEDED},
        "fileName": {},
        "fileMediatype": {"constraints": {"required": True, "pattern": "^(image|video|audio)/.*$"}},
    },
    "observations": {
        "observationID": ID,
        "deploymentID": NEEDED,
        "mediaID": {},
        "eventStart": {**TIME, **NEEDED},
        "eventEnd": {**TIME, **NEEDED},
        "observationLevel": {"constraints": {"required": True, "enum": ["media", "event"]}},
        "observationType": {
            "constraints": {
                "required": True,
                "enum": ["animal", "human", "vehicle", "blank", "unknown", "unclassified"],
            }
        },
        "scientificName": {},
        "classificationMethod": {"constraints": {"enum": ["human", "machine"]}},
        "classifiedBy": {},
        "classificationProbability": {"type": "number", "constraints": {"minimum": 0, "maximum": 1}},
        "observationTags": {},
    },
}
KEYS = {"media": ("deploymentID",), "observations": ("deploymentID", "mediaID")}
PROJECT = Project("Dawn chorus 2024", "A. Person", "systematicRandom")


def schema(name):
    keys = [
        {"fields": key, "reference": {"resource": "media" if key == "mediaID" else "deployments", "fields": key}}
        for key in KEYS.get(name, ())
    ]
    fields = [{"name": field, "type": "string", **about} for field, about in FIELDS[name].items()]
    return {"fields": fields, "missingValues": [""], "primaryKey": next(iter(FIELDS[name])), "foreignKeys": keys}


def validate(folder):
    """Errors of frictionless on a package, with the fields above in place of their addresses."""
    import frictionless

    descriptor = json.loads((folder / "datapackage.json").read_text())
    assert (
        descriptor.pop("profile") == "https://raw.githubusercontent.com/tdwg/camtrap-dp/1.0.2/camtrap-dp-profile.json"
    )
    for resource in descriptor["resources"]:
        name = resource["name"]
        base = "https://raw.githubusercontent.com/tdwg/camtrap-dp/1.0.2"
        assert resource["schema"] == f"{base}/{name}-table-schema.json"
        resource["schema"] = schema(name)
    report = frictionless.Package(descriptor, basepath=str(folder)).validate()
    return report.flatten(["rowNumber", "fieldName", "type", "note"])


def rows(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def place(tmp_path):
    for name in ("north/20240501_053000.wav", "north/20240501_063000.wav", "south/deep/20240502_053000.wav"):
        write_wav(tmp_path / "rec" / name, 3.5, level=0.0 if "063000" in name else 0.1)
    analyze(LevelModel().engine, [tmp_path / "rec"], tmp_path / "out", min_confidence=0.3)
    (tmp_path / "sites.csv").write_text("folder,latitude,longitude,name\nnorth,46.8,8.2,Ridge\nsouth,46.1,8.9,\n")
    return tmp_path


def test_package_has_no_errors_of_frictionless(place):
    zone = ZoneInfo("Europe/Zurich")
    counts = write_package(place / "out", place / "dp", PROJECT, read_locations(place / "sites.csv"), zone=zone)
    assert validate(place / "dp") == []
    media, observations = rows(place / "dp" / "media.csv"), rows(place / "dp" / "observations.csv")
    assert counts == {"deployments": 2, "media": 3, "observations": len(observations)}
    assert media[0]["filePath"] == "north/20240501_053000.wav"
    assert media[2]["deploymentID"] == "south" and media[2]["timestamp"] == "2024-05-02T05:30:00+02:00"
    blank = [row for row in observations if row["observationType"] == "blank"]
    assert [row["mediaID"] for row in blank] == ["north/20240501_063000.wav"]
    named = {row["scientificName"] for row in observations if row["observationTags"] == f"label:{CLASSES[0]}"}
    assert named == {"Turdus merula"}
    assert {row["scientificName"] for row in observations if row["observationTags"] == "label:bird0_0"} <= {""}
    first = rows(place / "dp" / "deployments.csv")[0]
    assert first["deploymentStart"] == "2024-05-01T05:30:00+02:00"
    assert first["deploymentEnd"] == "2024-05-01T06:30:03+02:00"
    about = json.loads((place / "dp" / "datapackage.json").read_text())
    assert about["temporal"] == {"start": "2024-05-01", "end": "2024-05-02"}
    assert {"scientificName": "Turdus merula"} in about["taxonomic"]
    assert about["spatial"]["coordinates"][0][0] == [8.2, 46.1] and about["project"]["samplingDesign"] in DESIGNS
    required = {"resources", "created", "contributors", "project", "spatial", "temporal", "taxonomic", "profile"}
    assert required <= about.keys()


def test_validation_of_this_test_finds_errors(place):
    zone = ZoneInfo("Europe/Zurich")
    write_package(place / "out", place / "dp", PROJECT, read_locations(place / "sites.csv"), zone=zone)
    text = (place / "dp" / "observations.csv").read_text()
    (place / "dp" / "observations.csv").write_text(
        text.replace(",media,animal,", ",media,bird,").replace(",south,", ",x,")
    )
    assert {error[2] for error in validate(place / "dp")} == {"constraint-error", "foreign-key"}


def test_times_without_zone_and_recordings_without_place_are_refused(place):
    places = read_locations(place / "sites.csv")
    with pytest.raises(
        UserError, match=r"3 of 3 have none \(the first, 20240501_053000.wav: its local time has no time"
    ):
        write_package(place / "out", place / "dp", PROJECT, places)
    (place / "sites.csv").write_text("folder,latitude,longitude\nnorth,46.8,8.2\n")
    with pytest.raises(UserError, match=r"south/deep/20240502_053000.wav is in none of north"):
        write_package(place / "out", place / "dp", PROJECT, read_locations(place / "sites.csv"), zone=ZoneInfo("UTC"))
    with pytest.raises(UserError, match="must be a new or an empty folder"):
        write_package(place / "out", place / "rec", PROJECT, places, zone=ZoneInfo("UTC"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("folder,lat\na,1\n", "must have the columns folder, latitude, longitude"),
        ("folder,latitude,longitude\n", "and a row for each recorder"),
        ("folder,latitude,longitude\na,91,0\n", r"row 2: latitude must be degrees in -90..90. Received: '91'"),
        ("folder,latitude,longitude\na,1,x\n", r"row 2: longitude must be degrees in -180..180. Received: 'x'"),
        ("folder,latitude,longitude\na,1,1\na/,1,1\n", r"row 3: each folder must be there once"),
        ("folder,latitude,longitude\n../a,1,1\n", r"row 2: each folder must be there once, relative"),
    ],
)
def test_wrong_locations_are_refused(tmp_path, text, words):
    (tmp_path / "sites.csv").write_text(text)
    with pytest.raises(UserError, match=words):
        read_locations(tmp_path / "sites.csv")
