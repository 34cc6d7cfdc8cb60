"""What is stored and can be computed again: how much, a table, and clearing it, which is the teacher's."""

from datetime import UTC, datetime

import streamlit as st

import people
import shell
from cvcore import cache_entries, permissions, stock
from cvcore.cache_entries import Entry
from cvcore.cache_room import limit, size_words
from cvcore.errors import CvcoreError
from cvcore.run_directory import Run

SAID = "storage_said"  # in the session's state: (sentence, whether it is an error), shown once
KINDS = {"activations": "Activations", "pictures": "Decoded pictures"}


def room(found: list[Entry]) -> None:
    """Show how much of the limit is taken, and by what."""
    most, taken = limit(), sum(entry.bytes for entry in found)
    with st.container(border=True):
        with st.grid(2, min_column_width=150):
            for kind, title in KINDS.items():
                of_kind = [entry.bytes for entry in found if entry.kind == kind]
                st.metric(title, size_words(sum(of_kind)), f"{len(of_kind)} stored", delta_color="off",
                          delta_arrow="off")  # fmt: skip
        st.progress(min(1.0, taken / most) if most else 1.0, f"{size_words(taken)} of at most {size_words(most)}")
        st.caption(
            "When there is no more room, what was used the longest time ago goes first, and is computed again when a "
            "run needs it. Uploads, drawn pictures and weights do not count."
        )


def table(found: list[Entry], runs: list[Run]) -> None:
    """List what is stored, the last used first."""
    keys, needs = cache_entries.short_keys(found), [stock.needs_of(run) for run in runs]
    rows = [
        {
            "Pictures": entry.title,
            "Size (MB)": entry.bytes / 1e6,
            "Contents": entry.words,
            "Kind": KINDS[entry.kind],
            "Last used": datetime.fromtimestamp(entry.used, UTC),
            "Now": _state(entry),
            "Runs": sum(need in of_run for of_run in needs),
            "Key": keys[entry.name],
        }
        for entry in found
        for need in [stock.need_met_by(entry.said, entry.kind == "pictures")]
    ]
    st.dataframe(
        rows, hide_index=True, alt="What is stored, with its size and its last use",
        column_config={
            "Size (MB)": st.column_config.NumberColumn(format="%.1f"),
            "Last used": st.column_config.DatetimeColumn(format="distance"),
            "Runs": st.column_config.NumberColumn(help="Saved runs whose recipe needs it."),
            "Key": st.column_config.TextColumn(help="Its first digits, by which it can be chosen below."),
        },
    )  # fmt: skip


def clearing(found: list[Entry]) -> None:
    """Let who may clear entries, and say to others who may."""
    if not permissions.may_clear(people.person()):
        st.caption(":material/lock: Only the teacher may clear what is stored: runs of the whole class use it.")
        return
    keys = cache_entries.short_keys(found)
    labels = {  # a browser sends back a label: each has its key, so that it means one entry and no other
        entry.name: f"{entry.title}: {entry.words}, {size_words(entry.bytes)}, key {keys[entry.name]}"
        for entry in found
    }
    st.multiselect("Clear some", list(labels), format_func=labels.__getitem__, key="storage_chosen",
                   placeholder="Choose what goes")  # fmt: skip
    with st.container(horizontal=True):
        st.button(
            "Clear these", icon=":material/delete:", key="storage_clear_chosen", on_click=_act,
            disabled=not st.session_state.get("storage_chosen"),
        )  # fmt: skip
        with st.popover("Clear everything", icon=":material/delete_sweep:", key="storage_clear"):
            st.markdown("Clear everything that is listed above? The next run of each kind computes it again.")
            st.button(
                "Clear everything now", type="primary", icon=":material/delete_sweep:", key="storage_clear_all",
                on_click=_act, args=(True,),
            )  # fmt: skip
    st.caption("What a run uses or computes now stays.")


def said() -> None:
    """Show once what the last act had to say."""
    sentence, is_error = st.session_state.pop(SAID, ("", False))
    if is_error:
        st.error(shell.plain(sentence), icon=":material/error:")
    elif sentence:
        st.caption(f":material/info: {shell.plain(sentence)}")


def clear(names: list[str] | None) -> str:
    """Clear entries, if this browser's person may.

    Args:
        names: of the entries; None for all.

    Returns:
        A sentence on what was done.

    Raises:
        NotAllowed: this person may not.
        CvcoreError: the cache folder cannot be written.
    """
    permissions.require_clearing(people.person())
    chosen = [entry for entry in cache_entries.entries() if names is None or entry.name in names]
    freed = cache_entries.clear(chosen)
    left = {entry.path for entry in cache_entries.entries()} & {entry.path for entry in chosen}
    return f"{size_words(freed)} cleared" + (f"; {len(left)} in use now stayed." if left else ".")


def _act(everything: bool = False) -> None:
    """Clear before the page is drawn, also when the button was drawn for another person."""
    try:
        names = None if everything else list(st.session_state.get("storage_chosen", []))
        st.session_state[SAID] = clear(names), False
    except CvcoreError as error:
        st.session_state[SAID] = str(error), True
    st.session_state["storage_chosen"] = []


def _state(entry: Entry) -> str:
    if entry.in_use:
        return "in use" if entry.whole else "being computed"
    return "" if entry.whole else "unfinished"
