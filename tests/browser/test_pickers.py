"""What a browser sends as labels, and what it sends just before a click: nothing of either is lost."""

import re

import pytest
from dashboard import wait_until
from handmade_runs import write_run

from cvcore.run_directory import list_runs, load_run
from cvcore.run_writer import rename_run

pytestmark = pytest.mark.browser
LISTED = 1500  # milliseconds after which the server lists the runs anew


def picked(visit):
    return visit.page.get_by_test_id("stMultiSelect").inner_text()


def metric(visit, words):
    """Choose what the curves show, and wait until they show it."""
    visit.page.get_by_text(words, exact=True).first.click()
    visit.page.locator(".gtitle", has_text=f"{words} by epoch").first.wait_for()
    visit.settle()


def press_at_once(visit, name):
    """Press a button in the moment in which the field that has been typed into is left, before any answer comes."""
    button = visit.page.get_by_role("button", name=name)
    button.evaluate("button => { document.activeElement.blur(); button.click() }")


def test_compare_keeps_its_runs_when_one_of_them_is_renamed_by_somebody(server, visit, runs):
    first, second = (write_run(runs, "doodle-scratch", seed=seed) for seed in (1, 2))
    visit.page.goto(f"{server.url}/compare?runs={first}&runs={second}")
    visit.settle()
    for words, name in (("Loss", "Named once"), ("Accuracy", "Named twice"), ("Loss", "Named again")):
        rename_run(load_run(first, runs), name)
        visit.page.wait_for_timeout(LISTED)
        metric(visit, words)
        metric(visit, "Accuracy" if words == "Loss" else "Loss")  # the browser has sent what it holds once more
        assert name in picked(visit) and visit.page.get_by_role("button", name="Remove ").count() == 2
        assert first in visit.page.url and second in visit.page.url
    visit.check()


def test_compare_keeps_its_runs_when_their_labels_grow_and_takes_the_click_that_comes_then(server, visit, runs):
    """A similar run makes the labels longer, so that they tell it apart; the next click is on the picker itself."""
    chosen = [write_run(runs, "doodle-finetune", seed=1), write_run(runs, "doodle-scratch", seed=2)]
    visit.page.goto(f"{server.url}/compare?runs={chosen[0]}&runs={chosen[1]}")
    visit.settle()
    before = picked(visit)
    write_run(runs, "doodle-finetune", seed=3, epochs=5)
    write_run(runs, "doodle-finetune", seed=1)
    visit.page.wait_for_timeout(LISTED)
    visit.page.get_by_role("button", name="Remove ").nth(1).click()
    visit.page.wait_for_url(lambda url: chosen[1] not in url)
    visit.settle()
    metric(visit, "Loss")
    assert picked(visit) != before
    assert chosen[0] in visit.page.url and chosen[1] not in visit.page.url
    assert visit.page.get_by_role("button", name="Remove ").count() == 1
    visit.check()


def test_train_stays_with_its_run_when_that_is_renamed(server, visit, runs):
    asked, _ = (write_run(runs, "doodle-scratch", seed=seed) for seed in (1, 2))
    visit.page.goto(f"{server.url}/train?run={asked}")
    visit.settle()
    seed = visit.page.get_by_label("Seed", exact=True)
    for number, name in enumerate(("Named once", "Named twice"), start=3):
        rename_run(load_run(asked, runs), name)
        visit.page.wait_for_timeout(LISTED)
        for typed in (number, number + 10):
            seed.fill(str(typed))
            seed.press("Enter")
            visit.settle()
            field = visit.page.locator(".stSelectbox", has_text="Run").last.locator("input").first
            wait_until(lambda field=field, name=name: name in field.input_value())
        visit.page.get_by_text(f"Run {asked},").wait_for()
        assert asked in visit.page.url
    visit.check()


def test_a_launch_takes_the_setting_that_was_typed_just_before(server, visit, runs):
    visit.page.goto(f"{server.url}/train")
    visit.page.get_by_role("button", name="Launch").wait_for()
    visit.settle()
    for seed, epochs in ((5, 3), (6, 2)):
        visit.page.get_by_label("Seed", exact=True).fill(str(seed))
        visit.page.get_by_label("Epochs", exact=True).fill(str(epochs))
        press_at_once(visit, "Launch")
        wait_until(lambda seed=seed: any(run.seed == seed for run in list_runs(runs)))
        (run,) = [run for run in list_runs(runs) if run.seed == seed]
        assert run.recipe["epochs"] == epochs
        visit.page.wait_for_url(f"**run={run.id}")
        visit.page.get_by_text(re.compile(r"\bLaunched\b")).wait_for()
        visit.settle()
    assert len([run for run in list_runs(runs) if not run.reference]) == 2
    visit.check()
    wait_until(lambda: all(run.status == "done" for run in list_runs(runs)))


def test_a_launch_of_what_cannot_be_launched_says_why(server, visit, runs):
    """The learning rate was right when the page was drawn, and is not when the button is pressed."""
    visit.page.goto(f"{server.url}/train")
    visit.page.get_by_role("button", name="Launch").wait_for()
    visit.page.get_by_text("More settings").click()
    visit.settle()
    visit.page.get_by_label("Learning rate", exact=True).fill("0")
    press_at_once(visit, "Launch")
    visit.page.get_by_text("Nothing was launched").wait_for()
    visit.settle()
    assert not [run for run in list_runs(runs) if not run.reference]
    visit.check()
