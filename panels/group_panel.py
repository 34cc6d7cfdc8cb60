"""One recipe over seeds and training-set sizes, as one group: how far it is, its figures and chart, stop and delete."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

import people
import shell
from cvcore import comparison, permissions, sweep_chart, trash
from cvcore.charts import CONFIG
from cvcore.errors import CvcoreError
from cvcore.launching import group_runs
from cvcore.run_directory import Run
from panels import queue_panel, run_actions

SAID = "group_panel_said"  # in the session's state: what the last act on the whole group came to, shown once
REFRESH = 2.0  # seconds

log = logging.getLogger("fourways")


def panel(group_id: str | None) -> None:
    """Draw the group that the address names (`?group=ID`), every two seconds while anything of it trains or waits."""
    if not group_id:
        return
    group, runs = group_runs(group_id, shell.runs())
    if group is None:
        st.caption(":material/info: The group that this address names is not among the saved runs.")
        return
    run_actions.happened()  # the whole page is being drawn: what happened before needs no other draw
    st.fragment(_draw, run_every=REFRESH if _active(runs) else None)(group_id, _active(runs))


def part_of(run: Run) -> None:
    """Lead from a run to the group it belongs to, unless that is open."""
    group = run.group or {}
    if isinstance(group.get("id"), str) and st.query_params.get("group") != group["id"]:
        st.page_link(
            shell.page_path("train"), label=f"Part of: {shell.plain(group.get('title'))}",
            icon=":material/stacked_line_chart:", query_params={"run": run.id, "group": group["id"]},
        )  # fmt: skip


def _draw(group_id: str, active: bool) -> None:
    with shell.error_box():
        group, runs = group_runs(group_id, shell.runs())
        if group is None or _active(runs) != active or run_actions.happened():
            st.rerun()  # the whole page: the line, the run below, and whether to ask every two seconds
        with st.container(border=True):
            with st.container(horizontal=True, vertical_alignment="center"):
                st.markdown(f"**{shell.plain(group.get('title'))}**", width="content")
                st.button("Close", icon=":material/close:", key="group_close", type="tertiary", on_click=_close)
            done = [run for run in runs if run.status == "done"]
            st.progress(len(done) / len(runs), text=_progress(runs))
            _table(runs)
            st.plotly_chart(
                sweep_chart.accuracy_by_size(runs), config=CONFIG, alt=sweep_chart.accuracy_by_size_alt(runs),
                key="group_chart",
            )  # fmt: skip
            _acts(group_id, runs, done)
            if before := len(group.get("there") or []):
                noun = "run was" if before == 1 else "runs were"
                st.caption(f"{before} {noun} there before this group was launched, and not trained again.")


def _active(runs: Sequence[Run]) -> bool:
    return any(run.status in run_actions.ACTIVE or run.comes_back for run in runs)


def _progress(runs: Sequence[Run]) -> str:
    """Count a group's runs by their status: "4 of 6 runs done, 1 training, 1 waiting"."""
    counts = {words: sum(run.status == status for run in runs) for status, words in (
        ("running", "training"), ("queued", "waiting"), ("stopped", "stopped"), ("failed", "failed"),
        ("interrupted", "interrupted"),
    )}  # fmt: skip
    done = sum(run.status == "done" for run in runs)
    return ", ".join([f"{done} of {len(runs)} runs done", *(f"{n} {words}" for words, n in counts.items() if n)])


def _table(runs: Sequence[Run]) -> None:
    """Show a group by size and seed: the accuracy of what is done, how far it is of what is not."""
    split = sweep_chart.split_of(runs)
    sizes = sorted({sweep_chart.training_size(run) for run in runs})
    seeds = list(dict.fromkeys(run.seed for run in sorted(runs, key=lambda run: run.seed or 0)))
    value = "test_accuracy" if split == "test" else "last_val_accuracy"
    accuracies = {row["run"]: row[value] for row in comparison.figures(runs)}
    places = {row["id"]: row["position"] for row in queue_panel.now()["rows"]}
    cells = {(sweep_chart.training_size(run), run.seed): _cell(run, accuracies[run.id], places) for run in runs}
    means = {size.pictures: size.summary for size in sweep_chart.by_size(runs)}
    rows = []
    for size in sizes:
        row = {"Training pictures": f"{size:,}", **{f"Seed {seed}": cells.get((size, seed), "–") for seed in seeds}}
        if len(seeds) > 1:
            summary = means.get(size)
            mean = "–"
            if summary is not None:
                mean = f"{summary.mean:.1%} (of {summary.n})"
                if summary.high is not None:
                    mean = f"**{summary.mean:.1%}** ± {100 * (summary.high - summary.mean):.1f}"
            row["Mean ± 95% t interval" if len(seeds) > 2 else "Mean"] = mean
        rows.append(row)
    st.table(rows, border="horizontal", hide_index=True)
    which = "Test accuracy" if split == "test" else "Validation accuracy at the last epoch"
    words = f"{which} of each run" + (", and over the seeds" if len(seeds) > 1 else "")
    st.caption(f"{words}; intervals in percentage points." if len(seeds) > 2 else f"{words}.")


def _cell(run: Run, accuracy: float | None, places: dict[str, int | None]) -> str:
    if run.status == "done":
        return shell.percent(accuracy)
    if run.status == "running":
        now = run.progress()
        epoch, epochs = (comparison.number((now or {}).get(name)) for name in ("epoch", "epochs"))
        return f"epoch {epoch:.0f} of {epochs:.0f}" if epoch and epochs else "training"
    if run.status == "queued":
        place = places.get(run.id)
        return f"{queue_panel.ordinal(place)} in line" if place else "waiting"
    return run.status


def _acts(group_id: str, runs: Sequence[Run], done: Sequence[Run]) -> None:
    """Compare the runs; stop or delete all of them that are this group's own and this person's to stop or delete."""
    person = people.person()
    own = [run for run in runs if (run.group or {}).get("id") == group_id and permissions.may_manage(run, person)]
    stoppable = [run.id for run in own if run.status in run_actions.ACTIVE]
    deletable = [run.id for run in own if run.status not in run_actions.ACTIVE and not run.comes_back]
    with st.container(horizontal=True, vertical_alignment="center"):
        if len(done) > 1:
            st.page_link(
                shell.page_path("compare"), label="Compare these runs", icon=shell.PAGES["compare"][1],
                query_params={"runs": [run.id for run in done]},
            )  # fmt: skip
        if stoppable:
            st.button(
                f"Stop all ({len(stoppable)})", icon=":material/stop_circle:", key="group_stop",
                on_click=_each, args=(run_actions.stop, stoppable, "stopped"),
            )  # fmt: skip
        if deletable:
            with st.popover(f"Delete all ({len(deletable)})", icon=":material/delete:", key="group_delete_popover"):
                st.markdown(f"Delete {len(deletable)} runs? The trash keeps them for {trash.KEPT_DAYS:g} days.")
                st.button(
                    "Delete these runs", type="primary", icon=":material/delete:", key="group_delete",
                    on_click=_each, args=(run_actions.delete, deletable, "deleted"),
                )  # fmt: skip
        if sentence := st.session_state.pop(SAID, ""):
            st.markdown(sentence, width="content")


def _each(act: Callable[[str], None], run_ids: Sequence[str], done: str) -> None:
    """Do it run by run; each act checks again who asks. What one of them refuses does not keep the others from it."""
    refused: list[Any] = []
    for run_id in run_ids:
        try:
            act(run_id)
        except CvcoreError as error:
            refused.append(error)
        except Exception:  # a page never shows a traceback
            log.exception("unexpected error while acting on the runs of a group")
            refused.append("something unexpected went wrong here; the details are in the server's log")
    words = f"{len(run_ids) - len(refused)} of {len(run_ids)} runs {done}"
    if refused:
        words += f"; {refused[0]}"
    st.session_state[SAID] = f":material/info: {shell.plain(words)}"
    st.session_state[run_actions.HAPPENED] = True
    shell.forget_runs()


def _close() -> None:
    st.query_params.pop("group", None)
    st.session_state[run_actions.HAPPENED] = True
