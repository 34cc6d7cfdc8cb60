"""One run as its directory says it is now: whose, how far, its curves, its log. It survives reloads and restarts."""

import time
from typing import TYPE_CHECKING

import streamlit as st

import people
import shell
from cvcore import comparison, run_directory, settings
from cvcore.comparison import number
from cvcore.errors import RunDamaged
from cvcore.recipe import other_test_pixels
from cvcore.run_directory import Run
from cvcore.views import in_words
from panels import queue_panel, run_actions
from panels.run_actions import ACTIVE

if TYPE_CHECKING:
    import pandas as pd

SILENT = 15.0  # seconds without a sign of life that are worth a word: training gives one every five
LOG_LINES = 200
COLOURS = {"queued": "gray", "running": "blue", "done": "green", "stopped": "orange", "interrupted": "orange"}
BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}
ICONS = {"queued": "hourglass_empty", "running": "directions_run", "done": "check", "stopped": "front_hand"}


def run_panel(run: Run) -> None:
    """Draw a run, once a second while it is queued or running, or comes back by itself."""
    run_actions.happened()  # the whole page is being drawn: what happened before needs no other draw
    run_actions.said()
    st.fragment(_draw, run_every=1 if _changes(run) else None)(run.id, run.status)


def _changes(run: Run) -> bool:
    return run.status in ACTIVE or run.comes_back


def _draw(run_id: str, status: str) -> None:
    with shell.error_box():
        # In both cases the whole page is drawn: its list of runs, the line, and whether to ask every second.
        if run_actions.happened():  # the run may be gone
            st.rerun()
        run = run_directory.load_run(run_id)
        if run.status != status:
            shell.forget_runs()
            st.rerun()
        with st.container(border=True):
            _header(run)
            if run.error:
                st.markdown(f":material/info: {shell.plain(run.error)}")
            if run.status in ACTIVE:
                _progress(run)
            if run.status == "running":
                _signs_of_life(run)
            frame = None
            with shell.error_box():  # a run that cannot be drawn can still be stopped or deleted
                frame = _history(run)
            with st.container(horizontal=True, vertical_alignment="center"):
                run_actions.buttons(run)
                if frame is not None and not run.imported:
                    st.page_link(
                        shell.page_path("compare"),
                        label="Compare with the reference runs",
                        icon=shell.PAGES["compare"][1],
                        query_params={"runs": _beside(run)},
                    )
            if frame is not None:
                with shell.error_box():
                    _figures(run, frame)
                    _notes(run)
                    _curves(run)
            _kept_files(run)
            _log(run)
            pictures = shell.plain(run.dataset.get("title") or run.dataset.get("id"))
            st.caption(f"Run `{run.id}`, {pictures}{_device(run)}{_attempts(run)}")


def _header(run: Run) -> None:
    """Name a run, its status and whose it is."""
    with st.container(horizontal=True, vertical_alignment="center"):
        title = shell.plain(run.recipe.get("title") or run.recipe.get("id"))
        seed = "" if run.seed is None else f", seed {shell.plain(run.seed)}"
        named = f"**{shell.plain(run.name)}**, {title}" if run.name else f"**{title}**"
        st.markdown(named + seed, width="content")
        icon = ICONS.get(run.status, "error")
        st.badge(run.status, icon=f":material/{icon}:", color=COLOURS.get(run.status, "red"))
        if run.imported:
            st.badge("imported", icon=":material/input:", color="violet")
        if run.reference:
            st.badge("recorded", icon=":material/history_edu:", color="gray")
        elif run.owner or not run.imported:
            whose = queue_panel.whose(run.owner, people.person())
            st.badge(whose, icon=":material/person:", color="primary" if whose == "yours" else "gray")


def _attempts(run: Run) -> str:
    """Say how often it was begun, where that is more than once."""
    if run.attempt < 2:
        return ""
    times = {0: "", 1: ", queued again once by itself"}
    return f", attempt {run.attempt}" + times.get(run.requeues, f", queued again {run.requeues} times by itself")


def _log(run: Run) -> None:
    """Show the end of the run's log as it is, and offer all of it."""
    log = st.expander("Log", icon=":material/article:", key=f"log_{run.id}", on_change="rerun")
    if not log.open:
        return
    with log:
        lines = run.log().splitlines()
        if not lines:
            st.caption("Its log is empty so far.")
            return
        if len(lines) > LOG_LINES:
            st.caption(f"The last {LOG_LINES} of {len(lines):,} lines.")
        st.code("\n".join(lines[-LOG_LINES:]), language=None, wrap_lines=True, height=min(400, 60 + 24 * len(lines)))
        st.download_button(
            "log.txt", run.log, f"{run.id}-log.txt", "text/plain", icon=":material/download:", on_click="ignore",
            key=f"log_file_{run.id}",
        )  # fmt: skip


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
    head = recipe.get("starts_from") or {}
    for said, count, part in (
        ("Its head was trained", comparison.head_views(run), head),
        ("Trained", comparison.views(run), recipe),
    ):
        if count:
            st.caption(f"{said} on {in_words(count, part.get('steps_per_epoch') is None)}.")
    if fewer := number(recipe.get("train_pictures")):
        whole = sum(run.dataset.get("counts", {}).get("train", {}).values())
        st.caption(f"Trained on {fewer:,} of the {whole:,} training pictures, each class in proportion.")
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
        st.progress(0.0, text=queue_panel.waits(run.id) if run.status == "queued" else "Starting")
        return
    figures = {name: number(now.get(name)) for name in ("step", "steps", "epoch", "epochs", "seconds_left")}
    step, steps, left = figures["step"] or 0, figures["steps"] or 0, figures["seconds_left"]
    phase = shell.plain(now.get("phase") or "training")
    words, unit = [phase.capitalize()], "picture" if phase.endswith("pictures") else "step"
    if figures["epoch"] and figures["epochs"] and unit == "step":
        words.append(f"epoch {figures['epoch']} of {figures['epochs']}")
    if steps:
        words.append(f"{unit} {step:,} of {steps:,}")
    if left is not None:
        words.append(f"about {shell.duration(round(left))} left")
    st.progress(min(1.0, max(0.0, step / steps)) if steps else 0.0, text=", ".join(words))


def _signs_of_life(run: Run) -> None:
    """Say so when a run that gives a sign of life every few seconds has not for a while."""
    try:
        silence = time.time() - (run.path / run_directory.HEARTBEAT_FILE).stat().st_mtime
    except OSError:
        return
    if silence > SILENT:
        st.caption(
            f":orange[:material/monitor_heart: No sign of life for {shell.duration(round(silence))}.] One is expected "
            "every 5 s; when it stays silent, the run is queued again from its last finished epoch."
        )


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


def _beside(run: Run) -> list[str]:
    """List a run and the recorded ones that compare with it."""
    others = comparison.on_the_same_pictures(run, shell.runs())
    return list(dict.fromkeys([*(other.id for other in others), run.id]))
