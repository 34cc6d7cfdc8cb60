"""One run as its directory says it is now: progress, curves, stop, resume, delete. It survives reloads and restarts."""

from typing import TYPE_CHECKING

import streamlit as st

import shell
from cvcore import backends, comparison, run_directory, settings
from cvcore.comparison import number
from cvcore.errors import RunDamaged
from cvcore.recipe import other_test_pixels
from cvcore.run_directory import RESUMABLE, Run

if TYPE_CHECKING:
    import pandas as pd

ACTIVE = ("queued", "running")
COLOURS = {"queued": "gray", "running": "blue", "done": "green", "stopped": "orange", "interrupted": "orange"}
BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}
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
                seed = "" if run.seed is None else f", seed {shell.plain(run.seed)}"
                st.markdown(f"**{title}**{seed}", width="content")
                icon = ICONS.get(run.status, "error")
                st.badge(run.status, icon=f":material/{icon}:", color=COLOURS.get(run.status, "red"))
                if run.imported:
                    st.badge("imported", icon=":material/input:", color="violet")
            if run.error:
                st.markdown(f":material/info: {shell.plain(run.error)}")
            if run.status in ACTIVE:
                _progress(run)
            frame = None
            with shell.error_box():  # a run that cannot be drawn can still be stopped or deleted
                frame = _history(run)
                if frame is not None:
                    _figures(run, frame)
                    _notes(run)
                    _curves(run)
            _kept_files(run)
            _actions(run, comparable=frame is not None)
            pictures = shell.plain(run.dataset.get("title") or run.dataset.get("id"))
            st.caption(f"Run `{run.id}`, {pictures}{_device(run)}")


def _device(run: Run) -> str:
    """Say what a run was trained on: its device, Keras' backend, the precision it computed in."""
    device = run.info.get("device")
    if not isinstance(device, dict) or not device.get("name"):
        return ""
    words = f", trained on {shell.plain(device['name'])}"
    if device.get("backend"):
        words += f" with {shell.plain(BACKENDS.get(device['backend'], device['backend']))}"
    if device.get("precision"):
        words += f" in {shell.plain(str(device['precision']).removeprefix('mixed_'))}"
    return words


def _notes(run: Run) -> None:
    """Say what a reader of the figures must know."""
    if run.imported:
        origin = run.info.get("origin")
        file = origin.get("file") if isinstance(origin, dict) else None
        st.caption(
            f"Imported from {shell.plain(file or 'a history saved elsewhere')}: curves only. There are no predictions "
            "and no model, and it cannot be resumed."
        )
    recipe = run.recipe
    if other_test_pixels(recipe):
        st.caption(
            ":orange[:material/warning:] Tested on pixels preprocessed otherwise "
            f"({shell.plain(recipe['test_preprocessing'])}) than those it was trained on "
            f"({shell.plain(recipe.get('preprocessing'))})."
        )
    there = sum(run.dataset.get("counts", {}).get("validation", {}).values())
    used = comparison.pictures(run, "validation")
    if used < there:
        st.caption(
            f"Validation figures while training rest on {used:,} of the {there:,} validation pictures, drawn once by "
            "the seed."
        )


def _kept_files(run: Run) -> None:
    """Offer what the callbacks of training left in the run directory."""
    logs, checkpoints = (sorted(run.path.glob(pattern)) for pattern in ("csv_log-*.csv", "checkpoint-*.keras"))
    if logs:
        with st.container(horizontal=True, vertical_alignment="center"):
            for log in logs:
                st.download_button(
                    log.name, log.read_bytes, f"{run.id}-{log.name}", "text/csv", icon=":material/download:",
                    on_click="ignore", key=f"{log.name}_{run.id}",
                )  # fmt: skip
    if checkpoints:
        monitor = shell.plain(run.recipe.get("model_checkpoint"))
        names = ", ".join(f"`{file.name}`" for file in checkpoints)
        st.caption(f"Kept in the run directory by ModelCheckpoint, best {monitor} so far: {names}.")
    if (run.path / "tensorboard").is_dir():
        st.caption("TensorBoard logs; this command in the project's folder opens them:")
        folder = "runs" if settings.runs_folder() == settings.PROJECT / "runs" else "$CVCORE_RUNS"
        st.code(f"tensorboard --logdir {folder}/{run.id}/tensorboard", language="bash", wrap_lines=True)


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
            help=f"At the lowest validation loss, epoch {row['best_epoch'] or int(best['epoch'])}."
            if frame["val_loss"].notna().any()
            else "At the last epoch: there is no validation loss.",
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
        resumable = run.status in RESUMABLE and not run.imported
        if resumable and st.button(
            "Resume",
            type="primary",
            icon=":material/resume:",
            key=f"resume_{run.id}",
            help="From its last finished epoch.",
        ):
            backends.resume(run.id)
            shell.forget_runs()
            st.rerun()
        if comparable and not run.imported:
            st.page_link(
                shell.page_path("compare"),
                label="Compare with the reference runs",
                icon=shell.PAGES["compare"][1],
                query_params={"runs": _beside(run)},
            )
        if run.status not in ACTIVE and not run.reference:
            with st.popover("Delete", icon=":material/delete:", key=f"delete_popover_{run.id}"):
                st.markdown(f"Delete `{run.id}`: its figures, curves and model are gone for good.")
                if st.button("Delete this run", type="primary", icon=":material/delete:", key=f"delete_{run.id}"):
                    run_directory.delete_run(run)
                    st.query_params.pop("run", None)
                    shell.forget_runs()
                    st.rerun()


def _beside(run: Run) -> list[str]:
    """List a run and the recorded ones that compare with it."""
    others = comparison.on_the_same_pictures(run, shell.runs())
    return list(dict.fromkeys([*(other.id for other in others), run.id]))
