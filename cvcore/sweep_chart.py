"""Accuracy against training-set size: every run a dot, a line through the means, intervals named for what they are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import log10
from typing import Any

from cvcore.charts import as_text, run_styles
from cvcore.comparison import figures, number
from cvcore.run_directory import Run
from cvcore.statistics import SeedSummary, seed_summary

_FIGURES = {  # split: names of a row's accuracy and its interval
    "test": ("test_accuracy", "test_low", "test_high"),
    "validation": ("last_val_accuracy", "last_val_low", "last_val_high"),
}
_TITLES = {"test": "Test accuracy", "validation": "Validation accuracy (last epoch)"}


@dataclass(frozen=True)
class Size:
    """The finished runs of one training-set size.

    Attributes:
        pictures: training pictures.
        rows: of `comparison.figures`, one a run, those with an accuracy.
        summary: of their accuracies over seeds.
    """

    pictures: int
    rows: tuple[dict[str, Any], ...]
    summary: SeedSummary


def training_size(run: Run) -> int:
    """Return how many training pictures a run has, those of its recipe or all that there are."""
    there = sum(n for n in map(number, (run.dataset.get("counts") or {}).get("train", {}).values()) if n)
    return min(there, int(number(run.recipe.get("train_pictures")) or there))


def split_of(runs: Sequence[Run]) -> str:
    """Name the split whose accuracy is drawn: `test` where the pictures have one, else `validation`."""
    return "test" if any((run.dataset.get("counts") or {}).get("test") for run in runs) else "validation"


def by_size(runs: Sequence[Run]) -> list[Size]:
    """Sort the finished runs of a sweep by their training-set size, the smallest first."""
    value = _FIGURES[split_of(runs)][0]
    sizes = {run.id: training_size(run) for run in runs}
    found: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in figures([run for run in runs if run.status == "done"]):
        if row[value] is not None:
            found[sizes[row["run"]]].append(row)
    return [Size(size, tuple(rows), seed_summary([row[value] for row in rows])) for size, rows in sorted(found.items())]


def interval_named(sizes: Sequence[Size]) -> str:
    """Say what is drawn beside the dots, and the intervals by their names; "" where there is nothing to draw."""
    seeds = sorted({size.summary.n for size in sizes if size.summary.low is not None})
    if seeds:
        over = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
        if any(size.summary.low is None for size in sizes):
            return "mean; 95% t interval from 3 seeds on"
        return f"mean and 95% t interval over {over} seeds"
    return "each run with its own 95% Wilson interval" if sizes else ""


def accuracy_by_size(runs: Sequence[Run]) -> dict[str, Any]:
    """Draw the accuracy of a sweep's finished runs against the number of training pictures, on a logarithmic axis.

    From three seeds of a size on its mean has a t interval. Where no size has as many, each dot has its own Wilson
    interval instead.

    Args:
        runs: of one recipe; those that have not finished are left out.

    Returns:
        A Plotly figure as a dict.
    """
    split, sizes = split_of(runs), by_size(runs)
    (colour, _), *_ = run_styles([next((run.strategy for run in runs), None)])
    over_seeds = any(size.summary.low is not None for size in sizes)
    value, low, high = _FIGURES[split]
    rows = [(size.pictures, row) for size in sizes for row in size.rows]
    dots: dict[str, Any] = {
        "type": "scatter", "mode": "markers", "name": "run", "showlegend": False, "cliponaxis": False,
        "x": [pictures for pictures, _ in rows], "y": [row[value] for _, row in rows],
        "marker": {"color": colour, "size": 11, "line": {"width": 2},
                   "symbol": "circle-open" if over_seeds else "circle"},
        "customdata": [[as_text(f"seed {row['seed']}"), _own(row, low, high)] for _, row in rows],
        "hovertemplate": f"%{{y:.1%}} of {split} pictures right<br>%{{x:,}} training pictures, %{{customdata[0]}}"
                         "%{customdata[1]}<extra></extra>",
    }  # fmt: skip
    if not over_seeds:
        told = [None not in (row[low], row[high]) for _, row in rows]
        dots["error_y"] = _bars(
            [row[high] - row[value] if there else 0 for (_, row), there in zip(rows, told, strict=True)],
            [row[value] - row[low] if there else 0 for (_, row), there in zip(rows, told, strict=True)], colour,
        )  # fmt: skip
    data = [dots]
    if over_seeds or len(sizes) > 1:
        data.append(_means(sizes, colour, split))
    ticks = sorted({training_size(run) for run in runs} - {0})
    room = 0.08 * (log10(ticks[-1] / ticks[0]) if len(ticks) > 1 else 1) + 0.02
    named = interval_named(sizes)
    # Of no number, or of one, Plotly's own axis would go beyond 100 %.
    alike = not rows or (over_seeds and len({row[value] for _, row in rows}) == 1)
    return {
        "data": data,
        "layout": {
            "title": {"text": f"{_TITLES[split]} by training-set size" + (f"<br>{named}" if named else "")},
            "xaxis": {"title": {"text": "training pictures (number, logarithmic)"}, "type": "log", "tickvals": ticks,
                      "ticktext": [f"{tick:,}" for tick in ticks],
                      "range": [log10(ticks[0]) - room, log10(ticks[-1]) + room] if ticks else [0, 3]},
            "yaxis": {"title": {"text": f"share of {split} pictures right"}, "tickformat": ".1~%",
                      **({"range": [0, 1]} if alike else {})},
            "height": 380, "margin": {"t": 72, "r": 24, "b": 56, "l": 56},
        },
    }  # fmt: skip


def accuracy_by_size_alt(runs: Sequence[Run]) -> str:
    """State in words what `accuracy_by_size` shows: each size with its mean, interval and runs, and the finding."""
    split, sizes = split_of(runs), by_size(runs)
    if not sizes:
        return f"No run of this group has a {split} accuracy yet."
    parts = []
    for size in sizes:
        summary, n = size.summary, f"{size.summary.n} run" + ("s" if size.summary.n > 1 else "")
        bounds = "" if summary.low is None else f", 95% t interval {summary.low:.1%} to {summary.high:.1%}"
        parts.append(f"{size.pictures:,} pictures {summary.mean:.1%} ({n}{bounds})")
    finding = ""
    if len(sizes) > 1:
        gain = 100 * (sizes[-1].summary.mean - sizes[0].summary.mean)
        finding = (f" From {sizes[0].pictures:,} to {sizes[-1].pictures:,} pictures the mean changes by {gain:+.1f} "
                   "percentage points.")  # fmt: skip
    return f"{_TITLES[split]} by training-set size: {'; '.join(parts)}.{finding}"


def _means(sizes: Sequence[Size], colour: str, split: str) -> dict[str, Any]:
    told = [size.summary for size in sizes]
    words = [
        f"{one.n} seed{'s' if one.n > 1 else ''}"
        + ("" if one.low is None else f"<br>95% t interval {one.low:.1%} to {one.high:.1%}")
        for one in told
    ]
    means: dict[str, Any] = {
        "type": "scatter", "mode": "lines+markers", "name": "mean", "showlegend": False, "cliponaxis": False,
        "x": [size.pictures for size in sizes], "y": [one.mean for one in told],
        "line": {"color": colour, "width": 2}, "marker": {"color": colour, "size": 9, "symbol": "line-ew-open",
                                                          "line": {"color": colour, "width": 3}},
        "customdata": words,
        "hovertemplate": f"mean %{{y:.1%}} of {split} pictures right<br>%{{x:,}} training pictures, %{{customdata}}"
                         "<extra></extra>",
    }  # fmt: skip
    if any(one.low is not None for one in told):
        above = [0.0 if one.high is None else one.high - one.mean for one in told]
        below = [0.0 if one.low is None else one.mean - one.low for one in told]
        means["error_y"] = _bars(above, below, colour)
    return means


def _bars(above: list[float], below: list[float], colour: str) -> dict[str, Any]:
    return {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "color": colour, "thickness": 2,
            "width": 6}  # fmt: skip


def _own(row: dict[str, Any], low: str, high: str) -> str:
    if None in (row[low], row[high]):
        return ""
    return f"<br>95% Wilson interval of this run alone: {row[low]:.1%} to {row[high]:.1%}"
