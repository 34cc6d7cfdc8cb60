"""The accuracies of many runs: a dot a run in the row of its kind, their mean as a bar; the finding in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cvcore.accuracy_chart import Marks, accuracy_layout, measured, published_mark, title_of, value_of
from cvcore.charts import NEUTRAL, as_text, run_styles
from cvcore.kinds import Kind
from cvcore.published import PublishedFigure
from cvcore.reproduction import one_a_seed, tight
from cvcore.statistics import seed_summary

_GOLDEN = 0.6180339887  # steps of it, their whole parts left out, spread dots evenly, however many there are
_FEW = 10  # runs of a kind whose dots need not be seen through each other
_BAR = 22  # marker size of a mean: Plotly draws it 0.7 of that to each side
_CLEAR = 28  # marker size of which Plotly writes a text below bar and dots


def dots_of_kinds(
    kinds: Sequence[Kind], rows: Sequence[dict[str, Any]], split: str = "test", marks: Marks | None = None
) -> dict[str, Any]:
    """Draw the accuracy of every run as a dot in the row of its kind, and the mean of several as a bar behind them.

    Where a kind's runs differ in their seed alone, the mean is over the newest run of each seed, and from three seeds
    on has its 95% t interval.

    Args:
        kinds: the first on top; one without this accuracy is left out.
        rows: of all their runs, as `comparison.figures` makes them.
        split: `test`, or `validation` for the accuracy at the last epoch.
        marks: run id -> published figures of its recipe; drawn once a kind, those that are of all its runs here.

    Returns:
        A Plotly figure as a dict.
    """
    told = {row["run"]: row for row in measured(rows, split)[0]}
    styles = dict(zip((kind.label for kind in kinds), run_styles([kind.strategy for kind in kinds]), strict=True))
    drawn = [kind for kind in kinds if any(run.id in told for run in kind.runs)]
    names = [as_text(kind.label) for kind in drawn]
    published, dots, values, means = [], [], [], []
    lowest = [value_of(row, split) for row in told.values()]
    for place, kind in enumerate(drawn):
        colour, _ = styles[kind.label]
        own = [told[run.id] for run in kind.runs if run.id in told]
        for mark in _marks(own, split, marks or {}):
            published += _published(mark, place)
            lowest.append(mark.low)
        one, few = len(own) == 1, len(own) < _FEW
        dots.append({
            "type": "scatter", "mode": "markers", "name": names[place], "showlegend": False, "cliponaxis": False,
            "x": [value_of(row, split) for row in own],
            "y": [place] if one else [round(place + 0.3 * (n * _GOLDEN % 1 - 0.5), 3) for n in range(len(own))],
            "marker": {"color": colour, "size": 10 if one else 8 if few else 6, "opacity": 0.9 if few else 0.4},
            "customdata": [as_text(row["label"]) for row in own],
            "hovertemplate": "%{x:.1%}<br>%{customdata}<extra></extra>",
        })  # fmt: skip
        if one:
            values.append(_text(value_of(own[0], split), place, f"{value_of(own[0], split):.1%}", _BAR, "top center"))
        else:
            means.append(_mean(kind, place, colour, told, split))
    intervals = " and 95% t intervals" if any("error_x" in mean for mean in means) else ""
    title = f"{title_of(split)}<br>" + (f"dots are runs, bars means{intervals}" if means else "dots are runs")
    layout = accuracy_layout(list(told.values()), split, title, lowest, len(drawn))
    layout["yaxis"] |= {"tickvals": list(range(len(names))), "ticktext": names, "zeroline": False, "showgrid": False}
    return {"data": [*means, *values, *dots, *published], "layout": layout}


def _values(kind: Kind, told: dict[str, dict[str, Any]], split: str) -> list[float]:
    """The accuracies that a kind's mean is of."""
    there = [run for run in kind.runs if run.id in told]
    return [value_of(told[run.id], split) for run in (one_a_seed(there) if kind.alike else there)]


def _mean(kind: Kind, place: int, colour: str, told: dict[str, dict[str, Any]], split: str) -> dict[str, Any]:
    values = _values(kind, told, split)
    summary = seed_summary(values)
    n = f"{summary.n:,} {'seed' if kind.alike else 'run'}{'s' if summary.n > 1 else ''}"
    mean: dict[str, Any] = {
        "type": "scatter", "mode": "markers+text", "x": [summary.mean], "y": [place], "name": "mean",
        "showlegend": False, "cliponaxis": False, "text": [f"{summary.mean:.1%}"], "textposition": "top center",
        "marker": {"symbol": "line-ns-open", "size": _BAR, "color": colour, "line": {"color": colour, "width": 2}},
        "hovertemplate": f"mean {summary.mean:.1%} of {n}, {min(values):.1%} to {max(values):.1%}<extra></extra>",
    }  # fmt: skip
    if kind.alike and summary.low is not None and summary.high is not None:
        half = summary.high - summary.mean
        mean["error_x"] = {"type": "data", "array": [half], "color": colour, "thickness": 2, "width": 7}
        mean["hovertemplate"] = mean["hovertemplate"].replace(
            "<extra>", f"<br>95% t interval over the seeds: {summary.low:.1%} to {summary.high:.1%}<extra>"
        )
    return mean


def _marks(rows: Sequence[dict[str, Any]], split: str, marks: Marks) -> list[PublishedFigure]:
    """The published figures that all of these runs may be held against."""
    found = [marks.get(row["run"], ()) for row in rows]
    return [mark for mark in found[0] if mark.split == split and all(mark in others for others in found)]


def _published(mark: PublishedFigure, place: int) -> list[dict[str, Any]]:
    """The mark of a published figure, and its text where neither bar nor dots are."""
    words = f"published {as_text(tight(mark.text))}"
    says = _text((mark.low + mark.high) / 2, place, words, _CLEAR, "bottom center") | {"textfont": {"color": NEUTRAL}}
    return [{**says, "name": "published figure"}, published_mark(mark, place, False)]


def _text(value: float, place: int, words: str, size: int, position: str) -> dict[str, Any]:
    """A text as far from its place as if a marker of this size were there."""
    return {
        "type": "scatter", "mode": "markers+text", "x": [value], "y": [place], "text": [words],
        "textposition": position, "name": "value", "showlegend": False, "cliponaxis": False, "hoverinfo": "skip",
        "marker": {"size": size, "opacity": 0},
    }  # fmt: skip


def caption(kinds: Sequence[Kind], words: str) -> str:
    """Say what `dots_of_kinds` draws, of kinds whose runs have these words in common."""
    if all(kind.alike for kind in kinds):
        return f"A row has the runs {words}; its bar is their mean, the newest run of each seed counted."
    return f"A row has the runs {words}; its bar is their mean. Their other settings may differ."


def dots_of_kinds_alt(kinds: Sequence[Kind], rows: Sequence[dict[str, Any]], split: str = "test") -> str:
    """State in words what `dots_of_kinds` shows: each kind's mean, range and number of runs, the highest first."""
    told = {row["run"]: row for row in measured(rows, split)[0]}
    found = [(kind, values) for kind in kinds if (values := _values(kind, told, split))]
    if not found:
        return f"No run has a {split} accuracy."
    parts = []
    for kind, values in sorted(found, key=lambda one: -sum(one[1]) / len(one[1])):
        mean, of = sum(values) / len(values), "1 run" if len(values) == 1 else f"{len(values):,} runs"
        parts.append(f"{kind.label} {mean:.1%} ({of}, {min(values):.1%} to {max(values):.1%})")
    return f"{title_of(split)}, means, highest first: {'; '.join(parts)}."
