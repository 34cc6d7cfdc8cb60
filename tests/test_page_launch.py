"""Launching from the Train page: the answer beside the button, groups over seeds and sizes, and who may end them."""

import json
from dataclasses import replace

import pytest
from handmade_runs import write_run
from pages_drawn import as_shown, sound, words
from two_students import ANNA, BEN, TEACHER, Classroom, buttons, code

import shell
from cvcore import admission, backends, trash
from cvcore.backends import Capacity, Status
from cvcore.estimate import Estimate, estimate
from cvcore.published import get_recipe
from cvcore.run_directory import STOP_FILE, list_runs, load_run
from panels import group_panel, launch_panel

pytestmark = pytest.mark.usefixtures("drawings")
PICTURES = {"train": 400, "validation": 200, "test": 1000}


@pytest.fixture
def classroom(runs, monkeypatch):
    """Anna, Ben and a teacher; their runs wait for a worker that is busy and never comes to them."""
    monkeypatch.setattr(backends, "submit", lambda run: None)
    monkeypatch.setattr(backends, "capacity", lambda folder=None: Capacity(1, 0, "CPU", None, "two cores"))
    monkeypatch.setattr(backends, "status", lambda folder=None: Status("Runs train here.", True))
    monkeypatch.setattr(admission, "room_here", lambda known: admission.Room(100_000))
    return Classroom(monkeypatch)


def press(page, key="train_launch"):
    return page.button(key=key).click().run()


def seeded(page, seed):
    return page.number_input(key="train_seed").set_value(seed).run()


def asked(page, name):
    """What the page's address says now."""
    value = page.query_params[name]
    return value if isinstance(value, str) else value[0]


def links(page):
    """The addresses of the page's links: label -> query."""
    return {link.proto.label: link.proto.query_string for link in page.get("page_link")}


def repeated(page, seeds, sizes):
    """Open the page's settings on a group: this many seeds, and the sizes of these labels."""
    page.number_input(key="train_repeat_seeds").set_value(seeds)
    (pills,) = [pills for pills in page.button_group if (pills.key or "").startswith("train_repeat_sizes")]
    return pills.set_value(sizes).run()


def test_a_launch_is_its_owner_s_opens_its_run_and_says_its_place_at_once(runs, classroom):
    write_run(runs, "doodle-scratch", status="queued", ticket=1, backend="local", owner=code(BEN),
              estimate={"seconds": 40.0})  # fmt: skip
    shell.forget_runs()
    page = press(classroom.draw(ANNA))
    assert sound(page)
    run_id = asked(page, "run")
    run = load_run(run_id, runs)
    assert (run.owner, run.status, run.backend) == (code(ANNA), "queued", "local")
    assert page.selectbox(key="train_run").value == run_id
    told = words(page)
    assert "Launched]: 2nd in line, starts in about 40 s" in told


def test_the_run_that_is_there_is_offered_and_trained_again_only_when_asked_for(runs, classroom):
    page = press(classroom.draw(ANNA))
    first = asked(page, "run")
    press(page)
    assert "This very run (recipe, pictures and seed) waits for its turn already." in words(page)
    assert len(list_runs(runs)) == 1
    path = runs / first / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "status": "done"}))
    shell.forget_runs()
    page = press(classroom.draw(BEN))
    assert "This very run (recipe, pictures and seed) is done already." in words(page)
    assert links(page)["Open it"] == f"run={first}"
    press(page, "train_anyway")
    assert sound(page) and "Launched" in words(page)
    again = asked(page, "run")
    assert again != first and load_run(again, runs).owner == code(BEN)


def test_an_answer_goes_with_the_settings_it_was_given_for(runs, classroom):
    page = press(press(classroom.draw(ANNA)))
    assert "train_anyway" in buttons(page)
    seeded(page, 5)
    assert "train_anyway" not in buttons(page) and "This very run" not in words(page)
    seeded(page, 0)
    assert "train_anyway" in buttons(page)


def test_a_fourth_waiting_launch_is_answered_with_the_three_that_wait(runs, classroom):
    page = classroom.draw(ANNA)
    for seed in range(4):
        press(seeded(page, seed))
    assert sound(page)
    told = words(page)
    assert "At most 3 launches of yours may wait at a time, and 3 wait now" in told
    assert "(doodle-features, seed 0; doodle-features, seed 1; doodle-features, seed 2)" in told
    assert len(list_runs(runs)) == 3
    other = press(classroom.draw(BEN))
    assert "This very run" in words(other)
    press(seeded(other, 9))
    assert "Launched" in words(other)


def test_a_run_that_is_too_large_is_answered_with_the_numbers_and_what_fits(runs, classroom, monkeypatch):
    recipe = get_recipe("exercise-scratch")
    whole, half = recipe.batch_size, recipe.batch_size // 2
    needed = {batch: estimate(recipe.with_changes(batch_size=batch), PICTURES).memory_mb for batch in (whole, half)}
    room = admission.Room((needed[whole] + needed[half]) / 2, "this machine has little")
    monkeypatch.setattr(admission, "room_here", lambda known: room)
    page = classroom.draw(ANNA)
    page.segmented_control(key="train_strategy").set_value("all").run()
    box = page.selectbox(key="train_recipe")
    box.select(next(option for option in box.options if option.endswith("(exercise-scratch)"))).run()
    press(page)
    told = words(page)
    assert f"This run would need about {needed[whole]:,.0f} MB of memory and {room.megabytes:,.0f} MB can be" in told
    assert f"choose batch_size {half}, with which it would need about {needed[half]:,.0f} MB" in told
    assert not list_runs(runs)
    page.number_input(key="train_batch_size_exercise-scratch").set_value(half).run()
    assert "Launched" in words(press(page)) and len(list_runs(runs)) == 1


def test_whatever_else_goes_wrong_is_a_sentence(runs, classroom, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(admission, "room_here", broken)
    page = press(classroom.draw(ANNA))
    assert sound(page) and "Something unexpected went wrong here" in words(page)


def test_a_press_that_an_edit_overtook_launches_nothing_and_says_so_once(runs, classroom):
    page = classroom.draw(ANNA)
    page.session_state[launch_panel.PRESSED] = True  # the draw of the press was ended before it came to the button
    page.run()
    assert sound(page) and "Nothing was launched: the settings changed as the button was pressed" in words(page)
    assert "Nothing was launched" not in words(page.run()) and not list_runs(runs)


def test_a_press_of_a_button_that_is_disabled_launches_nothing_and_says_why(runs, classroom):
    page = classroom.draw(ANNA)
    page.number_input(key="train_learning_rate_doodle-features").set_value(0.0).run()
    assert page.button(key="train_launch").disabled
    page.session_state[launch_panel.PRESSED] = True  # as its callback says; AppTest presses no disabled button
    page.run()
    assert sound(page) and "Nothing was launched: what is said above has to be put right first." in words(page)
    page.number_input(key="train_learning_rate_doodle-features").set_value(0.001).run()
    assert "Nothing was launched" not in words(page) and not list_runs(runs)


def test_a_launch_takes_an_edit_that_comes_with_the_press(runs, classroom):
    page = classroom.draw(ANNA)
    page.number_input(key="train_epochs_doodle-features").set_value(2)
    press(page)
    (run,) = list_runs(runs)
    assert run.recipe["epochs"] == 2 and "Launched" in words(page)


def test_a_run_whose_launch_was_not_answered_in_the_same_draw_is_opened_in_the_next(runs, classroom, monkeypatch):
    """Another click of the visitor ends a draw at its next call of Streamlit, which comes after the launch."""
    before, opened = write_run(runs, "doodle-scratch"), launch_panel._kept
    page = classroom.draw(ANNA, run=before)
    monkeypatch.setattr(launch_panel, "_kept", lambda: (_ for _ in ()).throw(ZeroDivisionError))
    press(page)
    assert asked(page, "run") == before and len(list_runs(runs)) == 2
    monkeypatch.setattr(launch_panel, "_kept", opened)
    page.run()
    assert sound(page) and asked(page, "run") == list_runs(runs)[0].id != before
    assert "Launched" in words(page) and len(list_runs(runs)) == 2


def test_seeds_and_sizes_make_one_group_whose_number_and_time_are_shown_before(runs, classroom):
    page = repeated(classroom.draw(ANNA), 2, [100, 200, 400])
    assert page.button(key="train_launch").label == "Launch 6 runs"
    told = words(page)
    assert "**6 runs** (seeds 0, 1 × 3 training-set sizes), about " in told
    assert not list_runs(runs)
    press(page)
    assert sound(page)
    found = list_runs(runs)
    assert sorted((run.seed, run.recipe["train_pictures"] or 400) for run in found) == [
        (seed, size) for seed in (0, 1) for size in (100, 200, 400)
    ]  # fmt: skip
    (group,) = {run.group["id"] for run in found}
    assert asked(page, "group") == group and {run.owner for run in found} == {code(ANNA)}
    told = words(page)
    assert "Launched 6 runs" in told and "over 2 seeds and 3 training-set sizes" in told
    assert page.get("progress")[0].text == "0 of 6 runs done, 6 waiting"
    press(page)
    assert "All 6 runs of this sweep are there already." in words(page)
    first = min(found, key=lambda run: run.ticket).id
    assert set(links(page)["Open it"].split("&")) == {f"group={group}", f"run={first}"}
    press(page, "train_anyway")
    assert len(list_runs(runs)) == 12 and asked(page, "group") != group


def test_a_group_takes_in_what_is_there_and_says_so(runs, classroom):
    page = press(classroom.draw(BEN))
    shell.forget_runs()
    page = press(repeated(classroom.draw(ANNA), 3, []))
    assert "Launched 2 runs, 1 of the group was there already" in words(page)
    assert "1 run was there before this group was launched, and not trained again." in words(page)
    assert page.get("progress")[0].text == "0 of 3 runs done, 3 waiting"


def test_a_student_may_launch_twelve_at_once_and_a_teacher_more(runs, classroom):
    page = repeated(classroom.draw(ANNA), 5, [100, 200, 400])
    assert page.button(key="train_launch").disabled
    assert "At most 12 may be launched at once: take fewer seeds or sizes." in words(page)
    page = repeated(classroom.draw(TEACHER), 5, [100, 200, 400])
    assert "Launched 15 runs" in words(press(page))


def test_a_smaller_training_set_of_one_run_is_set_among_the_settings(runs, classroom):
    page = classroom.draw(ANNA)
    page.number_input(key="train_train_pictures_doodle-features").set_value(100).run()
    press(page)
    (run,) = list_runs(runs)
    assert run.recipe["train_pictures"] == 100
    page.number_input(key="train_train_pictures_doodle-features").set_value(999).run()
    assert "train_pictures must be between 2 (one of each class) and 400" in words(page)
    assert page.button(key="train_launch").disabled


def write_group(runs, owner=ANNA, done=True, **info):
    """A group of two seeds and two sizes, four runs."""
    group = {"id": "20260101T000000Z-sweep-beef", "title": "Ours *over* 2 seeds", "seeds": [0, 1],
             "train_pictures": [100, None], "there": []}  # fmt: skip
    made = [
        write_run(runs, seed=seed, changes={"train_pictures": size}, group=group, owner=code(owner), ticket=number,
                  backend="local", status="done" if done else "queued", **info)
        for number, (seed, size) in enumerate((seed, size) for seed in (0, 1) for size in (100, None))
    ]  # fmt: skip
    shell.forget_runs()
    return group["id"], made


def test_a_group_shows_its_figures_by_size_and_seed_and_leads_to_compare(runs, classroom):
    group, made = write_group(runs)
    page = classroom.draw(BEN, group=group)
    assert sound(page) and "Ours *over* 2 seeds" in words(page)
    (table,) = [table.value for table in page.table if "Training pictures" in table.value]
    assert table["Training pictures"].tolist() == ["100", "400"]
    assert table["Seed 0"].tolist() == table["Seed 1"].tolist() == ["89.6%", "89.6%"]
    assert [as_shown(cell) for cell in table["Mean"]] == ["89.6% (of 2)", "89.6% (of 2)"]
    assert set(links(page)["Compare these runs"].split("&")) == {f"runs={run_id}" for run_id in made}
    (chart,) = [chart for chart in page.get("plotly_chart") if "training-set size" in chart.proto.spec]
    assert "each run with its own 95% Wilson interval" in chart.proto.spec


def test_from_three_seeds_on_a_group_names_its_interval(runs, classroom):
    group, _ = write_group(runs)
    info = {"id": group, "title": "Ours", "seeds": [0, 1, 2], "train_pictures": [100, None], "there": []}
    write_run(runs, seed=2, changes={"train_pictures": 100}, group=info, owner=code(ANNA), ticket=9, backend="local")
    shell.forget_runs()
    page = classroom.draw(BEN, group=group)
    (table,) = [table.value for table in page.table if "Training pictures" in table.value]
    assert table["Mean ± 95% t interval"].tolist() == ["**89.6%** ± 0.0", "89.6% (of 2)"]
    assert "Test accuracy of each run, and over the seeds; intervals in percentage points." in words(page)


def test_a_run_leads_to_its_group_and_an_address_of_none_says_so(runs, classroom):
    group, made = write_group(runs)
    page = classroom.draw(BEN, run=made[1])
    assert links(page)["Part of: Ours \\*over\\* 2 seeds"] in (
        f"run={made[1]}&group={group}", f"group={group}&run={made[1]}",
    )  # fmt: skip
    assert not any(label.startswith("Part of") for label in links(classroom.draw(BEN, run=made[1], group=group)))
    page = classroom.draw(BEN, group="../../etc")
    assert sound(page) and "not among the saved runs" in words(page)


def test_a_group_is_closed_and_its_run_stays(runs, classroom):
    group, made = write_group(runs)
    page = classroom.draw(BEN, run=made[2], group=group)
    press(page, "group_close")
    assert "group" not in page.query_params and page.selectbox(key="train_run").value == made[2]
    assert "group_close" not in buttons(page)


@pytest.mark.parametrize(("token", "may"), [(ANNA, True), (TEACHER, True), (BEN, False), (None, False)])
def test_only_its_owner_and_a_teacher_stop_a_group(runs, classroom, token, may):
    group, made = write_group(runs, done=False)
    page = classroom.draw(token, group=group)
    assert ("group_stop" in buttons(page)) == may
    if may:
        press(page, "group_stop")
        assert "4 of 4 runs stopped" in words(page)
    assert all((runs / run_id / STOP_FILE).exists() == may for run_id in made)


def test_an_old_page_of_who_may_not_stops_and_deletes_nothing(runs, classroom):
    group, made = write_group(runs, done=False)
    page = classroom.draw(ANNA, group=group)
    classroom.sits(BEN)
    press(page, "group_stop")
    assert "0 of 4 runs stopped; only its owner or a teacher may stop a run" in words(page)
    assert not any((runs / run_id / STOP_FILE).exists() for run_id in made)


def test_a_group_is_deleted_but_for_what_was_there_before(runs, classroom):
    before = write_run(runs, "doodle-features", seed=9, owner=code(ANNA))
    group, made = write_group(runs)
    path = runs / made[0] / "run.json"
    info = json.loads(path.read_text())
    for run_id in made:
        there = {**json.loads((runs / run_id / "run.json").read_text()), "group": {**info["group"], "there": [before]}}
        (runs / run_id / "run.json").write_text(json.dumps(there))
    shell.forget_runs()
    page = classroom.draw(ANNA, group=group)
    assert page.get("progress")[0].text == "5 of 5 runs done"
    press(page, "group_delete")
    assert sound(page)
    assert [run.id for run in list_runs(runs)] == [before]
    assert {one.id for one in trash.trashed(runs)} == set(made)


def test_a_group_whose_runs_are_at_every_stage_is_drawn(runs, classroom):
    group, made = write_group(runs)
    for run_id, status in zip(made[:3], ("queued", "running", "failed"), strict=True):
        path = runs / run_id / "run.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "status": status}))
    shell.forget_runs()
    page = classroom.draw(ANNA, group=group)
    assert sound(page)
    (table,) = [table.value for table in page.table if "Training pictures" in table.value]
    cells = {*table["Seed 0"], *table["Seed 1"]}
    assert {"1st in line", "failed", "89.6%"} < cells
    assert group_panel._progress([]) == "0 of 0 runs done"


def test_the_time_is_said_with_its_parts_and_what_a_second_run_saves():
    terms = {"start": 3.3, "decode": 0.1, "extract": 20.0, "steps": 6.0, "evaluation": 0.2}
    found = Estimate(29.6, 800.0, "By hand.", 15.0, 9.4, terms)
    assert launch_panel._terms_in_words(found) == "From the launch to the end: start 3.3 s, extract 20 s, steps 6 s."
    again = "Another run, which finds pictures and activations stored, takes 9.4 s."
    assert launch_panel._again_in_words(found) == again
    assert launch_panel._again_in_words(replace(found, again_seconds=28.0)) == ""
    assert launch_panel._again_in_words(replace(found, again_seconds=None)) == ""
