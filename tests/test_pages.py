import json
import os
import re
import subprocess
import sys

import pytest
from handmade_runs import DATASET, write_damaged_run, write_reference_runs, write_run
from pages_drawn import as_shown, draw, living, sound, words
from photograph_runs import write_photograph_run
from streamlit.testing.v1 import AppTest

import shell
from cvcore.errors import DatasetError
from cvcore.run_directory import load_run
from cvcore.run_writer import rename_run
from cvcore.settings import PROJECT

pytestmark = pytest.mark.usefixtures("drawings")
PAGES = ("overview", "dataset", "augmentation", "train", "compare", "storage")


@pytest.mark.parametrize("name", PAGES)
def test_page_draws_with_the_reference_runs(runs, name):
    write_reference_runs(runs)
    page = draw(name)
    assert sound(page), page.error
    assert len(page.title) == 1


@pytest.mark.parametrize("name", PAGES)
def test_page_draws_with_no_runs_at_all(runs, name):
    assert sound(draw(name))


@pytest.mark.parametrize("name", PAGES)
def test_page_draws_beside_a_damaged_run(runs, name):
    write_reference_runs(runs)
    write_damaged_run(runs)
    assert sound(draw(name))


def test_overview_shows_the_figures_of_the_reference_runs_and_names_them(runs):
    write_reference_runs(runs)
    page = draw("overview")
    shown = [metric.value for metric in page.metric if metric.label == "Test accuracy"]
    assert shown == ["74.3%", "81.7%", "89.6%", "93.1%"]


def test_overview_without_reference_runs_says_so_and_shows_no_figure(runs):
    write_run(runs, "doodle-features")
    page = draw("overview")
    assert not page.metric
    assert words(page).count("No recorded reference run") == 4


def test_compare_with_nothing_chosen_shows_the_four_reference_runs(runs):
    references = write_reference_runs(runs)
    write_run(runs, "doodle-features", seed=5)
    page = draw("compare")
    assert page.multiselect[0].value == references
    assert list(page.dataframe[0].value["run"]) == references


def test_compare_reopens_the_runs_the_address_names_and_skips_unknown_ones(runs):
    references = write_reference_runs(runs)
    page = draw("compare", runs=[references[3], "no-such-run", references[0]], compare_smoothing="0.7")
    assert page.multiselect[0].value == [references[3], references[0]]
    assert page.select_slider[0].value == "0.7"


def test_compare_puts_the_choice_into_the_address_and_leaves_the_usual_one_out(runs):
    references = write_reference_runs(runs)
    page = draw("compare")
    assert "runs" not in page.query_params
    page.multiselect[0].set_value(references[:2]).run()
    assert page.query_params["runs"] == references[:2]
    page.multiselect[0].set_value(references).run()
    assert "runs" not in page.query_params


def test_compare_lists_a_damaged_run_with_its_sentence_while_others_work(runs):
    write_reference_runs(runs)
    damaged = write_damaged_run(runs)
    page = draw("compare")
    assert f"run {damaged} is damaged" in words(page)
    assert len(page.dataframe[0].value) == 4


@pytest.mark.parametrize("text", ["x,y\n1,2\n", "epoch,loss\nNaN,1\n", "\x00\n"])
def test_compare_leaves_out_a_run_with_a_broken_history_and_shows_the_others(runs, text):
    references = write_reference_runs(runs)
    (runs / references[0] / "history.csv").write_text(text)
    page = draw("compare")
    assert sound(page)
    assert f"run {references[0]} has a history.csv that is not readable" in words(page)
    assert list(page.dataframe[0].value["run"]) == references[1:]


def test_compare_says_when_runs_are_on_different_pictures(runs):
    one = write_run(runs, "doodle-features")
    two = write_run(runs, "doodle-scratch", dataset={**DATASET, "title": "Our pets", "fingerprint": "e" * 64})
    assert "different pictures (Doodle pets, Our pets)" in words(draw("compare", runs=[one, two]))


def test_compare_shows_only_the_differing_settings(runs):
    one = write_run(runs, "doodle-features", seed=1)
    two = write_run(runs, "doodle-features", seed=2)
    page = draw("compare", runs=[one, two])
    assert list(page.table[0].value.index) == ["seed"]


def test_compare_with_every_run_removed_asks_for_one(runs):
    write_reference_runs(runs)
    page = draw("compare")
    page.multiselect[0].set_value([]).run()
    assert sound(page) and "Choose one or more runs" in words(page)


def known_error():
    import shell
    from cvcore.errors import CvcoreError

    with shell.error_box():
        raise CvcoreError("image_size must be at least 32; received 16")


def unexpected_error():
    import streamlit as st

    import shell

    with shell.error_box():
        raise KeyError("secret detail")
    st.write("after")


HOSTILE = "![x](http://example.org/x.png) :red[*a*] `b` $c$ <b>d</b>"


def hostile_error(name):
    import shell
    from cvcore.errors import DatasetError

    with shell.error_box():
        raise DatasetError(f"Class '{name}' has no usable picture")


def test_a_known_error_is_its_sentence():
    page = AppTest.from_function(known_error, default_timeout=300).run()
    assert [as_shown(box.value) for box in page.error] == ["image_size must be at least 32; received 16"]


def test_an_unexpected_error_is_one_sentence_without_its_details_and_goes_to_the_log(caplog):
    page = AppTest.from_function(unexpected_error, default_timeout=300).run()
    assert len(page.error) == 1 and not page.exception
    assert "secret detail" not in page.error[0].value
    assert "secret detail" in caplog.text


def test_what_comes_after_a_block_that_failed_is_drawn_too():
    page = AppTest.from_function(unexpected_error, default_timeout=300).run()
    assert [text.value for text in page.markdown] == ["after"]


def test_a_class_name_full_of_markdown_is_shown_as_it_is():
    page = AppTest.from_function(hostile_error, default_timeout=300, args=(HOSTILE,)).run()
    (box,) = page.error
    assert HOSTILE in as_shown(box.value)
    assert not re.search(r"(?<!\\)[!\[\]()*`$<>:]", box.value)


def test_pictures_that_cannot_be_read_do_not_hide_a_live_run(runs, monkeypatch):
    def unreadable(source):
        raise DatasetError("the pictures are gone; choose others")

    monkeypatch.setattr(shell, "dataset", unreadable)
    run_id = write_run(runs, "doodle-scratch", status="running", owner=living())
    page = draw("train", run=run_id)
    assert [as_shown(box.value) for box in page.error] == ["the pictures are gone; choose others"]
    assert page.button(key=f"stop_{run_id}").label == "Stop"


def odd_run(folder, **recipe):
    """Write a run whose files are JSON but not what this version writes."""
    run_id = write_run(folder, "doodle-features", seed=9, device="cpu", created=3, error=["odd"])
    path = folder / run_id / "run.json"
    info = json.loads(path.read_text())
    info["recipe"] = {**info["recipe"], "title": HOSTILE, "augmentation": [10], "starts_from": "x", **recipe}
    info["dataset"]["title"] = HOSTILE
    path.write_text(json.dumps({**info, "seed": "nine"}))
    return run_id


@pytest.mark.parametrize("name", ["overview", "train", "compare"])
def test_a_run_of_another_version_never_takes_a_page_down(runs, name):
    odd_run(runs, warmup={"epochs": 2}, learning_rate="slow")
    assert sound(draw(name))


@pytest.mark.parametrize("name", ["overview", "train", "compare"])
@pytest.mark.parametrize("figures", [{"test_accuracy_interval": [0.5]}, {"val_accuracy": "high"}, {"seconds": [1]}])
def test_odd_figures_of_one_run_never_take_a_page_down(runs, name, figures):
    references = write_reference_runs(runs)
    path = runs / references[2] / "metrics.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **figures}))
    page = draw(name)
    assert sound(page)
    if name == "compare":
        shown = [*page.dataframe[0].value["run"], *re.findall(r"run (\S+) is damaged", words(page))]
        assert sorted(shown) == sorted(references)


def test_an_odd_progress_file_does_not_hide_the_stop_button(runs):
    run_id = write_run(runs, "doodle-scratch", status="running", owner=living())
    (runs / run_id / "progress.json").write_text('{"step": "5", "steps": [13], "epoch": 2, "seconds_left": "soon"}')
    page = draw("train", run=run_id)
    assert sound(page) and page.button(key=f"stop_{run_id}").label == "Stop"


def test_a_run_without_a_readable_history_can_still_be_deleted(runs):
    run_id = write_run(runs, "doodle-scratch")
    (runs / run_id / "history.csv").write_text("x,y\n1,2\n")
    page = draw("train", run=run_id)
    assert sound(page) and "history.csv that is not readable" in words(page)
    page.button(key=f"delete_{run_id}").click().run()
    assert sound(page) and not (runs / run_id).exists()


def test_overview_says_what_storing_features_took_in_each_run(runs):
    references = write_reference_runs(runs)
    path = runs / references[3] / "metrics.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "seconds": {"features": 0.0, "train": 30.0}}))
    said = words(draw("overview"))
    assert "recorded reference runs" in said
    assert "storing features is part of it" in said and "Features 1.5 s, Fine-tuned 0 s" in said


def test_overview_leads_to_its_four_runs_and_to_those_on_photographs(runs):
    references = write_reference_runs(runs)
    links = {link.proto.label: link.proto.query_string for link in draw("overview").get("page_link")}
    assert links["**Compare the four**"] == "&".join(f"runs={run_id}" for run_id in references)
    assert not any("photographs" in label for label in links)
    recipes = ("exercise-scratch", "mobilenet-features")
    photographs = [write_photograph_run(runs, name, reference=True) for name in recipes]
    shell.forget_runs()
    links = {link.proto.label: link.proto.query_string for link in draw("overview").get("page_link")}
    (shown,) = (query for label, query in links.items() if "photographs" in label)
    assert shown == "&".join(f"runs={run_id}" for run_id in photographs)


DRAW_ALL = """
import sys
from streamlit.testing.v1 import AppTest
for name in {pages!r}:
    page = AppTest.from_file(f"pages/{{name}}.py", default_timeout=300).run()
    assert not page.exception and not page.error, (name, page.exception, page.error)
heavy = sorted({{"tensorflow", "keras", "jax", "torch", "sklearn"}} & set(sys.modules))
assert not heavy, heavy
"""


def test_drawing_every_page_loads_neither_tensorflow_nor_keras_into_the_server(runs):
    write_reference_runs(runs)
    script = DRAW_ALL.format(pages=PAGES)
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    done = subprocess.run([sys.executable, "-c", script], cwd=PROJECT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def shown(page):
    """What the one multiselect or the picker of runs offers and has."""
    return [page.multiselect[0].options, page.multiselect[0].value]


def test_a_comparison_keeps_its_runs_when_a_label_changes_and_takes_the_click_of_that_moment(runs):
    one, two = (write_run(runs, "doodle-scratch", seed=seed) for seed in (1, 2))
    page = draw("compare", runs=[one, two])
    options, _ = shown(page)
    rename_run(load_run(one, runs), "Another name")
    shell.forget_runs()
    page.multiselect[0].set_value([one]).run()
    assert sound(page)
    assert shown(page)[0] != options and shown(page)[1] == [one]
    assert page.query_params["runs"] in (one, [one])
    page.run()
    assert shown(page)[1] == [one]


def test_a_second_click_counts_where_the_browser_has_not_heard_of_the_address_of_the_first(runs):
    references = write_reference_runs(runs)
    page = draw("compare")
    page.multiselect[0].set_value(references[:3]).run()
    for chosen in (references[:2], references[:1]):
        before = page.query_params.pop("runs")
        page.multiselect[0].set_value(chosen).run()
        assert shown(page)[1] == chosen and page.query_params["runs"] in (chosen, chosen[0])
    page.query_params["runs"] = before  # back: the address has changed and the picker has not
    assert shown(page.run())[1] == before


def test_a_pick_stays_where_a_click_elsewhere_comes_with_the_address_of_before(runs):
    references = write_reference_runs(runs)
    page = draw("compare")
    page.multiselect[0].set_value(references[:3]).run()
    before = page.query_params["runs"]
    page.multiselect[0].set_value(references[:2]).run()
    page.query_params["runs"] = before
    page.segmented_control(key="compare_metric").set_value("loss").run()
    assert shown(page)[1] == references[:2] == page.query_params["runs"]
    assert page.segmented_control(key="compare_metric").value == "loss"
    page.query_params["runs"] = before  # back: no widget has changed
    assert shown(page.run())[1] == before


def test_a_pick_on_train_stays_where_a_setting_comes_with_the_address_of_before_and_links_still_lead(runs):
    first, second = (write_run(runs, "doodle-scratch", seed=seed) for seed in (1, 2))
    page = draw("train", run=first)
    page.selectbox(key="train_run").set_value(second).run()
    page.query_params["run"] = first
    next(field for field in page.number_input if field.label == "Seed").set_value(7).run()
    assert page.selectbox(key="train_run").value == second == page.query_params["run"]
    page.session_state["pressed"] = True  # as a button is for one draw
    page.run().session_state["pressed"] = False
    for linked in (first, second):
        page.query_params["run"] = linked
        assert page.run().selectbox(key="train_run").value == linked
    page.button(key=f"delete_{second}").click().run()
    assert page.selectbox(key="train_run").value == first
    page.run().button(key=f"restore_{second}").click().run()
    assert sound(page) and page.selectbox(key="train_run").value == second


def test_a_second_pick_on_train_counts_where_the_browser_has_not_heard_of_the_address_of_the_first(runs):
    first, second, third = (write_run(runs, "doodle-scratch", seed=seed) for seed in (1, 2, 3))
    page = draw("train", run=first)
    for picked in (second, third):
        page.selectbox(key="train_run").set_value(picked)
        page.query_params["run"] = first
        page.run()
        assert page.selectbox(key="train_run").value == picked and page.query_params["run"] == picked
    page.query_params["run"] = second
    assert page.run().selectbox(key="train_run").value == second


def test_compare_says_how_many_runs_of_its_address_are_not_there_until_the_choice_changes(runs):
    references = write_reference_runs(runs)
    page = draw("compare", runs=[references[0], "no-such-run"])
    told = "The run that this address names is not among the saved runs."
    assert told in words(page)
    page.segmented_control(key="compare_metric").set_value("loss").run()
    assert told in words(page)
    page.multiselect[0].set_value(references[:2]).run()
    assert "this address names" not in words(page)
    page = draw("compare", runs=["no-such-run", "nor-this"])
    assert "2 runs that this address names are not among the saved runs." in words(page)
    assert page.multiselect[0].value == references
    assert "this address names" not in words(draw("compare", runs=references[:1]))


def test_train_says_that_the_run_of_its_address_is_not_there_and_shows_another(runs):
    kept = write_run(runs, "doodle-scratch")
    page = draw("train", run="no-such-run")
    assert "The run that this address names is not among the saved runs." in words(page)
    assert page.selectbox(key="train_run").value == kept and f"Run `{kept}`" in words(page)
    assert "this address names" not in words(draw("train", run=kept))
