"""Add saved histories: an upload of what Keras wrote elsewhere, as runs to compare."""

from typing import Any

import streamlit as st

import people
import shell
from cvcore.comparison import STRATEGY_TITLES
from cvcore.errors import CvcoreError
from cvcore.imported import MAX_DATASET, MAX_TITLE, NOT_KNOWN, import_history
from cvcore.saved_history import MAX_BYTES
from shell import plain

ENDINGS = ("json", "csv", "log", "tsv", "txt")  # CSVLogger's own example is called training.log
MAX_FILES = 20
UPLOAD_MB = 10  # what the uploader itself turns away vanishes without a word; read_history names what it refuses


def draw() -> None:
    """Offer to upload histories; the new runs are then among those that the address names, and so compared."""
    st.markdown(
        "What Keras saved elsewhere: `history.history` as JSON (`json.dump`, or pandas' `to_json`), or a **CSVLogger** "
        f"file. One over {MAX_BYTES // 10**6} MB is refused, though the box takes more. A file says "
        "neither how nor on which pictures it was trained; what you leave out stays “not known”."
    )
    number = st.session_state.setdefault("import_uploads", 0)
    files = st.file_uploader(
        "Files", ENDINGS, accept_multiple_files=True, key=f"import_files_{number}", label_visibility="collapsed",
        max_upload_size=UPLOAD_MB,
    )  # fmt: skip
    with st.container(horizontal=True, vertical_alignment="bottom"):
        strategy = st.selectbox(
            "Strategy", ["", *STRATEGY_TITLES], key="import_strategy", width=200,  # "", as None could be cleared
            format_func=lambda name: STRATEGY_TITLES.get(name, NOT_KNOWN),
        )  # fmt: skip
        pictures = st.text_input(
            "Trained on", key="import_dataset", placeholder="not known", max_chars=MAX_DATASET, width=240
        )
        title = None
        if len(files) == 1:
            title = st.text_input(
                "Title", key=f"import_title_{number}", placeholder="the file's name", max_chars=MAX_TITLE, width=240
            )
        clicked = st.button("Import", type="primary", icon=":material/upload:", key="import_go", disabled=not files)
    if files:
        st.session_state.pop("import_result", None)
    if clicked and files:
        words = {"strategy": strategy or None, "title": title, "dataset": pictures}
        st.session_state["import_result"] = result = _import(files, words)
        st.session_state["import_uploads"] = number + 1  # an uploader of another key is empty
        if result["runs"]:
            shown = st.query_params.get_all("runs") or shell.chosen_runs("compare_runs")
            st.query_params["runs"] = [*shown, *(run["id"] for run in result["runs"])]
            shell.forget_runs()
        st.rerun()
    _say(st.session_state.get("import_result"))


def _import(files: list[Any], words: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Import each file by itself; a refused one does not keep the others out."""
    result: dict[str, list[dict[str, Any]]] = {"runs": [], "refused": []}
    who = people.person()
    for place, file in enumerate(files):
        try:
            if place >= MAX_FILES:
                raise CvcoreError(f"at most {MAX_FILES} files are imported at once; add the rest after these")
            run = import_history(file.getvalue(), file.name, owner=who.owner, teacher=who.teacher, **words)
            result["runs"].append({"id": run.id, "file": file.name, "ignored": run.info["origin"]["ignored"]})
        except CvcoreError as error:
            result["refused"].append({"file": file.name, "error": str(error)})
        shell.forget_upload(file.file_id)
    return result


def _say(result: dict[str, list[dict[str, Any]]] | None) -> None:
    """Name the files that were refused, and the new runs with where to look at or delete them."""
    if result is None:
        return
    for refused in result["refused"]:
        st.error(f"{plain(refused['file'])}: {plain(refused['error'])}", icon=":material/error:")
    there = {run.id for run in shell.runs()}
    for run in result["runs"]:
        if run["id"] in there:  # not deleted meanwhile
            left = f"; columns left out: {plain(run['ignored'])}" if run["ignored"] else ""
            st.markdown(f":material/check: {plain(run['file'])} is a run now and compared with those above{left}.")
            st.page_link(
                shell.page_path("train"), label=f"Look at `{run['id']}` alone, or delete it",
                icon=":material/folder_open:", query_params={"run": run["id"]},
            )  # fmt: skip
