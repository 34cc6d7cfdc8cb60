import streamlit as st

import shell
from cvcore import diagrams
from cvcore.comparison import STRATEGY_TITLES, figures, opening_runs, reference_runs

shell.navigation()

WHAT = {
    "scratch": "Train every layer on your own pictures, starting from random weights.",
    "augmented": "The same network, but it never sees the same picture twice: flips, turns, zooms, and dropout.",
    "features": "Borrow a network that has learned to see elsewhere, freeze it, train only a small head.",
    "finetune": "Then thaw the top of the borrowed network and train it a little more, gently.",
}
COSTS = {
    "scratch": "Costs nothing but your pictures; with few of them it learns them by heart.",
    "augmented": "Costs more epochs; buys pictures you do not have.",
    "features": "Costs one pass through the borrowed network; buys all that it has seen.",
    "finetune": "Costs a second, slower training; buys the last few points.",
}

st.title("Four ways to classify images from few examples")
st.markdown(
    "Each step below is trained on the same pictures and tested once on the same test set. "
    "Coloured parts are trained, grey parts with a padlock are frozen."
)

rows = {}
with shell.error_box():
    rows = {row["strategy"]: row for row in figures(reference_runs(shell.runs()))}

    for number, (column, strategy) in enumerate(zip(st.columns(4, border=True), STRATEGY_TITLES, strict=True), start=1):
        row = rows.get(strategy)
        with column:
            st.subheader(f"{number}. {STRATEGY_TITLES[strategy]}", anchor=False)
            st.image(diagrams.strategy_diagram(strategy), width="stretch", alt=diagrams.ALTERNATIVES[strategy])
            st.markdown(WHAT[strategy])
            st.caption(COSTS[strategy])
            if row is None:
                st.caption("No recorded reference run of this strategy is here, so there are no figures to show.")
                continue
            with st.container(horizontal=True):
                st.metric("Test accuracy", shell.percent(row["test_accuracy"]), help=shell.interval(row))
                st.metric("Training time", shell.duration(row["seconds"]))
            st.metric("Trained parameters", shell.count(row["trainable"]))
            st.page_link(
                shell.page_path("compare"),
                label=f"Run `{row['run']}`",
                query_params={"runs": row["run"]},
                icon=":material/folder_open:",
                icon_position="left",
            )

    if rows:
        tested = next(iter(rows.values()))
        stored = [
            f"{STRATEGY_TITLES[strategy]} {shell.duration(row['features_seconds'])}"
            for strategy, row in rows.items()
            if row["features_seconds"] is not None
        ]
        st.caption(
            f"Figures are read from the recorded reference runs that ship with this project: "
            f"{shell.plain(tested['dataset'])}, {shell.count(tested['test_count'])} of them for the test. "
            "Training time runs from the run's start to the end of its test"
            + (f"; storing features is part of it ({', '.join(stored)})." if stored else ".")
        )
    photographs = [run.id for run in opening_runs(shell.runs()) if not run.dataset.get("drawn")]
    if photographs:
        st.page_link(
            shell.page_path("compare"),
            label="The four ways on real photographs, with the published figures",
            query_params={"runs": photographs},
            icon=":material/photo_camera:",
        )

st.subheader("Next", anchor=False)
steps = {
    "dataset": ("Look at the pictures", "What the network sees, class by class, and what was left out."),
    "augmentation": ("Change them at random", "One slider a parameter, nine variants of a picture at once."),
    "train": ("Train one yourself", "Pick a strategy, see what it will cost, watch it learn."),
    "compare": ("Compare the four", "Curves over one another, test accuracies with their intervals."),
}
for column, (page, (label, text)) in zip(st.columns(4), steps.items(), strict=True):
    with column:
        shown = {"runs": [row["run"] for row in rows.values()]} if page == "compare" and rows else None
        st.page_link(shell.page_path(page), label=f"**{label}**", icon=shell.PAGES[page][1], query_params=shown)
        st.caption(text)
