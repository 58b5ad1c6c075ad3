"""The citation file agrees with the package."""

import tomllib
from pathlib import Path

import birdnet_fs

ROOT = Path(__file__).parents[1]


def test_citation_has_the_version_license_and_description_of_the_package() -> None:
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line and not line.startswith(" "))
    assert lines["title"] == project["name"] and lines["license"] == project["license"]
    assert lines["version"] == birdnet_fs.__version__ and lines["cff-version"] == "1.2.0"
    assert project["description"].removesuffix(".") in text
