"""Run directories that somebody edited, odd in one value: that run is damaged, and the runs of others go on."""

import json
import shutil
import threading
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from handmade_runs import write_run

from cvcore import run_directory, trash, waiting_line
from cvcore.backends.worker_process import needed
from cvcore.cli import main
from cvcore.errors import CvcoreError
from cvcore.processes import this_process
from cvcore.run_checks import LAST, LONGEST_NAME, checked_name
from cvcore.run_directory import list_runs, load_run

SHIPPED = Path(__file__).parent.parent / "runs"
ESTIMATE = {"seconds": 50.0, "memory_mb": 100.0, "basis": "handmade"}


def statuses(folder):
    return [run.status for run in list_runs(folder)]


@pytest.mark.parametrize("text", ["[1]", "7", '"training"', "{", '{"epoch": 1' + "0" * 400 + "}", "null"])
@pytest.mark.parametrize("kind", ["as it is", "within"])
def test_progress_is_a_dict_with_sane_values_or_none(tmp_path, text, kind):
    run = load_run(write_run(tmp_path, status="running", process=this_process()), tmp_path)
    if kind == "within":
        text = f'{{"epochs": {text}, "seconds_left": {text}, "phase": {text}, "step": -1, "accuracy": NaN}}'
    (run.path / "progress.json").write_text(text)
    now = run.progress()
    if kind == "within" and text[1:].startswith('"epochs": 7'):
        assert now["epochs"] == now["seconds_left"] == 7 and now["phase"] is now["step"] is now["accuracy"] is None
    else:
        assert now is None or not any(now[name] for name in ("epoch", "epochs", "step", "seconds_left", "accuracy"))


def test_progress_as_training_writes_it_is_read_as_it_is(tmp_path):
    run = load_run(write_run(tmp_path, status="running"), tmp_path)
    written = {"phase": "training", "step": 3, "steps": 9, "epoch": 2, "epochs": 6, "seconds_left": 4.5, "loss": 2.25,
               "accuracy": 0.5}  # fmt: skip
    (run.path / "progress.json").write_text(json.dumps(written))
    assert run.progress() == written


@pytest.mark.parametrize("left", ["NaN", "-900", "Infinity", "1" + "0" * 400, "true", '"soon"', "[]"])
def test_the_line_tells_no_time_that_cannot_be(tmp_path, left):
    run = write_run(tmp_path, status="running", backend="local", process=this_process(), estimate=ESTIMATE, epochs=5)
    waits = write_run(tmp_path, status="queued", backend="local", ticket=2, seed=1)
    (tmp_path / run / "progress.json").write_text(f'{{"epochs": 5, "epoch": 1, "seconds_left": {left}}}')
    assert waiting_line.places(list_runs(tmp_path), 1)[waits].starts_in == 50.0  # as estimated: it tells nothing itself


@pytest.mark.parametrize(
    "odd",
    [
        *({name: value} for name in ("ticket", "turn", "attempt") for value in (LAST + 1, -1, 10**12, True)),
        *({"peak_memory": value} for value in (-1, True, "much", 1e300)),
        *({"timings": {"total": value}} for value in (-1, "long", 1e308, [])),
        *({"seed": value} for value in ("x", [1], {}, -1, 1.5)),
        *({"name": value} for value in ("two\nlines", "\x1b[2J", "\ud800", "x" * (LONGEST_NAME + 1))),
        *({"group": {"id": value}} for value in (["x"], {"id": "x"}, 5, "a\nb")),
        *({"group": {"id": "g", "title": value}} for value in (["x"], "a\x1b[2Jb", "\udcff", "t" * 81)),
        *({"group": {"id": "g", "there": value}} for value in (5, True, 1e308, [["x"]], "abc", {"a": 1})),
        *({"group": {"id": "g", "seeds": value}} for value in (5, ["x"], [1.5], [-1], "0")),
        *({"group": {"id": "g", "train_pictures": value}} for value in (True, ["all"], [{}])),
        {"error": "\ud800"},
        {"device": {"\udfff": 1}},
        {"weights": [[["\ud800"]]]},
    ],
)
def test_a_value_that_no_run_has_damages_this_run_and_no_other(tmp_path, odd):
    path = tmp_path / write_run(tmp_path) / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **odd}))
    sound = write_run(tmp_path, seed=1, status="queued", ticket=1, backend="local")
    assert sorted(statuses(tmp_path)) == ["damaged", "queued"]
    assert [run.id for run in waiting_line.in_order(list_runs(tmp_path))] == [sound]


def test_a_value_deep_within_others_is_damage_and_no_traceback(tmp_path):
    run = tmp_path / write_run(tmp_path)
    text = (run / "run.json").read_text()
    (run / "run.json").write_text(text.replace('"error": null', f'"error": {"[" * 900}{"]" * 900}'))
    assert statuses(tmp_path) == ["damaged"]


def test_lone_half_of_a_pair_in_metrics_is_damage(tmp_path):
    run = tmp_path / write_run(tmp_path)
    metrics = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").write_text(json.dumps({**metrics, "\ud800_loss": 0.5}))
    assert statuses(tmp_path) == ["damaged"]


def test_ticket_and_turn_at_their_limit_leave_the_next_run_sound(tmp_path):
    write_run(tmp_path, ticket=LAST, turn=LAST)
    ticket, turn = waiting_line.next_ticket(list_runs(tmp_path)), waiting_line.next_turn(tmp_path)
    write_run(tmp_path, seed=1, ticket=ticket, turn=turn)
    assert statuses(tmp_path) == ["done", "done"]


def test_words_of_other_languages_and_of_a_sweep_are_sound(tmp_path):
    group = {"id": "20260101T000000Z-sweep-00ff", "title": "größer 🐈", "seeds": [0, 2**31 - 1],
             "train_pictures": [None, 250], "there": ["20260101T000000Z-a-0000"]}  # fmt: skip
    write_run(tmp_path, name="Übung 猫 🐈", group=group, ticket=1, turn=1, peak_memory=812.5)
    assert statuses(tmp_path) == ["done"]


def test_every_run_that_ships_with_the_project_is_sound():
    runs = [run for run in list_runs(SHIPPED) if run.reference]
    assert len(runs) >= 20 and {run.status for run in runs} == {"done"}


@pytest.mark.parametrize("name", ["a\nb", "\x1b[2J", "\ud800", "x" * (LONGEST_NAME + 1)])
def test_names_that_no_run_may_have_are_refused_in_a_sentence_that_can_be_printed(name):
    with pytest.raises(CvcoreError, match="a title must have at most 80 printable characters") as refused:
        checked_name(name, "a title")
    str(refused.value).encode()


def test_unchanged_runs_are_not_read_again_when_threads_list_them_at_once(tmp_path, monkeypatch):
    for number in range(40):
        write_run(tmp_path, run_id=f"r{number:03d}")
    time.sleep(2 * run_directory.SETTLES)
    list_runs(tmp_path)
    read, stored = [], run_directory._stored
    monkeypatch.setattr(run_directory, "_stored", lambda path: read.append(path) or stored(path))
    threads = [threading.Thread(target=lambda: [list_runs(tmp_path) for _ in range(20)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not read


def test_a_run_deleted_while_the_folder_is_listed_is_left_out(tmp_path, monkeypatch):
    deleted, stays = write_run(tmp_path, run_id="b"), write_run(tmp_path, run_id="a")
    stamp = run_directory._file_stamp

    def meanwhile(path):
        shutil.rmtree(tmp_path / deleted, ignore_errors=True)
        return stamp(path)

    monkeypatch.setattr(run_directory, "_file_stamp", meanwhile)
    assert [(run.id, run.status) for run in list_runs(tmp_path)] == [(stays, "done")]


def test_a_run_deleted_before_anybody_noticed_that_its_process_is_gone_waits_for_a_person_once_restored(tmp_path):
    gone = {"pid": 2**22 + 1, "started": "0", "host": this_process()["host"]}
    run = load_run(write_run(tmp_path, status="running", backend="local", process=gone, owner="a" * 16), tmp_path)
    assert run.comes_back and needed([run])
    trash.delete_run(run)
    back = trash.restore(run.id, tmp_path)
    assert (back.status, back.comes_back, back.owner) == ("interrupted", False, "a" * 16)
    assert not needed([back]) and "resume it" in back.error
    assert (back.path / "run.json").is_file() and not (back.path / trash.DELETED_FILE).exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [("seed", None), *(("dataset.class_names", value) for value in (None, True, 5, 1e308, [], [1], "ab")),
     ("dataset.counts", {}), ("dataset.split_seed", "x"), ("from_run", {"id": "x"}), ("dataset", {})],
)  # fmt: skip
def test_code_of_a_run_with_odd_words_is_a_sentence(tmp_path, name, value):
    run_id = write_run(tmp_path)
    path = tmp_path / run_id / "run.json"
    info = json.loads(path.read_text())
    outer, _, inner = name.partition(".")
    info[outer] = {**info[outer], inner: value} if inner else value
    path.write_text(json.dumps(info))
    done = CliRunner().invoke(main, ["export-code", run_id, "--runs", str(tmp_path)])
    assert done.exit_code == 1 and isinstance(done.exception, SystemExit)
    assert "only a run whose run.json says what it was trained with can be repeated; its" in done.output
    assert inner in done.output
