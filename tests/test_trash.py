"""Deleted runs: kept for seven days, restored as they were, whatever the clock does; full and read-only disks."""

import json
import os
import time
from datetime import UTC, datetime, timedelta

import pytest
from handmade_runs import write_damaged_run, write_reference_runs, write_run

from cvcore import processes, trash
from cvcore.errors import CvcoreError, RunNotFound
from cvcore.run_directory import list_runs, load_run
from cvcore.trash import DELETED_FILE, delete_run, purge, restore, trashed


def content(path):
    return {str(file.relative_to(path)): (file.read_bytes(), file.stat().st_mtime_ns)
            for file in path.rglob("*") if file.is_file()}  # fmt: skip


@pytest.fixture
def deleted(tmp_path):
    """The id of a deleted run."""
    run_id = write_run(tmp_path, owner="a" * 16, name="Mine")
    delete_run(load_run(run_id, tmp_path), by="a" * 16)
    return run_id


def note(folder, run_id):
    return folder / ".trash" / run_id / DELETED_FILE


def test_deleted_run_is_in_the_trash_and_nowhere_else(tmp_path, deleted):
    other = write_run(tmp_path)
    assert [run.id for run in list_runs(tmp_path)] == [other]
    with pytest.raises(RunNotFound):
        load_run(deleted, tmp_path)
    (one,) = trashed(tmp_path)
    assert (one.id, one.run.owner, one.run.name, one.run.status) == (deleted, "a" * 16, "Mine", "done")
    assert timedelta(0) <= datetime.now(UTC) - one.deleted < timedelta(minutes=2)
    assert json.loads(note(tmp_path, deleted).read_text())["by"] == "a" * 16


def test_restored_run_is_as_before(tmp_path):
    run = load_run(write_run(tmp_path), tmp_path)
    (run.path / "tensorboard" / "training").mkdir(parents=True)
    (run.path / "tensorboard" / "training" / "events").write_bytes(b"x")
    before = content(run.path)
    delete_run(run)
    assert restore(run.id, tmp_path) == run
    assert content(run.path) == before
    assert trashed(tmp_path) == []


def test_damaged_run_is_deleted_and_listed_in_the_trash_and_restored(tmp_path):
    run_id = write_damaged_run(tmp_path)
    (damaged,) = list_runs(tmp_path)
    delete_run(damaged)
    assert [(one.id, one.run.status) for one in trashed(tmp_path)] == [(run_id, "damaged")]
    assert restore(run_id, tmp_path).status == "damaged"
    assert [run.status for run in list_runs(tmp_path)] == ["damaged"] and trashed(tmp_path) == []


def test_last_turns_of_deleted_runs_are_told_an_owner(tmp_path):
    assert trash.served(tmp_path) == {}
    ids = [write_run(tmp_path, owner=owner, turn=turn) for owner, turn in (("a", 4), ("a", 2), (None, 3), ("b", None))]
    for run_id in ids:
        delete_run(load_run(run_id, tmp_path))
    assert trash.served(tmp_path) == {"a": 4, None: 3}
    settled = time.time() - 60  # a folder whose time is long past is not read again
    os.utime(tmp_path / ".trash", (settled, settled))
    assert trash.served(tmp_path) is trash.served(tmp_path)
    restore(ids[0], tmp_path)
    assert trash.served(tmp_path) == {"a": 2, None: 3}


def test_last_deleted_is_listed_first(tmp_path):
    ids = [write_run(tmp_path, seed=seed) for seed in range(3)]
    for run_id, day in zip(ids, (2, 3, 1), strict=True):
        delete_run(load_run(run_id, tmp_path))
        note(tmp_path, run_id).write_text(json.dumps({"at": f"2090-03-0{day}T00:00:00+00:00"}))
    assert [one.id for one in trashed(tmp_path)] == [ids[1], ids[0], ids[2]]


@pytest.mark.parametrize(
    ("info", "sentence"),
    [
        ({"status": "queued"}, "a queued run cannot be deleted; stop"),
        ({"status": "running", "process": processes.this_process()}, "a running run cannot be deleted; stop"),
        ({"reference": True}, "ships with the project"),
    ],
)
def test_runs_that_are_not_deleted(tmp_path, info, sentence):
    run_id = write_run(tmp_path, **info)
    stale = load_run(run_id, tmp_path)
    with pytest.raises(CvcoreError, match=sentence):
        delete_run(stale)
    assert [run.id for run in list_runs(tmp_path)] == [run_id] and trashed(tmp_path) == []


def test_run_that_has_been_queued_again_since_the_page_was_drawn_is_not_deleted(tmp_path):
    stale = load_run(write_run(tmp_path, status="stopped"), tmp_path)
    (stale.path / "run.json").write_text(json.dumps({**stale.info, "status": "queued"}))
    with pytest.raises(CvcoreError, match="a queued run cannot be deleted"):
        delete_run(stale)


def test_reference_runs_stay(tmp_path):
    write_reference_runs(tmp_path)
    for run in list_runs(tmp_path):
        with pytest.raises(CvcoreError, match="ships with the project"):
            delete_run(run)


def age(folder, run_id, days, **more):
    at = datetime.now(UTC) - timedelta(days=days)
    note(folder, run_id).write_text(json.dumps({"at": at.isoformat(timespec="seconds"), **more}))


@pytest.mark.parametrize(("days", "gone"), [(6.9, False), (7.1, True), (400, True), (-1, False), (-400, False)])
def test_run_is_kept_for_seven_days_and_longer_after_the_clock_was_set_back(tmp_path, deleted, days, gone):
    kept = write_run(tmp_path)
    age(tmp_path, deleted, days)
    assert purge(tmp_path) == ([deleted] if gone else [])
    assert [one.id for one in trashed(tmp_path)] == ([] if gone else [deleted])
    assert [path.name for path in (tmp_path / ".trash").iterdir()] == ([] if gone else [deleted])
    assert [run.id for run in list_runs(tmp_path)] == [kept]


def test_deletion_purges_what_has_been_there_for_too_long(tmp_path, deleted):
    age(tmp_path, deleted, 8)
    other = write_run(tmp_path)
    delete_run(load_run(other, tmp_path))
    assert [one.id for one in trashed(tmp_path)] == [other]


def test_run_deleted_while_the_clock_was_behind_is_not_purged_when_it_is_put_right(tmp_path, deleted):
    """Its note says a year ago; the seconds since the computer was switched on say an hour."""
    hour = {"boot": processes.boot_id(), "uptime": (processes.seconds_since_boot() or 0) - 3600}
    if hour["boot"] is None:
        pytest.skip("this system does not name its boots")
    age(tmp_path, deleted, 365, **hour)
    assert purge(tmp_path) == []
    age(tmp_path, deleted, 365, **{**hour, "boot": "another"})  # switched off since: only the clock says anything
    assert purge(tmp_path) == [deleted]


@pytest.mark.parametrize("uptime", ["NaN", "-1e300", "1e300", "-1e308", "Infinity"])
def test_odd_count_of_seconds_in_a_note_leaves_the_clock(tmp_path, deleted, uptime):
    if processes.boot_id() is None:
        pytest.skip("this system does not name its boots")
    odd = f'{{"at": "2020-01-01", "boot": "{processes.boot_id()}", "uptime": {uptime}}}'
    note(tmp_path, deleted).write_text(odd)
    assert purge(tmp_path) == [deleted]


@pytest.mark.parametrize("text", ["[" * 100_000, "", "{}", "[]", '{"at": "yesterday"}', '{"at": 3}', '{"at": null}'])
def test_run_of_which_nobody_knows_when_it_was_deleted_is_kept(tmp_path, deleted, text):
    note(tmp_path, deleted).write_text(text)
    assert purge(tmp_path, days=0.0001) == []
    assert [one.deleted for one in trashed(tmp_path)] == [None]
    note(tmp_path, deleted).unlink()
    assert purge(tmp_path, days=0.0001) == []
    assert restore(deleted, tmp_path).status == "done"


def test_time_without_a_zone_is_taken_as_utc(tmp_path, deleted):
    note(tmp_path, deleted).write_text('{"at": "2026-01-01T00:00:00"}')
    assert [one.deleted for one in trashed(tmp_path)] == [datetime(2026, 1, 1, tzinfo=UTC)]


def test_purge_cut_off_is_ended_by_the_next_one(tmp_path, deleted, monkeypatch):
    age(tmp_path, deleted, 8)

    def cut_off(path, ignore_errors=False):
        (path / "metrics.json").unlink(missing_ok=True)
        if not ignore_errors:
            raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(trash.shutil, "rmtree", cut_off)
        assert purge(tmp_path) == []
    assert trashed(tmp_path) == []
    purge(tmp_path)
    assert list((tmp_path / ".trash").iterdir()) == []


def test_run_is_not_restored_over_another_one(tmp_path, deleted):
    write_run(tmp_path, run_id=deleted, seed=7)
    with pytest.raises(CvcoreError, match="is there already"):
        restore(deleted, tmp_path)
    assert load_run(deleted, tmp_path).seed == 7 and [one.id for one in trashed(tmp_path)] == [deleted]
    with pytest.raises(CvcoreError, match="the trash holds an earlier copy"):
        delete_run(load_run(deleted, tmp_path))
    assert load_run(deleted, tmp_path).seed == 7 and not (tmp_path / deleted / DELETED_FILE).exists()


@pytest.mark.parametrize("run_id", ["../x", "..", "", "a/b", "/etc", ".gone-x", "x" * 101, "nobody"])
def test_only_what_is_in_the_trash_is_restored(tmp_path, deleted, run_id):
    with pytest.raises(RunNotFound, match="in the trash"):
        restore(run_id, tmp_path)


def test_folder_without_a_trash_has_nothing_deleted(tmp_path):
    assert trashed(tmp_path) == trashed(tmp_path / "none") == purge(tmp_path) == purge(tmp_path / "none") == []


@pytest.mark.parametrize("failing", ["replace_json", "rename"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), OSError(30, "Read-only file system")])
def test_full_or_read_only_disk_is_one_sentence_and_the_run_stays(tmp_path, monkeypatch, failing, error):
    run = load_run(write_run(tmp_path), tmp_path)
    before = content(run.path)

    def fails(*arguments):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(trash if failing == "replace_json" else type(run.path), failing, fails)
        with pytest.raises(CvcoreError, match=rf"\({error.strerror}\); make room in or give .*, then delete {run.id}$"):
            delete_run(run)
    assert content(run.path) == before and trashed(tmp_path) == []
    delete_run(run)
    with monkeypatch.context() as patched:
        patched.setattr(type(run.path), "rename", fails)
        with pytest.raises(CvcoreError, match=f"then restore {run.id}$"):
            restore(run.id, tmp_path)
    assert [one.id for one in trashed(tmp_path)] == [run.id]
    assert restore(run.id, tmp_path) == run and content(run.path) == before


def test_folder_that_may_not_be_written_to_is_one_sentence(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    run = load_run(write_run(tmp_path), tmp_path)
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(CvcoreError, match="give access"):
            delete_run(run)
    finally:
        tmp_path.chmod(0o755)
