import json

import pytest
from dashboard import PATIENCE, free_port, serving, visiting, wait_until
from handmade_runs import write_run
from playwright.sync_api import expect

from cvcore.run_directory import list_runs, load_run

pytestmark = pytest.mark.browser
TITLES = {
    "": "Four ways to classify images from few examples",
    "dataset": "Dataset",
    "augmentation": "Augmentation",
    "train": "Train a strategy",
    "compare": "Compare runs",
    "storage": "Storage",
    "overview": "Four ways to classify images from few examples",
}


@pytest.mark.parametrize("path", TITLES)
def test_cold_deep_link_to_a_page_of_a_freshly_started_server(server, visit, path):
    visit.page.goto(f"{server.url}/{path}")
    visit.settle()
    assert visit.page.locator("h1").inner_text() == TITLES[path]
    assert visit.page.get_by_test_id("stTopNavLink").count() == 6
    visit.check()


def test_compare_with_nothing_chosen_shows_the_four_reference_runs(server, visit):
    visit.page.goto(f"{server.url}/compare")
    visit.settle()
    picker = visit.page.get_by_test_id("stMultiSelect").inner_text()
    assert [name in picker for name in ("From scratch", "Augmented", "Features", "Fine-tuned")] == [True] * 4
    visit.page.wait_for_selector(".js-plotly-plot .legendtext")
    assert visit.page.locator(".js-plotly-plot").count() == 2
    added, pictures = visit.page.get_by_text("Add saved histories"), visit.page.get_by_label("Trained on")
    assert pictures.count() == 0  # drawn once it is opened, and then also closed: what was typed there stays
    added.click()
    pictures.fill("our pets")
    pictures.press("Enter")
    visit.settle()
    added.click()
    pictures.wait_for(state="hidden")
    visit.settle()
    added.click()
    pictures.wait_for()
    visit.settle()
    assert pictures.input_value() == "our pets"
    visit.check()


def test_a_comparison_reopens_from_its_address_as_it_was(server, visit, runs):
    chosen = [run.id for run in list_runs(runs) if run.strategy in ("scratch", "augmented")]
    visit.page.goto(f"{server.url}/compare")
    visit.settle()
    visit.page.get_by_text("Loss", exact=True).click()
    for name in ("Fine-tuned", "Features"):
        visit.page.get_by_role("button", name=f"Remove {name}").click()
    visit.page.wait_for_url(lambda url: url.count("runs=") == 2 and "compare_metric=Loss" in url)
    address = visit.page.url
    assert all(run_id in address for run_id in chosen)
    visit.page.goto("about:blank")
    visit.page.goto(address)
    visit.settle()
    visit.page.locator(".gtitle", has_text="Loss by epoch").first.wait_for()
    assert "Fine-tuned" not in visit.page.get_by_test_id("stMultiSelect").inner_text()
    visit.check()


def test_a_lesson_open_every_page_train_one_strategy_see_it_in_compare(tmp_path, visit, runs, cache):
    port, page = free_port(), visit.page
    with serving(tmp_path, runs, cache, port) as server:
        page.goto(server.url)
        for link, title in zip(("Overview", "Dataset", "Augmentation", "Train"), TITLES.values(), strict=False):
            page.get_by_test_id("stTopNavLink").filter(has_text=link).click()
            page.get_by_role("heading", name=title, level=1).wait_for()
            visit.settle()
            visit.check()
        page.get_by_role("button", name="Launch").wait_for()
        page.get_by_label("Epochs", exact=True).fill("12")
        page.get_by_label("Epochs", exact=True).press("Enter")
        visit.settle()
        page.get_by_role("button", name="Launch").click()
        wait_until(lambda: any(not run.reference for run in list_runs(runs)))
        (launched,) = [run for run in list_runs(runs) if not run.reference]
        page.wait_for_url(f"**run={launched.id}")
        # A reload, then a new server: everything about the run is in its directory, also if it is done by then.
        tested = page.get_by_test_id("stMetric").filter(has_text="Test accuracy").filter(has_text="%")
        page.get_by_test_id("stProgress").or_(tested).first.wait_for()
        page.reload()
        page.get_by_test_id("stProgress").or_(tested).first.wait_for()
        address = page.url
        visit.check()
        page.goto("about:blank")
    assert launched.id in address
    with serving(tmp_path, runs, cache, port) as server:
        page.goto(address)
        wait_until(lambda: load_run(launched.id, runs).status not in ("queued", "running"))
        assert load_run(launched.id, runs).status == "done", load_run(launched.id, runs).log()
        tested.wait_for()
        visit.settle()
        visit.check()
        page.get_by_role("link", name="Compare with the reference runs").click()
        page.get_by_role("heading", name="Compare runs").wait_for()
        visit.settle()
        assert launched.id in page.url
        page.wait_for_selector(".js-plotly-plot .legendtext")
        assert page.get_by_role("button", name="Remove ").count() == 5
        visit.check()
    metrics = json.loads((runs / launched.id / "metrics.json").read_text())
    assert metrics["epochs"] == 12 and metrics["test_accuracy"] > 0.5


def test_ten_sessions_leave_the_server_under_300_mb(server, browser):
    opened = []
    try:
        for path in list(TITLES)[:5] * 2:
            visit = visiting(browser)
            opened.append(visit)
            visit.page.goto(f"{server.url}/{path}")
            visit.settle()
        memory = server.memory_mb()
        print(f"server with ten sessions: {memory:.0f} MB")
        for visit in opened:
            visit.check()
    finally:
        for visit in opened:
            visit.page.context.close()
    assert memory < 300


def test_deleting_a_run_does_not_leave_the_confirmation_open_for_the_next(server, visit, runs):
    kept, unwanted = (write_run(runs, "doodle-scratch", seed=seed) for seed in (1, 2))
    visit.page.goto(f"{server.url}/train?run={unwanted}")
    visit.settle()
    visit.page.get_by_role("button", name="Delete", exact=False).first.click()
    visit.page.get_by_role("button", name="Delete this run").click()
    visit.page.wait_for_url(f"**run={kept}")
    visit.settle()
    assert not (runs / unwanted).exists()
    visit.page.get_by_text(f"Run {kept},").wait_for()
    expect(visit.page.get_by_role("button", name="Delete this run")).to_have_count(0, timeout=PATIENCE)
    visit.check()
