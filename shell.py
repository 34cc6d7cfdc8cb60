"""What every page shares: navigation, errors as sentences, cached readers of runs, the run picker."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import streamlit as st

from cvcore.errors import CvcoreError

PROJECT = Path(__file__).resolve().parent
PAGES = {
    "overview": ("Overview", ":material/home:"),
    "dataset": ("Dataset", ":material/photo_library:"),
    "augmentation": ("Augmentation", ":material/auto_fix_high:"),
    "train": ("Train", ":material/model_training:"),
    "compare": ("Compare", ":material/stacked_line_chart:"),
}
log = logging.getLogger("fourways")


def page_path(name: str) -> str:
    """Give a page's script by name ("overview", "dataset", "augmentation", "train", "compare"), as an absolute path."""
    return str(PROJECT / "pages" / f"{name}.py")


def navigation() -> Any:
    """Set the page up and return the page the URL asks for; the first statement of app.py and of every page.

    A deep link to a page on a freshly started server runs that page's script without app.py, until
    st.navigation has run once in the process: hence the call in each page, where its result is not used.
    """
    st.set_page_config(page_title="Fourways", page_icon=":material/stacked_line_chart:", layout="wide")
    return st.navigation(
        [
            st.Page(
                page_path(name),
                title=title,
                icon=icon,
                url_path=None if name == "overview" else name,
                default=name == "overview",
            )
            for name, (title, icon) in PAGES.items()
        ],
        position="top",
    )


@contextmanager
def error_box() -> Iterator[None]:
    """Show whatever goes wrong inside as one sentence and stop the script there; the log gets the traceback."""
    try:
        yield
    except CvcoreError as error:
        st.error(str(error), icon=":material/error:")
        st.stop()
    except Exception:  # a page never shows a traceback
        log.exception("unexpected error on a page")
        st.error("Something unexpected went wrong here; the details are in the server's log.", icon=":material/error:")
        st.stop()


def empty_state(text: str, action: str | None = None, page: str | None = None) -> None:
    """Say what is missing and offer the one next step.

    Args:
        text: one sentence: what would be here.
        action: the label of the link, or None for no link.
        page: the page the link goes to, one of `PAGES`.
    """
    with st.container(border=True, horizontal_alignment="center"):
        st.markdown(text, text_alignment="center")
        if action and page:
            st.page_link(page_path(page), label=action, icon=PAGES[page][1])
