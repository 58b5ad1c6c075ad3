"""Required packages, compared with what pip's own library reads from the same metadata."""

import importlib.metadata

import pytest

from birdnet_fs.core.installation import packages
from birdnet_fs.core.installation.packages import Package, extras, version


def pretend(monkeypatch: pytest.MonkeyPatch, requires: list[str], installed: dict[str, str]) -> None:
    def of(name: str) -> str:
        if name not in installed:
            raise importlib.metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(importlib.metadata, "requires", lambda _: requires)
    monkeypatch.setattr(importlib.metadata, "version", of)


REQUIRES = [
    "numpy>=1.26",
    'colorama; sys_platform == "win64"',
    'tensorflow-cpu<2.22,>=2.19; extra == "export"',
    'birdnet_fs[export]; extra == "both"',
    'onnx>=1.17; extra == "both"',
    'onnx2tf==1.29; python_version < "3" and extra == "both"',
]


def test_packages_of_an_extra_are_its_own_and_those_of_extras_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, REQUIRES, {"numpy": "2.4.1", "onnx": "1.16"})
    assert packages.packages() == [Package("numpy", ">=1.26", "2.4.1")]
    assert packages.packages("export") == [Package("tensorflow-cpu", "<2.22,>=2.19", "")]
    both = packages.packages("both")
    assert [one.name for one in both] == ["tensorflow-cpu", "onnx"] and [one.is_in_range for one in both] == [
        True,
        False,
    ]


def test_an_equivalent_package_counts_as_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, REQUIRES, {"tensorflow": "2.21.0"})
    assert packages.packages("export") == [Package("tensorflow", "<2.22,>=2.19", "2.21.0")]
    assert version("tensorflow-cpu") == "2.21.0" and version("torch") == ""


@pytest.mark.parametrize(
    ("installed", "is_in_range"),
    [("2.13.0+cpu", True), ("2.13.0", True), ("2.14.0", False), ("2.13.0rc1", True), ("2.9.1", False), ("odd", False)],
)
def test_local_builds_and_candidates_are_in_range(installed: str, is_in_range: bool) -> None:
    assert Package("torch", "<=2.13.0,>=2.10", installed).is_in_range is is_in_range


def test_this_environment_has_what_is_needed() -> None:
    assert {"keras", "torch", "numpy"} <= {one.name for one in packages.packages()}
    assert all(one.installed and one.is_in_range for one in packages.packages())
    assert {"export", "onnx", "test", "all"} <= set(extras())
