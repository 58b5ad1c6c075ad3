"""The report page: complete, escaped, and loading nothing."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from drawn_scores import HOSTILE, drawn

from birdnet_fs import schema
from birdnet_fs.core.text import escaped
from birdnet_fs.reports.evaluate import evaluate_scores, write_evaluation
from birdnet_fs.reports.page import write_report


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
    assert "bad\\xa0\\u200bx" in text
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
    table = text[text.index("Species by species") : text.index("Confusion matrix")]
    places = [table.index(" ".join(escaped(row["name"]).split())) for row in worst_first]
    assert places == sorted(places)
    assert "training.batch_size" in text
    assert html.count("<svg") == 3
    assert "Calibration" in text and "underconfidence" in text
    assert "val_acc" in text and "per_class_accuracy" not in text
    assert len(html) < 400_000


def test_a_page_without_scores_history_or_settings_is_whole(tmp_path):
    metrics = evaluate_scores(np.zeros((2, 2)), np.zeros((2, 2)), ("a", "b"), ["g", "g"], multi_label=True)
    write_report(tmp_path / "r.html", title="empty", metrics=metrics)
    html = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "No species could be scored" in html
    assert "nan" not in re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL).lower().replace("naan", "")
