"""Pages drawn by AppTest in a runs folder of their own, shared by the tests of pages."""

import re

from streamlit.testing.v1 import AppTest

from cvcore.processes import this_process
from cvcore.settings import PROJECT


def draw(name, settings=None, **query):
    """Draw a page, its address with this query, its widgets of these keys set."""
    page = AppTest.from_file(str(PROJECT / "pages" / f"{name}.py"), default_timeout=300)
    for key, value in (settings or {}).items():
        page.session_state[key] = value
    for key, value in query.items():
        page.query_params[key] = value
    return page.run()


def words(page):
    kinds = (page.markdown, page.caption, page.title, page.subheader, page.error)
    return as_shown("\n".join(str(element.value) for kind in kinds for element in kind))


def as_shown(text):
    """Undo the escapes that keep Markdown from reading names."""
    return re.sub(r"\\([^a-zA-Z0-9\s])", r"\1", text)


def sound(page):
    return not page.exception and not page.error


def living(**owner):
    return {**this_process(), **owner}
