"""What people do with a run: stop, resume, rename, delete, restore; each act checks again who asks."""

import logging
import zlib
from collections.abc import Callable

import streamlit as st

import people
import shell
from cvcore import backends, permissions, run_directory, run_writer, settings, trash
from cvcore.errors import CvcoreError, RunNotFound
from cvcore.run_directory import RESUMABLE, Run

ACTIVE = ("queued", "running")
SAID = "run_actions_said"  # in the session's state: (sentence, whether it is an error), shown once
HAPPENED = "run_actions_happened"  # in the session's state: an act since the whole page was drawn

log = logging.getLogger("fourways")


def stop(run_id: str) -> None:
    """Ask a run to stop, if this browser's person may."""
    backends.stop(_allowed(run_id, "stop"))


def resume(run_id: str) -> None:
    """Queue a run again, if this browser's person may."""
    _allowed(run_id, "resume")
    backends.resume(run_id)


def rename(run_id: str, name: str) -> None:
    """Give a run another name, if this browser's person may; "" takes its name away."""
    run_writer.rename_run(_allowed(run_id, "rename"), name.strip() or None)


def delete(run_id: str) -> None:
    """Move a run to the trash, if this browser's person may."""
    run = _allowed(run_id, "delete")
    trash.delete_run(run, by=people.person().owner)
    if st.query_params.get("run") == run_id:
        st.query_params.pop("run")
    _say(f"{run_id} is in the trash for {trash.KEPT_DAYS:g} days; at the foot of this page it can be restored.")


def restore(run_id: str) -> None:
    """Take a run back out of the trash, if this browser's person may."""
    for thrown in trash.trashed(settings.runs_folder()):
        if thrown.id == run_id:
            permissions.require(thrown.run, people.person(), "restore")
            trash.restore(run_id, settings.runs_folder())
            st.query_params["run"] = run_id
            shell.follow_address("train_run")
            return
    raise RunNotFound(f"no run {run_id[:80]!r} is in the trash; it may have been restored or be older than its days")


def buttons(run: Run) -> None:
    """Offer what can be done with a run in its status; nothing to who may not."""
    if not permissions.may_manage(run, people.person()):
        return
    if run.status in ACTIVE:
        asked = (run.path / run_directory.STOP_FILE).exists()
        st.button(
            "Stopping at the next batch" if asked else "Stop", icon=":material/stop_circle:", disabled=asked,
            key=f"stop_{run.id}", on_click=_act, args=(stop, run.id),
        )  # fmt: skip
    if run.status in RESUMABLE and not run.imported and not run.comes_back:
        st.button(
            "Resume", type="primary", icon=":material/resume:", key=f"resume_{run.id}",
            help="From its last finished epoch.", on_click=_act, args=(resume, run.id),
        )  # fmt: skip
    named = zlib.crc32((run.name or "").encode())  # another name, another popover: the open one closes
    popover = st.popover("Rename", icon=":material/edit:", key=f"rename_popover_{run.id}_{named}")
    with popover, st.form(f"rename_form_{run.id}", border=False):
        field = f"rename_to_{run.id}"
        st.text_input("Name", run.name or "", key=field, max_chars=80, help="Everybody sees it; empty for none.")
        st.form_submit_button("Rename", key=f"rename_{run.id}", on_click=_rename_to, args=(run.id, field))
    if run.status not in ACTIVE and not run.comes_back:
        delete_button(run)


def delete_button(run: Run) -> None:
    """Offer to delete a run, and ask once more."""
    with st.popover("Delete", icon=":material/delete:", key=f"delete_popover_{run.id}"):
        st.markdown(f"Delete `{run.id}`? The trash keeps it for {trash.KEPT_DAYS:g} days.")
        st.button(
            "Delete this run", type="primary", icon=":material/delete:", key=f"delete_{run.id}",
            on_click=_act, args=(delete, run.id),
        )  # fmt: skip


def damaged(run: Run) -> None:
    """Say what is wrong with a damaged run; offer to delete it to who may."""
    with st.container(horizontal=True, vertical_alignment="center"):
        shell.damaged_caption(str(run.error))
        if permissions.may_manage(run, people.person()):
            delete_button(run)


def trash_panel() -> None:
    """List the deleted runs that this browser's person may restore; nothing where there are none."""
    said()  # where no run is left to say it at
    person = people.person()
    thrown = [one for one in trash.trashed(settings.runs_folder()) if permissions.may_manage(one.run, person)]
    if not thrown:
        return
    with st.expander(f"Trash ({len(thrown)})", icon=":material/delete:", key="trash"):
        st.caption(f"Deleted runs are kept for {trash.KEPT_DAYS:g} days.")
        for one in thrown:
            with st.container(horizontal=True, vertical_alignment="center"):
                st.button(
                    "Restore", icon=":material/restore_from_trash:", key=f"restore_{one.id}",
                    on_click=_act, args=(restore, one.id),
                )  # fmt: skip
                title = shell.plain(one.run.name or one.run.recipe.get("title") or one.id)
                when = f", deleted {one.deleted:%d %B %Y, %H:%M} UTC" if one.deleted else ""
                st.markdown(f"{title}{when}", width="content")


def happened() -> bool:
    """Say once whether something was done, so that the whole page must be drawn and not only one part."""
    return bool(st.session_state.pop(HAPPENED, False))


def said() -> None:
    """Show once what the last act had to say."""
    sentence, is_error = st.session_state.pop(SAID, ("", False))
    if is_error:
        st.error(shell.plain(sentence), icon=":material/error:")
    elif sentence:
        st.caption(f":material/info: {shell.plain(sentence)}")


def _allowed(run_id: str, what: str) -> Run:
    """Read a run as it is now and hold the person against it.

    Raises:
        RunNotFound: there is no such run.
        NotAllowed: this person may not.
    """
    path = run_directory.run_path(run_id)
    try:
        run = run_directory.load_run(run_id)
    except run_directory.RunDamaged as error:
        run = Run(run_id, path, {}, "damaged", None, str(error))
    permissions.require(run, people.person(), what)
    return run


def _rename_to(run_id: str, field: str) -> None:
    _act(lambda wanted: rename(wanted, str(st.session_state.get(field, ""))), run_id)


def _act(act: Callable[[str], None], run_id: str) -> None:
    """Do it before the page is drawn, also when the button was drawn for another person or another state."""
    try:
        act(run_id)
    except CvcoreError as error:
        _say(str(error), is_error=True)
    except Exception:  # a page never shows a traceback
        log.exception("unexpected error while acting on a run")
        _say("Something unexpected went wrong here; the details are in the server's log.", is_error=True)
    shell.forget_runs()
    st.session_state[HAPPENED] = True


def _say(sentence: str, is_error: bool = False) -> None:
    st.session_state[SAID] = (sentence, is_error)
