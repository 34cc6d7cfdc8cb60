"""The parts of the Compare page that draw many runs: as kinds, whose curves and accuracies one can still tell apart."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from cvcore import kinds, kinds_chart, kinds_dots
from cvcore.accuracy_chart import Marks
from cvcore.charts import CONFIG
from cvcore.run_directory import Run
from shell import plain


@st.cache_resource(max_entries=64, show_spinner=False)
def curves(_picked: Sequence[Run], metric: str, smoothing: float, files: str) -> None:
    """Draw the curves of each kind, and say what they are."""
    found, words = kinds.kinds(_picked)
    st.plotly_chart(
        kinds_chart.curves_of_kinds(found, metric, smoothing), config=CONFIG, key=f"curves_many_{metric}",
        alt=kinds_chart.curves_of_kinds_alt(found, metric),
    )  # fmt: skip
    st.caption(kinds_chart.caption(found, words, metric))


def accuracies(picked: Sequence[Run], rows: Sequence[dict[str, Any]], split: str, marks: Marks) -> None:
    """Draw the accuracies of each kind, and say what they are."""
    found, words = kinds.kinds(picked)
    st.plotly_chart(
        kinds_dots.dots_of_kinds(found, rows, split, marks), config=CONFIG, key=f"accuracy_dots_many_{split}",
        alt=kinds_dots.dots_of_kinds_alt(found, rows, split),
    )  # fmt: skip
    st.caption(kinds_dots.caption(found, words))


def differences(picked: Sequence[Run]) -> None:
    """Show the settings in which the runs differ, and how many have which value."""
    rows = [{name: plain(value) for name, value in row.items()} for row in kinds.differing(picked)]
    if rows:
        st.table(pd.DataFrame(rows).set_index("setting"))
        st.caption("Only the settings that differ between the chosen runs, and how many of them have each value.")
    else:
        st.caption("Runs with the same settings: nothing differs.")
