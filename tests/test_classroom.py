"""A few browsers of the benchmark against a real server: nothing goes wrong, whatever the machine's speed."""

import asyncio
import itertools

import pytest
from handmade_runs import write_reference_runs, write_run

from benchmarks import classroom
from benchmarks.browsers import Draw, Seen, browser, percentile
from benchmarks.classroom import Case
from cvcore.processes import this_process
from cvcore.run_directory import list_runs


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """A machine that stalls for a while makes no fault: the benchmark's own limits are those of one that does not."""
    monkeypatch.setattr("benchmarks.browsers.PATIENCE", 300.0)
    monkeypatch.setenv("STREAMLIT_SERVER_WEBSOCKET_PING_INTERVAL", "600")  # seconds


def test_five_browsers_on_compare_and_one_before_a_run_that_trains(runs, tmp_path, drawings, monkeypatch):
    monkeypatch.setattr(classroom, "RAMP", 2.0)
    write_reference_runs(runs)
    running = write_run(runs, "doodle-features", seed=9, status="running", process=this_process())
    recorded = [run for run in list_runs(runs) if run.id != running]
    (watched,) = [run for run in list_runs(runs) if run.id == running]
    case = Case("test", 5, trains=True, watching=1)
    with classroom.dashboard(tmp_path) as (url, server):
        compared, watching, _ = asyncio.run(classroom.visited(case, url, server, recorded, 6.0, watched, varied=True))
    told = classroom.figures(case, compared, watching, [], cpu=1.0)
    assert told["faults"] == []
    assert len(compared.first) == 5 and len(watching.first) == 1 and watching.parts
    assert all(draw.received > 20_000 for draw in compared.first)  # charts and tables, not an empty page


def test_a_page_that_is_not_there_is_a_fault(runs, tmp_path):
    async def looked(url):
        async with browser(url) as window:
            return await window.draw("no-such-page")

    with classroom.dashboard(tmp_path) as (url, _):
        assert asyncio.run(looked(url)).faults


def test_every_other_draw_is_of_something_else_if_varied(runs):
    write_reference_runs(runs)
    recorded = list_runs(runs)
    usual, other, again = itertools.islice(classroom.queries(recorded, varied=True), 3)
    assert usual == again and usual.count("runs=") == 4 and "compare_metric" in other
    assert len(set(itertools.islice(classroom.queries(recorded, varied=False), 4))) == 1


@pytest.mark.parametrize(("seconds", "problems"), [(0.1, 0), (0.6, 1)])
def test_what_is_over_its_limit_is_named(seconds, problems):
    seen = Seen(first=[Draw(1.0)] * 20, later=[Draw(0.1)] * 90 + [Draw(seconds)] * 10)
    told = classroom.figures(Case("test", 20, trains=False), seen, Seen(), [], cpu=1.0)
    assert told["rerun_p95_s"] == seconds and told["first_p95_s"] == 1.0
    assert len(classroom.over(Case("test", 20, trains=False), told)) == problems


def test_memory_is_compared_from_the_second_minute_on():
    memory = [100.0] * 6 + [200.0] * 60 + [224.0]
    told = classroom.figures(Case("test", 1, trains=False), Seen(), Seen(), memory, cpu=0.0)
    assert told["memory_mb"] == [200, 224] and told["memory_grew"] == 0.12
    assert "memory_grew 0.12, at most 0.1" in classroom.over(Case("test", 1, trains=False), told)


def test_percentiles_are_of_the_sorted_draws():
    draws = [Draw(float(n)) for n in range(100, 0, -1)]
    assert (percentile(draws, 0.5), percentile(draws, 0.95), percentile([], 0.95)) == (51.0, 96.0, 0.0)
