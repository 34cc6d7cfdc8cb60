"""The Ray backend without a cluster: what it says of one, and what becomes of runs while it does not answer."""

import ast
import contextlib
import http.server
import json
import re
import socket
import subprocess
import sys
import threading
import urllib.request

import pytest
from fake_ray import OUTPUT, PATIENCE, TWO, details, point_at_ray, queued

from cvcore import backends
from cvcore.backends import ray_backend, ray_jobs, worker
from cvcore.backends.ray_backend import RayBackend, RayEngine
from cvcore.backends.ray_cluster import Board, Cluster, Node, Unreachable, look
from cvcore.backends.ray_jobs import RayJobs, why
from cvcore.errors import CvcoreError
from cvcore.run_directory import load_run
from cvcore.settings import PROJECT


@pytest.fixture
def runs(tmp_path, monkeypatch):
    return point_at_ray(monkeypatch, tmp_path)


@pytest.fixture
def patient(monkeypatch):
    """Wait for who answers here, in a thread of this process, however busy that is."""
    real = urllib.request.urlopen
    monkeypatch.setattr(urllib.request, "urlopen", lambda request, timeout=None: real(request, timeout=PATIENCE))


@pytest.mark.parametrize("source", sorted((PROJECT / "cvcore").rglob("*.py")), ids=lambda path: path.name)
def test_only_ray_jobs_names_ray(source):
    names = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(str(node.module).partition(".")[0])
    assert "ray" not in names or source.name == "ray_jobs.py"


def test_pages_ask_how_the_cluster_is_without_loading_ray_or_the_store():
    code = (
        "import sys\nfrom cvcore import backends\nfrom cvcore.backends.ray_backend import RayBackend\n"
        "assert isinstance(backends.chosen(), RayBackend)\nbackends.status()\nbackends.capacity()\nprint(*sys.modules)"
    )
    with closed_port() as address:
        environment = {"PATH": "", "CVCORE_RAY_ADDRESS": address, "CVCORE_RUNS": "/nonexistent"}
        done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, env=environment, capture_output=True,
                              text=True, timeout=PATIENCE)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not set(done.stdout.split()) & {"ray", "fsspec", "s3fs", "requests", "aiohttp", "keras", "tensorflow"}


@pytest.mark.parametrize(
    ("nodes", "cpus", "gpus", "share", "slots", "kind"),
    [
        ([(4, 0), (2, 0)], None, None, (2, 0), 3, "CPU"),
        ([(4, 0), (2, 0)], "1", None, (1, 0), 6, "CPU"),
        ([(8, 2), (8, 0)], None, None, (1, 1), 2, "GPU"),
        ([(8, 2), (8, 0)], None, "0.5", (1, 0.5), 4, "GPU"),
        ([(8, 2), (8, 0)], None, "0.34", (1, 0.34), 5, "GPU"),
        ([(1, 4)], None, "0.5", (1, 0.5), 1, "GPU"),
        ([(1, 4)], "0", "0.5", (0, 0.5), 8, "GPU"),
        ([(8, 2), (8, 0)], None, "0", (8, 0), 2, "CPU"),
        ([(0, 0)], None, None, (1, 0), 0, "CPU"),
        ([], None, None, (1, 0), 0, "CPU"),
    ],
)
def test_slots_are_what_the_nodes_have_room_for(nodes, cpus, gpus, share, slots, kind, monkeypatch):
    for name, value in (("CVCORE_RAY_CPUS", cpus), ("CVCORE_RAY_GPUS", gpus)):
        monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)
    cluster = Cluster(tuple(Node(of_cpus, of_gpus, 1000.0) for of_cpus, of_gpus in nodes))
    assert (cluster.share(), cluster.slots(), cluster.kind) == (share, slots, kind)


def test_memory_of_a_run_is_its_part_of_a_cpu_node(monkeypatch):
    monkeypatch.setenv("CVCORE_RAY_CPUS", "2")
    assert TWO.memory_mb() == 4000
    assert Cluster((Node(8, 1, 8000, "H100"),)).memory_mb() is None
    assert Cluster((Node(8, 1, 8000, "H100"),)).words() == "a Ray cluster of 1 node, on H100"


def test_gpu_share_that_is_no_number_is_a_sentence(monkeypatch):
    monkeypatch.setenv("CVCORE_RAY_GPUS", "half")
    with pytest.raises(CvcoreError, match="CVCORE_RAY_GPUS must be a number from 0"):
        TWO.slots()


class Dashboard:
    """An HTTP server that answers as told: {path: (code, body)}."""

    def __init__(self, **answers):
        self.seen = []
        dashboard = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                dashboard.seen.append((self.path, self.headers.get("Authorization")))
                key = "nodes" if "nodes" in self.path else "version"
                code, body = answers.get(key, (404, "nothing"))
                self.send_response(code)
                self.end_headers()
                self.wfile.write((body if isinstance(body, str) else json.dumps(body)).encode())

            def log_message(self, *arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error):
        self.server.shutdown()
        self.server.server_close()


VERSION = (200, {"ray_version": "2.60.0"})
ALIVE = {"state": "ALIVE", "resources_total": {"CPU": 8.0, "GPU": 2.0, "memory": 4e9, "accelerator_type:H100": 1.0}}
NODES = (200, {"data": {"result": {"result": [ALIVE, {**ALIVE, "state": "DEAD"}]}}})


def test_nodes_that_live_are_counted_and_the_token_is_shown(patient, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "t0ken")
    with Dashboard(version=VERSION, nodes=NODES) as dashboard:
        assert look(dashboard.address) == Cluster((Node(8, 2, 4000, "H100"),))
        assert look(dashboard.address.removeprefix("http://") + "/").nodes
        assert {token for _, token in dashboard.seen} == {"Bearer t0ken"}


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ({"version": (200, {"ray_version": "2.3.0"})}, "has version 2.3.0; install 2.9 or newer"),
        ({"version": (200, "<html>a router</html>")}, "must be the address of a Ray dashboard"),
        ({"version": (200, {"hello": 1})}, "has version None"),
        ({}, "must be the address of a Ray dashboard, .* says 404"),
        ({"version": (401, "who are you")}, "asks for a token; set RAY_AUTH_TOKEN"),
        ({"version": VERSION, "nodes": (200, {"data": None})}, "does not tell its nodes"),
        ({"version": VERSION, "nodes": (200, {"data": {"result": {"result": [{}]}}})}, "does not tell its nodes"),
    ],
)
def test_what_answers_and_is_no_fitting_cluster_is_a_sentence(patient, answers, sentence):
    with Dashboard(**answers) as dashboard, pytest.raises(Unreachable, match=sentence):
        look(dashboard.address)


class closed_port:
    """An address at which nobody listens, nor does meanwhile: it is taken."""

    def __enter__(self):
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{self.socket.getsockname()[1]}"

    def __exit__(self, *error):
        self.socket.close()


class silent_port(closed_port):
    """An address that takes connections and never says a word."""

    def __enter__(self):
        address = super().__enter__()
        self.socket.listen(64)
        return address


@pytest.mark.parametrize("port", [closed_port, silent_port])
def test_page_of_a_cluster_that_does_not_answer_is_drawn_at_once_and_says_so(port, runs, monkeypatch):
    with port() as address:
        monkeypatch.setenv("CVCORE_RAY_ADDRESS", address)
        waits, real = [], urllib.request.urlopen

        def asks(request, timeout=None):
            waits.append(timeout)
            return real(request, timeout=timeout)

        monkeypatch.setattr(urllib.request, "urlopen", asks)
        monkeypatch.setattr(ray_backend.Board, "FRESH", 1e9)  # however long this test stands still
        status, capacity = backends.status(runs), backends.capacity(runs)
        assert waits == [0.5]  # asked once for both; for ever by itself
        assert "The Ray cluster does not answer" in status.problem and not status.worker_alive
        assert (capacity.slots, capacity.free) == (1, 0)


@pytest.mark.parametrize("port", [closed_port, silent_port])
def test_runs_stay_queued_while_the_cluster_does_not_answer(port, runs, monkeypatch):
    run = queued(runs)
    monkeypatch.setattr("cvcore.backends.ray_cluster.Board.EVERY", 0.05)
    with port() as address:
        monkeypatch.setenv("CVCORE_RAY_ADDRESS", address)
        served = worker.Worker(runs, RayEngine(runs))
        for _ in range(3):
            assert served.round()
        assert load_run(run.id, runs).info == run.info and served.engine.busy() == set()
        assert "does not answer" in Board(runs, address).read()[1]
    cluster, _, fresh = Board(runs, "http://another:8265").read()
    assert cluster is None and not fresh


def test_cluster_that_never_answers_does_not_hold_up_the_thread_that_asks(runs, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setattr(ray_jobs, "ANSWERS_WITHIN", 0.2)
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://elsewhere:1")
    with silent_port() as address, pytest.raises(Unreachable, match="does not answer"):
        RayJobs(address, runs).details("x-1")


def test_ray_that_is_not_installed_is_a_sentence_and_the_run_stays_queued(runs, monkeypatch):
    run = queued(runs)
    monkeypatch.setattr(ray_backend, "check_installed", ray_jobs.check_installed)
    monkeypatch.setattr(ray_jobs, "find_spec", lambda name: None)
    monkeypatch.setattr(ray_backend, "look", lambda address, timeout=1: TWO)
    RayBackend().submit(run)  # it is queued already: only the status tells
    with pytest.raises(CvcoreError, match="Ray is not installed here; run `pip install -r requirements-ray"):
        RayEngine(runs)
    assert "Ray is not installed here" in RayBackend().status(runs).problem
    assert load_run(run.id, runs).status == "queued"


def test_launch_does_not_fail_for_a_worker_that_cannot_start_once_its_run_is_queued(runs, monkeypatch):
    run = queued(runs)
    asked = []

    def cannot(folder):
        asked.append(folder)
        raise CvcoreError("The worker process ended with exit code 1")

    monkeypatch.setattr("cvcore.backends.worker_process.ensure", cannot)
    backends.submit(run)
    assert asked == [runs] and load_run(run.id, runs).status == "queued"


class speaks_http_2:
    """An address where something answers that is no HTTP/1, as Ray's own port does."""

    def __enter__(self):
        self.socket = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self.answer, daemon=True).start()
        return f"127.0.0.1:{self.socket.getsockname()[1]}"

    def answer(self):
        while True:
            try:
                taken, _ = self.socket.accept()
                with taken:
                    taken.recv(1000)
                    taken.sendall(b"\x00\x00\x18\x04\x00\x00\x00\x00\x00\x00\x04\x00\x3f\xff\xff\n")
            except OSError:
                return

    def __exit__(self, *error):
        self.socket.close()


ODD = (
    "http://head:port",
    "://x",
    "http://[x",
    "http://a b:1",
    "ray://head:10001",
    "head\x01:1",
    "file:///etc",
    "\udcff:1",
)


@pytest.mark.parametrize("address", [speaks_http_2, *ODD])
def test_address_that_is_no_dashboard_is_told_every_time_and_ends_no_worker(address, runs, patient, monkeypatch):
    run = queued(runs)
    with address() if callable(address) else contextlib.nullcontext(address) as there:
        monkeypatch.setenv("CVCORE_RAY_ADDRESS", there)
        assert backends.capacity(runs).free == 0
        for _ in range(2):
            assert "CVCORE_RAY_ADDRESS must be the address of a Ray dashboard" in backends.status(runs).problem
        served = worker.Worker(runs, RayEngine(runs))
        assert served.round() and served.engine.slots() == 0
    assert load_run(run.id, runs).status == "queued"


def test_whatever_asking_a_cluster_leads_to_ends_neither_page_nor_worker(runs, monkeypatch):
    def breaks(address, timeout=1.0):
        raise ZeroDivisionError

    monkeypatch.setattr(ray_backend, "look", breaks)
    for _ in range(2):
        assert "could not be asked (ZeroDivisionError)" in backends.status(runs).problem
    engine = RayEngine(runs)
    engine._look()
    assert engine.slots() == 0 and "ZeroDivisionError" in engine.problems["cluster"]


@pytest.mark.parametrize("amount", ["Infinity", "NaN", "-Infinity", "1e999"])
def test_cluster_whose_amounts_are_none_is_a_sentence(patient, amount):
    nodes = json.dumps(NODES[1]).replace('"CPU": 8.0', f'"CPU": {amount}')
    answers = {"version": VERSION, "nodes": (200, nodes)}
    with Dashboard(**answers) as dashboard, pytest.raises(Unreachable, match="does not tell its nodes"):
        look(dashboard.address)


def test_cluster_without_room_for_one_run_says_what_a_run_takes(runs, monkeypatch):
    monkeypatch.setenv("CVCORE_RAY_GPUS", "2")
    monkeypatch.setattr(ray_backend, "look", lambda address, timeout=1: Cluster((Node(8, 1, 8000),)))
    assert "No node of the Ray cluster has the 2 GPUs and 1 CPUs" in RayBackend().status(runs).problem


def test_board_of_the_worker_is_what_pages_read_while_it_is_fresh(runs, monkeypatch):
    runs.mkdir()
    monkeypatch.setattr(Board, "FRESH", 1e9)  # however long this test stands still
    board = Board(runs, "http://head:8265")
    board.write(TWO, "The store could not be read (x); it is tried again.")
    monkeypatch.setattr(ray_backend, "worker_alive", lambda folder: True)
    monkeypatch.setattr(ray_backend, "look", lambda *arguments, **words: pytest.fail("asked the cluster"))
    status = RayBackend().status(runs)
    assert status.problem.startswith("The store could not be read")
    assert status.words == "Runs train on a Ray cluster of 2 nodes, on CPUs, up to 3 at a time."
    board.path.write_text("{half")
    monkeypatch.setattr(ray_backend, "look", lambda *arguments, **words: TWO)
    assert RayBackend().capacity(runs).slots == 3


NODE_DIED = (
    "Job supervisor actor died: The actor died unexpectedly before finishing this task.\n\tclass_name: JobSupervisor\n"
    "\tip: 10.0.0.2\nThe actor died because its node has died. Node Id: 3d4b\n\tthe actor's node was terminated "
    "unexpectedly: health check failed due to missing too many heartbeats"
)
LOW_MEMORY = (
    "Unexpected error occurred: 1 worker(s) were killed due to the node running low on memory. Memory on the node "
    "(IP: 10.0.0.2, ID: 8ac8) was 11.88GB used / 23.54GB limit (0.504743)\nOOM kill reason: Memory usage exceeded"
)


@pytest.mark.parametrize(
    ("job", "sentence", "again"),
    [
        (details("SUCCEEDED"), None, True),
        (details("STOPPED", "Job was intentionally stopped."), "stopped by Ray's own means", False),
        (details("FAILED", NODE_DIED, "JOB_SUPERVISOR_ACTOR_DIED"), "Its Ray node is gone: .*missing too many", True),
        (
            details("FAILED", LOW_MEMORY, "JOB_SUPERVISOR_ACTOR_UNKNOWN_FAILURE"),
            "for want of memory: 11.88GB of 23.54GB were taken",
            False,
        ),
        (details("FAILED", OUTPUT + "Killed\n", "JOB_ENTRYPOINT_COMMAND_ERROR", 137), "ended by SIGKILL", True),
        (
            details("FAILED", OUTPUT + "python: No module named cvcore\n\n", "JOB_ENTRYPOINT_COMMAND_ERROR", 1),
            "exit code 1: python: No module named cvcore",
            False,
        ),
        (
            details("FAILED", OUTPUT + "no room\n", "JOB_ENTRYPOINT_COMMAND_ERROR", 74),
            "exit code 74: no room",
            True,
        ),
        (details("FAILED", "runtime_env setup failed: x", "RUNTIME_ENV_SETUP_FAILURE"), "Ray says: runtime_env", False),
        (details("FAILED", "", "JOB_SUPERVISOR_ACTOR_UNKNOWN_FAILURE"), "Ray says: nothing", True),
        (None, "does not know its job any more", True),
    ],
)
def test_why_a_job_is_over_is_a_sentence_of_rays_own_words(job, sentence, again):
    found, worth_it = why(job)
    assert worth_it == again
    if sentence is None:
        assert found is None
    else:
        assert re.search(sentence, found) and "\n" not in found
