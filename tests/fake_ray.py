"""What the tests of the Ray backend share that need no cluster: its settings, and jobs that do as a test tells them."""

import time
from types import SimpleNamespace

from tiny_lessons import tiny_scratch

from cvcore.backends import ray_backend
from cvcore.backends.ray_cluster import Cluster, Node, Unreachable
from cvcore.run_writer import create_run

PATIENCE = 300.0
SUMMARY = {"id": "two", "fingerprint": "f" * 64, "counts": {}, "class_names": ["a", "b"], "drawn": True}
TWO = Cluster((Node(4, 0, 8000), Node(2, 0, 4000)))


def point_at_ray(monkeypatch, tmp_path):
    """Set what says that runs train on a cluster, whether Ray is installed or not; returns the runs folder."""
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


OUTPUT = "Job entrypoint command failed with exit code 1, last available logs (truncated to 20,000 chars):\nRunning\n"


def details(status, message="", error_type=None, code=None):
    return SimpleNamespace(status=SimpleNamespace(value=status), message=message, error_type=error_type,
                           driver_exit_code=code)  # fmt: skip


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
