"""Checks of the rows of labels: the clip of each row and everything that is wrong with it."""

import functools
import os
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from birdnet_fs.audio.files import AudioError
from birdnet_fs.audio.source import open_source
from birdnet_fs.core.class_names import class_name_problem
from birdnet_fs.core.errors import nearest
from birdnet_fs.data.label_formats.locate import Place
from birdnet_fs.data.label_formats.source import LabelRow, Source
from birdnet_fs.data.tables.reading import Cells


class CheckedRow(NamedTuple):
    """The values of a clip, in the order of the fields of `manifest.Clip`."""

    path: Path
    onset_s: float
    offset_s: float | None
    labels: tuple[str, ...]
    secondary: tuple[str, ...]
    group: str
    fold: int | None
    split: str
    row: "Cells | dict[str, str]"
    fingerprint: str
    unknown: tuple[str, ...]
    source: str


class RowChecker:
    """Checks rows; results that depend on a label or a path alone are kept, so that the time per row is constant.

    Args:
        source: The data folder.
        labeled: Whether the labels of the rows are used.
        classes: The only labels allowed; None = all.
        binary_label: Label that replaces all labels; "" = none.
        class_names: Whether labels that cannot be class names are refused here.
    """

    def __init__(
        self, source: Source, labeled: bool, classes: Sequence[str] | None, binary_label: str, class_names: bool
    ) -> None:
        self.source, self.labeled, self.binary_label = source, labeled, binary_label
        self.classes = None if classes is None else frozenset(classes)
        self.class_names = class_names
        self._label_problem: Callable[[str], str] = functools.cache(lambda label: self._problem_of(label, classes))
        self._paths: dict[Path, tuple[Path, str]] = {}
        self._composed_classes = {unicodedata.normalize("NFC", name): name for name in classes or ()}
        self._spelling: Callable[[str], str] = functools.cache(self._one_spelling)
        self.decomposed: set[str] = set()  # labels that were written with separate accents

    def check(self, row: LabelRow, place: Place) -> tuple[CheckedRow, tuple[str, ...]]:
        """Check a row.

        Args:
            row: The row.
            place: Audio file of the row.

        Returns:
            (values, problems): the values of its clip, and one sentence for each problem.
        """
        problems = [*row.problems]
        if place.problem or row.refused:
            problems.insert(0, place.problem or row.refused)
        path, group = self._path_and_group(place.path or Path(row.path or row.stem))
        onset, offset = row.onset, row.offset
        if row.in_samples and (onset or offset) and not problems:
            try:
                rate = sample_rate(path)
                onset, offset = (None if time is None else time / rate for time in (onset, offset))
            except AudioError as error:
                problems.append(error.reason)
        fold = None
        if row.fold:
            try:
                fold = int(float(row.fold))
            except (ValueError, OverflowError):
                problems.append(f"its fold must be a whole number. Received: {row.fold!r}.")
        labels = tuple(dict.fromkeys(map(self._spelling, row.labels))) if self.labeled else ()
        if self.labeled and row.labeled and not labels and not row.refused:
            problems.append(row.problem or "its label is empty.")
        secondary = tuple(dict.fromkeys(map(self._spelling, row.secondary)))
        unknown = tuple(label for label in map(self._spelling, row.unknown) if label not in labels)
        if self.binary_label:
            labels, secondary = (self.binary_label,) if labels else (), ()
            unknown = (self.binary_label,) if unknown and not labels else ()
        for label in labels:
            if problem := self._label_problem(label):
                problems.append(problem)
        cells = row.cells if isinstance(row.cells, Cells) else {name: text for name, text in row.cells.items() if text}
        about = (row.group or group, fold, row.split, cells, "", unknown, row.source)
        return CheckedRow(path, onset or 0.0, offset, labels, secondary, *about), tuple(problems)

    def _path_and_group(self, path: Path) -> tuple[Path, str]:
        """The absolute path, and the path below the root, which is the group of a row without one."""
        if path not in self._paths:
            absolute = os.path.abspath(path) if path.is_absolute() else os.path.join(self.source.audio_root, path)
            group = os.path.relpath(absolute, self.source.root).replace(os.sep, "/")
            self._paths[path] = path if path.is_absolute() and absolute == str(path) else Path(absolute), group
        return self._paths[path]

    def _one_spelling(self, label: str) -> str:
        """The label as the class is spelled, else in Unicode's composed form (NFC): both are the same text."""
        composed = unicodedata.normalize("NFC", label)
        if composed != label and label not in (self.classes or ()):
            self.decomposed.add(label)
        return label if self.classes and label in self.classes else self._composed_classes.get(composed, composed)

    def _problem_of(self, label: str, classes: Sequence[str] | None) -> str:
        if self.classes is not None and label not in self.classes:
            return f"label {label!r} is not one of the classes.{nearest(label, classes or ())}"
        if self.class_names and (why := class_name_problem(label)):
            return f"its label {label!a} cannot be a class name: it {why}."
        return ""


@functools.lru_cache(1 << 16)
def sample_rate(path: Path) -> int:
    """Sample rate of a recording in Hz; `AudioError` is raised when it cannot be read."""
    with open_source(path, seeking=True) as source:
        return source.sample_rate_hz
