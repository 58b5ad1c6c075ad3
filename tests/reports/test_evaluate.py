"""metrics.json against scikit-learn, and what the report says and does not load."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import tolerances
from sklearn import metrics as sk

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import write_json
from birdnet_fs.core.text import escaped
from birdnet_fs.data.score_table import ScoreRow, score_table
from birdnet_fs.reports.evaluate import evaluate_scores, write_evaluation
from birdnet_fs.reports.page import write_report

HOSTILE = ('<script>alert("x")</script>', "$\\frac{a}$ & <b>", "plain", "{{ 7 * 7 }}", "bad\udce9\x07")


def drawn(n=200, classes=HOSTILE, seed=0, skill=2.0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, len(classes) - 1, n)  # the last class never occurs
    logits = rng.standard_normal((n, len(classes)))
    logits[np.arange(n), truth] += skill
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    rows = [ScoreRow(f"r{i // 4}.wav", 5.0 * (i % 4), 5.0, "", (classes[t],)) for i, t in enumerate(truth)]
    return score_table(rows, scores, classes), truth


def test_numbers_are_those_of_sklearn():
    table, truth = drawn()
    found = evaluate_scores(table.targets, table.scores, table.classes, table.groups, multi_label=False)
    json.dumps(found, allow_nan=False)
    areas = [sk.roc_auc_score(table.targets[:, c], table.scores[:, c]) for c in range(4)]
    precisions = [sk.average_precision_score(table.targets[:, c], table.scores[:, c]) for c in range(4)]
    assert found["macro_auroc"] == pytest.approx(np.mean(areas), abs=tolerances.EXACT_METRIC)
    assert found["cmap"] == pytest.approx(np.mean(precisions), abs=tolerances.EXACT_METRIC)
    assert found["accuracy"] == sk.accuracy_score(truth, table.scores.argmax(axis=1))
    assert found["confusion"] == sk.confusion_matrix(truth, table.scores.argmax(axis=1), labels=range(5)).tolist()
    assert (found["n_scored_classes"], found["skipped_classes"]) == (4, ["bad\\udce9\\x07"])
    assert (found["n_segments"], found["n_groups"]) == (200, 50)
    for c, row in enumerate(found["per_class"][:4]):
        assert row["name"] == HOSTILE[c]
        assert row["n_positives"] == int((truth == c).sum())
        assert row["auroc"] == pytest.approx(areas[c], abs=tolerances.EXACT_METRIC)
        assert row["average_precision"] == pytest.approx(precisions[c], abs=tolerances.EXACT_METRIC)
        called = table.scores[:, c] >= np.float32(row["threshold"])
        assert row["best_f1"] == pytest.approx(sk.f1_score(table.targets[:, c], called), abs=tolerances.EXACT_METRIC)
    assert found["per_class"][4]["auroc"] is None


def test_no_call_is_scored_by_the_highest_score():
    rng = np.random.default_rng(0)
    targets = (rng.random((60, 3)) < 0.2).astype(np.float32)
    scores = np.clip(rng.random((60, 3)) + 0.3 * targets, 0, 1).astype(np.float32)
    groups = [str(i) for i in range(60)]
    found = evaluate_scores(targets, scores, "abc", groups, multi_label=True)["no_call_average_precision"]
    expected = sk.average_precision_score(targets.max(1) == 0, 1 - scores.max(1))
    assert found == pytest.approx(expected, abs=tolerances.EXACT_METRIC)
    every = np.ones((60, 3), np.float32)
    assert evaluate_scores(every, scores, "abc", groups, multi_label=True)["no_call_average_precision"] is None
    assert drawn_single() is None


def drawn_single():
    """Of one label a row: no row is without."""
    table, _ = drawn()
    found = evaluate_scores(table.targets, table.scores, table.classes, table.groups, multi_label=False)
    return found["no_call_average_precision"]


def test_the_interval_holds_the_estimate_and_shrinks_with_more_recordings():
    widths = []
    for n in (80, 320, 1280):
        table, _ = drawn(n)
        found = evaluate_scores(table.targets, table.scores, table.classes, table.groups, multi_label=False)
        low, high = found["macro_auroc_ci"]
        assert low <= found["macro_auroc"] <= high
        widths.append(high - low)
    assert widths[0] > widths[1] > widths[2]


def test_accuracy_of_multi_label_is_the_whole_set_of_labels():
    targets = np.array([[1, 1], [0, 1], [0, 0], [1, 0]])
    scores = np.array([[0.9, 0.6], [0.6, 0.9], [0.1, 0.2], [0.5, 0.1]])
    found = evaluate_scores(targets, scores, ("a", "b"), list("wxyz"), multi_label=True)
    assert found["accuracy"] == sk.accuracy_score(targets, scores >= 0.5) == 0.75
    assert "set of labels" in found["accuracy_is"]


def test_metrics_json_keeps_other_keys_and_is_replaced_whole(tmp_path):
    table, _ = drawn()
    write_json(tmp_path / "metrics.json", {"training_s": 12.5, "macro_auroc": 0.1})
    found = write_evaluation(tmp_path, table, multi_label=False, title="t")
    stored = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8", errors="strict"))
    assert stored["training_s"] == 12.5
    assert stored["macro_auroc"] == found["macro_auroc"] > 0.5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.json", "report.html"]
    (tmp_path / "metrics.json").write_text("{half", encoding="utf-8")
    with pytest.raises(UserError, match=r"metrics\.json is not readable JSON"):
        write_evaluation(tmp_path, table, multi_label=False, title="t")
    with pytest.raises(UserError, match="no rows"):
        write_evaluation(tmp_path, score_table([], np.zeros((0, 5)), HOSTILE), multi_label=False, title="t")


class Page(HTMLParser):
    """Tags, what they would load, and the text of a page."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.loads, self.words = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loads += [
            value
            for name, value in attrs
            if name in ("src", "href", "xlink:href", "data", "srcset", "action") and value
        ]
        assert not any(name.startswith("on") for name, _ in attrs)

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    table, _ = drawn()
    rows = [{"epoch": e, "train_loss": 3 / e, "val_acc": 0.5, "val/per_class_accuracy/x": 0.1} for e in range(1, 6)]
    metrics = write_evaluation(
        folder,
        table,
        multi_label=False,
        title="</title><script>t</script>",
        experiment=schema.Experiment(name='<img src="https://example.org/x.png">'),
        versions={"keras": "<3>"},
        notes=["<iframe src=//example.org>"],
        history=rows,
    )
    return (folder / "report.html").read_text(encoding="utf-8"), metrics


def test_the_page_loads_nothing(report):
    html, _ = report
    page = Page(html)
    assert not {"script", "link", "iframe", "img", "object", "embed", "base"} & set(page.tags)
    assert all(load.startswith(("#", "data:image/png;base64,")) for load in page.loads), page.loads
    outside = re.sub(r"&lt;.*?&gt;", "", html)
    assert not re.search(r"https?://|url\((?!#)|@import", outside)


def test_hostile_names_are_shown_as_text(report):
    html, _ = report
    assert "<script>" not in html
    text = "".join(Page(html).words)
    for name in HOSTILE:
        assert escaped(name) in text
    assert "bad\\udce9\\x07" in text
    assert "</title><script>t</script>" in text
    assert "<iframe src=//example.org>" in text


def test_the_page_says_what_counts(report):
    html, metrics = report
    text = " ".join("".join(Page(html).words).split())
    assert f"{100 * metrics['macro_auroc']:.1f} times out of 100, averaged over 4 species" in text
    low, high = metrics["macro_auroc_ci"]
    assert f"between {100 * low:.1f} and {100 * high:.1f} (95 % confidence interval" in text
    assert "Not scored: 1 species" in text
    assert "no segment here holds it" in text
    worst_first = sorted(metrics["per_class"][:4], key=lambda row: row["auroc"])
    table = text[text.index("Species by species") : text.index("What is taken for what")]
    places = [table.index(" ".join(escaped(row["name"]).split())) for row in worst_first]
    assert places == sorted(places)
    assert "training.batch_size" in text
    assert html.count("<svg") == 2
    assert "val_acc" in text and "per_class_accuracy" not in text
    assert len(html) < 400_000


def test_a_page_without_scores_history_or_settings_is_whole(tmp_path):
    metrics = evaluate_scores(np.zeros((2, 2)), np.zeros((2, 2)), ("a", "b"), ["g", "g"], multi_label=True)
    write_report(tmp_path / "r.html", title="empty", metrics=metrics)
    html = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "No species could be scored" in html
    assert "nan" not in re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL).lower().replace("naan", "")


def test_a_figure_of_many_classes_stays_small(tmp_path):
    classes = [f"species {i}" for i in range(206)]
    table, _ = drawn(400, classes)
    write_evaluation(tmp_path, table, multi_label=False, title="many")
    assert (tmp_path / "report.html").stat().st_size < 400_000
