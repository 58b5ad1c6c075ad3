"""Every place that reads, stores or prints a class name, with hostile names, read back by an independent reader."""

import csv
import importlib
import io
import json
import unicodedata
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import typer
from receiving import module
from typer.testing import CliRunner

from birdnet_fs import schema
from birdnet_fs.analysis.detections import Detection, RecordingDetections
from birdnet_fs.analysis.options import allowed_classes, read_species
from birdnet_fs.analysis.table_formats import FORMATS
from birdnet_fs.core.class_names import check_class_names
from birdnet_fs.core.errors import UserError
from birdnet_fs.data.ledger import Ledger
from birdnet_fs.data.manifest import Clip, Manifest, read_manifest, write_manifest
from birdnet_fs.data.partition import Partition, read_partition, write_partition
from birdnet_fs.data.score_table import ScoreRow, read_scores, score_table, writing_scores
from birdnet_fs.export.targets.companion_files import write_companion_files
from birdnet_fs.export.targets.labels import label_lines
from birdnet_fs.fewshot.support import SUPPORT_TABLE, Support, read_support, write_support
from birdnet_fs.frontend import PRESETS
from birdnet_fs.inference.model import WindowTable
from birdnet_fs.reports.evaluate import write_evaluation
from birdnet_fs.reports.stored_scores import write_model_scores
from birdnet_fs.runs.run import CLASSES, Run, load_run, save_run
from birdnet_fs.schema import Data

NAMES = (
    "Owl, Barn",
    "lilac_breasted_roller",
    "amro_call",
    "Turdus merula_Amsel",
    "=cmd()",
    "'=cmd()",
    "@x",
    "-1",
    "-x",
    'say "hi"',
    "it's",
    "a|b",
    "x" * 200,
    "🦉👨‍👩‍👧",
    "Cafe\u0301",
    "nan",
    "None",
    "0123",
    "1e5",
    "<b>&",
    "$x_1$",
    "# a",
)
REFUSED = (
    "path",
    "labels",
    "start_s",
    "end_s",
    "onset_s",
    "group",
    "a;b",
    "a\tb",
    "a\nb",
    "a\rb",
    "\x1b[2Ja",
    "\u202ea",
    " a",
    "",
)
FORMULA = ("=", "+", "@", "-", "'")


def spreadsheet(cell):
    """The text of a cell whose leading apostrophe marks it as text; the rule of docs, written a second time."""
    marked = cell.startswith("'") and cell.lstrip("'")[:1] in ("=", "+", "-", "@") and len(cell) > 1
    return cell[1:] if marked else cell


def rows_of(path, delimiter=","):
    with open(path, encoding="utf-8", newline="") as file:
        return list(
            csv.reader(file, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if delimiter == "," else csv.QUOTE_NONE)
        )


def no_formula(cells):
    for cell in cells:
        try:
            float(cell)
        except ValueError:
            assert cell[:1] not in ("=", "+", "-", "@"), cell


@pytest.fixture(scope="module")
def clips():
    return tuple(Clip(Path(f"/r/{i}.wav"), labels=(name,), group=name) for i, name in enumerate(NAMES))


@pytest.fixture(scope="module")
def run(tmp_path_factory, clips):
    """A run folder with a partition and scores."""
    folder = tmp_path_factory.mktemp("names") / "run"
    experiment = schema.Experiment(name="t", frontend=PRESETS["birdnet_3s_48k"], data=Data(multi_label=True))
    parts = Partition(Manifest(clips, NAMES, Ledger(), Path()), clips, (), ())
    saved = save_run(
        folder, experiment, NAMES, {"w": np.zeros(1, np.float32)},
        write_extra=lambda place: write_partition(place / "partition.csv", parts),
    )  # fmt: skip
    write_model_scores(folder, table(), folder)
    return saved


def table():
    rows = [ScoreRow(f"/r/{i}.wav", 0.0, 3.0, "", (name,)) for i, name in enumerate(NAMES)]
    return score_table(rows, np.eye(len(NAMES), dtype=np.float32), NAMES)


def test_run_folder(run):
    assert (run.path / CLASSES).read_text(encoding="utf-8").split("\n") == [*NAMES, ""]
    assert load_run(run.path).classes == NAMES


def test_partition_and_support(run, clips, tmp_path):
    header, *rows = rows_of(run.path / "partition.csv")
    assert [spreadsheet(row[header.index("labels")]) for row in rows] == list(NAMES)
    for row in rows:
        no_formula(row)
    assert read_partition(run.path / "partition.csv", "train") == clips
    write_support(tmp_path, Support(clips, np.zeros((len(clips), 2), np.float32)))
    written = rows_of(tmp_path / SUPPORT_TABLE)[1:]
    assert [spreadsheet(row[0]) for row in written] == list(NAMES)
    found = read_support(Run(tmp_path, run.experiment, NAMES), 2)
    assert [clip.labels for clip in found.clips] == [(name,) for name in NAMES]


def test_tables_of_scores(run):
    frame = pd.read_csv(run.path / "scores.csv", dtype=str, keep_default_na=False)
    assert [spreadsheet(name) for name in frame.columns[5:]] == list(NAMES)
    assert [spreadsheet(cell) for cell in frame["labels"]] == list(NAMES)
    no_formula(frame.columns)
    again = read_scores(run.path / "scores.csv")
    assert again.classes == NAMES and [row.labels for row in again.rows] == [(name,) for name in NAMES]
    assert np.array_equal(again.scores, np.eye(len(NAMES)))


def test_scores_in_memory():
    n = len(NAMES)
    found = WindowTable(np.zeros(1), np.ones(1), np.arange(n, dtype=np.float32)[None], NAMES)
    assert [float(found[name][0]) for name in NAMES] == list(range(n))
    frame = found.to_pandas()
    assert list(frame.columns) == ["start_s", "end_s", *NAMES] and float(frame["nan"].iloc[0]) == NAMES.index("nan")


@pytest.mark.parametrize("name", FORMATS)
def test_tables_of_detections(name):
    found = tuple(Detection(float(i), i + 1.0, label, 0.5) for i, label in enumerate(NAMES))
    text = FORMATS[name].render(RecordingDetections(Path("/r/a.wav"), Path("/r"), 0, 9000, found))
    comma = name in ("csv", "kaleidoscope", "birdnet")
    rows = list(csv.reader(io.StringIO(text), delimiter="," if comma else "\t", quoting=0 if comma else csv.QUOTE_NONE))
    header, rows = (rows[0], rows[1:]) if name != "audacity" else (["start", "end", "label", "confidence"], rows)
    assert len(rows) == len(NAMES) and {len(row) for row in rows} == {len(header)}
    column = {"csv": "Scientific name", "raven": "Species Code", "kaleidoscope": "TOP1MATCH"}
    column |= {"birdnet": "species_name", "audacity": "label", "animal_spot": "Sound type"}
    cells = [row[header.index(column[name])] for row in rows]
    if comma:
        no_formula(cell for row in rows for cell in row)
        cells = [spreadsheet(cell) for cell in cells]
    whole = [label.removesuffix("_Amsel") if name == "csv" else label for label in NAMES]
    assert cells == whole
    if name in ("csv", "raven"):
        common = [spreadsheet(row[header.index("Common name" if name == "csv" else "Common Name")]) for row in rows]
        assert (common if name == "csv" else [row[header.index("Common Name")] for row in rows]) == [
            label.removeprefix("Turdus merula_") for label in NAMES
        ]


def test_files_of_other_programs(run, tmp_path):
    lines = label_lines(NAMES)
    shown = [name.removeprefix("Turdus merula_").replace("_", " ") for name in NAMES]
    assert [line.split("_", 1)[1] for line in lines] == shown and len(set(lines)) == len(NAMES)
    write_companion_files("analyzer", tmp_path / "m.tflite", run)
    counts = dict(rows_of(tmp_path / "m_sample_counts.csv")[1:])
    assert {spreadsheet(name) for name in counts} == set(lines) and set(counts.values()) == {"1"}
    assert [spreadsheet(row[0]) for row in rows_of(tmp_path / "m_evaluation.csv")[2:]] == lines
    write_companion_files("echo", tmp_path / "m.tflite", run)
    mapping = json.loads((tmp_path / "class_mapping.json").read_text(encoding="utf-8"))
    assert mapping["classes"] == [name.removesuffix("_Amsel") for name in NAMES]


def test_receiving_readers():
    reading = module("reading")
    artifact = reading.Artifact({"classes": list(NAMES)}, label_lines(NAMES), {}, None)
    rows = [(0.0, 3.0, np.linspace(1, 0, len(NAMES)))]
    assert json.loads(json.dumps(reading.as_json(artifact.classes, rows)))["labels"] == list(NAMES)
    [line] = reading.as_text(artifact.names, rows, "", len(NAMES))
    for name in NAMES:
        assert f"{reading.printable(name.removeprefix('Turdus merula_'))} " in line
    assert "\x1b" not in next(reading.as_text(["\x1b[2J"], [(0, 1, np.ones(1))], "", 1))
    enroll = module("enroll_tflite")
    absent = [name for name in NAMES if name == "-x"]
    assert [enroll.class_label(name, Path()) for name in NAMES if name not in absent] == [
        name for name in NAMES if name not in absent
    ]
    for name in ("a;b", "a\tb", "\x1b[2J", "noise", "-x"):
        with pytest.raises(reading.InputError) as error:
            enroll.class_label(name, Path())
        assert str(error.value).isprintable()


class Texts(HTMLParser):
    """All texts of a page."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_data(self, data):
        self.found.append(data.strip())


def test_report(tmp_path):
    write_evaluation(tmp_path, table(), multi_label=False, title="t")
    metrics = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert [row["name"] for row in metrics["per_class"]] == list(NAMES)
    page = Texts()
    page.feed((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert set(NAMES) <= set(page.found)


def test_species_lists(tmp_path):
    (tmp_path / "list.txt").write_text("\n".join(NAMES), encoding="utf-8")
    listed = [name for name in NAMES if not name.startswith("#")]
    assert read_species(tmp_path / "list.txt") == listed
    for name in NAMES:
        assert [NAMES[i] for i in allowed_classes(NAMES, [name])] == [name]


@pytest.mark.parametrize("layout", ["folders", "csv", "raven", "audacity"])
def test_labels_are_read_and_written_as_they_are(tmp_path, layout):
    names = [name for name in NAMES if layout != "folders" or name != "-x"]
    if layout == "csv":  # in a cell the apostrophe marks the text "=cmd()"
        names.remove("'=cmd()")
    folder = tmp_path / "in"
    for i, name in enumerate(names):
        place = folder / name if layout == "folders" else folder
        place.mkdir(parents=True, exist_ok=True)
        sf.write(place / f"{i}.wav", np.random.default_rng(i).normal(0, 0.1, 800), 8000)
        if layout == "audacity":
            (folder / f"{i}.txt").write_text(f"0\t0.05\t{name}\n", encoding="utf-8")
        if layout == "raven":
            head = "Selection\tBegin Time (s)\tEnd Time (s)\tAnnotation\n"
            (folder / f"{i}.selections.txt").write_text(f"{head}1\t0\t0.05\t{name}\n", encoding="utf-8")
    if layout == "csv":
        with open(folder / "labels.csv", "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("file", "label"), *((f"{i}.wav", name) for i, name in enumerate(names))])
    found = read_manifest(Data(str(folder), layout=layout), check=True)
    names = [unicodedata.normalize("NFC", name) for name in names]  # said in the notes of the manifest
    assert sorted(found.classes) == sorted(names) and found.ledger.counts()["quarantined"] == 0
    write_manifest(found, tmp_path / "m.csv")
    header, *rows = rows_of(tmp_path / "m.csv")
    assert [spreadsheet(row[header.index("labels")]) for row in rows] == [clip.labels[0] for clip in found.clips]
    again = read_manifest(Data(str(tmp_path), table="m.csv"))
    assert [clip.labels for clip in again.clips] == [clip.labels for clip in found.clips]


def test_refused_names_are_refused_by_everything_that_stores_them(run, tmp_path):
    for name in REFUSED:
        classes, scores = ("owl", name), np.zeros((0, 2), np.float32)
        with pytest.raises(UserError, match="Class names must be"):
            check_class_names(classes)
        with pytest.raises(UserError, match="Class names must be"):
            save_run(tmp_path / "run", run.experiment, classes, {"w": np.zeros(1, np.float32)})
        with pytest.raises(UserError, match="Class names must be"):
            score_table([], scores, classes)
        with pytest.raises(UserError, match="Class names must be"), writing_scores(tmp_path / "s.csv", classes):
            pass
        with pytest.raises(UserError, match="Class names must be"):
            label_lines(classes)
    assert not list(tmp_path.iterdir())


def test_manifest_lists_refused_names_and_prints_no_control_characters(tmp_path):
    app = typer.Typer()
    app.command()(importlib.import_module("birdnet_fs.cli.manifest").manifest)
    refused = [name for name in REFUSED if name.strip() == name and name]
    for i, name in enumerate(("owl", *refused)):
        (tmp_path / "in" / name).mkdir(parents=True)
        sf.write(tmp_path / "in" / name / f"{i}.wav", np.random.default_rng(i).normal(0, 0.1, 800), 8000)
    result = CliRunner().invoke(app, [str(tmp_path / "in"), "-o", str(tmp_path / "m.csv")])
    assert result.exit_code == 1 and f"1 ok, 0 partial, {len(refused)} quarantined" in result.output
    assert all(line.isprintable() for line in result.output.split("\n"))
    rows = rows_of(tmp_path / "m.ledger.csv")
    assert len(rows) == len(refused) + 2 and all(cell.isprintable() for row in rows for cell in row)
    assert sum("cannot be a class name" in row[2] for row in rows) == len(refused)
