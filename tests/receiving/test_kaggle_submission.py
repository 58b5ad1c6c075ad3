"""The readers of a Kaggle bundle: the same submission as `birdnet-fs submission`, from NumPy and a runtime alone."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tolerances
from artifacts import CLASSES, write_artifact
from receiving import module, receive

from birdnet_fs.analysis.competition.class_names import match_classes, read_taxonomy
from birdnet_fs.analysis.competition.folder import COMPETITIONS, read_competition
from birdnet_fs.analysis.competition.submit import submit
from birdnet_fs.inference.open import open_engine

kaggle_rows = module("kaggle_rows")
kaggle_submission = module("kaggle_submission")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_artifact(tmp_path_factory.mktemp("artifact"))


@pytest.fixture
def data(tmp_path) -> Path:
    """Recordings of 12 s at the rate of the model and at another, a short and a broken one, and one that is missing."""
    root = tmp_path / "data"
    (root / "test_soundscapes").mkdir(parents=True)
    random = np.random.default_rng(0)
    for name, rate, seconds in (("a", 16_000, 12), ("b", 22_050, 12), ("short", 16_000, 3)):
        time_s = np.arange(seconds * rate) / rate
        sound = 0.03 * time_s * np.sin(2 * np.pi * (500 + 200 * time_s) * time_s) + random.normal(0, 0.02, len(time_s))
        soundfile.write(root / f"test_soundscapes/{name}.flac", sound, rate)
    (root / "test_soundscapes/broken.ogg").write_bytes(b"OggS")
    names = ("missing", "b", "a", "short", "broken")
    rows = "".join(f"{name}_{end},0,0,0\n" for name in names for end in (5, 10, 15))
    (root / "sample_submission.csv").write_text("row_id,gilpip,else,mirpip\n" + rows)
    (root / "taxonomy.csv").write_text(
        "primary_label,inat_taxon_id,scientific_name,common_name\ngilpip,1,Sibilus aureus,Gilded piper\n"
        "mirpip,2,Sibilus x,Mirror piper\n"
    )
    return root


def read(path: Path) -> tuple[list[str], np.ndarray]:
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    return [row[0] for row in rows], np.array([list(map(float, row[1:])) for row in rows[1:]])


def by_the_package(model: Path, data: Path, output: Path, hop_s: float = 0.0) -> None:
    test = read_competition(data, COMPETITIONS["birdclef2025"])
    match = match_classes(test.rows.classes, CLASSES, read_taxonomy(data / "taxonomy.csv"))
    submit(lambda n: open_engine(model), test, match, output, hop_s=hop_s)


@pytest.mark.parametrize("hop_s", [0.0, 1.25])
def test_submission_is_that_of_the_package(model: Path, data: Path, tmp_path: Path, hop_s: float) -> None:
    by_the_package(model, data, tmp_path / "package.csv", hop_s)
    done = receive("kaggle_submission.py", model, data, "-o", tmp_path / "reader.csv", "--hop", hop_s, "--threads", 2)
    assert done.returncode == 0, done.stderr
    assert "15 rows, 7 with scores" in done.stdout and "missing: there is no recording called missing" in done.stderr
    (names, given), (expected_names, expected) = read(tmp_path / "reader.csv"), read(tmp_path / "package.csv")
    assert names == expected_names and np.ptp(expected[:, 0]) > 0.01 and (expected[:, 1] == 0).all()
    assert np.abs(given - expected).max() <= tolerances.EXPORT_FP32_LOGITS


def test_rows_of_a_stub_are_those_of_the_recordings(model: Path, data: Path, tmp_path: Path) -> None:
    (data / "sample_submission.csv").write_text("row_id,gilpip,else,mirpip\nsoundscape_8358733_5,0,0,0\n")
    by_the_package(model, data, tmp_path / "package.csv")
    done = receive("kaggle_submission.py", model, data, "-o", tmp_path / "reader.csv", "--time_budget", "0s")
    assert done.returncode == 0 and "the time budget had ended" in done.stderr
    names, given = read(tmp_path / "reader.csv")
    assert names == read(tmp_path / "package.csv")[0] and len(names) == 49 and not given.any()
    shutil.rmtree(data / "test_soundscapes")
    dry = receive("kaggle_submission.py", model, data, "-o", tmp_path / "reader.csv")
    assert dry.returncode == 0 and "there are no recordings: the 1 rows of the sample" in dry.stderr
    assert read(tmp_path / "reader.csv")[0] == ["row_id", "soundscape_8358733_5"]


def test_probabilities_of_several_models_are_averaged(model: Path, data: Path, tmp_path: Path) -> None:
    other = write_artifact(tmp_path / "other", slope=-20.0)
    for name, models in (("one", [model]), ("two", [other]), ("both", [model, other])):
        done = receive("kaggle_submission.py", *models, data, "-o", tmp_path / f"{name}.csv")
        assert done.returncode == 0, done.stderr
    one, two, both = (read(tmp_path / f"{name}.csv")[1] for name in ("one", "two", "both"))
    assert np.abs(one - two).max() > 0.01
    np.testing.assert_allclose(both, (one + two) / 2, atol=1e-6)  # float32


@pytest.mark.parametrize(
    "classes",
    [
        ("amekes",),
        ("Falco sparverius_Kestrel",),
        ("american KESTREL", "Tyto alba"),
        ("Barn Owl", "amekes"),
        ("Tyto_alba",),
    ],
)
def test_classes_are_matched_as_in_the_package(tmp_path: Path, classes: tuple[str, ...]) -> None:
    path = tmp_path / "taxonomy.csv"
    path.write_text(
        "primary_label,scientific_name,common_name\namekes,Falco sparverius,American Kestrel\n"
        "owl1,Tyto alba,Barn Owl\nowl2,Tyto furcata,Barn Owl\n"
    )
    asked = ("owl2", "amekes", "owl1")
    expected = match_classes(asked, classes, read_taxonomy(path)).columns
    assert kaggle_rows.match_classes(asked, classes, path) == expected and expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: (data / "sample_submission.csv").unlink(), "sample_submission.csv cannot be read as a CSV table"),
        (
            lambda data: (data / "sample_submission.csv").write_text("row_id,a\nx_7,0\n"),
            "multiple of 5 s. Received: x_7",
        ),
        (lambda data: (data / "sample_submission.csv").write_text("row_id,a\nx_5,0\n"), "None of the 1 classes"),
        (
            lambda data: (data / "taxonomy.csv").write_text("primary_label\na\n"),
            "must have the columns primary_label, sci",
        ),
    ],
)
def test_wrong_tables_are_answered_with_one_sentence(model: Path, data: Path, tmp_path: Path, change, message) -> None:
    change(data)
    done = receive("kaggle_submission.py", model, data, "-o", tmp_path / "out.csv")
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr


def test_the_form_of_2022_is_that_of_the_package(model: Path, data: Path, tmp_path: Path) -> None:
    rows = [(name, bird, end) for name in ("missing", "b", "a") for bird in ("gilpip", "mirpip") for end in (5, 10)]
    lines = "".join(f"{name}_{bird}_{end},{name},{bird},{end}\n" for name, bird, end in rows)
    (data / "test.csv").write_text("row_id,file_id,bird,end_time\n" + lines)
    test = read_competition(data, COMPETITIONS["birdclef2022"])
    match = match_classes(test.rows.classes, CLASSES, read_taxonomy(data / "taxonomy.csv"))
    found = set()
    for threshold in (0.0, 0.5, 0.9):
        submit(lambda n: open_engine(model), test, match, tmp_path / "package.csv", threshold=threshold)
        given = ("--competition", "birdclef2022", "--threshold", threshold)
        done = receive("kaggle_submission.py", model, data, "-o", tmp_path / "reader.csv", *given)
        assert done.returncode == 0, done.stderr
        found.add((tmp_path / "reader.csv").read_text())
        assert (tmp_path / "reader.csv").read_text() == (tmp_path / "package.csv").read_text()
    assert len(found) > 1 and all(text.startswith("row_id,target\nmissing_gilpip_5,False\n") for text in found)
    (data / "test.csv").write_text("row_id,bird\n")
    done = receive("kaggle_submission.py", model, data, "-o", tmp_path / "reader.csv", "--competition", "birdclef2022")
    assert done.returncode == 2 and "must have the columns row_id, file_id, bird, end_time" in done.stderr


def test_fallbacks_make_the_rest_faster() -> None:
    plan = kaggle_submission.Plan(0.5, 5, 3.0)
    assert plan.make_faster("none", 4.0) == "" and (plan.hop_s, plan.n_models) == (0.5, 5)
    assert plan.make_faster("hop", 1.5) and plan.hop_s == 1.0
    assert plan.make_faster("hop", 100.0) and plan.hop_s == 2.0  # 4 s would leave parts of 3 s windows out
    assert plan.make_faster("hop", 100.0) == ""
    assert "first 2 of 5 models" in plan.make_faster("models", 2.5) and plan.n_models == 2
    assert plan.make_faster("models", 1.1) and plan.n_models == 1 and plan.make_faster("models", 2.0) == ""
