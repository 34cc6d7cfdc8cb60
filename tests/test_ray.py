"""The four doodle recipes through a real Ray cluster of two nodes on this machine, and one of them through a store."""

import contextlib
import json
import os
import time

import psutil
import pytest

pytest.importorskip("ray", reason="Ray is not installed: pip install -r requirements-ray.txt")
pytest.importorskip("s3fs", reason="s3fs is not installed: pip install -r requirements-ray.txt")
pytest.importorskip("moto", reason="the S3 server of the tests is not installed: make setup-dev")

from ray_cluster import RayCluster
from s3_server import SECRET, make_bucket, options, s3_server

from cvcore import backends, launching
from cvcore.backends import ray_backend
from cvcore.backends.ray_jobs import RayJobs
from cvcore.datasets import doodles, open_dataset
from cvcore.published import get_recipe
from cvcore.run_directory import list_runs, load_run, worker_alive, worker_log

PATIENCE = 300.0  # seconds; everything shares two cores with whatever else runs
COUNTS = {"train": 20, "validation": 8, "test": 8}
LONG = 40  # epochs of the runs that are stopped, or lose their node


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Two nodes with one CPU each; their home has nothing of ours."""
    home = tmp_path_factory.mktemp("home")
    cluster = RayCluster(HOME=str(home))
    try:
        cluster.add_node()
        yield cluster
    finally:
        cluster.close()
        assert cluster.processes() == []


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A few doodles in a folder, so that they are files that must travel and not drawings made anywhere."""
    root = tmp_path_factory.mktemp("pictures") / "few-doodles"
    for split, count in COUNTS.items():
        for kind in doodles.CLASS_NAMES:
            folder = root / split / kind
            folder.mkdir(parents=True)
            for number in range(count):
                picture = doodles.draw(kind, doodles.picture_rng(1, split, kind, number))
                picture.save(folder / f"{number}.png")
    return root


@pytest.fixture
def runs(tmp_path, cluster, monkeypatch):
    """A runs folder on the cluster; its worker and its jobs are gone when the test ends."""
    folder = tmp_path / "runs"
    for name in list(os.environ):
        if name.startswith(("CVCORE_", "RAY_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("CVCORE_RUNS", str(folder))
    monkeypatch.setenv("CVCORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CVCORE_RAY_ADDRESS", cluster.address)
    monkeypatch.setenv("CVCORE_WORKER_IDLE", "0.5")
    yield folder
    for run in list_runs(folder):
        if run.status in ("queued", "running"):
            backends.stop(run)
    # A test that failed has left processes suspended: these would never end, nor give their slots back.
    for process in cluster.processes():
        with contextlib.suppress(psutil.Error):
            if "cvcore.backends.job" in process.cmdline():
                process.kill()
    with contextlib.suppress(AssertionError):
        wait_until(lambda: not worker_alive(folder), "the worker has ended")
    for process in psutil.process_iter(["cmdline"]):
        if str(folder) in (process.info["cmdline"] or []):
            process.kill()


def wait_until(condition, what, log=None):
    began = time.monotonic()
    while not (found := condition()):
        text = log.read_text() if log and log.is_file() else ""
        assert time.monotonic() - began < PATIENCE, f"waited in vain until {what}\n{text}"
        time.sleep(0.1)
    return found


def launch(name, dataset, epochs, runs, **changes):
    recipe = get_recipe(name)
    if recipe.starts_from is not None:
        changes["starts_from"] = {"epochs": 1}
    return launching.launch(recipe.with_changes(epochs=epochs, batch_size=10, **changes), dataset, 0, runs=runs)


def epochs_of(run):
    return load_run(run.id, run.path.parent).history()["epoch"].tolist()


def stand_still(runs, epochs, log, attempt=1):
    """Suspend the process of each run as soon as it has trained so many epochs, and return them by run id."""
    suspended = {}

    def suspend_those_that_train():
        for run in runs:
            found = load_run(run.id, run.path.parent)
            trains = found.status == "running" and found.attempt == attempt and len(found.history()) >= epochs
            if trains and run.id not in suspended:
                suspended[run.id] = psutil.Process(found.process["pid"])
                suspended[run.id].suspend()
        return len(suspended) == len(runs)

    wait_until(suspend_those_that_train, f"{epochs} epochs are over", log)
    return suspended


def is_on(node, pid):
    return any(process.pid == pid for process in node.children(recursive=True))


def test_four_recipes_on_two_nodes_one_stopped_one_that_loses_its_node(cluster, pictures, runs):
    dataset = open_dataset(pictures)
    log = worker_log(runs)
    long = [launch(name, dataset, LONG, runs) for name in ("doodle-scratch", "doodle-augmented")]

    def status(run):
        return load_run(run.id, runs).status

    # Each stands still once it trains, so that neither ends before it is its turn.
    processes = stand_still(long, 2, log)
    short = [launch(name, dataset, 2, runs) for name in ("doodle-features", "doodle-finetune")]
    assert [status(run) for run in long + short] == ["running", "running", "queued", "queued"]
    assert [load_run(run.id, runs).backend for run in long + short] == ["ray"] * 4
    now = backends.status(runs)
    assert "Ray cluster of 2 nodes" in now.words and now.worker_alive and now.problem is None
    capacity = backends.capacity(runs)
    assert (capacity.slots, capacity.free, capacity.kind) == (2, 0, "CPU") and capacity.memory_mb > 100

    # The second node dies: whether by a power cut or a torn cable, nobody can tell from outside.
    second = cluster.raylet(1)
    (lost,) = [run for run in long if is_on(second, processes[run.id].pid)]
    (other,) = [run for run in long if run is not lost]
    orphan, kept = processes[lost.id], len(epochs_of(lost))
    cluster.kill_node(1, leave_orphans=True)
    wait_until(lambda: load_run(lost.id, runs).attempt == 2, "the run of the lost node goes back into the line", log)
    assert "Its Ray node is gone" in load_run(lost.id, runs).log()
    assert orphan.is_running() and orphan.status() == psutil.STATUS_STOPPED

    backends.stop(load_run(other.id, runs))
    processes[other.id].resume()
    wait_until(lambda: status(other) == "stopped", "the other one has stopped on request", log)
    stopped = load_run(other.id, runs)
    assert stopped.metrics["epochs"] == len(stopped.history()) < LONG and "attempt 1: stopped" in stopped.log()

    # The first to be served is the run that lost its node; its orphan wakes up beside it.
    again = stand_still([lost], kept + 1, log, attempt=2)[lost.id]
    jobs = RayJobs(cluster.address, runs)
    assert [jobs.details(f"{run.id}-1") for run in short] == [None, None], "Ray need not keep the order of the line"
    assert status(short[0]) == "queued" and again.pid != orphan.pid
    orphan.resume()
    cluster.add_node()
    wait_until(lambda: not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE, "the orphan has ended", log)
    assert load_run(lost.id, runs).process["pid"] == again.pid
    again.resume()
    wait_until(lambda: {status(run) for run in [lost, *short]} == {"done"}, "the other three are done", log)
    resumed = load_run(lost.id, runs)
    assert resumed.attempt == 2 and resumed.requeues == 1
    assert epochs_of(resumed) == list(range(1, LONG + 1))
    assert resumed.metrics["test_count"] == 2 * COUNTS["test"]
    text = resumed.log()
    assert "attempt 1 on" in text.replace(":", "") and "attempt 2: done" in text
    for run in (load_run(run.id, runs) for run in short):
        assert run.attempt == 1 and len(run.predictions()) == 2 * (COUNTS["validation"] + COUNTS["test"])
    assert not list(runs.glob("*/.*.tmp*"))


def test_one_recipe_through_the_store_on_nodes_that_see_no_runs_folder(cluster, pictures, runs, monkeypatch):
    with s3_server() as endpoint:
        monkeypatch.setenv("CVCORE_STORE", make_bucket(endpoint, "cluster"))
        monkeypatch.setenv("CVCORE_STORE_OPTIONS", json.dumps(options(endpoint)))
        monkeypatch.setattr(ray_backend, "_asked_at", {})
        run = launch("doodle-features", open_dataset(pictures), LONG, runs)
        log = worker_log(runs)
        job = wait_until(lambda: job_of(run, cluster), "its job has begun", log)
        environment, seen, opened = job.environ(), set(), set()
        assert "CVCORE_RUNS" not in environment and "CVCORE_DATA" not in environment
        assert not any(str(runs.parent) in value or SECRET in value for value in environment.values())

        def is_done():
            seen.add(load_run(run.id, runs).status)
            with contextlib.suppress(psutil.Error):
                opened.update(file.path for file in job.open_files())
            return "done" in seen

        wait_until(is_done, "the run is done", log)
        # Interrupted: on one machine it is seen that the process has ended before the rest of its files is here.
        assert {"running", "done"} <= seen <= {"queued", "running", "interrupted", "done"} and opened
        assert not [path for path in opened if path.startswith(str(runs.parent))]
        done = load_run(run.id, runs)
        assert epochs_of(done) == list(range(1, LONG + 1)) and (run.path / "model.keras").is_file()
        assert len(done.predictions()) == 2 * (COUNTS["validation"] + COUNTS["test"])
        details = RayJobs(cluster.address, runs).details(f"{run.id}-1")
        assert details.status.value == "SUCCEEDED" and SECRET not in str(details)
        assert str(runs) not in str(details.runtime_env)
    for path in [*run.path.iterdir(), log, *logs_of(cluster)]:
        assert SECRET.encode() not in path.read_bytes(), path


def job_of(run, cluster):
    """The process that trains a run, once there is one."""
    for process in cluster.processes():
        with contextlib.suppress(psutil.Error):
            if "cvcore.backends.job" in (words := process.cmdline()) and run.id in words:
                return process
    return None


def logs_of(cluster):
    found = [path for path in cluster.folder.rglob("logs/**/*") if path.is_file()]
    assert found
    return found


def test_a_second_job_for_one_attempt_is_refused_by_ray_itself(cluster, runs):
    jobs = RayJobs(cluster.address, runs)
    client = ray_client(jobs)
    words = {"entrypoint": "python -c 'print(6 * 7)'", "submission_id": "twice-1", "entrypoint_num_cpus": 1}
    client.submit_job(**words)
    with pytest.raises(RuntimeError, match="already exists"):
        client.submit_job(**words)
    wait_until(lambda: jobs.details("twice-1").status.value == "SUCCEEDED", "the first one is over")
    assert "42" in jobs.output("twice-1")
    assert jobs.details("never-1") is None


def ray_client(jobs):
    jobs.details("none")
    return jobs._client
