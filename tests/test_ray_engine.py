"""The jobs of a worker, a thread each: what becomes of a run whatever Ray and the store say. No cluster."""

import json
import time
import traceback
from types import SimpleNamespace

import pytest
from fake_ray import OUTPUT, TWO, Jobs, StoreThatIsAway, details, point_at_ray, queued, wait_until

from cvcore.backends import ray_backend, ray_cluster, ray_jobs
from cvcore.backends.ray_backend import RayEngine
from cvcore.backends.ray_cluster import Cluster, Node, Unreachable
from cvcore.backends.ray_jobs import RayJobs
from cvcore.backends.store import StoreTrouble
from cvcore.errors import CvcoreError
from cvcore.run_directory import STOP_FILE, load_run, request_stop
from cvcore.run_writer import requeue, start_attempt


@pytest.fixture
def runs(tmp_path, monkeypatch):
    return point_at_ray(monkeypatch, tmp_path)


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


@pytest.mark.parametrize("now", [details("FAILED", "Its node has died.", "JOB_SUPERVISOR_ACTOR_DIED"), None])
def test_slots_of_a_node_that_may_be_gone_are_not_given_away(now, engine, runs, monkeypatch):
    run = queued(runs)
    engine.start(run)
    wait_until(lambda: engine.jobs.submitted, "it is submitted")
    assert engine.slots() == 3
    monkeypatch.setattr(ray_backend, "look", lambda address, timeout=1: Cluster((Node(2, 0, 4000),)))
    monkeypatch.setattr(ray_backend, "SETTLED", 10**6)
    engine.jobs.now = now
    ended(engine)
    assert engine.slots() == 0 and not engine.due()
    engine._look()  # it began too early to be sure
    assert engine.slots() == 0
    engine.doubted = time.monotonic()
    assert engine.due()
    wait_until(engine.slots, "the cluster was asked again")
    assert engine.slots() == 1


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


@pytest.mark.parametrize("address", ["http://me:hush%2Dhush@head:8265", "http://me:hush%2Dhush@head:8265/"])
def test_nothing_of_a_cluster_s_address_is_in_what_is_said_of_it(address, runs, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "the-token")
    jobs = RayJobs(address, runs)
    words = [f"Failed to connect to Ray at address: {address}", "me:hush%2Dhush is wrong", "hush-hush is wrong",
             f"no {address.rstrip('/')}/api/jobs/x", "Invalid URL 'http://me:hush%2Dhush@elsewhere/'",
             "no such token: the-token"]  # fmt: skip
    said = []

    class Client:
        def get_job_info(self, id):
            raise self.kind(words[-1])

    jobs._client = Client()
    while words:
        for Client.kind in (ConnectionError, RuntimeError):
            with pytest.raises(Unreachable) as caught:
                jobs.details("r-1")
            assert "…" in str(caught.value)
            said += traceback.format_exception(caught.value)  # what a log would have
        words.pop()
    assert not any(secret in line for secret in ("hush", "the-token", "head:8265") for line in said)


def test_password_in_the_address_of_the_store_reaches_no_job(runs, monkeypatch):
    monkeypatch.setenv("CVCORE_STORE", "ftp://me:hush-hush@files/x")
    jobs, asked = RayJobs("http://head:8265", runs), []
    jobs._client = SimpleNamespace(submit_job=lambda **words: asked.append(words))
    with pytest.raises(CvcoreError, match="CVCORE_STORE_OPTIONS") as caught:
        jobs.submit("r-1", queued(runs), TWO)
    assert "hush" not in str(caught.value) and not asked
    with pytest.raises(CvcoreError, match="CVCORE_STORE_OPTIONS"):
        RayEngine(runs)


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


def test_silence_of_a_run_means_nothing_while_its_store_is_away(engine, runs, monkeypatch):
    clock = SimpleNamespace(now=time.monotonic())
    monkeypatch.setattr(ray_backend, "time", SimpleNamespace(monotonic=lambda: clock.now, sleep=time.sleep))
    monkeypatch.setattr(ray_backend, "FETCH_EVERY", -1.0)
    run = queued(runs)
    assert not engine.vouches_for(run)
    engine.store = store = StoreThatIsAway()
    engine.start(run)
    store.trouble = StoreTrouble("The store could not be read (a test); it is tried again")
    for _ in range(5):
        before = store.fetched
        wait_until(lambda before=before: store.fetched > before + 1, "it was asked, and what it said was heard")
        assert engine.vouches_for(run)
        clock.now += 0.4 * ray_backend.SILENT_IN_STORE
    assert "The store could not be read" in engine.problems[run.id]
    store.trouble = None
    wait_until(lambda: engine.problems == {}, "it answers")
    assert engine.vouches_for(run)
    clock.now += 1.1 * ray_backend.SILENT_IN_STORE
    assert not engine.vouches_for(run)  # it answers, and the run is silent all the same
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
