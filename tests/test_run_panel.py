"""What the Train page says of one run: its device, what its callbacks kept, what a reader of its figures must know."""

import json
from types import SimpleNamespace

import pytest
from handmade_runs import DATASET, write_run
from pages_drawn import draw, living, sound, words
from two_students import ANNA, BEN, TEACHER, Classroom, code

import shell
from cvcore.datasets import open_dataset
from cvcore.run_directory import load_run
from panels import run_panel

TINY = {**DATASET, "counts": {"train": {"a": 101, "b": 101}, "validation": {"a": 51, "b": 52}, "test": {"a": 451}}}


pytestmark = pytest.mark.usefixtures("drawings")


def commands(page):
    return [code.value for code in page.code]


def test_the_panel_names_the_device_the_backend_and_the_precision(runs):
    device = {"kind": "GPU", "name": "NVIDIA H200", "cores": 16, "backend": "jax", "precision": "mixed_bfloat16"}
    page = draw("train", run=write_run(runs, "doodle-scratch", device=device))
    assert "trained on NVIDIA H200 with JAX in bfloat16" in words(page)


@pytest.mark.parametrize("device", [None, "two cores", {}, {"name": None}, {"name": "two cores"}])
def test_a_device_that_says_little_leaves_the_panel_whole(runs, device):
    page = draw("train", run=write_run(runs, "doodle-scratch", device=device))
    assert sound(page)
    assert ("trained on two cores" in words(page)) == (device == {"name": "two cores"})


def test_the_panel_offers_what_the_callbacks_kept(runs):
    run_id = write_run(runs, "doodle-finetune", changes={"model_checkpoint": "val_accuracy"})
    for name in ("csv_log-head.csv", "csv_log-fine-tuning.csv"):
        (runs / run_id / name).write_text("epoch,accuracy\n0,0.5\n")
    (runs / run_id / "checkpoint-fine-tuning.keras").touch()
    (runs / run_id / "tensorboard" / "fine-tuning").mkdir(parents=True)
    page = draw("train", run=run_id)
    assert sound(page)
    labels = {button.label for button in page.get("download_button")}
    assert labels == {"csv_log-head.csv", "csv_log-fine-tuning.csv"}
    assert "best val_accuracy so far: `checkpoint-fine-tuning.keras`" in words(page)
    assert commands(page) == [f"tensorboard --logdir $CVCORE_RUNS/{run_id}/tensorboard"]


def test_the_panel_of_a_run_without_such_files_offers_none(runs):
    page = draw("train", run=write_run(runs, "doodle-scratch"))
    assert "Compare with the reference runs" in {link.proto.label for link in page.get("page_link")}
    assert not page.get("download_button") and not commands(page)


def test_the_panel_says_on_how_many_pictures_validation_rests(runs):
    switched, same = write_run(runs, "note-features", dataset=TINY), {"test_preprocessing": "base"}
    matched = write_run(runs, "note-features-matched", dataset=TINY, changes={"validation_steps": 4, **same})
    told = words(draw("train", run=switched))
    assert "rest on 60 of the 103 validation pictures" in told
    assert "Tested on pixels preprocessed otherwise (base) than those it was trained on (none)" in told
    told = words(draw("train", run=matched))
    assert "validation pictures" not in told and "preprocessed otherwise" not in told


def test_an_imported_run_shows_its_curves_and_neither_resume_nor_export(runs):
    run_id = write_run(
        runs, "doodle-scratch", imported=True, seed=None, device=None, timings={}, origin={"file": "history.json"},
        dataset={"id": "not known", "title": "not known", "fingerprint": None, "counts": {}}, run_id="imported-1",
    )  # fmt: skip
    path = runs / run_id
    info = json.loads((path / "run.json").read_text())
    recipe = {"id": "imported-x", "title": "My history", "strategy": "not known", "source": "imported"}
    (path / "run.json").write_text(json.dumps({**info, "recipe": recipe}))
    (path / "history.csv").write_text(
        "epoch,loss,accuracy,val_loss,val_accuracy,learning_rate,seconds\n1,0.7,0.5,,,,\n2,0.6,0.6,,,,\n"
    )
    (path / "metrics.json").write_text(json.dumps({"best_epoch": None, "val_accuracy": None, "epochs": 2}))
    (path / "predictions.csv").unlink()
    page = draw("train", run=run_id)
    assert sound(page)
    told = words(page)
    assert "Imported from history.json: curves only" in told
    assert "**My history**" in told and "None" not in told
    assert len(page.get("plotly_chart")) == 2
    assert f"resume_{run_id}" not in {button.key for button in page.button}
    assert "Compare with the reference runs" not in {link.proto.label for link in page.get("page_link")}
    assert not page.get("download_button")


def test_train_opens_on_an_imported_run_only_when_nothing_else_is_there(runs):
    imported = write_run(runs, run_id="z-imported", imported=True, seed=None, created="2026-03-04T05:06:07+00:00")
    change = json.loads((runs / imported / "run.json").read_text())
    change["recipe"]["title"] = "A history"
    (runs / imported / "run.json").write_text(json.dumps(change))
    page = draw("train")
    picker = page.selectbox(key="train_run")
    assert picker.value == imported and picker.options == ["A history, imported, 2026-03-04 05:06 (rted)"]
    reference = write_run(runs, reference=True, run_id="b-reference")
    shell.forget_runs()
    assert draw("train").selectbox(key="train_run").value == reference
    own = write_run(runs, run_id="a-own")
    shell.forget_runs()
    assert draw("train").selectbox(key="train_run").value == own
    assert draw("train", run=imported).selectbox(key="train_run").value == imported


def test_a_finetune_recipe_continues_a_run_or_trains_its_own_head(runs, monkeypatch):
    launched = []
    no_run = SimpleNamespace(id="no-such-run")
    monkeypatch.setattr(
        "cvcore.launching.launch", lambda *args, **kwargs: launched.append(kwargs["from_run"]) or no_run
    )
    dataset = {**DATASET, "fingerprint": open_dataset("doodle-pets").fingerprint}
    head = write_run(runs, "doodle-features", dataset=dataset)
    (runs / head / "model.keras").touch()
    page = draw("train")
    page.segmented_control(key="train_strategy").set_value("finetune").run()
    assert page.selectbox(key="train_source").options == ["its own head, trained first", head]
    page.button(key="train_launch").click().run()
    page.selectbox(key="train_source").set_value(head).run()
    page.button(key="train_launch").click().run()
    assert launched == [None, head]


@pytest.mark.parametrize(("info", "word"), [
    ({"owner": code(ANNA)}, "yours"), ({"owner": code(BEN)}, "another's"), ({}, "from a terminal"),
    ({"reference": True}, "recorded"), ({"owner": living()}, "from a terminal"),
])  # fmt: skip
def test_the_panel_says_whose_a_run_is(runs, monkeypatch, info, word):
    run_id = write_run(runs, "doodle-scratch", **info)
    page = Classroom(monkeypatch).draw(ANNA, run=run_id)
    assert sound(page)
    assert f":material/{'history_edu' if word == 'recorded' else 'person'}: {word}]" in words(page)


def test_the_teacher_sees_a_short_owner_code(runs, monkeypatch):
    page = Classroom(monkeypatch).draw(TEACHER, run=write_run(runs, "doodle-scratch", owner=code(BEN)))
    assert f"owner {code(BEN)[:6]}]" in words(page) and code(BEN) not in words(page)


def test_an_interrupted_run_that_comes_back_says_so_and_asks_for_no_help(runs):
    gone = living(started=1.0, ticks=1)
    run_id = write_run(runs, "doodle-scratch", status="running", process=gone, backend="local", attempt=2, requeues=1)
    assert load_run(run_id, runs).comes_back
    page = draw("train", run=run_id)
    assert "it goes on by itself from its last finished epoch" in words(page)
    assert "attempt 2, queued again once by itself" in words(page)
    assert not {f"resume_{run_id}", f"delete_{run_id}"} & {button.key for button in page.button}
    given_up = write_run(runs, "doodle-scratch", status="interrupted", backend="local", attempt=3, requeues=2)
    shell.forget_runs()
    page = draw("train", run=given_up)
    assert "attempt 3, queued again 2 times by itself" in words(page)
    assert {f"resume_{given_up}", f"delete_{given_up}"} <= {button.key for button in page.button}


def test_a_first_attempt_is_not_counted(runs):
    assert "attempt" not in words(draw("train", run=write_run(runs, "doodle-scratch")))


def test_a_run_that_gives_no_sign_of_life_says_for_how_long(runs, monkeypatch):
    run_id = write_run(runs, "doodle-scratch", status="running", process=living(), backend="local")
    beat = runs / run_id / "heartbeat.json"
    beat.write_text('{"attempt": 1, "beat": 3}')
    for silence, said in ((5, False), (40, True)):
        clock = SimpleNamespace(time=lambda silence=silence: beat.stat().st_mtime + silence)
        monkeypatch.setattr(run_panel, "time", clock)
        assert ("No sign of life for 40 s" in words(draw("train", run=run_id))) == said
        assert ("No sign of life" in words(draw("train", run=run_id))) == said


def test_the_log_opens_as_plain_text_its_end_first_seen_and_all_of_it_to_download(runs):
    run_id = write_run(runs, "doodle-scratch")
    lines = [f"line {number}: # *no* heading :red[x] <b>$x$" for number in range(1, 1001)]
    (runs / run_id / "log.txt").write_text("\n".join(lines))
    page = draw("train", run=run_id)
    assert not commands(page)  # not read before it is opened
    page.session_state[f"log_{run_id}"] = True  # as a click opens it
    page.run()
    assert sound(page)
    (shown,) = page.code
    assert shown.value == "\n".join(lines[-200:]) and shown.language in ("", "plaintext", None)
    assert "The last 200 of 1,000 lines." in words(page)
    assert {button.label for button in page.get("download_button")} == {"log.txt"}


def test_a_run_without_a_log_says_so(runs):
    run_id = write_run(runs, "doodle-scratch")
    (runs / run_id / "log.txt").unlink()
    page = draw("train", run=run_id)
    page.session_state[f"log_{run_id}"] = True  # as a click opens it
    page.run()
    assert sound(page) and "Its log is empty so far." in words(page)


def test_train_opens_on_one_s_own_newest_run_rather_than_on_another_s(runs, monkeypatch):
    own = write_run(runs, "doodle-scratch", run_id="b-own", owner=code(ANNA))
    write_run(runs, "doodle-scratch", run_id="a-own", owner=code(ANNA))
    others = write_run(runs, "doodle-scratch", run_id="c-another", owner=code(BEN))
    classroom = Classroom(monkeypatch)
    assert classroom.draw(ANNA).selectbox(key="train_run").value == own
    assert classroom.draw(BEN).selectbox(key="train_run").value == others
    assert classroom.draw(TEACHER).selectbox(key="train_run").value == others
    assert classroom.draw(ANNA, run=others).selectbox(key="train_run").value == others
