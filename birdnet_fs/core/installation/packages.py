"""Packages that birdnet_fs needs, by extra, and which of them are installed in a version that it was tested with."""

import importlib.metadata
from collections.abc import Iterator
from dataclasses import dataclass

from packaging.requirements import Requirement
from packaging.version import InvalidVersion

DISTRIBUTION = "birdnet_fs"
# packages that hold the same modules as the one that is asked for
EQUIVALENT = {
    "tensorflow-cpu": ("tensorflow", "tensorflow-intel"),
    "mlflow": ("mlflow-skinny",),
    "onnxruntime": ("onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml"),
}


@dataclass(frozen=True)
class Package:
    """One required package."""

    name: str  # on PyPI; that of an equivalent package where one is installed
    versions: str  # range that is asked for, such as ">=2.19,<2.22"
    installed: str  # version; "" when it is not installed

    @property
    def is_in_range(self) -> bool:
        """Whether an installed package is in the range. A version that cannot be compared counts as outside."""
        try:
            return not self.installed or Requirement(f"x{self.versions}").specifier.contains(
                self.installed, prereleases=True
            )
        except InvalidVersion:
            return False


def extras() -> list[str]:
    """Extras of birdnet_fs in the order of its metadata."""
    return importlib.metadata.metadata(DISTRIBUTION).get_all("Provides-Extra") or []


def packages(extra: str = "") -> list[Package]:
    """Packages of an extra, those of extras inside it included; "" gives what is needed always.

    Args:
        extra: Name of an extra. Default: "".

    Returns:
        The packages that this Python and system need, each once.

    Raises:
        importlib.metadata.PackageNotFoundError: birdnet_fs itself is not installed, as when it runs from its folder.
    """
    found: dict[str, Package] = {}
    for needed in _requirements(extra):
        names = (needed.name, *EQUIVALENT.get(needed.name, ()))
        versions = {name: _version(name) for name in names}
        name = next((name for name, version in versions.items() if version), needed.name)
        found.setdefault(name, Package(name, str(needed.specifier), versions[name]))
    return list(found.values())


def version(name: str) -> str:
    """Version of an installed package or of one with the same modules; "" when there is none."""
    return next(filter(None, (_version(one) for one in (name, *EQUIVALENT.get(name, ())))), "")


def _requirements(extra: str) -> Iterator[Requirement]:
    for line in importlib.metadata.requires(DISTRIBUTION) or ():
        requirement = Requirement(line)
        marker = requirement.marker
        always = marker is None or marker.evaluate({"extra": ""})
        of_extra = not always and marker is not None and marker.evaluate({"extra": extra})
        if not (of_extra if extra else always):
            continue
        if requirement.name.replace("-", "_") == DISTRIBUTION:
            for inner in sorted(requirement.extras):
                yield from _requirements(inner)
        else:
            yield requirement


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
