"""Figures as inline SVG."""

from drawn_scores import drawn

from birdnet_fs.reports.evaluate import write_evaluation


def test_a_figure_of_many_classes_stays_small(tmp_path):
    classes = [f"species {i}" for i in range(206)]
    table, _ = drawn(400, classes)
    write_evaluation(tmp_path, table, multi_label=False, title="many")
    assert (tmp_path / "report.html").stat().st_size < 400_000


def test_figures_are_svg_elements_without_addresses():
    from birdnet_fs.reports.pages import figures

    svgs = [
        figures.confusion_figure([[3, 1], [0, 2]], ["a", "$x$"]),
        figures.history_figure([{"epoch": 1, "train_loss": 0.7, "val_acc": 0.5}, {"epoch": 2, "train_loss": 0.6}]),
        figures.search_figure([(0, 0.5, True), (1, 0.4, False)], "val_acc"),
        figures.trials_figure([{1: 0.5, 2: 0.6}, {1: 0.4}], 0, "val_acc"),
        figures.slices_figure(
            [{"key": "k", "x": [1.0, 10.0], "y": [0.5, 0.6], "whole": [True, False], "options": [], "log": True}], "v"
        ),
    ]
    for svg in svgs:
        assert svg.startswith("<svg") and svg.rstrip().endswith("</svg>")
        assert "http" not in svg and "xmlns" not in svg
    assert "$x$" in svgs[0] and ">3</text>" in svgs[0]


def test_history_without_losses_or_scores_gives_no_figure():
    from birdnet_fs.reports.pages.figures import history_figure

    assert history_figure([]) == "" and history_figure([{"epoch": 1, "seconds": 2.0}]) == ""
