"""The benchmark of pages on a few runs: it sees a page being finished, whatever the machine's speed."""

import pytest
from dashboard import PATIENCE

from benchmarks import bare_chromium as bare
from benchmarks import classroom, pages
from benchmarks.made_up_runs import write_runs
from benchmarks.pages import EVERY, FLOORS, KINDS, Case
from tools.chromium import find


@pytest.mark.browser
def test_every_kind_of_visit_to_compare_with_all_runs_is_noted(tmp_path, monkeypatch, cache):
    write_runs(tmp_path / "runs", 20, epochs=5)
    monkeypatch.setenv("CVCORE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("CVCORE_CACHE", str(cache))
    # A machine that stalls for a while loses no connection.
    monkeypatch.setenv("STREAMLIT_SERVER_WEBSOCKET_PING_INTERVAL", "600")  # seconds
    monkeypatch.setattr(bare, "PATIENCE", PATIENCE / 1000)
    case = Case("compare", 20, EVERY)
    with classroom.dashboard(tmp_path) as (url, server), bare.bare_chromium(find(), pages.LISTEN) as tab:
        pages.visit(tab, url, server, case, again=1)
    told = pages.rows(case)
    assert [row["visit"] for row in told] == list(KINDS)
    assert all(row["shown"] > 0 and row["finished"] > 0 and row["processor"] > 0 for row in told)
    assert pages.as_table(told).count("| compare | 20 | all |") == 4


@pytest.mark.browser
def test_what_streamlit_itself_takes_is_noted(tmp_path, monkeypatch):
    monkeypatch.setattr(bare, "PATIENCE", PATIENCE / 1000)
    (tmp_path / "floor.py").write_text(f"import streamlit as st\nst.title('Floor')\n{FLOORS['both'][0]}\n")
    case = Case("both", 0)
    with (
        classroom.dashboard(tmp_path, str(tmp_path / "floor.py")) as (url, server),
        bare.bare_chromium(find(), pages.LISTEN) as tab,
    ):
        pages.visit(tab, url, server, case, again=1)
        tab.evaluate("window.looks = 0")
        with pytest.raises(RuntimeError, match="later"):  # at once, and not when patience has ended
            tab.until("(() => { if (window.looks++) throw new Error('later'); })()")
    assert [(row["visit"], row["shown"] > 0) for row in pages.rows(case)] == [("cold", True), ("loaded", True)]


def test_without_a_chromium_it_says_what_to_install():
    with pytest.raises(RuntimeError, match="install it with"), bare.bare_chromium(None):
        pass


def test_compare_is_measured_with_each_number_of_runs_and_other_pages_with_the_fewest():
    found = [(case.page, case.runs, case.query) for case in pages.cases(["overview", "compare"], [10, 1000])]
    assert found == [
        ("overview", 10, ""), ("compare", 10, ""), ("compare", 10, EVERY), ("compare", 1000, ""),
        ("compare", 1000, EVERY),
    ]  # fmt: skip


def test_what_comes_later_than_it_may_is_named():
    case = Case("compare", 1000, EVERY)
    case.times["cold"].shown, case.times["cold"].finished = [1000, 2100, 9000], [3000]
    case.times["warm"].shown, case.times["warm"].finished = [500], [600]
    cold, warm = pages.rows(case)
    assert pages.over(cold) == "compare with 1,000 runs, all, cold: 2100 ms, at most 2000" and not pages.over(warm)
