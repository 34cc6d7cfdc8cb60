"""history.csv as numbers: a row an epoch; a half-written last line and figures that cannot be are passed over."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from cvcore.run_checks import LARGEST, MOST

if TYPE_CHECKING:
    import numpy as np

HISTORY_COLUMNS = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds")
_PLAIN = re.compile(r"[0-9.eE+,-]+")  # what Python and pandas read as the same number, or neither reads


def read_columns(path: Path) -> dict[str, np.ndarray]:
    """Read history.csv.

    Returns:
        Column -> a value a row: epoch int64, from 1; all others float64, NaN where there is no number or none that can
        be, such as an accuracy of 2. Empty columns when there is no file.

    Raises:
        KeyError: it has no column `epoch`.
    """
    import numpy as np

    lines = _complete_lines(path)
    names = lines[0].split(",") if lines else list(HISTORY_COLUMNS)
    rows = [line for line in lines[1:] if line.count(",") == len(names) - 1]
    values = np.array([_numbers(row) for row in rows], dtype="float64").reshape(len(rows), len(names))
    values[~(np.abs(values) <= LARGEST)] = np.nan
    columns = {name: values[:, place] for place, name in enumerate(names)}
    for name, column in columns.items():
        if name.endswith("accuracy"):
            column[~((column >= 0) & (column <= 1))] = np.nan
    kept = (columns["epoch"] >= 1) & (columns["epoch"] <= MOST)
    return {name: column[kept].astype("int64" if name == "epoch" else "float64") for name, column in columns.items()}


def _numbers(row: str) -> list[float]:
    cells = row.split(",")
    if _PLAIN.fullmatch(row):
        with suppress(ValueError):
            return list(map(float, cells))
    import pandas as pd

    return [float(value) for value in pd.to_numeric(pd.Series(cells, dtype="object"), errors="coerce")]


def _complete_lines(path: Path) -> list[str]:
    """The lines of a file that end in a newline: a writer killed in mid-line leaves one that does not."""
    try:
        text = path.read_text()
    except OSError:
        return []
    return text[: text.rfind("\n") + 1].splitlines()
