"""Nobody stops, resumes, renames, deletes or restores another's run: not with a page, an address or an old page."""

import json

import pytest
from handmade_runs import write_damaged_run, write_reference_runs, write_run
from pages_drawn import living, sound, words
from two_students import ANNA, BEN, TEACHER, Classroom, buttons, code

import shell
from cvcore import trash
from cvcore.errors import NotAllowed, RunNotFound
from cvcore.run_directory import STOP_FILE, load_run
from panels import run_actions

pytestmark = pytest.mark.usefixtures("drawings")
REFUSED = "only its owner or a teacher may {} a run"


@pytest.fixture
def classroom(monkeypatch):
    return Classroom(monkeypatch)


@pytest.fixture
def alone(monkeypatch):
    """A computer without a teacher."""
    return Classroom(monkeypatch, password=None)


@pytest.fixture
def resumed(monkeypatch):
    asked = []
    monkeypatch.setattr("cvcore.backends.resume", asked.append)
    return asked


def running(runs, owner=ANNA, **info):
    return write_run(runs, "doodle-scratch", status="running", process=living(), owner=code(owner), **info)


def offered(run_id):
    return {f"{verb}_{run_id}" for verb in ("stop", "resume", "rename", "delete")}


@pytest.mark.parametrize("status", ["queued", "running", "done", "stopped", "failed", "interrupted"])
def test_another_s_run_is_shown_and_offers_nothing(runs, classroom, status):
    process = living() if status == "running" else None
    run_id = write_run(runs, "doodle-scratch", status=status, process=process, owner=code(ANNA))
    page = classroom.draw(BEN, run=run_id)
    assert sound(page) and f"`{run_id}`" in words(page)
    assert not buttons(page) & offered(run_id)
    told = classroom.draw(ANNA, run=run_id)
    assert f"rename_{run_id}" in buttons(told)


@pytest.mark.parametrize(("token", "may"), [(ANNA, True), (TEACHER, True), (BEN, False), (None, False)])
def test_owner_and_teacher_are_offered_what_fits_the_status_others_nothing(runs, classroom, token, may):
    live, over = running(runs), write_run(runs, "doodle-scratch", status="stopped", seed=1, owner=code(ANNA))
    expected = {live: {"stop", "rename"}, over: {"resume", "rename", "delete"}}
    for run_id, verbs in expected.items():
        page = classroom.draw(token, run=run_id)
        assert buttons(page) & offered(run_id) == ({f"{verb}_{run_id}" for verb in verbs} if may else set())


def test_each_act_is_refused_to_another_at_the_moment_of_the_act(runs, classroom, resumed):
    live, over = running(runs), write_run(runs, "doodle-scratch", status="stopped", seed=1, owner=code(ANNA))
    classroom.sits(BEN)
    for act, run_id in ((run_actions.stop, live), (run_actions.resume, over), (run_actions.delete, over)):
        with pytest.raises(NotAllowed, match=REFUSED.format(act.__name__)):
            act(run_id)
    with pytest.raises(NotAllowed, match=REFUSED.format("rename")):
        run_actions.rename(live, "mine now")
    trash.delete_run(load_run(over, runs))
    with pytest.raises(NotAllowed, match=REFUSED.format("restore")):
        run_actions.restore(over)
    assert not (runs / live / STOP_FILE).exists() and load_run(live, runs).name is None
    assert not resumed and not (runs / over).exists()


@pytest.mark.parametrize("verb", ["stop", "resume", "delete"])
def test_a_button_of_a_page_drawn_for_its_owner_does_nothing_for_another(runs, classroom, resumed, verb):
    run_id = running(runs) if verb == "stop" else write_run(runs, "doodle-scratch", status="failed", owner=code(ANNA))
    page = classroom.draw(ANNA, run=run_id)
    classroom.sits(BEN)
    page.button(key=f"{verb}_{run_id}").click().run()
    assert REFUSED.format(verb) in words(page)
    assert not (runs / run_id / STOP_FILE).exists() and (runs / run_id).exists() and not resumed
    assert not buttons(page) & offered(run_id)
    page.run()
    assert sound(page)  # said once


def test_a_name_typed_on_a_page_drawn_for_its_owner_is_not_given_by_another(runs, classroom):
    run_id = write_run(runs, "doodle-scratch", owner=code(ANNA), name="hers")
    page = classroom.draw(ANNA, run=run_id)
    page.text_input(key=f"rename_to_{run_id}").set_value("his")
    classroom.sits(BEN)
    page.button(key=f"rename_{run_id}").click().run()
    assert REFUSED.format("rename") in words(page)
    assert load_run(run_id, runs).name == "hers"


def test_a_teacher_s_page_does_nothing_after_signing_out_elsewhere(runs, classroom, monkeypatch):
    import people

    run_id = running(runs)
    page = classroom.draw(TEACHER, run=run_id)
    people.desk.sign_out(people.Seat(code(TEACHER)))
    page.button(key=f"stop_{run_id}").click().run()
    assert REFUSED.format("stop") in words(page)
    assert not (runs / run_id / STOP_FILE).exists()


def test_addresses_that_name_an_act_do_nothing(runs, classroom):
    run_id = running(runs)
    crafted = {f"{verb}_{run_id}": "true" for verb in ("stop", "resume", "rename", "delete", "restore")}
    for token in (BEN, ANNA):  # not even for its owner: an address can be sent to her
        page = classroom.draw(token, run=run_id, stop=run_id, delete=run_id, teacher="true", **crafted)
        assert sound(page)
    assert not (runs / run_id / STOP_FILE).exists() and load_run(run_id, runs).status == "running"


@pytest.mark.parametrize("bad", ["../../etc", ".trash", ".", "", "x" * 300, "no-such-run"])
def test_an_act_on_an_id_that_names_no_run_says_so(runs, classroom, bad):
    classroom.sits(TEACHER)
    for act in (run_actions.stop, run_actions.resume, run_actions.delete, run_actions.restore):
        with pytest.raises(RunNotFound):
            act(bad)


def test_the_teacher_does_all_of_it_and_the_run_stays_its_owner_s(runs, classroom, resumed):
    run_id = running(runs)
    page = classroom.draw(TEACHER, run=run_id)
    page.text_input(key=f"rename_to_{run_id}").set_value("  Table 4 ")
    page.button(key=f"rename_{run_id}").click().run()
    assert "**Table 4**" in words(page)
    page.button(key=f"stop_{run_id}").click().run()
    assert (runs / run_id / STOP_FILE).exists()
    assert load_run(run_id, runs).owner == code(ANNA) and load_run(run_id, runs).name == "Table 4"


def test_a_recorded_run_is_nobody_s_to_change_not_even_the_teacher_s(runs, classroom):
    recorded = write_reference_runs(runs)[0]
    page = classroom.draw(TEACHER, run=recorded)
    assert not buttons(page) & offered(recorded)
    classroom.sits(TEACHER)
    with pytest.raises(NotAllowed, match="reference run"):
        run_actions.rename(recorded, "mine")


def test_a_run_from_a_terminal_is_the_teacher_s_in_a_class_and_anybody_s_on_a_computer_of_one_s_own(runs, monkeypatch):
    run_id = write_run(runs, "doodle-scratch")
    classroom = Classroom(monkeypatch)
    assert not buttons(classroom.draw(ANNA, run=run_id)) & offered(run_id)
    assert f"delete_{run_id}" in buttons(classroom.draw(TEACHER, run=run_id))
    alone = Classroom(monkeypatch, password=None)
    assert f"delete_{run_id}" in buttons(alone.draw(ANNA, run=run_id))


def test_a_name_is_shown_as_it_was_typed(runs, classroom):
    run_id = write_run(runs, "doodle-scratch", owner=code(ANNA), name="# :red[*mine*] <b>")
    page = classroom.draw(BEN, run=run_id)
    assert sound(page) and "**# :red[*mine*] <b>**" in words(page)
    assert r"\:red\[\*mine\*\] \<b\>" in "".join(element.value for element in page.markdown)


def test_a_deleted_run_waits_in_the_trash_of_who_may_restore_it(runs, classroom):
    write_reference_runs(runs)
    run_id = write_run(runs, "doodle-scratch", owner=code(ANNA), name="Mine")
    page = classroom.draw(ANNA, run=run_id)
    assert "keeps it for 7 days" in words(page)
    page.button(key=f"delete_{run_id}").click().run()
    assert sound(page) and "in the trash for 7 days" in words(page)
    assert not (runs / run_id).exists()
    assert page.expander(key="trash").label == "Trash (1)" and "Mine, deleted" in words(page)
    assert f"restore_{run_id}" not in buttons(classroom.draw(BEN))
    assert f"restore_{run_id}" in buttons(classroom.draw(TEACHER))
    classroom.sits(BEN)
    page.button(key=f"restore_{run_id}").click().run()
    assert REFUSED.format("restore") in words(page) and not (runs / run_id).exists()
    page = classroom.draw(ANNA)
    page.button(key=f"restore_{run_id}").click().run()
    assert sound(page) and (runs / run_id).exists()
    assert page.selectbox(key="train_run").value == run_id
    assert f"restore_{run_id}" not in buttons(page)


def test_the_last_run_deleted_leaves_a_page_that_says_so(runs, classroom):
    run_id = write_run(runs, "doodle-scratch", owner=code(ANNA))
    page = classroom.draw(ANNA, run=run_id)
    page.button(key=f"delete_{run_id}").click().run()
    assert sound(page)
    assert "in the trash for 7 days" in words(page) and "No run yet" in words(page)


@pytest.mark.parametrize(("token", "may"), [(ANNA, False), (TEACHER, True)])
def test_a_damaged_run_is_the_teacher_s_to_delete(runs, classroom, token, may):
    write_reference_runs(runs)
    run_id = write_damaged_run(runs)
    page = classroom.draw(token)
    assert "is damaged" in words(page)
    assert (f"delete_{run_id}" in buttons(page)) == may
    if may:
        page.button(key=f"delete_{run_id}").click().run()
        assert sound(page) and "is damaged" not in words(page) and not (runs / run_id).exists()
        page.button(key=f"restore_{run_id}").click().run()
        assert (runs / run_id).exists() and "is damaged" in words(page)


def test_a_damaged_run_can_be_deleted_on_a_computer_of_one_s_own(runs, alone):
    run_id = write_damaged_run(runs)
    assert f"delete_{run_id}" in buttons(alone.draw(ANNA))


def test_deleting_what_trains_by_now_is_refused_in_words(runs, classroom):
    run_id = write_run(runs, "doodle-scratch", status="stopped", owner=code(ANNA))
    page = classroom.draw(ANNA, run=run_id)
    info = json.loads((runs / run_id / "run.json").read_text())
    (runs / run_id / "run.json").write_text(json.dumps({**info, "status": "running", "process": living()}))
    page.button(key=f"delete_{run_id}").click().run()
    assert "a running run cannot be deleted" in words(page) and (runs / run_id).exists()


def test_an_unexpected_error_of_an_act_is_a_sentence(runs, classroom, monkeypatch):
    run_id = running(runs)
    page = classroom.draw(ANNA, run=run_id)

    def broken(_run):
        raise ZeroDivisionError

    monkeypatch.setattr("cvcore.backends.stop", broken)
    page.button(key=f"stop_{run_id}").click().run()
    assert "Something unexpected went wrong" in words(page) and not page.exception
    shell.forget_runs()
