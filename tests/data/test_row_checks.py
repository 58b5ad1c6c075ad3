"""Checks of rows: problems of labels and folds, samples, and work that does not grow with rows and classes."""

import sys
import unicodedata

import numpy as np
import pytest
import soundfile as sf

from birdnet_fs.data.label_formats.locate import Place
from birdnet_fs.data.label_formats.source import LabelRow, Source
from birdnet_fs.data.manifest import read_manifest, write_manifest
from birdnet_fs.data.row_checks import RowChecker, sample_rate
from birdnet_fs.schema import Data


@pytest.fixture
def check(tmp_path):
    sf.write(tmp_path / "a.wav", np.ones(8000) * 0.1, 8000)
    source = Source(Data(str(tmp_path)), tmp_path)

    def check(classes=None, binary_label="", **row):
        checker = RowChecker(source, True, classes, binary_label, class_names=True)
        return checker.check(LabelRow("t.csv row 2", "a.wav", **row), Place(tmp_path / "a.wav"))

    return check


def test_problems_of_a_row_are_listed_together(check):
    _, problems = check(("robin",), labels=("Robin", "a;b"), fold="x", problems=("its onset is wrong.",))
    assert problems == (
        "its onset is wrong.",
        "its fold must be a whole number. Received: 'x'.",
        "label 'Robin' is not one of the classes. Did you mean 'robin'?",
        "label 'a;b' is not one of the classes.",
    )
    assert check(labels=("a;b",))[1] == (
        "its label 'a;b' cannot be a class name: it contains ';', which separates labels.",
    )
    assert check()[1] == ("its label is empty.",) and not check(labeled=False)[1]
    assert check(problem="its list is damaged.")[1] == ("its list is damaged.",)


def test_row_that_is_refused_has_that_problem_only(check):
    assert check(refused="it has 3 cells.")[1] == ("it has 3 cells.",)


def test_samples_are_converted_with_the_rate_of_the_recording(check, tmp_path):
    values, problems = check(labels=("x",), onset=800.0, offset=1600.0, in_samples=True)
    assert not problems and (values.onset_s, values.offset_s) == (0.1, 0.2)
    assert sample_rate(tmp_path / "a.wav") == 8000
    (tmp_path / "a.wav").write_bytes(b"junk" * 100)
    sample_rate.cache_clear()
    assert "not audio" in check(labels=("x",), onset=800.0, offset=1600.0, in_samples=True)[1][0]


def test_binary_label_replaces_labels(check):
    values, _ = check(binary_label="call", labels=("x", "y"), secondary=("z",))
    assert (values.labels, values.secondary) == (("call",), ())


def table_of(root, n_rows, n_classes, n_files=4):
    root.mkdir()
    for i in range(n_files):
        sf.write(root / f"{i}.wav", np.ones(64_000, np.float32) * 0.1, 8000)
    lines = [
        f"{k % n_files}.wav,{7 * k / n_rows:.6f},{7 * k / n_rows + 0.5:.6f},sp{k % n_classes:04d}"
        for k in range(n_rows)
    ]
    (root / "labels.csv").write_text("\n".join(["file,start,end,label", *lines]) + "\n")


def n_calls(function) -> int:
    """Calls of Python and C functions: a measure of work that does not depend on the load of the machine."""
    count = 0

    def profile(_frame, event, _argument):
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


def test_work_grows_with_rows_and_not_with_rows_times_classes(tmp_path):
    """Differences between tables of two lengths, so that what is done once does not count."""
    counts = {}
    for n_rows, n_classes in ((200, 5), (600, 5), (1800, 5), (200, 100), (600, 100)):
        root = tmp_path / f"{n_rows}-{n_classes}"
        table_of(root, n_rows, n_classes)
        data = Data(str(root), multi_label=True)

        def read_and_write(data=data, root=root, n_classes=n_classes):
            found = read_manifest(data, classes=[f"sp{k:04d}" for k in range(n_classes)])
            write_manifest(found, root / "out" / "manifest.csv")
            found.hours_per_class()

        counts[n_rows, n_classes] = n_calls(read_and_write)
    per_row = (counts[600, 5] - counts[200, 5]) / 400
    assert per_row < 150
    assert counts[1800, 5] - counts[600, 5] < 1.1 * 1200 * per_row
    assert counts[600, 100] - counts[200, 100] < 1.1 * 400 * per_row


@pytest.mark.slow
def test_million_rows_are_read_in_a_minute_and_two_gigabytes(tmp_path):
    import subprocess

    table_of(tmp_path / "in", 1_000_000, 2000, n_files=20)
    code = (
        "import resource, time; from birdnet_fs.data.manifest import read_manifest; from birdnet_fs.schema import Data;"
        f"start = time.process_time(); found = read_manifest(Data({str(tmp_path / 'in')!r}, multi_label=True));"
        "peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20;"
        "print(len(found.clips), time.process_time() - start, peak)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    n, cpu_s, gib = map(float, out.split())
    assert n == 1_000_000 and cpu_s < 60 and gib < 2


def test_labels_of_one_text_in_two_normalizations_are_one_class(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "Grünspecht") for form in ("NFC", "NFD"))
    rows = ["filename,label", *(f"{i}.wav,{label}" for i, label in enumerate((decomposed, composed, "Wren")))]
    for i in range(3):
        sf.write(tmp_path / f"{i}.wav", np.full(1600, 0.1), 16_000)
    (tmp_path / "labels.csv").write_text("\n".join(rows), encoding="utf-8")
    manifest = read_manifest(Data(root=str(tmp_path)))
    assert manifest.classes == (composed, "Wren")
    assert any("composed form (NFC), the same text: 1" in note for note in manifest.notes)
    # a run whose class is spelled in the other normalization keeps its spelling
    old = read_manifest(Data(root=str(tmp_path)), classes=(decomposed, "Wren"))
    assert [clip.labels for clip in old.clips] == [(decomposed,), (decomposed,), ("Wren",)]
