"""Figures of the reports as SVG text for inline use in HTML: no script, no link, nothing to load."""

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

INK, ACCENT, SECOND, THIRD, FOURTH, FAINT = "#24332b", "#2f6f4f", "#c2703d", "#4a6fa5", "#8a6bb0", "#b9c4bd"
# color in a figure -> variable of the style of the page, which has a light and a dark form
_VARIABLES = {
    INK: "--ink",
    ACCENT: "--accent",
    SECOND: "--warm",
    THIRD: "--third",
    FOURTH: "--fourth",
    FAINT: "--soft",
    "#e4eae6": "--line",
}
MOST_CURVES = 40  # classes whose curves are drawn thin
N_WORST = 3  # classes whose curves are named
_GRID = 101  # false positive rates at which the mean curve is drawn
_POINTS = 150  # of a curve, enough for its width in pixels
MAX_NAMED, MAX_COUNTED = 60, 25  # most classes whose names, and whose counts, are legible
_STYLE: Any = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.parse_math": False,  # a class may be called $x$
}


def confusion_figure(confusion: Sequence[Sequence[int]] | np.ndarray, classes: Sequence[str]) -> str:
    """The confusion matrix, each row divided by its sum: true classes down, predicted classes across.

    Args:
        confusion: [n_classes, n_classes] counts, true class first.
        classes: Class names; shown up to 60 classes.

    Returns:
        An <svg> element.
    """
    import matplotlib
    from matplotlib.figure import Figure

    counts = np.asarray(confusion)
    n = len(classes)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = float(np.clip(1.8 + 0.36 * n, 4.2, 11))
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(size + 1.2, size), layout="constrained")
        axes = figure.subplots()
        image = axes.imshow(share, vmin=0, vmax=1, cmap="Greens", interpolation="nearest")
        figure.colorbar(image, ax=axes, shrink=0.6, label="share of the true class")
        axes.set(xlabel="predicted class", ylabel="true class")
        axes.spines[:].set_visible(False)
        if n <= MAX_NAMED:
            short = [_short(name) for name in classes]
            axes.set_xticks(range(n), short, rotation=90)
            axes.set_yticks(range(n), short)
        if n <= MAX_COUNTED:
            for i, j in zip(*np.nonzero(counts), strict=True):
                color = "white" if share[i, j] > 0.55 else INK
                axes.text(j, i, str(counts[i, j]), ha="center", va="center", fontsize=8, color=color)
        return _svg(figure, "confusion", "confusion matrix")


def history_figure(history: Sequence[Mapping[str, float]]) -> str:
    """Training curves: losses on the left, scores between 0 and 1 on the right.

    Args:
        history: One mapping per epoch; columns of single classes (with "/" in the name) are not shown.

    Returns:
        An <svg> element; "" when there is nothing to show.
    """
    import matplotlib
    from matplotlib.figure import Figure

    names = [name for name in dict.fromkeys(name for row in history for name in row) if "/" not in name]
    losses = [name for name in names if "loss" in name]
    scores = [name for name in names if any(word in name for word in ("auc", "auroc", "acc", "map", "f1"))]
    panels = [(kind, found) for kind, found in (("loss", losses), ("score", scores)) if found]
    if not panels:
        return ""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4.6 * len(panels), 3.0), layout="constrained")
        for axes, (kind, found) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            for name, color in zip(found, [ACCENT, SECOND, THIRD, FOURTH, "#777777"] * len(found), strict=False):
                points = [(row.get("epoch", i), row[name]) for i, row in enumerate(history, 1) if name in row]
                axes.plot(*zip(*points, strict=True), color=color, linewidth=1.6, label=name, marker=".", markersize=3)
            axes.set(xlabel="epoch", ylabel=kind)
            _plain(axes)
            axes.legend(frameon=False)
        return _svg(figure, "history", "training curves")


def reliability_figure(curves: Mapping[str, Sequence[tuple[float, float, int]]]) -> str:
    """A reliability diagram: the share of rows that have a class by the probability that they were given.

    Args:
        curves: Name -> (mean probability, share with the class, number of rows) of each bin.

    Returns:
        An <svg> element.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4.4, 3.8), layout="constrained")
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, linestyle="--")
        for (name, bins), color in zip(curves.items(), [ACCENT, SECOND, THIRD] * len(curves), strict=False):
            if bins:
                mean, share, n = zip(*bins, strict=True)
                axes.plot(mean, share, color=color, linewidth=1.4, label=name)
                axes.scatter(mean, share, s=6 + 6 * np.log10(np.maximum(n, 1)), color=color, zorder=3)
        axes.set(xlabel="probability", ylabel="share with the class", xlim=(0, 1), ylim=(0, 1))
        _plain(axes)
        if len(curves) > 1:
            axes.legend(frameon=False)
        return _svg(figure, "reliability", "reliability diagram")


def curves_figure(
    targets: np.ndarray, scores: np.ndarray, classes: Sequence[str], aurocs: Sequence[float | None]
) -> str:
    """ROC curves, precision-recall curves, and the scores of rows with and without a class.

    The thick line of the ROC is the mean over the classes at equal false positive rates, thin lines are single classes,
    and the N_WORST classes with the lowest AUROC are named.

    Args:
        targets: [n, n_classes], 0 or 1.
        scores: [n, n_classes], probabilities.
        classes: Class names.
        aurocs: AUROC of each class; None for those without one, which are left out.

    Returns:
        An <svg> element; "" when no class has an AUROC.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullFormatter

    from birdnet_fs.metrics.curves import precision_recall_points, roc_points

    values = {c: value for c, value in enumerate(aurocs) if value is not None}
    if not values:
        return ""
    by_value = sorted(values, key=lambda c: values[c])
    grid, mean = np.linspace(0, 1, _GRID), np.zeros(_GRID)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(11.4, 3.8), layout="constrained")
        roc, recall, histogram = figure.subplots(1, 3)
        roc.plot([0, 1], [0, 1], color=FAINT, linewidth=1, linestyle="--")
        for place, c in enumerate(by_value):
            rates = roc_points(targets[:, c], scores[:, c])
            mean += _at(grid, *rates) / len(values)
            if place >= MOST_CURVES:
                continue
            named = place < min(N_WORST, len(values) - 1)
            color = (SECOND, THIRD, FOURTH)[place] if named else FAINT
            label = _short(classes[c]) if named else None
            line = {"color": color, "linewidth": 1.4 if named else 0.6, "zorder": 3 if named else 2}
            roc.plot(*_thinned(*rates), **line)
            points = _thinned(*precision_recall_points(targets[:, c], scores[:, c]))
            recall.plot(*points, **line, drawstyle="steps-pre", label=label)
        roc.plot(grid, mean, color=ACCENT, linewidth=2.2, zorder=4)
        limits = {"xlim": (-0.02, 1.02), "ylim": (-0.02, 1.02)}
        roc.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC, mean over classes", **limits)
        recall.set(xlabel="recall", ylabel="precision", title="precision and recall", **limits)
        if len(values) > 1:
            recall.legend(frameon=False, loc="lower left", fontsize=8, title="lowest AUROC", title_fontsize=8)
        truth = targets[:, by_value] > 0
        for part, color, label in ((truth, ACCENT, "with the class"), (~truth, SECOND, "without it")):
            counts, edges = np.histogram(np.clip(scores[:, by_value][part], 0, 1), bins=25, range=(0, 1))
            histogram.stairs(counts / max(counts.sum(), 1), edges, color=color, linewidth=1.6, label=label)
        histogram.set(xlabel="score", ylabel="share", title="scores of segments", yscale="log")
        histogram.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))  # no powers: parse_math
        histogram.yaxis.set_minor_formatter(NullFormatter())
        histogram.legend(frameon=False, fontsize=8)
        for axes in (roc, recall, histogram):
            _plain(axes)
        return _svg(figure, "curves", "ROC curves, precision-recall curves and distribution of the scores")


def _at(grid: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Linear interpolation; where x rises vertically, the upper end counts."""
    last = np.append(np.flatnonzero(np.diff(x)), len(x) - 1)
    return np.interp(grid, x[last], y[last])


def _thinned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A curve without points that fall into the pixel of the one before."""
    rounded = np.round(np.stack([x, y]) * _POINTS)
    keep = np.append(True, np.any(np.diff(rounded, axis=1) != 0, axis=0))
    keep[-1] = True
    return x[keep], y[keep]


def _short(name: str) -> str:
    return name if len(name) <= 28 else name[:27] + "…"


def search_figure(points: Sequence[tuple[int, float, bool]], metric: str) -> str:
    """The value of every trial of a study, and the best value so far.

    Args:
        points: (number, value, whether it was trained to its end) of one or more trials, in order of number.
        metric: Name of the value.

    Returns:
        An <svg> element.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(9.2, 3.0), layout="constrained")
        axes = figure.subplots()
        for whole, color, label in ((True, ACCENT, "trained to its end"), (False, SECOND, "ended early")):
            some = [(number, value) for number, value, finished in points if finished == whole]
            if some:
                numbers, values = zip(*some, strict=True)
                axes.scatter(numbers, values, s=16, color=color, label=label, zorder=3)
        finished = [(number, value) for number, value, whole in points if whole]
        if finished:
            numbers, values = zip(*finished, strict=True)
            best = np.maximum.accumulate(values)
            axes.step([*numbers, points[-1][0]], [*best, best[-1]], where="post", color=ACCENT, label="best so far")
        axes.set(xlabel="trial", ylabel=metric)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _plain(axes)
        axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=3)
        return _svg(figure, "search", "value of every trial")


def trials_figure(curves: Sequence[Mapping[int, float]], best: int | None, metric: str) -> str:
    """The value of every trial of a study by epoch.

    Args:
        curves: Value by epoch of each trial.
        best: Index in `curves` of the best trial, drawn on top; None for none.
        metric: Name of the value.

    Returns:
        An <svg> element.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(9.2, 3.0), layout="constrained")
        axes = figure.subplots()
        for place, curve in enumerate(curves):
            on_top = place == best
            axes.plot(
                list(curve), list(curve.values()), color=ACCENT if on_top else FAINT, zorder=3 if on_top else 2,
                linewidth=2.0 if on_top else 0.9, marker="." if len(curve) == 1 else "", markersize=5,
                label="the best trial" if on_top else None,
            )  # fmt: skip
        axes.set(xlabel="epoch", ylabel=metric)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _plain(axes)
        if best is not None:
            axes.legend(frameon=False, loc="lower right")
        return _svg(figure, "trials", "value of the trials by epoch")


def slices_figure(slices: Sequence[Mapping[str, Any]], metric: str) -> str:
    """The value of the trials against each searched setting.

    Args:
        slices: Mapping of each setting with "key", "x" (numbers, or indices into "options" if there are any), "y",
            "whole" (whether a trial was trained to its end), "options" and "log" (logarithmic axis).
        metric: Name of the value.

    Returns:
        An <svg> element.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullFormatter

    n_columns = min(3, len(slices))
    n_rows = -(-len(slices) // n_columns)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(3.3 * n_columns, 2.5 * n_rows), layout="constrained")
        panels = figure.subplots(n_rows, n_columns, squeeze=False, sharey=True)
        for axes, one in zip(panels.flat, slices, strict=False):
            colors = [ACCENT if whole else SECOND for whole in one["whole"]]
            axes.scatter(one["x"], one["y"], s=12, color=colors, alpha=0.7, linewidths=0)
            if one["log"]:
                axes.set_xscale("log")
                axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))  # no powers: parse_math
                axes.xaxis.set_minor_formatter(NullFormatter())
            if one["options"]:
                short = [name if len(name) <= 18 else name[:17] + "…" for name in one["options"]]
                axes.set_xticks(range(len(short)), short, rotation=30 if max(map(len, short)) > 6 else 0, ha="right")
                axes.set_xlim(-0.5, len(short) - 0.5)
            axes.set_xlabel(one["key"])
            _plain(axes)
        for axes in panels.flat[len(slices) :]:
            axes.set_visible(False)
        for axes in panels[:, 0]:
            axes.set_ylabel(metric)
        return _svg(figure, "slices", "value of the trials by setting")


def _plain(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e4eae6", linewidth=0.8)


def _svg(figure: Any, name: str, label: str) -> str:
    """A figure as an <svg> element; the name keeps the ids of two figures on one page apart."""
    import matplotlib

    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # the browser's font has it, or shows a box
        figure.savefig(text, format="svg", metadata={"Date": None}, transparent=True)
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    # inside HTML neither the metadata nor the namespaces are needed, and without them the page holds no address
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg)
    width_and_height = re.compile(r'(<svg [^>]*?)\s(?:width|height)="[^"]*"')
    for _ in range(2):  # the page decides on the size
        svg = width_and_height.sub(r"\1", svg, count=1)
    for color, variable in _VARIABLES.items():
        svg = svg.replace(color, f"var({variable})")
    return svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
