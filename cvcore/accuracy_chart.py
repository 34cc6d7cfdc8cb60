"""Accuracies as dots with their intervals, published figures marked beside them; the finding in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import unescape
from typing import Any

from cvcore.charts import NEUTRAL, as_text, run_styles
from cvcore.published import PublishedFigure
from cvcore.reproduction import tight, where

Marks = Mapping[str, Sequence[PublishedFigure]]


@dataclass(frozen=True)
class _Shown:
    """Names of the row's figures for one split, and what the chart calls them."""

    value: str
    low: str
    high: str
    count: str
    guessing: str
    title: str


_SHOWN = {
    "test": _Shown("test_accuracy", "test_low", "test_high", "test_count", "guessing", "Test accuracy"),
    "validation": _Shown(
        "last_val_accuracy", "last_val_low", "last_val_high", "val_count", "val_guessing",
        "Validation accuracy, last epoch",
    ),
}  # fmt: skip
_BAND = NEUTRAL + "80"  # half transparent, so that the line of its row is seen through it


def has_figures(rows: Sequence[dict[str, Any]], split: str) -> bool:
    """Say whether any row has an accuracy of this split, `test` or `validation`, to be drawn."""
    return bool(measured(rows, split)[0])


def has_intervals(rows: Sequence[dict[str, Any]], split: str) -> bool:
    """Say whether any of the dots of this split has its interval drawn."""
    shown = _SHOWN[split]
    return any(None not in (row[shown.low], row[shown.high]) for row in measured(rows, split)[0])


def _beside(intervals: bool, published: bool) -> str:
    """A second line of the title, short enough for a phone."""
    parts = ["own 95% intervals"] * intervals + ["published figures"] * published
    return f"with {' and '.join(parts)}" if parts else ""


def accuracy_dots(rows: Sequence[dict[str, Any]], split: str = "test", marks: Marks | None = None) -> dict[str, Any]:
    """Draw accuracies as dots with their 95% Wilson intervals, first row on top, and published figures as marks.

    Args:
        rows: as `comparison.figures` makes them; rows without this accuracy are left out. Where they were measured
            on more than one set of pictures, each label names its own.
        split: `test`, or `validation` for the accuracy at the last epoch.
        marks: run id -> published figures of its recipe; those of this split are drawn, a figure as an open diamond
            and a range as a thick line.

    Returns:
        A Plotly figure as a dict.
    """
    shown, marks = _SHOWN[split], marks or {}
    rows, styles = measured(rows, split)
    names = _labels(rows)
    marks_drawn: list[dict[str, Any]] = []
    marked: set[tuple[str, PublishedFigure]] = set()
    lowest = [_low(row, shown) for row in rows]
    for row, name in zip(rows, names, strict=True):
        for figure in _of_split(marks, row, split):
            # Five seeds of a recipe have the same mark: one of them says its value.
            marks_drawn.append(published_mark(figure, name, (row["recipe"], figure) not in marked))
            marked.add((row["recipe"], figure))
            lowest.append(figure.low)
    dots = [_dot(row, name, colour, shown, split) for row, name, (colour, _) in zip(rows, names, styles, strict=True)]
    title = "<br>".join(filter(None, [shown.title, _beside(has_intervals(rows, split), bool(marked))]))
    layout = accuracy_layout(rows, split, title, lowest, len(rows))
    layout["yaxis"] |= {"type": "category", "categoryorder": "array", "categoryarray": names}
    return {"data": [*marks_drawn, *dots], "layout": layout}  # dots over a range, not under it


def accuracy_layout(
    rows: Sequence[dict[str, Any]], split: str, title: str, lowest: Sequence[float], lines: int
) -> dict[str, Any]:
    """Lay out a chart of accuracies, with a dashed line where guessing is, if that is one and the same.

    Args:
        rows: those that are drawn.
        split: of whose pictures.
        title: of the chart.
        lowest: what must be within the axis.
        lines: how many there are, one above the other, from 0 on top.
    """
    guesses = {round(row[_SHOWN[split].guessing], 4) for row in rows if row[_SHOWN[split].guessing]}
    layout: dict[str, Any] = {
        "title": {"text": title},
        "xaxis": {"title": {"text": f"share of {split} pictures right"}, "tickformat": ".1~%",
                  "range": [max(0.0, min([*lowest, *guesses], default=0.0) - 0.03), 1.01]},
        "yaxis": {"automargin": True, "range": [lines - 0.4, -0.6]},
        "height": 174 + 60 * lines,
        "margin": {"t": 72, "r": 24, "b": 48, "l": 16},
    }  # fmt: skip
    if len(guesses) == 1:
        guess = guesses.pop()
        layout["shapes"] = [{"type": "line", "x0": guess, "x1": guess, "yref": "paper", "y0": 0, "y1": 1,
                             "line": {"color": NEUTRAL, "width": 1.5, "dash": "dash"}}]  # fmt: skip
        layout["annotations"] = [{"x": guess, "y": 0, "yref": "paper", "text": f"guessing {guess:.0%}",
                                  "showarrow": False, "xanchor": "left", "yanchor": "bottom", "xshift": 4,
                                  "font": {"color": NEUTRAL}}]  # fmt: skip
    return layout


def _dot(row: dict[str, Any], name: str, colour: str, shown: _Shown, split: str) -> dict[str, Any]:
    value, low, high = row[shown.value], row[shown.low], row[shown.high]
    dot: dict[str, Any] = {
        "type": "scatter", "mode": "markers+text", "x": [value], "y": [name], "name": as_text(row["label"]),
        "text": [f"{value:.1%}"], "textposition": "top center", "cliponaxis": False, "showlegend": False,
        "marker": {"color": colour, "size": 13},
        "hovertemplate": f"{value:.1%}{_of(row[shown.count], split)}<extra></extra>",
    }  # fmt: skip
    if None not in (low, high):
        dot["error_x"] = {"type": "data", "symmetric": False, "array": [high - value], "arrayminus": [value - low],
                          "color": colour, "thickness": 3, "width": 7}  # fmt: skip
        dot["hovertemplate"] = dot["hovertemplate"].replace(
            "<extra>", f"<br>95% interval of this run alone: {low:.1%} to {high:.1%}<extra>"
        )
    return dot


def published_mark(figure: PublishedFigure, name: str | int, says: bool) -> dict[str, Any]:
    """Draw one published figure on the line of this name: an open diamond, or a thick line over a range.

    Args:
        figure: what was published.
        name: of the line, or its place.
        says: whether its value is written beside it.
    """
    note = f"<br>{as_text(tight(figure.note))}" if figure.note else ""
    mark: dict[str, Any] = {
        "type": "scatter", "x": [figure.low], "y": [name], "name": "published", "showlegend": False,
        "mode": "markers+text" if says else "markers", "cliponaxis": False, "textposition": "bottom center",
        "text": [f"published {as_text(tight(figure.text))}"], "textfont": {"color": NEUTRAL},
        "marker": {"symbol": "diamond-open", "size": 15, "color": NEUTRAL, "line": {"color": NEUTRAL, "width": 3}},
        "hovertemplate": f"published {as_text(tight(figure.text))}<br>{where(figure.split, figure.epoch)}{note}"
                         "<extra></extra>",
    }  # fmt: skip
    if figure.high > figure.low:
        middle = (figure.low + figure.high) / 2
        mark |= {"x": [figure.low, middle, figure.high], "y": [name] * 3, "text": ["", mark["text"][0], ""],
                 "mode": "lines+markers+text" if says else "lines", "line": {"color": _BAND, "width": 18},
                 "marker": {"size": 16, "opacity": 0}}  # unseen: it keeps the text off the line  # fmt: skip
    return mark


def accuracy_dots_alt(rows: Sequence[dict[str, Any]], split: str = "test", marks: Marks | None = None) -> str:
    """State in words what `accuracy_dots` shows: every figure with its interval, highest first, then the published."""
    shown = _SHOWN[split]
    rows, _ = measured(rows, split)
    if not rows:
        return f"No run has a {split} accuracy."
    labels = [unescape(label.replace("<br>", ", ")) for label in _labels(rows)]
    names = dict(zip((row["run"] for row in rows), labels, strict=True))
    parts = []
    for row in sorted(rows, key=lambda row: -row[shown.value]):
        low, high = row[shown.low], row[shown.high]
        bounds = "" if None in (low, high) else f" (95% interval {low:.1%} to {high:.1%})"
        parts.append(f"{names[row['run']]} {row[shown.value]:.1%}{bounds}")
    said: dict[tuple[str, PublishedFigure], str] = {}
    for row in rows:
        for figure in _of_split(marks or {}, row, split):
            told = f"{tight(figure.text)} ({where(figure.split, figure.epoch)})"
            said.setdefault((row["recipe"], figure), f"for {names[row['run']]} {told}")
    published = f" Published: {'; '.join(said.values())}." if said else ""
    return f"{shown.title}, highest first: {'; '.join(parts)}.{published}"


def value_of(row: dict[str, Any], split: str) -> float:
    """Return the accuracy of a row that has one."""
    return float(row[_SHOWN[split].value])


def title_of(split: str) -> str:
    """Name the accuracy of a split, as a title."""
    return _SHOWN[split].title


def _of_split(marks: Marks, row: dict[str, Any], split: str) -> list[PublishedFigure]:
    return [figure for figure in marks.get(row["run"], ()) if figure.split == split]


def measured(rows: Sequence[dict[str, Any]], split: str) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
    """Keep the rows that have the accuracy, with the style each has among all rows: the same colour in every chart.

    A test accuracy has come with its interval since the first run; the interval of the validation one needs a count.
    """
    shown = _SHOWN[split]
    needed = (shown.value, shown.low, shown.high) if split == "test" else (shown.value,)
    styles = run_styles([row["strategy"] for row in rows])
    told = [
        (row, style)
        for row, style in zip(rows, styles, strict=True)
        if None not in [row[name] for name in needed]
    ]  # fmt: skip
    return [row for row, _ in told], [style for _, style in told]


def _low(row: dict[str, Any], shown: _Shown) -> float:
    return row[shown.value] if row[shown.low] is None else row[shown.low]


def _labels(rows: Sequence[dict[str, Any]]) -> list[str]:
    several = len({row["fingerprint"] for row in rows}) > 1
    return [as_text(row["label"]) + (f"<br>on {as_text(row['dataset'])}" if several else "") for row in rows]


def _of(count: int | None, split: str) -> str:
    return "" if count is None else f" of {count:,} {split} pictures"
