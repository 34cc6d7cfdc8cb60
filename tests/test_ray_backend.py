"""The Ray backend without a cluster: what it says of one, and what becomes of runs while it does not answer."""

import ast
import http.server
import json
import socket
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest
from tiny_lessons import tiny_scratch

from cvcore import backends
from cvcore.backends import ray_backend, ray_cluster, ray_jobs, worker
from cvcore.backends.ray_backend import RayBackend, RayEngine
from cvcore.backends.ray_cluster import Board, Cluster, Node, Unreachable, look
from cvcore.backends.ray_jobs import RayJobs, why
from cvcore.backends.store import StoreTrouble
from cvcore.errors import CvcoreError
from cvcore.run_directory import STOP_FILE, load_run, request_stop
from cvcore.run_writer import create_run, requeue, start_attempt
from cvcore.settings import PROJECT

PATIENCE = 60.0
SUMMARY = {"id": "two", "fingerprint": "f" * 64, "counts": {}, "class_names": ["a", "b"], "drawn": True}
TWO = Cluster((Node(4, 0, 8000), Node(2, 0, 4000)))


@pytest.fixture
def runs(tmp_path, monkeypatch):
    folder = tmp_path / "runs"
    monkeypatch.setenv("CVCORE_RUNS", str(folder))
    monkeypatch.setenv("CVCORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CVCORE_RAY_ADDRESS", "http://head:8265")
    for name in ("CVCORE_STORE", "CVCORE_RAY_CPUS", "CVCORE_RAY_GPUS", "RAY_AUTH_TOKEN", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(ray_backend, "_asked_at", {})
    monkeypatch.setattr(ray_backend, "check_installed", lambda: None)
    return folder


def queued(runs, **more):
    return create_run(tiny_scratch, SUMMARY, 0, folder=runs, backend="ray", **more)


def wait_until(condition, what):
    began = time.monotonic()
    while not (found := condition()):
        assert time.monotonic() - began < PATIENCE, f"waited in vain until {what}"
        time.sleep(0.02)
    return found


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


def test_nodes_that_live_are_counted_and_the_token_is_shown(monkeypatch):
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
def test_what_answers_and_is_no_fitting_cluster_is_a_sentence(answers, sentence):
    with Dashboard(**answers) as dashboard, pytest.raises(Unreachable, match=sentence):
        look(dashboard.address)


class closed_port:
    """An address at which nobody listens."""

    def __enter__(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            return f"http://127.0.0.1:{free.getsockname()[1]}"

    def __exit__(self, *error):
        pass


class silent_port:
    """An address that takes connections and never says a word."""

    def __enter__(self):
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        self.socket.listen(64)
        return f"http://127.0.0.1:{self.socket.getsockname()[1]}"

    def __exit__(self, *error):
        self.socket.close()


@pytest.mark.parametrize("port", [closed_port, silent_port])
def test_page_of_a_cluster_that_does_not_answer_is_drawn_at_once_and_says_so(port, runs, monkeypatch):
    with port() as address:
        monkeypatch.setenv("CVCORE_RAY_ADDRESS", address)
        began = time.monotonic()
        status, capacity = backends.status(runs), backends.capacity(runs)
        assert time.monotonic() - began < 5
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
    for ask in (lambda: RayBackend().submit(run), lambda: RayEngine(runs)):
        with pytest.raises(CvcoreError, match="Ray is not installed here; run `pip install -r requirements-ray"):
            ask()
    assert "Ray is not installed here" in RayBackend().status(runs).problem
    assert load_run(run.id, runs).status == "queued"


def test_cluster_without_room_for_one_run_says_what_a_run_takes(runs, monkeypatch):
    monkeypatch.setenv("CVCORE_RAY_GPUS", "2")
    monkeypatch.setattr(ray_backend, "look", lambda address, timeout=1: Cluster((Node(8, 1, 8000),)))
    assert "No node of the Ray cluster has the 2 GPUs and 1 CPUs" in RayBackend().status(runs).problem


def test_board_of_the_worker_is_what_pages_read_while_it_is_fresh(runs, monkeypatch):
    runs.mkdir()
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
OUTPUT = "Job entrypoint command failed with exit code 1, last available logs (truncated to 20,000 chars):\nRunning\n"


def details(status, message="", error_type=None, code=None):
    return SimpleNamespace(status=SimpleNamespace(value=status), message=message, error_type=error_type,
                           driver_exit_code=code)  # fmt: skip


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
        import re

        assert re.search(sentence, found) and "\n" not in found


class Jobs:
    """Ray's jobs as a test tells them."""

    def __init__(self):
        self.submitted, self.removed, self.stopped = [], [], []
        self.now = details("RUNNING")
        self.refusals = 0
        self.text = "the last words"

    def submit(self, id, run, cluster):
        if self.refusals:
            self.refusals -= 1
            raise Unreachable("The Ray cluster does not answer (for a test)")
        self.submitted.append(id)

    def details(self, id):
        if isinstance(self.now, Exception):
            raise self.now
        return self.now

    def stop(self, id):
        self.stopped.append(id)
        self.now = details("STOPPED")

    def remove(self, id):
        self.removed.append(id)
        self.now = details("PENDING")

    def output(self, id):
        return self.text


@pytest.fixture
def engine(runs, monkeypatch):
    monkeypatch.setattr(ray_backend, "look", lambda address, timeout=1: TWO)
    monkeypatch.setattr(ray_backend, "WATCH_EVERY", 0.02)
    monkeypatch.setattr(ray_backend, "AGAIN_AFTER", 0.02)
    engine = RayEngine(runs)
    engine.jobs = Jobs()
    return engine


def ended(engine):
    return wait_until(engine.ended, "the job is over")


def test_job_is_submitted_as_soon_as_the_cluster_answers(engine, runs):
    run = queued(runs)
    engine.jobs.refusals = 3
    engine.start(run)
    assert engine.busy() == {run.id} and engine.slots() == 3 and engine.room_for(run)
    wait_until(lambda: engine.jobs.submitted, "it is submitted")
    assert engine.jobs.submitted == [f"{run.id}-1"]
    engine.jobs.now = details("SUCCEEDED")
    (over,) = ended(engine)
    assert (over.run_id, over.attempt, over.reason) == (run.id, 1, None) and engine.busy() == set()
    assert "the last words" in load_run(run.id, runs).log()  # it never said a word of its own


def test_output_of_a_run_that_told_its_end_itself_is_not_repeated(engine, runs):
    run = queued(runs)
    engine.start(run)
    writer = start_attempt(run, attempt=1)
    writer.finish("failed", "No room.")
    engine.jobs.now = details("FAILED", OUTPUT, "JOB_ENTRYPOINT_COMMAND_ERROR", 1)
    ended(engine)
    assert "the last words" not in load_run(run.id, runs).log()


def test_job_that_waits_in_ray_is_withdrawn_when_its_run_is_stopped(engine, runs):
    run = queued(runs)
    engine.jobs.now = details("PENDING")
    engine.start(run)
    wait_until(lambda: engine.jobs.submitted, "it is submitted")
    request_stop(run)
    engine.stop(run)
    ended(engine)
    assert engine.jobs.stopped == [f"{run.id}-1"] and (run.path / STOP_FILE).exists()


def test_run_stopped_before_it_could_be_submitted_is_not(engine, runs):
    run = queued(runs)
    engine.jobs.refusals = 10**9
    engine.start(run)
    engine.stop(run)
    ended(engine)
    assert engine.jobs.submitted == []


def test_job_that_ray_gave_up_waiting_for_room_waits_on_under_its_name(engine, runs):
    run = queued(runs)
    engine.jobs.now = details("FAILED", "failed to start within 900 seconds", ray_jobs.NEVER_PLACED)
    engine.start(run)
    wait_until(lambda: len(engine.jobs.submitted) == 2, "it is submitted again")
    assert engine.jobs.removed == [f"{run.id}-1"] and engine.busy() == {run.id}
    engine.jobs.now = details("SUCCEEDED")
    ended(engine)


def test_job_of_a_run_that_has_gone_on_to_another_attempt_is_not_waited_for(engine, runs):
    run = queued(runs)
    engine.jobs.refusals = 10**9
    engine.start(run)
    requeue(run, by_watchdog=True)
    (over,) = ended(engine)
    assert over.attempt == 1 and engine.jobs.submitted == []


@pytest.mark.parametrize("now", [details("RUNNING"), Unreachable("away")])
def test_killed_job_is_not_waited_for_when_ray_does_not_answer(now, engine, runs, monkeypatch):
    run = queued(runs)
    engine.jobs.now = now
    monkeypatch.setattr(ray_backend, "KILLED_WITHIN", 0.05)
    engine.start(run)
    wait_until(lambda: engine.jobs.submitted, "it is submitted")
    engine.jobs.stop = lambda id: None
    engine.kill(run)
    (over,) = ended(engine)
    assert over.again


def test_running_job_of_an_earlier_worker_is_watched_and_not_submitted(engine, runs):
    run = queued(runs)
    start_attempt(run, attempt=1)
    engine.adopt(load_run(run.id, runs))
    assert engine.busy() == {run.id}
    engine.jobs.now = None  # the head was started anew
    (over,) = ended(engine)
    assert "does not know its job any more" in over.reason and over.again and engine.jobs.submitted == []


def test_cluster_that_is_away_for_a_while_loses_no_job(engine, runs):
    run = queued(runs)
    engine.start(run)
    wait_until(lambda: engine.jobs.submitted, "it is submitted")
    engine.jobs.now = Unreachable("away")
    time.sleep(0.2)
    assert engine.ended() == [] and engine.busy() == {run.id}
    engine.jobs.now = details("SUCCEEDED")
    ended(engine)


def test_job_refused_for_good_fails_its_run_with_rays_words(engine, runs):
    run = queued(runs)

    def refuse(id, run, cluster):
        raise CvcoreError("Ray does not take its job: no")

    engine.jobs.submit = refuse
    engine.start(run)
    (over,) = ended(engine)
    assert over.reason == "Ray does not take its job: no" and not over.again


@pytest.mark.parametrize(("code", "error"), [(400, CvcoreError), (500, Unreachable)])
def test_refusal_is_final_only_where_the_fault_is_ours(code, error, runs, monkeypatch):
    jobs = RayJobs("http://head:8265", runs)

    class Client:
        def submit_job(self, **words):
            raise RuntimeError(f"Request failed with status code {code}: Traceback\n  File x\nValueError: odd.")

        def get_job_info(self, id):
            raise RuntimeError(f"Request failed with status code 404: Job {id} does not exist.")

    jobs._client = Client()
    with pytest.raises(error, match="odd") as caught:
        jobs.submit("r-1", queued(runs), TWO)
    assert isinstance(caught.value, Unreachable) == (error is Unreachable)


def test_secrets_of_the_store_travel_in_a_file_and_in_no_environment(runs, tmp_path, monkeypatch):
    monkeypatch.setenv("CVCORE_STORE", "s3://bucket/x")
    monkeypatch.setenv("CVCORE_STORE_OPTIONS", '{"secret": "hush-hush"}')
    jobs, given = RayJobs("http://head:8265", runs), {}

    class Client:
        def submit_job(self, **words):
            given.update(words)
            folder = ray_backend.Path(words["runtime_env"]["working_dir"])
            given["options"] = json.loads((folder / "store-options.json").read_text())
            given["code"] = (folder / "cvcore" / "backends" / "job.py").is_file()

    jobs._client = Client()
    jobs.submit("r-1", queued(runs, estimate={"memory_mb": 1000, "seconds": 1, "basis": "x"}), TWO)
    assert given["options"] == {"secret": "hush-hush"} and given["code"]
    assert "hush-hush" not in json.dumps(given["runtime_env"]) + given["entrypoint"]
    assert given["runtime_env"]["env_vars"] == {
        "CVCORE_STORE": "s3://bucket/x",
        "CVCORE_STORE_OPTIONS": "@store-options.json",
    }
    assert (given["entrypoint_num_cpus"], given["entrypoint_num_gpus"]) == (2, 0)
    assert given["entrypoint_memory"] == 1_000_000_000
    assert not ray_backend.Path(given["runtime_env"]["working_dir"]).exists()
    assert ray_cluster.OLDEST >= (2, 8)  # what entrypoint_memory needs


class StoreThatIsAway:
    """A store of which a test says what a fetch does."""

    def __init__(self):
        self.fetched, self.asked, self.trouble = 0, [], None

    def send(self, run):
        pass

    def fetch(self, run, over=False):
        self.fetched += 1
        if self.trouble:
            raise self.trouble
        return True

    def ask_to_stop(self, run):
        self.asked.append(run.id)


def test_silence_of_a_run_means_nothing_while_its_store_is_away(engine, runs, monkeypatch):
    monkeypatch.setattr(ray_backend, "FETCH_EVERY", 0.01)
    monkeypatch.setattr(ray_backend, "SILENT_IN_STORE", 0.5)
    run = queued(runs)
    assert not engine.vouches_for(run)
    engine.store = store = StoreThatIsAway()
    engine.start(run)
    store.trouble = StoreTrouble("The store could not be read (a test); it is tried again")
    wait_until(lambda: store.fetched, "it was asked")
    until = time.monotonic() + 1.5
    while time.monotonic() < until:
        assert engine.vouches_for(run)
        time.sleep(0.05)
    assert "The store could not be read" in engine.problems[run.id]
    store.trouble = None
    wait_until(lambda: not engine.vouches_for(run), "it answers, and the run is silent all the same")
    assert engine.problems == {}
    engine.stop(run)
    wait_until(lambda: store.asked == [run.id], "the request to stop went out")
    store.trouble = CvcoreError("no room in the runs folder")
    store.trouble.__cause__ = OSError(28, "No space left on device")
    wait_until(lambda: "no room" in engine.problems.get(run.id, ""), "the full disk is told")
    engine.jobs.now = details("SUCCEEDED")
    time.sleep(0.2)
    assert engine.ended() == []  # what it has written is not here yet
    store.trouble = None
    ended(engine)
