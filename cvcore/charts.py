"""Figures as plain Plotly dicts, one colour a strategy everywhere, each with its finding in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import isfinite
from typing import TYPE_CHECKING, Any

from cvcore.statistics import ema

if TYPE_CHECKING:
    import pandas as pd

# Told apart by people with any of the three colour-vision deficiencies (at least 20 apart in Lab under each),
# and at least 3.4:1 against both backgrounds of .streamlit/config.toml.
STRATEGY_COLOURS = {"scratch": "#C0731B", "augmented": "#D0459B", "features": "#2B66E0", "finetune": "#0A9A68"}
NEUTRAL = "#808891"
CONFIG = {"displayModeBar": False, "scrollZoom": False}
_SHADES = (0.0, 0.3, -0.18, 0.15)  # of the second, third… run of a strategy: towards white, or black if negative
_DASHES = ("solid", "dash", "longdashdot", "longdash")
_METRICS = {
    "accuracy": ("Accuracy by epoch", "accuracy (share of pictures right)", ".1~%", ".1%"),
    "loss": ("Loss by epoch", "loss (cross-entropy, nats)", None, ".3f"),
}
_LEGEND = {
    "orientation": "h",
    "x": 0,
    "xanchor": "left",
    "yref": "container",
    "y": 0,
    "yanchor": "bottom",
    "title": {"text": ""},
    "maxheight": 0.8,  # else half the chart, and a phone scrolls within it
    "tracegroupgap": 0,  # else 10 px below every row
}


_ROW, _ENTRY, _LETTER, _WIDTH = 19, 48, 6.5, 240  # px: a legend's row, an entry without its text, a letter, a phone


@dataclass(frozen=True)
class Series:
    """The curves of one run.

    Attributes:
        label: what the legend calls it.
        strategy: decides its colour.
        history: a row an epoch: epoch, loss, accuracy, val_loss, val_accuracy.
        best_epoch: the one with the lowest val_loss, or None to mark none.
        thawed_from: the epoch in which part of the base begins to train too, or None; what comes before, the
            training of the head alone, is drawn faintly.
    """

    label: str
    strategy: str | None
    history: pd.DataFrame
    best_epoch: int | None = None
    thawed_from: int | None = None


def run_styles(strategies: Sequence[str | None]) -> list[tuple[str, str]]:
    """Give each run its (colour, dash): its strategy's colour, later runs of the same strategy shaded and dashed."""
    seen: Counter[str | None] = Counter()
    styles = []
    for strategy in strategies:
        nth = seen[strategy]
        seen[strategy] += 1
        colour = STRATEGY_COLOURS.get(str(strategy), NEUTRAL)
        turn = nth // len(_DASHES)  # the fifth has the first one's dash again, and so another shade
        styles.append((_shade(colour, _SHADES[(nth + turn) % len(_SHADES)]), _DASHES[nth % len(_DASHES)]))
    return styles


def _shade(colour: str, amount: float) -> str:
    target = 255 if amount > 0 else 0
    parts = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(part + (target - part) * abs(amount)):02X}" for part in parts)


def curves(series: Sequence[Series], metric: str = "accuracy", smoothing: float = 0.0) -> dict[str, Any]:
    """Draw training and validation over one another, the best epoch of each run marked.

    Args:
        series: the runs, in legend order; one without finished epochs is only named.
        metric: "accuracy" or "loss".
        smoothing: weight of the exponential moving average, 0 (off) up to but not including 1. The measured line
            stays visible faintly, and the hover always gives measured values.

    Returns:
        A Plotly figure as a dict.
    """
    hover = _METRICS[metric][3]
    traces: list[dict[str, Any]] = []
    for one, (colour, dash) in zip(series, run_styles([one.strategy for one in series]), strict=True):
        traces += _run_traces(one, metric, smoothing, colour, dash, hover)
    thawed = any(one.thawed_from for one in series)
    traces += _key_traces(any(one.best_epoch for one in series), smoothing > 0, thawed)
    longest = max((len(one.history) for one in series), default=0)
    told = any(_told(one.history, metric) for one in series)
    return {"data": traces, "layout": curves_layout(traces, metric, smoothing, longest, told)}


def curves_layout(
    traces: Sequence[dict[str, Any]], metric: str, smoothing: float, longest: int, told: bool
) -> dict[str, Any]:
    """Lay out a chart of curves by epoch.

    Args:
        traces: what it draws; their names decide how much room the legend gets.
        metric, smoothing: as `curves` takes them.
        longest: epochs of the longest run.
        told: whether there is any number to draw.
    """
    title, unit, ticks, _ = _METRICS[metric]
    margin = max(0.3, 0.02 * longest)  # so that a marker on the first or last epoch is whole
    yaxis: dict[str, Any] = {"title": {"text": unit}}
    if ticks:
        yaxis["tickformat"] = ticks
        if not told:
            yaxis["range"] = [0, 1]  # without a number Plotly's own would reach 200 %
    return {
        "title": {"text": title + (f", smoothed with weight {smoothing:g}" if smoothing else "")},
        "xaxis": {
            "title": {"text": "epoch"},
            "unifiedhovertitle": {"text": "<b>epoch %{x}</b>"},
            "range": [1 - margin, max(longest, 1) + margin],
            **({"dtick": 1} if longest <= 15 else {}),
        },
        "yaxis": yaxis,
        "hovermode": "x unified",
        "legend": {**_LEGEND, "groupclick": "togglegroup"},
        "height": 460 + _ROW * max(0, _legend_rows(traces) - 3),
        "margin": {"t": 56, "r": 16, "b": 24, "l": 64},
    }


def _legend_rows(traces: Sequence[dict[str, Any]]) -> int:
    """Count the rows of the legend on a phone: Plotly would let it eat the plot."""
    rows, left = 0, 0.0
    for name in dict.fromkeys(trace["name"] for trace in traces if trace.get("showlegend", True)):
        taken = _ENTRY + _LETTER * len(name)
        rows, left = (rows, left) if taken <= left else (rows + 1, _WIDTH)
        left -= taken
    return rows


def _told(history: pd.DataFrame, metric: str) -> bool:
    return bool(len(history)) and bool(history[[metric, f"val_{metric}"]].notna().any(axis=None))


def _run_traces(one: Series, metric: str, smoothing: float, colour: str, dash: str, hover: str) -> list[dict[str, Any]]:
    epochs = [int(epoch) for epoch in one.history["epoch"]] if len(one.history) else []
    training = _numbers(one.history[metric]) if epochs else []
    validation = _numbers(one.history[f"val_{metric}"]) if epochs else []
    told = "%{customdata[0]:X} validation%{customdata[1]}%{customdata[2]}".replace("X", hover)
    # As text: Plotly would write a missing number as 0.
    trained = ["" if value is None else f", {figure(value, metric)} training" for value in training]
    best = [" ◆ best epoch" if epoch == one.best_epoch else "" for epoch in epochs]
    # Plotly reads a little HTML in names: those that people gave must not become it.
    shared = {"type": "scatter", "mode": "lines", "x": epochs, "legendgroup": one.label, "name": as_text(one.label)}
    silent = {"hoverinfo": "skip", "showlegend": False}
    traces: list[dict[str, Any]] = []
    if smoothing:
        faint = {**shared, **silent, "opacity": 0.3}
        traces.append({**faint, "y": validation, "line": {"color": colour, "width": 1.5}})
        traces.append({**faint, "y": training, "line": {"color": colour, "width": 1, "dash": "dot"}})
    smooth_training, smooth_validation = smooth(training, smoothing), smooth(validation, smoothing)
    customdata = [list(row) for row in zip(validation, trained, best, strict=True)]
    thawed = epochs.index(one.thawed_from) if one.thawed_from in epochs else 0
    for part, opacity in ((slice(0, thawed), 0.35), (slice(thawed, None), 1.0)):
        if part.stop == 0:
            continue
        # A line of one point is invisible: the first epoch of a live run needs its marker.
        mode = {"mode": "lines+markers"} if len(epochs[part]) == 1 else {}
        drawn = {**shared, **mode, "x": epochs[part]}
        traces.append({**drawn, **silent, "y": smooth_training[part], "opacity": 0.85 * opacity,
                       "line": {"color": colour, "width": 1.4, "dash": "dot"}})  # fmt: skip
        traces.append({**drawn, "y": smooth_validation[part], "opacity": opacity, "showlegend": opacity == 1,
                       "line": {"color": colour, "width": 2.6, "dash": dash}, "customdata": customdata[part],
                       "hovertemplate": told})  # fmt: skip
    if thawed:
        traces.append({
            **shared, **silent, "mode": "markers", "x": [one.thawed_from], "y": [smooth_validation[thawed]],
            "marker": {"symbol": "circle-open", "size": 10, "color": colour, "line": {"color": colour, "width": 2}},
        })  # fmt: skip
    if one.best_epoch in epochs:
        traces.append({
            **shared, **silent, "mode": "markers", "x": [one.best_epoch],
            "y": [validation[epochs.index(one.best_epoch)]],
            "marker": {"symbol": "diamond", "size": 11, "color": colour, "line": {"color": "white", "width": 1.5}},
        })  # fmt: skip
    return traces


def _key_traces(best: bool, smoothed: bool, thawed: bool) -> list[dict[str, Any]]:
    """Legend entries that say what the line styles mean, without data or a run of their own."""
    key = {"type": "scatter", "x": [None], "y": [None], "mode": "lines", "hoverinfo": "skip"}
    traces: list[dict[str, Any]] = [
        {**key, "name": "validation", "line": {"color": NEUTRAL, "width": 2.6}},
        {**key, "name": "training", "line": {"color": NEUTRAL, "width": 1.4, "dash": "dot"}},
    ]
    if smoothed:
        traces.append({**key, "name": "measured", "opacity": 0.4, "line": {"color": NEUTRAL, "width": 1.5}})
    if best:
        traces.append({**key, "name": "best epoch (lowest validation loss)", "mode": "markers",
                       "marker": {"symbol": "diamond", "size": 11, "color": NEUTRAL}})  # fmt: skip
    if thawed:
        traces.append({**key, "name": "base thawed; before it the head alone, faint", "mode": "markers",
                       "marker": {"symbol": "circle-open", "size": 10, "color": NEUTRAL,
                                  "line": {"color": NEUTRAL, "width": 2}}})  # fmt: skip
    return traces


def curves_alt(series: Sequence[Series], metric: str = "accuracy") -> str:
    """State in words what `curves` shows: each run's last epoch, its gap, and its best epoch."""
    sentences = []
    for one in series:
        if not len(one.history):
            sentences.append(f"{one.label}: no finished epoch yet.")
            continue
        last = one.history.iloc[-1]
        training, validation = figure(last[metric], metric), figure(last[f"val_{metric}"], metric)
        best = f", best epoch {one.best_epoch}" if one.best_epoch else ""
        best += f", base thawed in epoch {one.thawed_from}" if one.thawed_from else ""
        sentences.append(
            f"{one.label}: at epoch {int(last['epoch'])} training {training}, validation {validation}{best}."
        )
    return f"{_METRICS[metric][0]}. " + " ".join(sentences)


def as_text(name: str) -> str:
    """Keep Plotly from reading HTML in what people named."""
    return escape(name, quote=False)


def _numbers(column: pd.Series) -> list[float | None]:
    return [float(value) if isfinite(value) else None for value in column]


def smooth(values: Sequence[float | None], weight: float) -> list[float | None]:
    """Smooth a curve as `statistics.ema` does, None where there is no number."""
    smoothed = ema([float("nan") if value is None else value for value in values], weight)
    return [value if isfinite(value) else None for value in smoothed]


def figure(value: float, metric: str) -> str:
    """Write one value of a curve."""
    if not isfinite(value):
        return "no number"
    return f"{value:.1%}" if metric == "accuracy" else f"{value:.3f}"
