"""One run as its directory says it is now: progress, curves, stop, resume, delete. It survives reloads and restarts."""

from typing import TYPE_CHECKING

import streamlit as st

import shell
from cvcore import backends, comparison, run_directory
from cvcore.comparison import number
from cvcore.errors import RunDamaged
from cvcore.run_directory import RESUMABLE, Run

if TYPE_CHECKING:
    import pandas as pd

ACTIVE = ("queued", "running")
COLOURS = {"queued": "gray", "running": "blue", "done": "green", "stopped": "orange", "interrupted": "orange"}
ICONS = {"queued": "hourglass_empty", "running": "directions_run", "done": "check", "stopped": "front_hand"}


def run_panel(run: Run) -> None:
    """Draw a run, once a second while it is queued or running."""
    st.fragment(_draw, run_every=1 if run.status in ACTIVE else None)(run.id, run.status)


def _draw(run_id: str, status: str) -> None:
    with shell.error_box():
        run = run_directory.load_run(run_id)
        if status in ACTIVE and run.status not in ACTIVE:
            shell.forget_runs()
            st.rerun()  # the whole page, so that it stops asking every second
        with st.container(border=True):
            with st.container(horizontal=True, vertical_alignment="center"):
                title = shell.plain(run.recipe.get("title") or run.recipe.get("id"))
                st.markdown(f"**{title}**, seed {shell.plain(run.seed)}", width="content")
                icon = ICONS.get(run.status, "error")
                st.badge(run.status, icon=f":material/{icon}:", color=COLOURS.get(run.status, "red"))
            if run.error:
                st.markdown(f":material/info: {shell.plain(run.error)}")
            if run.status in ACTIVE:
                _progress(run)
            frame = None
            with shell.error_box():  # a run that cannot be drawn can still be stopped or deleted
                frame = _history(run)
                if frame is not None:
                    _figures(run, frame)
                    _curves(run)
            _actions(run, comparable=frame is not None)
            device = run.info.get("device")
            device = device.get("name") if isinstance(device, dict) else None
            pictures = shell.plain(run.dataset.get("title") or run.dataset.get("id"))
            st.caption(f"Run `{run.id}`, {pictures}" + (f", trained on {shell.plain(device)}" if device else ""))


def _history(run: Run) -> "pd.DataFrame | None":
    """Read the run's history; None while no epoch has finished, and where it is not readable, which is said."""
    try:
        frame = shell.history(run)
    except RunDamaged as error:
        shell.damaged_caption(str(error))
        return None
    return frame if len(frame) else None


def _progress(run: Run) -> None:
    """Draw the progress within the epoch and the time left."""
    now = run.progress()
    if run.status == "queued" or not isinstance(now, dict) or not now:
        st.progress(0.0, text="Waiting for its turn" if run.status == "queued" else "Starting")
        return
    figures = {name: number(now.get(name)) for name in ("step", "steps", "epoch", "epochs", "seconds_left")}
    step, steps, left = figures["step"] or 0, figures["steps"] or 0, figures["seconds_left"]
    words = [shell.plain(now.get("phase") or "training").capitalize()]
    if figures["epoch"] and figures["epochs"]:
        words.append(f"epoch {figures['epoch']} of {figures['epochs']}")
    if steps:
        words.append(f"step {step} of {steps}")
    if left is not None:
        words.append(f"about {shell.duration(round(left))} left")
    st.progress(min(1.0, max(0.0, step / steps)) if steps else 0.0, text=", ".join(words))


def _figures(run: Run, frame: "pd.DataFrame") -> None:
    """Draw the run's figures so far."""
    row = comparison.figures([run])[0]
    best = frame.loc[frame["val_loss"].idxmin()] if frame["val_loss"].notna().any() else frame.iloc[-1]
    with st.container(horizontal=True):
        st.metric("Epochs finished", len(frame))
        st.metric("Training accuracy", shell.percent(number(frame["accuracy"].iloc[-1])), help="At the last epoch.")
        st.metric(
            "Validation accuracy",
            shell.percent(number(best["val_accuracy"]) if row["val_accuracy"] is None else row["val_accuracy"]),
            help=f"At the lowest validation loss, epoch {row['best_epoch'] or int(best['epoch'])}.",
        )
        st.metric(
            "Test accuracy",
            shell.percent(row["test_accuracy"]),
            help="Measured once, by the best epoch's model.",
        )


def _curves(run: Run) -> None:
    """Draw accuracy and loss beside one another."""
    for column, metric in zip(st.columns(2), ("accuracy", "loss"), strict=True):
        with column:
            shell.curves([run], metric)


def _actions(run: Run, comparable: bool) -> None:
    """Offer what can be done with the run in its status."""
    with st.container(horizontal=True, vertical_alignment="center"):
        if run.status in ACTIVE:
            asked = (run.path / run_directory.STOP_FILE).exists()
            label = "Stopping at the next batch" if asked else "Stop"
            if st.button(label, icon=":material/stop_circle:", disabled=asked, key=f"stop_{run.id}"):
                run_directory.request_stop(run)
                st.rerun(scope="fragment")
        if run.status in RESUMABLE and st.button(
            "Resume",
            type="primary",
            icon=":material/resume:",
            key=f"resume_{run.id}",
            help="From its last finished epoch.",
        ):
            backends.resume(run.id)
            shell.forget_runs()
            st.rerun()
        if comparable:
            st.page_link(
                shell.page_path("compare"),
                label="Compare with the reference runs",
                icon=shell.PAGES["compare"][1],
                query_params={"runs": [*shell.reference_ids(), run.id]},
            )
        if run.status not in ACTIVE and not run.reference:
            with st.popover("Delete", icon=":material/delete:", key=f"delete_popover_{run.id}"):
                st.markdown(f"Delete `{run.id}`: its figures, curves and model are gone for good.")
                if st.button("Delete this run", type="primary", icon=":material/delete:", key=f"delete_{run.id}"):
                    run_directory.delete_run(run)
                    st.query_params.pop("run", None)
                    shell.forget_runs()
                    st.rerun()
