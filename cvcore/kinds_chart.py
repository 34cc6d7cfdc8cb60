"""The curves of many runs: each kind's mean, a band around most of its runs, each run thinly; the finding in words."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from cvcore.charts import NEUTRAL, as_text, curves_layout, figure, run_styles, smooth
from cvcore.kinds import Kind

if TYPE_CHECKING:
    import numpy as np

CURVES = 200  # thin ones together: more take a browser longer than they tell, as nobody can follow one of them
POINTS = 5_000  # of all of them
BAND = (0.1, 0.9)  # shares of the runs below and above which the band ends
ENOUGH = 10  # runs of which these hold eight in ten; of fewer the band holds all


def curves_of_kinds(kinds: Sequence[Kind], metric: str = "accuracy", smoothing: float = 0.0) -> dict[str, Any]:
    """Draw training and validation of each kind: the mean of its runs, a band around most of them, each run thinly.

    The band holds the validation of eight runs in ten, or of all where fewer than `ENOUGH` have the epoch. Mean and
    band are drawn where at least half of a kind's runs have the epoch. Of more runs than `CURVES` in all, each kind has
    its share of them drawn thinly, evenly from the lowest last epoch to the highest; mean and band are of all. All thin
    curves together have at most about `POINTS` points: of long ones only each second, third… epoch is drawn.

    Args:
        kinds: in legend order.
        metric: "accuracy" or "loss".
        smoothing: of the means, as `charts.curves` takes it.

    Returns:
        A Plotly figure as a dict, the thin curves as NumPy arrays.
    """
    import numpy as np

    digits = ".1%" if metric == "accuracy" else ".3f"
    hover = f"%{{customdata[0]:{digits}}} validation%{{customdata[1]}}%{{customdata[2]}}"
    styles = run_styles([kind.strategy for kind in kinds])
    values = [(_values(kind, f"val_{metric}"), _values(kind, metric)) for kind in kinds]
    share, step = _thinned([validation for validation, _ in values])
    thin: list[dict[str, Any]] = []
    bands: list[dict[str, Any]] = []
    lines: list[dict[str, Any]] = []
    for kind, (colour, dash), (validation, training) in zip(kinds, styles, values, strict=True):
        shared = {"type": "scatter", "mode": "lines", "legendgroup": kind.label, "name": as_text(kind.label)}
        silent = {**shared, "hoverinfo": "skip", "showlegend": False}
        epochs = list(range(1, validation.shape[1] + 1))
        mean, low, high = _summed_up(validation)
        counts = (~np.isnan(validation)).sum(axis=0)
        if len(kind.runs) > 1:
            x, y = _one_line(_evenly(validation, share), step)
            line = {"color": colour, "width": 0.8, "simplify": False}  # thinned already
            thin.append({**silent, "x": x, "y": y, "opacity": 0.2, "line": line})
            along, ends = _outline(epochs, low, high)
            bands.append(
                {**silent, "x": along, "y": ends, "fill": "toself", "fillcolor": f"{colour}38", "line": {"width": 0}}
            )
        trained, _, _ = _summed_up(training)
        said = [
            [middle, _around(count, bottom, top, metric), _and_training(value, metric)]
            for middle, bottom, top, value, count in zip(mean, low, high, trained, counts, strict=True)
        ]
        lines.append({**silent, "x": epochs, "y": smooth(trained, smoothing), "opacity": 0.85,
                      "line": {"color": colour, "width": 1.4, "dash": "dot"}})  # fmt: skip
        lines.append({**shared, "x": epochs, "y": smooth(mean, smoothing), "customdata": said, "hovertemplate": hover,
                      "line": {"color": colour, "width": 2.6, "dash": dash}})  # fmt: skip
    traces = [*_keys(kinds), *thin, *bands, *lines]  # a phone shows the beginning of the legend
    longest = max((validation.shape[1] for validation, _ in values), default=0)
    return {"data": traces, "layout": curves_layout(traces, metric, smoothing, longest, longest > 0)}


def _values(kind: Kind, name: str) -> np.ndarray:
    """One column of every run of a kind: (runs, epochs), NaN where a run has no number."""
    import numpy as np

    read = [run.columns() for run in kind.runs]
    longest = max((int(columns["epoch"].max()) for columns in read if len(columns["epoch"])), default=0)
    values = np.full((len(read), longest), np.nan)
    for row, columns in zip(values, read, strict=True):
        row[columns["epoch"] - 1] = columns[name]
    return values


def _summed_up(values: np.ndarray) -> tuple[list[float | None], list[float | None], list[float | None]]:
    """Mean, lower and upper end of the band at each epoch; None where fewer than half of the runs have it."""
    import numpy as np

    found: tuple[list[float | None], list[float | None], list[float | None]] = ([], [], [])
    for column in values.T:
        there = column[~np.isnan(column)]
        told = 2 * len(there) >= len(column) > 0
        band = BAND if len(there) >= ENOUGH else (0, 1)
        ends = (there.mean(), *np.quantile(there, band)) if told else (None, None, None)
        for part, end in zip(found, ends, strict=True):
            part.append(None if end is None else float(end))
    return found


def _outline(
    epochs: Sequence[int], low: Sequence[float | None], high: Sequence[float | None]
) -> tuple[list[int | None], list[float | None]]:
    """The band as one trace, there along its lower ends and back along its upper ones, with gaps where it has none."""
    x: list[int | None] = []
    y: list[float | None] = []
    for told, points in groupby(zip(epochs, low, high, strict=True), key=lambda point: point[1] is not None):
        if told:
            at, bottom, top = zip(*points, strict=True)
            gap = [None] if x else []
            x += [*gap, *at, *at[::-1]]
            y += [*gap, *bottom, *top[::-1]]
    return x, y


def _thinned(values: Sequence[np.ndarray]) -> tuple[int, int]:
    """Of how many runs one is drawn thinly, and of how many of its epochs one; 1 for all."""
    share = max(1, -(-sum(map(len, values)) // CURVES))
    return share, max(1, -(-sum(one.size for one in values) // share // POINTS))


def _evenly(values: np.ndarray, share: int) -> np.ndarray:
    """One row in so many, evenly from the lowest last number to the highest; both of these at least."""
    import numpy as np

    if share == 1 or not values.shape[1]:
        return values
    there = ~np.isnan(values)
    last = values.shape[1] - 1 - np.argmax(there[:, ::-1], axis=1)
    order = np.argsort(np.where(there.any(axis=1), values[np.arange(len(values)), last], -np.inf), kind="stable")
    drawn = np.linspace(0, len(values) - 1, max(2, len(values) // share)).round().astype(int)
    return values[order[drawn]]


def _one_line(values: np.ndarray, step: int) -> tuple[np.ndarray, np.ndarray]:
    """All runs of a kind as one trace, with gaps between them."""
    import numpy as np

    epochs = np.arange(1, values.shape[1] + 1)
    kept = (epochs - 1) % step == 0
    kept[-1:] = True
    gap = np.full((len(values), 1), np.nan)
    x = np.tile(np.append(epochs[kept], 0), len(values)).astype("int32")
    return x, np.hstack([values[:, kept], gap]).astype("float32").ravel()


def _around(count: int, low: float | None, high: float | None, metric: str) -> str:
    if count < 2 or low is None or high is None:
        return ""
    words = "8 in 10" if count >= ENOUGH else f"all {count}"
    return f" ({words}: {figure(low, metric)} to {figure(high, metric)})"


def _and_training(value: float | None, metric: str) -> str:
    return "" if value is None else f", {figure(value, metric)} training"


def _keys(kinds: Sequence[Kind]) -> list[dict[str, Any]]:
    """Legend entries that say what the lines are, without data."""
    key = {"type": "scatter", "x": [None], "y": [None], "mode": "lines", "hoverinfo": "skip"}
    keys: list[dict[str, Any]] = [
        {**key, "name": "mean validation", "line": {"color": NEUTRAL, "width": 2.6}},
        {**key, "name": "mean training", "line": {"color": NEUTRAL, "width": 1.4, "dash": "dot"}},
    ]
    most = max((len(kind.runs) for kind in kinds), default=0)
    if most > 1:
        band = f"8 in 10 runs, all of fewer than {ENOUGH}" if most >= ENOUGH else "lowest to highest run"
        keys.append({**key, "name": band, "line": {"color": f"{NEUTRAL}60", "width": 10}})
        keys.append({**key, "name": "single runs", "line": {"color": NEUTRAL, "width": 0.8}})
    return keys


def caption(kinds: Sequence[Kind], words: str, metric: str = "accuracy") -> str:
    """Say what `curves_of_kinds` draws.

    Args:
        kinds: as drawn.
        words: what the runs of one have in common, as `kinds.kinds` says it.
        metric: as drawn.
    """
    most = max((len(kind.runs) for kind in kinds), default=0)
    said = [f"{sum(len(kind.runs) for kind in kinds):,} runs in {_several(kinds)}. A bold line is the mean validation "
            f"of the runs {words}, a dotted one their mean training, where at least half of them have the "
            "epoch."]  # fmt: skip
    if most > 1:
        share, step = thinned(kinds, metric)
        which = "each run" if share == 1 else f"one run in {share}, from the lowest to the highest"
        drawn = "" if step == 1 else f", of which one epoch in {step} is drawn"
        band = f"holds eight runs in ten, and all of fewer than {ENOUGH}" if most >= ENOUGH else "holds all of them"
        said.append(f"The band {band}; thin lines are the validation of {which}{drawn}.")
    return " ".join(said)


def _several(kinds: Sequence[Kind]) -> str:
    return "1 kind" if len(kinds) == 1 else f"{len(kinds)} kinds"


def thinned(kinds: Sequence[Kind], metric: str = "accuracy") -> tuple[int, int]:
    """Return of how many runs one has a thin curve, and of how many epochs one is drawn in it; 1 for all."""
    return _thinned([_values(kind, f"val_{metric}") for kind in kinds])


def curves_of_kinds_alt(kinds: Sequence[Kind], metric: str = "accuracy") -> str:
    """State in words what `curves_of_kinds` shows: each kind's runs and the mean of their last epochs."""
    import numpy as np

    sentences = []
    for kind in kinds:
        lasts = [_last(run.columns(), metric) for run in kind.runs]
        told = np.array([last for last in lasts if last is not None], dtype="float64").reshape(-1, 2)
        runs = f"{len(kind.runs):,} run{'s' if len(kind.runs) > 1 else ''}"
        if not len(told):
            sentences.append(f"{kind.label}, {runs}: no finished epoch yet.")
            continue
        training, validation = (figure(float(value), metric) for value in told.mean(axis=0))
        sentences.append(f"{kind.label}, {runs}: at their last epochs training {training}, validation {validation}.")
    return f"{metric.capitalize()} by epoch, means. " + " ".join(sentences)


def _last(columns: dict[str, np.ndarray], metric: str) -> tuple[float, float] | None:
    return (columns[metric][-1], columns[f"val_{metric}"][-1]) if len(columns["epoch"]) else None
