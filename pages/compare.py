import pandas as pd
import streamlit as st

import shell
from cvcore import comparison

shell.navigation()

SMOOTHING = ("off", "0.3", "0.5", "0.7", "0.8", "0.9", "0.95")
COLUMNS = {
    "label": st.column_config.TextColumn("Run", pinned=True),
    "dataset": st.column_config.TextColumn("Dataset", width=140),
    "seed": st.column_config.NumberColumn("Seed", format="%d"),
    "best_epoch": st.column_config.NumberColumn("Best epoch", help="The epoch with the lowest validation loss."),
    "val_accuracy": st.column_config.NumberColumn(
        "Validation", format="%.1f%%", help="Validation accuracy at the best epoch, the one of the lowest loss."
    ),
    "last_val_accuracy": st.column_config.NumberColumn(
        "Last validation", format="%.1f%%", help="Validation accuracy at the last epoch."
    ),
    "test_accuracy": st.column_config.NumberColumn("Test", format="%.1f%%", help="Test accuracy."),
    "interval": st.column_config.TextColumn("95% interval", help="Wilson interval of the test accuracy."),
    "parameters": st.column_config.NumberColumn("Parameters", format="localized"),
    "trainable": st.column_config.NumberColumn("Trained", format="localized", help="Parameters that were trained."),
    "seconds": st.column_config.NumberColumn("Seconds", format="%.1f"),
    "status": "Status",
}
WHERE_LONG = st.column_config.TextColumn("Run", pinned=True, width=200)  # labels that name their dataset

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
        st.stop()

    picked = shell.pick_runs("Runs", "compare_runs", whole, comparison.reference_runs(whole) or newest[:4])
    for run in damaged:
        shell.damaged_caption(str(run.error))
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
        if any(row["test_accuracy"] is not None for row in rows):
            shell.accuracy_dots(rows)
            st.caption(
                "With 95 of 100 such test sets the bar holds the true accuracy. Another seed adds its own spread."
            )
        else:
            st.caption("None of these runs has a test accuracy: no test split, or not finished.")

    st.subheader("Figures", anchor=False)
    table = pd.DataFrame(rows)
    table["interval"] = [
        "" if row["test_low"] is None else f"{row['test_low']:.1%} to {row['test_high']:.1%}" for row in rows
    ]
    shares = ["val_accuracy", "last_val_accuracy", "test_accuracy"]
    several = table["dataset"].nunique() > 1
    st.dataframe(
        table.assign(**{name: table[name].astype("float64") * 100 for name in shares})[[*COLUMNS, "run"]],
        column_config=COLUMNS | ({"label": WHERE_LONG} if several else {}),
        column_order=[name for name in COLUMNS if several or name != "dataset"],
        hide_index=True, placeholder="–",
        alt="The figures of each chosen run, as in its own files.",
    )  # fmt: skip
    ids = ", ".join(f"{shell.plain(row['label'])} `{row['run']}`" for row in rows)
    st.caption(("" if several else f"All on {shell.plain(rows[0]['dataset'])}. ") + f"Run ids: {ids}.")
    st.download_button(
        "Download as CSV", table.drop(columns="interval").to_csv(index=False), "runs.csv", "text/csv",
        icon=":material/download:", on_click="ignore",
    )  # fmt: skip

    st.subheader("What differs", anchor=False)
    differing = comparison.differences(picked)
    if differing:
        differing = [{name: shell.plain(value) for name, value in setting.items()} for setting in differing]
        labels = {run.id: shell.plain(row["label"]) for run, row in zip(picked, rows, strict=True)}
        st.table(pd.DataFrame(differing).rename(columns=labels).set_index("setting"))
        st.caption("Only the settings that differ between the chosen runs; all others are the same.")
    else:
        st.caption("One run, or runs with the same settings: nothing differs.")
