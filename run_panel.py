"""One run as its directory says it is now: progress, curves, stop, resume. It survives reloads and restarts."""

import streamlit as st

import shell
from cvcore import backends, run_directory
from cvcore.run_directory import RESUMABLE, Run

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
                st.markdown(f"**{run.recipe.get('title') or run.recipe['id']}**, seed {run.seed}", width="content")
                icon = ICONS.get(run.status, "error")
                st.badge(run.status, icon=f":material/{icon}:", color=COLOURS.get(run.status, "red"))
            if run.error:
                st.markdown(f":material/info: {run.error}")
            if run.status in ACTIVE:
                _progress(run)
            _figures(run)
            _curves(run)
            _actions(run)
            device = (run.info.get("device") or {}).get("name")
            pictures = run.dataset.get("title") or run.dataset.get("id")
            st.caption(f"Run `{run.id}`, {pictures}" + (f", trained on {device}" if device else ""))


def _progress(run: Run) -> None:
    """Draw the progress within the epoch and the time left."""
    now = run.progress() or {}
    if run.status == "queued" or not now:
        st.progress(0.0, text="Waiting for its turn" if run.status == "queued" else "Starting")
        return
    step, steps, left = now.get("step") or 0, now.get("steps") or 0, now.get("seconds_left")
    words = [str(now.get("phase") or "training").capitalize()]
    if now.get("epoch"):
        words.append(f"epoch {now['epoch']} of {now['epochs']}")
    if steps:
        words.append(f"step {step} of {steps}")
    if left is not None:
        words.append(f"about {shell.duration(round(left))} left")
    st.progress(min(1.0, step / steps) if steps else 0.0, text=", ".join(words))


def _figures(run: Run) -> None:
    """Draw the run's figures so far."""
    frame = shell.history(run)
    metrics = run.metrics or {}
    if not len(frame):
        return
    best = frame.loc[frame["val_loss"].idxmin()] if frame["val_loss"].notna().any() else frame.iloc[-1]
    with st.container(horizontal=True):
        st.metric("Epochs finished", len(frame))
        st.metric("Training accuracy", shell.percent(frame["accuracy"].iloc[-1]), help="At the last epoch.")
        st.metric(
            "Validation accuracy",
            shell.percent(metrics.get("val_accuracy", best["val_accuracy"])),
            help=f"At the lowest validation loss, epoch {metrics.get('best_epoch') or int(best['epoch'])}.",
        )
        st.metric(
            "Test accuracy",
            shell.percent(metrics.get("test_accuracy")),
            help="Measured once, by the best epoch's model.",
        )


def _curves(run: Run) -> None:
    """Draw accuracy and loss beside one another."""
    if len(shell.history(run)):
        for column, metric in zip(st.columns(2), ("accuracy", "loss"), strict=True):
            with column:
                shell.curves([run], metric)


def _actions(run: Run) -> None:
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
        if len(shell.history(run)):
            st.page_link(
                shell.page_path("compare"),
                label="Compare with the reference runs",
                icon=shell.PAGES["compare"][1],
                query_params={"runs": [*shell.reference_ids(), run.id]},
            )
