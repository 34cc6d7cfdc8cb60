"""history.csv as a table: a row an epoch; a half-written last line and figures that cannot be are passed over."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cvcore.run_checks import LARGEST, MOST

if TYPE_CHECKING:
    import pandas as pd

HISTORY_COLUMNS = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds")


def read_columns(path: Path) -> pd.DataFrame:
    """Read history.csv as `Run.history` returns it; empty when there is none."""
    import pandas as pd

    rows = _complete_lines(path)
    names = rows[0].split(",") if rows else list(HISTORY_COLUMNS)
    records = [row.split(",") for row in rows[1:]]
    frame = pd.DataFrame([row for row in records if len(row) == len(names)], columns=names)
    frame = frame.apply(pd.to_numeric, errors="coerce").astype("float64")
    frame = frame.where(frame.abs() <= LARGEST)
    shares = [name for name in names if name.endswith("accuracy")]
    frame[shares] = frame[shares].where((frame[shares] >= 0) & (frame[shares] <= 1))
    frame = frame[frame["epoch"].between(1, MOST)]
    return frame.astype({name: "int64" if name == "epoch" else "float64" for name in names})


def _complete_lines(path: Path) -> list[str]:
    """The lines of a file that end in a newline: a writer killed in mid-line leaves one that does not."""
    try:
        text = path.read_text()
    except OSError:
        return []
    return text[: text.rfind("\n") + 1].splitlines()
