import streamlit as st

import shell
from panels import compare_panels
from saved_runs import saved_runs

shell.navigation()

SMOOTHING = ("off", "0.3", "0.5", "0.7", "0.8", "0.9", "0.95")

st.title("Compare runs")

with shell.error_box():
    saved = saved_runs()
    if not saved.whole:
        shell.empty_state("There are no runs yet: train one, and it appears here.", "Train a strategy", "train")
        for run in saved.damaged:
            shell.damaged_caption(str(run.error))
        compare_panels.add_histories()
        st.stop()

    picked = shell.pick_runs("Runs", "compare_runs", saved)
    for run in saved.damaged:
        shell.damaged_caption(str(run.error))
    compare_panels.add_histories()
    files = shell.files_of(picked)
    picked = shell.readable(picked, files)
    if not picked:
        shell.empty_state("Choose one or more runs above.")
        st.stop()
    stamp = compare_panels.stamp_of(picked, saved)
    compare_panels.cautions(picked, stamp)

    with st.container(horizontal=True, vertical_alignment="bottom", gap="large"):
        metric = st.segmented_control(
            "Curves", ["accuracy", "loss"], default="accuracy", required=True, format_func=str.capitalize,
            key="compare_metric", bind="query-params",
        )  # fmt: skip
        smoothing = st.select_slider(
            "Smoothing", SMOOTHING, "off", key="compare_smoothing", bind="query-params", width=320,
            help="Weight of an exponential moving average; the measured line stays visible faintly.",
        )  # fmt: skip

    curves, dots = st.columns([3, 2], border=True)
    with curves:
        compare_panels.curves(picked, metric, 0.0 if smoothing == "off" else float(smoothing), files)
    with dots:
        compare_panels.accuracies(picked, saved, stamp)
    with st.container(border=True):
        compare_panels.verdicts(picked, saved, stamp)
    compare_panels.figures(picked, stamp)
    compare_panels.beside_published(saved)
    compare_panels.differences(picked, stamp)
