"""The Storage page: what is stored, how much it may take, and that only a teacher clears it."""

import json
import os

import numpy as np
import pytest
from click.testing import CliRunner
from handmade_runs import write_run
from pages_drawn import sound, words
from two_students import ANNA, TEACHER, Classroom

from cvcore import activations, cli, stock
from cvcore.activations import entries
from cvcore.errors import NotAllowed
from cvcore.published import RECIPES
from cvcore.run_directory import load_run
from panels import storage_panel

CLEARING = {"storage_clear_all", "storage_clear_chosen"}


@pytest.fixture
def cache(tmp_path, monkeypatch, runs):
    monkeypatch.setenv("CVCORE_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("CVCORE_CACHE_LIMIT", "0.1")
    return tmp_path / "own"


@pytest.fixture
def classroom(cache, monkeypatch):
    return Classroom(monkeypatch)


@pytest.fixture
def alone(cache, monkeypatch):
    return Classroom(monkeypatch, password=None)


def put(title, **what):
    what = {"title": title, "fingerprint": title, "split": "train", "base": "VGG16", "layer": "block4_pool", **what}
    what = {"image_size": 96, **what}
    activations.fill(what, 100, (2500,), "float32", lambda start, stop: np.zeros((stop - start, 2500)))


def titles():
    return {entry.title for entry in entries()}


def buttons(page):
    return {button.key for button in page.button} & CLEARING


def test_what_is_stored_is_listed_with_its_use_and_the_limit(classroom, runs):
    put("Pets")
    put("*Others*", view=1)
    page = classroom.draw(ANNA, "storage")
    assert sound(page)
    rows = page.dataframe[0].value.set_index("Pictures")
    assert rows["Runs"].to_dict() == {"Pets": 0, "*Others*": 0} and set(map(len, rows["Key"])) == {6}
    assert rows["Contents"]["*Others*"] == (
        "VGG16 up to block4_pool, 100 train pictures, augmented view 2, 96 pixels, float32"
    )
    assert rows["Size (MB)"]["Pets"] == pytest.approx(1.0, abs=0.001)
    assert [metric.value for metric in page.metric] == ["2.0 MB", "0.0 MB"]
    assert page.get("progress")[0].proto.text == "2.0 MB of at most 100 MB"


def test_runs_are_counted_that_need_an_entry(classroom, runs):
    """Of four runs on the same pictures two have views, and one of them four."""
    policy = RECIPES["doodle-finetune"].augmentation.model_dump(mode="json")
    base = {"recipe_id": "doodle-finetune", "work": {}}
    saved = [load_run(write_run(runs, changes={"views": views}, seed=views, **base), runs) for views in (0, 2, 4)]
    write_run(runs, "doodle-scratch")
    recipe = saved[0].recipe
    said = {name: recipe[name] for name in stock.DECIDING} | {"fingerprint": saved[0].dataset["fingerprint"]}
    needed = [need for need in map(json.loads, stock.needs_of(saved[2])) if need.get("view") == 3]
    shape = tuple(needed[0]["shape"])
    for title, more in {
        "all": {"view": None, "split": "validation"}, "two": {"view": 1}, "one": {"view": 3},
        "none": {"view": 3, "augmentation": {**policy, "rotation": 1.0}},
        "other backend": {"view": 1, "backend": "jax"},
    }.items():  # fmt: skip
        what = {"title": title, "split": "train", "train_pictures": None, "backend": "tensorflow", **said}
        what["augmentation"] = policy if more["view"] is not None else None
        activations.fill({**what, **more}, 2, shape, "float16", lambda start, stop: np.zeros((stop - start, *shape)))
    page = classroom.draw(ANNA, "storage")
    rows = page.dataframe[0].value.set_index("Pictures")
    assert rows["Runs"].to_dict() == {"all": 3, "two": 2, "one": 1, "none": 0, "other backend": 0}


@pytest.mark.parametrize(("token", "may"), [(TEACHER, True), (ANNA, False), (None, False)])
def test_only_the_teacher_is_offered_to_clear(classroom, token, may):
    put("Pets")
    page = classroom.draw(token, "storage", storage_chosen="Pets", storage_clear_all="true")
    assert sound(page) and titles() == {"Pets"}
    assert buttons(page) == (CLEARING if may else set())
    assert ("Only the teacher may clear" in words(page)) is not may


def test_clearing_is_refused_to_a_student_at_the_moment_of_the_act(classroom):
    put("Pets")
    classroom.sits(ANNA)
    with pytest.raises(NotAllowed, match=r"^only the teacher may clear what is stored"):
        storage_panel.clear(None)
    page = classroom.draw(TEACHER, "storage")
    classroom.sits(ANNA)  # the page of before in another hand
    page.button(key="storage_clear_all").click().run()
    assert titles() == {"Pets"}
    assert "only the teacher may clear" in "".join(error.value for error in page.error)


def test_the_teacher_clears_what_was_chosen_and_then_everything(classroom):
    for title in ("Pets", "Others", "More"):
        put(title)
    page = classroom.draw(TEACHER, "storage")
    assert page.button(key="storage_clear_chosen").disabled
    name = next(entry.name for entry in entries() if entry.title == "Pets")
    page.multiselect(key="storage_chosen").set_value([name]).run()
    page.button(key="storage_clear_chosen").click().run()
    assert sound(page) and titles() == {"Others", "More"} and "1.0 MB cleared." in words(page)
    assert page.multiselect(key="storage_chosen").value == []
    page.button(key="storage_clear_all").click().run()
    assert sound(page) and titles() == set() and "Nothing is stored yet" in words(page)


def test_entries_of_the_same_words_are_chosen_one_by_one(alone):
    """What the words leave out, such as the weights, is in the key, and each label has its key."""
    for weights in "abc":
        put("Pets", weights=weights)
    put("Pets", view=0, augmentation={"rotation": 1.0}, alpha=0.35)
    put("Pets", view=0, augmentation={"rotation": 2.0}, alpha=0.35)
    assert len({entry.words for entry in entries()}) == 3
    for left in (4, 3, 2):
        page = alone.draw(ANNA, "storage")
        *kept, gone = sorted(entry.name for entry in entries())
        page.multiselect(key="storage_chosen").set_value([gone]).run()
        page.button(key="storage_clear_chosen").click().run()
        assert sound(page) and sorted(entry.name for entry in entries()) == kept and len(kept) == left


def test_without_a_teacher_anyone_may(alone):
    put("Pets")
    page = alone.draw(ANNA, "storage")
    page.button(key="storage_clear_all").click().run()
    assert sound(page) and titles() == set()


def test_what_went_meanwhile_is_no_trouble(alone):
    put("Pets")
    page = alone.draw(ANNA, "storage")
    page.multiselect(key="storage_chosen").set_value([entries()[0].name]).run()
    activations.clear(entries())
    page.button(key="storage_clear_chosen").click().run()
    assert sound(page) and "0.0 MB cleared." in words(page)


def test_a_folder_that_cannot_be_changed_is_a_sentence(alone, monkeypatch):
    put("Pets")
    page = alone.draw(ANNA, "storage")

    def refused(*args, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("cvcore.cache_entries.remove", refused)
    page.button(key="storage_clear_all").click().run()
    assert not page.exception and "could not be removed" in "".join(error.value for error in page.error)


def test_the_command_lists_and_clears(cache):
    put("Pets")
    os.utime(next((cache / "activations").glob("*.json")), (0, 0))
    said = CliRunner().invoke(cli.main, ["storage"])
    assert said.exit_code == 0 and "1970-01-01T00:00:00+00:00" in said.output
    assert "Pets" in said.output and said.output.endswith("1.0 MB stored of at most 100 MB\n")
    found = json.loads(CliRunner().invoke(cli.main, ["storage", "--clear", "--json"]).output)
    assert found["entries"] == [] and found["bytes"] == 0 and found["limit"] == 10**8 and found["cleared"] > 10**6
    assert CliRunner().invoke(cli.main, ["storage"]).output == "0.0 MB stored of at most 100 MB\n"
