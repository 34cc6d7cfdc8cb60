"""Two students and a teacher, each in a browser of their own, and what one can do with another's run."""

import base64
import signal
from urllib.parse import urlparse

import pytest
from dashboard import free_port, serving, visiting, wait_until
from handmade_runs import write_run
from pages_drawn import living
from two_students import PASSWORD, code

from cvcore.datasets import open_dataset
from cvcore.published import get_recipe
from cvcore.run_directory import STOP_FILE, load_run
from cvcore.run_writer import create_run

pytestmark = pytest.mark.browser
PATIENCE = 300  # seconds

# Opens a connection as a page does, sends recorded messages one after the other, each after the answers to the last.
REPLAY = """
async ([address, messages]) => {
  const cookie = document.cookie.split("; ").find((one) => one.startsWith("_streamlit_xsrf="))
  const socket = new WebSocket(address, ["streamlit", cookie ? cookie.slice(16) : "none"])
  socket.binaryType = "arraybuffer"
  let answers = 0, last = performance.now()
  socket.onmessage = () => { answers += 1; last = performance.now() }
  const pause = () => new Promise((next) => setTimeout(next, 100))
  window.kept = socket  // open until the page is left: a server that is slow has not done with it yet
  while (socket.readyState === WebSocket.CONNECTING) await pause()
  for (const message of messages) {
    const before = answers, began = performance.now()
    socket.send(Uint8Array.from(atob(message), (letter) => letter.charCodeAt(0)))
    const waits = () => answers === before || performance.now() - last < 2000
    while (socket.readyState === WebSocket.OPEN && waits() && performance.now() - began < 15000) await pause()
  }
  return [socket.readyState === WebSocket.OPEN, answers]
}
"""


@pytest.fixture
def two(browser):
    opened = [visiting(browser), visiting(browser)]
    yield opened
    for visit in opened:
        visit.page.context.close()


def token_of(visit):
    cookies = {cookie["name"]: cookie for cookie in visit.page.context.cookies()}
    return cookies["fourways_owner"]["value"]


def buttons(visit, name):
    return visit.page.get_by_role("button", name=name, exact=False)


def badge(visit, words):
    return visit.page.locator(".stMarkdownBadge").filter(has_text=words)


def test_a_browser_keeps_its_name_over_reloads_and_restarts_and_no_script_reads_it(tmp_path, runs, cache, two):
    anna, ben = two
    port = free_port()
    with serving(tmp_path, runs, cache, port) as server:
        for visit in two:
            visit.page.goto(f"{server.url}/compare")
            visit.settle()
        first = token_of(anna)
        assert first != token_of(ben) and len(first) == 32
        assert first not in anna.page.evaluate("document.cookie") and first not in anna.page.content()
        anna.page.reload()
        anna.settle()
        anna.check()
        for visit in two:
            visit.page.goto("about:blank")
    with serving(tmp_path, runs, cache, port) as server:
        run_id = write_run(runs, "doodle-scratch", owner=code(first))
        anna.page.goto(f"{server.url}/train?run={run_id}")
        anna.settle()
        assert token_of(anna) == first
        badge(anna, "yours").wait_for()
        anna.check()


def test_nothing_another_browser_sends_stops_a_run_and_its_owner_s_does(server, two, runs):
    """Ben sends, byte by byte, what Anna's page sent when she clicked Stop: the server asks who it is that sends it."""
    anna, ben = two
    sent = []
    anna.page.on("websocket", lambda socket: socket.on("framesent", lambda message: sent.append(message)))
    anna.page.goto(f"{server.url}/train")
    anna.settle()
    run_id = write_run(runs, "doodle-scratch", status="running", process=living(), owner=code(token_of(anna)))
    stop_file = runs / run_id / STOP_FILE
    address = f"{server.url}/train?run={run_id}"
    sent.clear()
    anna.page.goto(address)
    anna.settle()
    before = len(sent)
    buttons(anna, "Stop").click()
    wait_until(stop_file.exists)
    anna.page.goto("about:blank")
    messages = [base64.b64encode(message).decode() for message in [sent[0], *sent[before:]]]
    assert len(messages) >= 2
    stop_file.unlink()

    ben.page.goto(f"{address}&stop_{run_id}=true")
    ben.settle()
    badge(ben, "another's").wait_for()
    for name in ("Stop", "Resume", "Rename", "Delete", "Restore"):
        assert buttons(ben, name).count() == 0
    ben.check()
    socket = f"ws://{urlparse(server.url).netloc}/_stcore/stream"
    assert ben.page.evaluate(REPLAY, [socket, messages])[0]
    assert not stop_file.exists()

    anna.page.goto(f"{server.url}/compare")
    anna.settle()
    # Once more if the click came before the button was there, as it does where the server is slow to draw it.
    wait_until(lambda: anna.page.evaluate(REPLAY, [socket, messages])[0] and stop_file.exists())


def test_the_owner_names_deletes_and_restores_a_run_and_another_browser_sees_it_happen(server, two, runs):
    anna, ben = two
    anna.page.goto(f"{server.url}/train")
    anna.settle()
    write_run(runs, "doodle-scratch", seed=1)
    run_id = write_run(runs, "doodle-scratch", seed=2, owner=code(token_of(anna)))
    anna.page.goto(f"{server.url}/train?run={run_id}")
    anna.settle()
    buttons(anna, "Rename").first.click()
    field = anna.page.get_by_label("Name", exact=True)
    field.fill("Table 4 *again*")
    anna.page.get_by_test_id("stFormSubmitButton").get_by_role("button", name="Rename").click()
    wait_until(lambda: load_run(run_id, runs).name == "Table 4 *again*")
    wait_until(lambda: "Table 4 *again*, A small convnet" in anna.page.locator("body").inner_text())
    anna.settle()
    buttons(anna, "Delete").first.click()
    buttons(anna, "Delete this run").click()
    wait_until(lambda: not (runs / run_id).exists())
    anna.page.get_by_text("in the trash for 7 days").wait_for()
    anna.check()
    ben.page.goto(f"{server.url}/train?run={run_id}")
    ben.settle()
    ben.check()
    assert ben.page.get_by_text("Trash").count() == 0
    anna.page.get_by_text("Trash (1)").click()
    buttons(anna, "Restore").click()
    wait_until((runs / run_id).exists)
    anna.page.wait_for_url(f"**run={run_id}")
    anna.settle()
    anna.check()


def test_a_name_can_be_typed_while_the_run_trains_and_the_page_refreshes(server, two, runs):
    anna, _ = two
    anna.page.goto(f"{server.url}/train")
    anna.settle()
    run_id = write_run(runs, "doodle-scratch", status="running", process=living(), owner=code(token_of(anna)))
    anna.page.goto(f"{server.url}/train?run={run_id}")
    anna.settle()
    buttons(anna, "Rename").first.click()
    field = anna.page.get_by_label("Name", exact=True)
    field.press_sequentially("a name typed slowly", delay=250)  # over several refreshes, one a second
    assert field.input_value() == "a name typed slowly"
    anna.page.get_by_test_id("stFormSubmitButton").get_by_role("button", name="Rename").click()
    wait_until(lambda: load_run(run_id, runs).name == "a name typed slowly")
    anna.check()


def test_the_teacher_signs_in_and_stops_a_student_s_run(tmp_path, runs, cache, two):
    teacher, student = two
    secrets = tmp_path / "secrets.toml"
    secrets.write_text(f'[teacher]\npassword = "{PASSWORD}"\n')
    with serving(tmp_path, runs, cache, None, "--secrets.files", str(secrets)) as server:
        student.page.goto(f"{server.url}/train")
        student.settle()
        run_id = write_run(runs, "doodle-scratch", status="running", process=living(), owner=code(token_of(student)))
        teacher.page.goto(f"{server.url}/train?run={run_id}")
        teacher.settle()
        assert buttons(teacher, "Stop").count() == 0
        buttons(teacher, "Teacher").click()
        teacher.page.get_by_label("Teacher's password").fill("guess")
        buttons(teacher, "Sign in").click()
        teacher.page.get_by_text("this is not the teacher").wait_for()
        teacher.page.get_by_label("Teacher's password").fill(PASSWORD)
        buttons(teacher, "Sign in").click()
        teacher.page.get_by_text("Teacher: signed in").wait_for()
        teacher.page.reload()
        teacher.settle()
        badge(teacher, f"owner {code(token_of(student))[:6]}").wait_for()
        buttons(teacher, "Stop").click()
        wait_until((runs / run_id / STOP_FILE).exists)
        teacher.check()
        assert PASSWORD not in server.log.read_text()


def test_ctrl_c_ends_the_server_at_once_with_pages_open(tmp_path, runs, cache, two):
    run_id = write_run(runs, "doodle-scratch", status="running", process=living())
    with serving(tmp_path, runs, cache) as server:
        for visit, path in zip(two, (f"train?run={run_id}", "compare"), strict=True):
            visit.page.goto(f"{server.url}/{path}")
            visit.settle()
        server.process.send_signal(signal.SIGINT)
        server.process.wait(PATIENCE)
        assert "Traceback" not in server.log.read_text()


def test_what_was_queued_while_nobody_served_is_trained_once_the_dashboard_runs(tmp_path, runs, cache, monkeypatch):
    monkeypatch.setenv("CVCORE_CACHE", str(cache))
    recipe, pets = get_recipe("doodle-features").with_changes(epochs=1), open_dataset("doodle-pets")
    run = create_run(recipe, pets.summary(), 0, folder=runs, backend="local", ticket=1)
    with serving(tmp_path, runs, cache) as server:  # and no browser is open
        wait_until(lambda: load_run(run.id, runs).status == "done")
        assert "Traceback" not in server.log.read_text()
