import pandas as pd
import streamlit as st

import compare_panels
import shell
from cvcore import comparison

shell.navigation()

SMOOTHING = ("off", "0.3", "0.5", "0.7", "0.8", "0.9", "0.95")

st.title("Compare runs")

with shell.error_box():
    runs = shell.runs()
    damaged = [run for run in runs if run.status == "damaged"]
    newest = [run for run in runs if run.status != "damaged"]
    whole = comparison.in_teaching_order(newest)
    if not whole:
        shell.empty_state("There are no runs yet: train one, and it appears here.", "Train a strategy", "train")
        for run in damaged:
            shell.damaged_caption(str(run.error))
        compare_panels.add_histories()
        st.stop()

    picked = shell.pick_runs("Runs", "compare_runs", whole, comparison.opening_runs(whole) or newest[:4])
    for run in damaged:
        shell.damaged_caption(str(run.error))
    compare_panels.add_histories()
    picked = shell.readable(picked)
    if not picked:
        shell.empty_state("Choose one or more runs above.")
        st.stop()
    for sentence in comparison.cautions(picked):
        st.caption(f":orange[:material/warning:] {shell.plain(sentence)}")

    with st.container(horizontal=True, vertical_alignment="bottom", gap="large"):
        metric = st.segmented_control(
            "Curves", ["accuracy", "loss"], default="accuracy", required=True, format_func=str.capitalize,
            key="compare_metric", bind="query-params",
        )  # fmt: skip
        smoothing = st.select_slider(
            "Smoothing", SMOOTHING, "off", key="compare_smoothing", bind="query-params", width=320,
            help="Weight of an exponential moving average; the measured line stays visible faintly.",
        )  # fmt: skip

    rows = comparison.figures(picked)
    curves, dots = st.columns([3, 2], border=True)
    with curves:
        shell.curves(picked, metric, 0.0 if smoothing == "off" else float(smoothing))
    with dots:
        compare_panels.accuracies(picked, rows, whole)
    with st.container(border=True):
        compare_panels.verdicts(picked, rows, whole)

    st.subheader("Figures", anchor=False)
    compare_panels.figures(rows)

    st.subheader("Published figures beside our runs", anchor=False)
    compare_panels.beside_published(whole)

    st.subheader("What differs", anchor=False)
    differing = comparison.differences(picked)
    if differing:
        differing = [{name: shell.plain(value) for name, value in setting.items()} for setting in differing]
        labels = {run.id: shell.plain(row["label"]) for run, row in zip(picked, rows, strict=True)}
        st.table(pd.DataFrame(differing).rename(columns=labels).set_index("setting"))
        st.caption("Only the settings that differ between the chosen runs; all others are the same.")
    else:
        st.caption("One run, or runs with the same settings: nothing differs.")
