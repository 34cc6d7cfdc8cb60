"""The panel on Compare that imports saved histories."""

import re
import shutil

from handmade_runs import write_reference_runs
from pages_drawn import as_shown, draw, sound, words
from streamlit.testing.v1 import AppTest
from test_import import FOUR, HOSTILE, data

from cvcore.run_directory import list_runs
from cvcore.saved_history import MAX_BYTES


def panel():
    import streamlit as st

    import shell
    from panels import import_panel

    shell.navigation()  # its links lead to other pages
    st.session_state.setdefault("compare_runs", ["earlier-run"])
    import_panel.draw()


def upload(*files):
    page = AppTest.from_function(panel, default_timeout=300).run()
    uploader = page.get("file_uploader")[0]
    return uploader.set_value([(name, content, "text/plain") for name, content in files]).run()


def test_the_panel_imports_names_the_new_run_and_adds_it_to_the_address(runs):
    page = upload(("pets.json", data(FOUR)))
    page.selectbox(key="import_strategy").set_value("augmented")
    page.text_input(key="import_dataset").set_value("Our pets")
    page.text_input(key="import_title_0").set_value("Pets")
    page.button(key="import_go").click().run()
    assert sound(page)
    (run,) = list_runs()
    assert (run.strategy, run.dataset["title"], run.recipe["title"]) == ("augmented", "Our pets", "Pets")
    assert page.query_params["runs"] == ["earlier-run", run.id]
    assert "is a run now" in words(page)
    assert page.button(key="import_go").disabled  # the uploader is empty again


def test_the_panel_says_why_a_file_is_refused_and_imports_the_others(runs):
    page = upload((f"{HOSTILE}.json", b'{"loss": [1], "val_loss": []}'), ("good.csv", b"epoch,loss,f1\n0,1,1\n"))
    assert not any(field.label == "Title" for field in page.text_input)  # two files have two titles
    page.button(key="import_go").click().run()
    assert not page.exception and len(list_runs()) == 1
    (box,) = page.error
    assert "equally long" in as_shown(box.value) and not re.search(r"(?<!\\)[!\[\]()*`$<>]", box.value)
    assert "columns left out: 'f1'" in words(page)


def test_the_panel_takes_no_more_than_twenty_files_at_once(runs):
    files = [(f"{number}.json", data({"loss": [number]})) for number in range(22)]
    page = upload(*files)
    page.button(key="import_go").click().run()
    assert not page.exception and len(list_runs()) == 20
    assert len(page.error) == 2 and all("at most 20 files" in as_shown(box.value) for box in page.error)


def test_the_panel_names_a_file_that_is_too_large(runs):
    page = upload(("large.csv", b"epoch,loss\n" + b" " * MAX_BYTES))
    assert page.get("file_uploader")[0].proto.max_upload_size_mb * 10**6 > 2 * MAX_BYTES
    page.button(key="import_go").click().run()
    assert not list_runs() and "large.csv: a saved history may be at most 2 MB" in words(page)


def test_a_strategy_of_the_panel_is_not_known_until_it_is_told(runs):
    page = upload(("pets.json", data(FOUR)))
    assert page.selectbox(key="import_strategy").options[0] == "not known"
    page.button(key="import_go").click().run()
    assert [run.strategy for run in list_runs()] == ["not known"]


def test_the_panel_forgets_what_it_said_of_a_run_that_was_deleted(runs):
    page = upload(("pets.json", data(FOUR)))
    page.button(key="import_go").click().run()
    assert "is a run now" in words(page)
    shutil.rmtree(list_runs()[0].path)
    import shell

    shell.forget_runs()
    page.run()
    assert sound(page) and "is a run now" not in words(page)


def test_the_panel_without_a_file_offers_no_import(runs):
    page = AppTest.from_function(panel, default_timeout=300).run()
    assert sound(page) and page.button(key="import_go").disabled


def test_a_history_uploaded_on_compare_is_compared_at_once(runs):
    references = write_reference_runs(runs)
    page = draw("compare")
    assert not page.get("file_uploader")  # what a closed expander holds is not drawn
    page.session_state["add_histories"] = True  # as a click opens it
    page.run()
    page.get("file_uploader")[0].set_value([("pets.json", data(FOUR), "application/json")]).run()
    page.button(key="import_go").click().run()
    assert sound(page)
    (run,) = [run for run in list_runs() if run.imported]
    table = page.dataframe[0].value.set_index("run")
    assert set(table.index) == {*references, run.id}
    assert table.loc[run.id, "val_accuracy"] == 70 and "imported" in table.loc[run.id, "label"]
