"""Which errors in a browser's console are excused: connections to this computer that broke off, nothing else."""

import pytest
from dashboard import Visit, expected
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

SCRIPT = "http://localhost:8501/static/index.js"


@pytest.mark.parametrize(
    ("said", "url"),
    [
        ("Failed to load resource: net::ERR_CONNECTION_REFUSED", "http://localhost:8501/_stcore/health"),
        (
            "Failed to load resource: the server responded with a status of 404",
            "http://localhost:8501/a/_stcore/health",
        ),
        ("TypeError: Failed to fetch", SCRIPT),
        ("WebSocket connection to 'ws://localhost:8501/_stcore/stream' failed: net::ERR_CONNECTION_REFUSED", SCRIPT),
    ],
)
def test_connection_that_broke_off_is_excused(said, url):
    assert expected(said, url)


@pytest.mark.parametrize(
    ("said", "url"),
    [
        ("Failed to load resource: net::ERR_NAME_NOT_RESOLVED", "https://fonts.example/a.woff2"),
        ("Failed to load resource: net::ERR_CONNECTION_REFUSED", "https://fonts.example/a.woff2"),
        ("Failed to load resource: net::ERR_FILE_NOT_FOUND", SCRIPT),
        ("TypeError: Failed to fetch dynamically imported module: " + SCRIPT, SCRIPT),
        ("Failed to load resource: the server responded with a status of 404", SCRIPT),
        ("TypeError: Cannot read properties of undefined", SCRIPT),
    ],
)
def test_request_to_elsewhere_and_file_that_is_missing_are_not(said, url):
    assert not expected(said, url)


def test_page_has_settled_only_when_all_that_it_asked_for_is_drawn():
    visit = Visit(None, [])

    def ask(part=""):
        visit.sent(BackMsg(rerun_script={"fragment_id": part}).SerializeToString())

    def end(how):
        visit.received(ForwardMsg(script_finished=how).SerializeToString())

    ask()
    end(ForwardMsg.FINISHED_FRAGMENT_RUN_SUCCESSFULLY)
    assert visit.draws
    end(ForwardMsg.FINISHED_EARLY_FOR_RERUN)
    assert visit.draws
    end(ForwardMsg.FINISHED_SUCCESSFULLY)
    assert not visit.draws
    ask("a part")
    assert visit.draws
    end(ForwardMsg.FINISHED_FRAGMENT_RUN_SUCCESSFULLY)
    assert not visit.draws
