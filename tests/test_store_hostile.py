"""What the store may not do: hostile or damaged contents, refusals, and being away. No Ray."""

import hashlib
import json
import shutil
import threading
import zipfile
from types import SimpleNamespace

import pytest

pytest.importorskip("s3fs", reason="the store is optional: pip install -r requirements-ray.txt")
pytest.importorskip("moto", reason="the S3 server of the tests is not installed: make setup-dev")

from s3_server import SECRET, make_bucket, options, s3_server
from store_at_hand import PATIENCE, new_store, queued, send_run_json, wait_until
from tiny_lessons import tiny_scratch, write_lesson

from cvcore import settings
from cvcore.backends import working_copy
from cvcore.backends.store import DamagedInStore, Store, StoreTrouble, attempt_folder, entry, open_store
from cvcore.backends.store_inputs import fetch_pictures, send_pictures
from cvcore.backends.store_runs import RunsThroughStore
from cvcore.datasets import open_dataset
from cvcore.errors import CvcoreError, DatasetError, SupersededAttempt
from cvcore.run_directory import list_runs, load_run
from cvcore.run_writer import create_run, give_up, start_attempt
from tools.ports import free_port


@pytest.fixture(scope="module")
def server():
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture(params=["s3", "folder"])
def store(request, server, tmp_path, monkeypatch):
    """A new store of each kind, which the settings name."""
    return new_store(request.param, server, tmp_path, monkeypatch)


only_folder = pytest.mark.parametrize("store", ["folder"], indirect=True)


@pytest.fixture
def runs(tmp_path, monkeypatch):
    folder = tmp_path / "runs"
    monkeypatch.setenv("CVCORE_RUNS", str(folder))
    monkeypatch.setenv("CVCORE_CACHE", str(tmp_path / "cache"))
    return folder


def escaping(zipped):
    zipped.writestr("../../escaped.png", b"x")


def others(zipped):
    for label in ("bars", "discs"):
        for number in range(30):
            zipped.writestr(f"train/{label}/{number}.png", b"no picture")


@pytest.mark.parametrize("hostile", [escaping, others])
def test_hostile_pictures_are_refused_and_leave_nothing(hostile, store, runs, tmp_path, monkeypatch):
    dataset = open_dataset(write_lesson(tmp_path / "lesson"))
    about = send_pictures(store, create_run(tiny_scratch, dataset.summary(), 0, folder=runs))
    path = tmp_path / "hostile.zip"
    with zipfile.ZipFile(path, "w") as zipped:
        hostile(zipped)
    folder = f"datasets/{dataset.fingerprint}"
    store.put(path, f"{folder}/pictures.zip")
    cache = tmp_path / "another cache"
    monkeypatch.setenv("CVCORE_CACHE", str(cache))
    with pytest.raises(DatasetError, match="are not those of fingerprint"):  # another size and hash than announced
        fetch_pictures(store, about)
    data = path.read_bytes()
    told = {**about, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    store.write(f"{folder}/about.json", json.dumps(told).encode())
    with pytest.raises(DatasetError, match="are not those of fingerprint"):  # announced so: other pictures
        fetch_pictures(store, about)
    assert not list(tmp_path.rglob("escaped.png")) and not list(cache.rglob("*.zip")) and not list(cache.rglob("*.tmp"))
    for wrong in ("../../x", "f" * 63, "F" * 64):
        with pytest.raises(CvcoreError):
            fetch_pictures(store, {**about, "fingerprint": wrong})


HOSTILE_INDEXES = [
    {"../../escaped": {}},
    {"/tmp/escaped": {}},
    {"a/../../escaped": {}},
    {"stop": {}},
    {".hidden": {}},
    {"history.csv": {"object": "../../../other"}},
    {"history.csv": {"bytes": -1}},
    {"history.csv": {"bytes": 10**15}},
    {"history.csv": {"bytes": 10**8}},
    {"stuff/model.keras": {"bytes": 10**8}},
    {"log.txt": {"bytes": 51 * 10**6}},
    {"history.csv": {"sha256": "0" * 63}},
    [],
]


@only_folder
@pytest.mark.parametrize("files", HOSTILE_INDEXES, ids=str)
def test_hostile_index_is_taken_over_in_no_part(files, store, runs):
    run = queued(runs)
    through = RunsThroughStore(store)
    through.send(run)
    folder = attempt_folder(run.id, 1)
    data = b"epoch\n"
    store.write(f"{folder}/history.csv", data)
    sound = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), "object": "history.csv"}
    if isinstance(files, dict):
        files = {name: {**sound, **about} for name, about in files.items()}
    store.write(f"{folder}/files.json", json.dumps({"files": files}).encode())
    before = sorted(path.name for path in run.path.iterdir())
    with pytest.raises(DamagedInStore):
        through.fetch(run, over=True)
    assert sorted(path.name for path in run.path.iterdir()) == before
    assert load_run(run.id, runs).info == run.info


@only_folder
@pytest.mark.parametrize("name", ["state.npz", "model.keras", "checkpoint-head.keras", "predictions.csv",
                                  "tensorboard/head/events.v2"])  # fmt: skip
def test_what_a_run_may_have_large_may_be_announced_so(name, store):
    store.write_index("x", {name: {"bytes": 10**8, "sha256": "0" * 64, "object": name}})
    assert store.index("x")


def announce(store, run, name, data, **about):
    """Put a file of a run into the store, and an index that says so or something else."""
    store.write(f"{attempt_folder(run.id, 1)}/{name}", data)
    store.write_index(attempt_folder(run.id, 1), {name: {**entry(data, name), **about}})


def test_file_of_another_size_than_announced_is_not_even_fetched(store, runs, monkeypatch):
    run = queued(runs)
    announce(store, run, "model.keras", b"x" * 1000, bytes=10)
    fetched = []
    monkeypatch.setattr(store, "get", lambda *what: fetched.append(what))
    assert not RunsThroughStore(store).fetch(run)
    assert not fetched and not (run.path / "model.keras").exists()


def test_what_does_not_fit_stays_in_the_store_until_it_does(store, runs, monkeypatch):
    run = queued(runs)
    announce(store, run, "model.keras", b"x" * 1000)
    with monkeypatch.context() as full:
        full.setattr("cvcore.backends.store.shutil.disk_usage", lambda path: SimpleNamespace(free=999))
        with pytest.raises(StoreTrouble, match="do not fit"):
            RunsThroughStore(store).fetch(run)
        assert [path.name for path in run.path.iterdir() if path.name.startswith((".from", "model"))] == []
    assert RunsThroughStore(store).fetch(run) and (run.path / "model.keras").stat().st_size == 1000


@pytest.mark.parametrize("url", ["ftp://me:hush@files/x", "https://me:hush@files/x", "s3://hush@bucket/x",
                                 "simplecache::ftp://me:hush@files/x"])  # fmt: skip
def test_url_with_a_password_in_it_is_refused_without_it(url):
    with pytest.raises(CvcoreError, match="belong into CVCORE_STORE_OPTIONS") as caught:
        Store(url)
    assert "hush" not in str(caught.value)


@only_folder
@pytest.mark.parametrize(
    "said",
    [
        {"status": "dancing"},
        {"status": "done", "timings": {"total": 10**400}},
        {"status": "running", "process": "me"},
        {"status": "done", "attempt": 7},
    ],
    ids=str,
)
def test_hostile_run_json_changes_nothing(said, store, runs):
    run = queued(runs)
    through = RunsThroughStore(store)
    through.send(run)
    send_run_json(store, run, said)
    try:
        through.fetch(run, over=True)
    except DamagedInStore as error:
        assert "no run has" in str(error)
    assert load_run(run.id, runs).info == run.info


def test_owner_name_recipe_and_turn_are_this_machines_to_say(store, runs):
    run = queued(runs, owner="a" * 16, ticket=3)
    through = RunsThroughStore(store)
    through.send(run)
    theirs = {"owner": "b" * 16, "name": "x", "turn": 1, "ticket": 9, "recipe": {"id": "y", "strategy": "z"}}
    told = {"device": {"name": "a GPU"}, "work": {"decoded_pictures": 3, "extracted_pictures": 0}}
    send_run_json(store, run, {**theirs, **told, "status": "done"})
    assert through.fetch(run, over=True)
    found = load_run(run.id, runs)
    assert found.status == "done" and {name: found.info[name] for name in told} == told
    assert {name: found.info[name] for name in theirs} == {name: run.info[name] for name in theirs}


def test_what_a_killed_worker_left_half_fetched_is_removed(store, runs):
    run = queued(runs)
    RunsThroughStore(store).send(run)
    (run.path / ".from-store.x1.tmp").write_bytes(b"half")
    RunsThroughStore(store).fetch(run)
    assert [path.name for path in run.path.iterdir() if path.name.startswith(".")] == []


def test_file_that_is_not_what_the_index_says_waits_for_the_next_round(store, runs):
    run = queued(runs)
    through = RunsThroughStore(store)
    through.send(run)
    send_run_json(store, run, {"status": "running"})
    store.write(f"{attempt_folder(run.id, 1)}/run.json", b"{}")
    assert not through.fetch(run, over=True)
    assert load_run(run.id, runs).info == run.info


def test_run_given_up_here_is_not_brought_back(store, runs):
    run = queued(runs)
    through = RunsThroughStore(store)
    through.send(run)
    send_run_json(store, run, {"status": "running"})
    give_up(run, 1, "failed", "Its process is gone.")
    with pytest.raises(SupersededAttempt):
        through.fetch(run)
    shutil.rmtree(run.path)
    with pytest.raises(SupersededAttempt):
        through.fetch(run)
    assert list_runs(runs) == []


@pytest.fixture
def port():
    return free_port()


def test_store_that_is_away_is_a_sentence_and_what_was_written_arrives_when_it_is_back(runs, port, monkeypatch):
    with s3_server(port) as endpoint:
        monkeypatch.setenv("CVCORE_STORE", make_bucket(endpoint, "away"))
        monkeypatch.setenv("CVCORE_STORE_OPTIONS", json.dumps(options(endpoint)))
        store = open_store()
        run = queued(runs)
        through = RunsThroughStore(store)
        through.send(run)
        copy = working_copy.working_copy(run.id, 1)
        folder = copy.__enter__()
        start_attempt(load_run(run.id, folder), attempt=1).finish("failed", "For this test.")
    monkeypatch.setattr("cvcore.backends.store.TRIES", 1)
    with pytest.raises(StoreTrouble, match="could not be read") as caught:
        through.fetch(run)
    assert SECRET not in str(caught.value) and "\n" not in str(caught.value)
    ending = threading.Thread(target=copy.__exit__, args=(None, None, None))
    ending.start()
    with s3_server(port):
        # moto keeps its buckets in this process: what was there is there again
        ending.join(PATIENCE)
        assert not ending.is_alive()
        wait_until(lambda: through.fetch(run, over=True), "the run is whole again")
    assert load_run(run.id, runs).status == "failed"


def test_refused_credentials_and_a_missing_bucket_are_sentences_without_them(server, monkeypatch):
    store = Store("s3://no-such-bucket/x", options(server))
    with pytest.raises(StoreTrouble, match="is not there"):
        store.write("a", b"b")

    def refuse(*arguments, **words):
        raise PermissionError(f"{SECRET} is wrong")

    monkeypatch.setattr(store.files, "cat_file", refuse)
    with pytest.raises(StoreTrouble, match="refuses these credentials") as caught:
        store.read("a")
    assert SECRET not in str(caught.value)


def test_url_that_is_no_store_and_options_that_are_none_are_sentences(monkeypatch, tmp_path):
    with pytest.raises(CvcoreError, match="CVCORE_STORE must be"):
        Store("gopher://x/y")
    monkeypatch.setenv("CVCORE_STORE_OPTIONS", "secret")
    with pytest.raises(CvcoreError, match="must be a JSON object") as caught:
        settings.store_options()
    assert "secret" not in str(caught.value).replace('"secret"', "")
    (tmp_path / "options.json").write_text('{"key": "k"}')
    monkeypatch.setenv("CVCORE_STORE_OPTIONS", f"@{tmp_path / 'options.json'}")
    assert settings.store_options() == {"key": "k"}
