"""The report page: complete, escaped, and loading nothing."""

import re

import numpy as np
import pytest
from drawn_scores import HOSTILE, drawn
from html_page import check_page

from birdnet_fs import schema
from birdnet_fs.core.text import escaped
from birdnet_fs.data.score_table import score_table
from birdnet_fs.reports.evaluate import evaluate_scores, write_evaluation
from birdnet_fs.reports.pages.evaluation import write_report


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
    check_page(html)


def test_hostile_names_are_shown_as_text(report):
    html, _ = report
    page = check_page(html)
    assert html.count("<script>") == 1
    text = "".join(page.words)
    for name in HOSTILE:
        assert escaped(name) in text
    assert "bad\\xa0\\u200bx" in text
    assert "</title><script>t</script>" in text
    assert "<iframe src=//example.org>" in text


def test_the_page_says_what_counts(report):
    html, metrics = report
    text = check_page(html).text
    assert f"{100 * metrics['macro_auroc']:.1f} times out of 100, averaged over 4 species" in text
    low, high = metrics["macro_auroc_ci"]
    assert f"between {100 * low:.1f} and {100 * high:.1f} (95 % confidence interval" in text
    assert "Not scored: 1 species" in text
    assert "no segment here holds it" in text
    worst_first = sorted(metrics["per_class"][:4], key=lambda row: row["auroc"])
    table = text[text.index("Species by species") : text.index("Confusion matrix")]
    places = [table.index(" ".join(escaped(row["name"]).split())) for row in worst_first]
    assert places == sorted(places)
    assert "training.batch_size" in text
    assert html.count("<svg") == 4
    assert "Calibration" in text and "underconfidence" in text
    assert "val_acc" in text and "per_class_accuracy" not in text
    assert len(html) < 400_000


def test_a_page_without_scores_history_or_settings_is_whole(tmp_path):
    metrics = evaluate_scores(np.zeros((2, 2)), np.zeros((2, 2)), ("a", "b"), ["g", "g"], multi_label=True)
    write_report(tmp_path / "r.html", title="empty", metrics=metrics)
    html = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "No species could be scored" in html
    assert not re.search(r"\bnan\b", re.sub(r"<(style|script)>.*?</\1>", "", html, flags=re.DOTALL).lower())


def test_remarks_are_a_warning_and_the_number_is_not_shown_as_a_success(tmp_path):
    table, _ = drawn()
    collapsed = table.scores * 0 + np.array([0.9, 0.1, 0.1, 0.1, 0.1], np.float32)
    one_class = score_table(table.rows, collapsed, table.classes)
    write_evaluation(tmp_path, one_class, multi_label=False, title="collapsed")
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    warning = html[html.index('class="warning"') : html.index('class="head"')]
    assert "All predictions (200 of 200 clips)" in warning and "not above chance" in warning
    assert 'class="big doubtful"' in html
    write_evaluation(tmp_path, table, multi_label=False, title="fine")
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert 'class="warning"' not in html and 'class="big"' in html


def test_two_thousand_classes_take_less_than_eight_megabytes(tmp_path):
    table, _ = drawn(4000, [f"species {i}" for i in range(2000)])
    write_evaluation(tmp_path, table, multi_label=False, title="many")
    assert (tmp_path / "report.html").stat().st_size < 8_000_000
