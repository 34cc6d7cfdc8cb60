"""How long a page takes from the request until it is finished, in a real Chromium; Compare also with many runs.

    python -m benchmarks.pages                          # every page, and Compare with 10, 100 and 1,000 runs
    python -m benchmarks.pages --pages compare --runs 1000 --rounds 5
    python -m benchmarks.pages --floor                  # Streamlit itself: pages of a few lines

Each round starts a server and a browser, whose starts are not counted. Cold: the server's first visitor, with a browser
that has seen nothing, from the request on. Loaded: the same browser
loads the address again. Warm: the page is come back to from another one, in an open dashboard. Clicked: Compare's other
curves. Compare is opened on what it opens on by itself and on every run, with made-up figures of 100 epochs.

Prints medians in milliseconds: until Compare's first chart and table are there; until everything is; the longest
stretch in which the browser answered nothing, 0 where none reached 50 ms; and the processor time of server and browser
together, which depends less on what else the machine does. Ends with 1 where Compare's table and first chart come too
late.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from benchmarks.bare_chromium import Tab, bare_chromium
from benchmarks.classroom import dashboard
from benchmarks.made_up_runs import write_runs
from tools.chromium import find

PAGES = ("overview", "dataset", "augmentation", "train", "storage", "compare")
KINDS = ("cold", "loaded", "warm", "clicked")
LIMITS = {"cold": 2000.0, "warm": 500.0}  # milliseconds until Compare's table and first chart are there
EVERY = "?runs=all"

# The browser itself says when it could not answer for 50 ms or more.
LISTEN = """
window.stretches = [];
new PerformanceObserver(list => window.stretches.push(...list.getEntries().map(one => one.duration)))
  .observe({type: "longtask", buffered: true});
"""
CHART = "document.querySelector('.js-plotly-plot .scatterlayer .trace') !== null"
TABLE = "document.querySelector('[data-testid=stDataFrame] canvas') !== null"
TITLE = "document.querySelector('h1').innerText"
CLOCK = "[performance.timeOrigin, performance.now()]"
CHOOSE = "[...document.querySelectorAll('button')].find(one => one.innerText.trim() === '%s').click()"
# Streamlit itself: pages of a few lines, and what is waited for on each.
FLOORS = {
    "nothing": ("", ""),
    "a table": ("import pandas\nst.dataframe(pandas.DataFrame({'a': range(4)}))", TABLE),
    "a chart": ("import plotly.graph_objs\nst.plotly_chart({'data': [{'y': [1, 2]}]})", CHART),
    "both": (
        "import pandas, plotly.graph_objs\nst.plotly_chart({'data': [{'y': [1, 2]}]})\n"
        "st.dataframe(pandas.DataFrame({'a': range(4)}))", f"{CHART} && {TABLE}"
    ),
}  # fmt: skip
FINISHED = """document.querySelector('h1') !== null
  && document.querySelector('[data-testid=stApp]').dataset.testScriptState === 'notRunning'
  && document.querySelector('[data-testid=stSkeleton]') === null"""


@dataclass
class Times:
    """What one kind of visit took, in milliseconds.

    Attributes:
        shown: until Compare's first chart and table were there; [] for other pages.
        finished: until everything was.
        silent: the longest stretch in which the browser answered nothing.
        processor: of server and browser together.
    """

    shown: list[float] = field(default_factory=list)
    finished: list[float] = field(default_factory=list)
    silent: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)


@dataclass
class Case:
    """One page, with so many saved runs.

    Attributes:
        page: its path, or one of `FLOORS`.
        runs: how many are saved.
        query: what follows its path.
        times: of each kind of visit.
    """

    page: str
    runs: int
    query: str = ""
    times: dict[str, Times] = field(default_factory=lambda: {kind: Times() for kind in KINDS})

    @property
    def shown(self) -> str:
        """What is waited for before the page is finished, in JavaScript; "" for nothing."""
        return f"{CHART} && {TABLE}" if self.page == "compare" else FLOORS.get(self.page, ("", ""))[1]

    @property
    def path(self) -> str:
        """Its address in the dashboard."""
        return "" if self.page in FLOORS else self.page + self.query


def visit(tab: Tab, url: str, server: psutil.Process, case: Case, again: int = 3) -> None:
    """Visit a page of a dashboard that nobody has visited, and note what it took.

    Args:
        tab: of a browser that has seen nothing.
        url: the dashboard's.
        server: its process.
        case: takes the times.
        again: how often the visits after the first are repeated.
    """
    for kind in ("cold", *["loaded"] * again):
        with _noting(tab, server, case.times[kind], case.shown):
            tab.open(f"{url}/{case.path}")
    if case.page in FLOORS:
        return
    away = "dataset" if case.page == "overview" else ""
    for _ in range(again):
        before = tab.evaluate(TITLE)
        with _noting(tab, server, Times(), changed=f"{TITLE} !== {json.dumps(before)}"):
            tab.evaluate(f"document.querySelector('[data-testid=stTopNavLink][href$=\"/{away}\"]').click()")
        changed = f"{TITLE} === {json.dumps(before)}"
        with _noting(tab, server, case.times["warm"], case.shown, changed):
            tab.evaluate("history.back()")
    for metric in ("Loss", "Accuracy") * again if case.page == "compare" else ():
        changed = f"document.querySelector('.gtitle')?.textContent.startsWith({metric!r})"
        with _noting(tab, server, case.times["clicked"], case.shown, changed):
            tab.evaluate(CHOOSE % metric)


@contextmanager
def _noting(tab: Tab, server: psutil.Process, times: Times, shown: str = "", changed: str = "true") -> Iterator[None]:
    """Do something with a page, wait until it is finished, and note what that took."""
    used, asked = _processor(server), tab.evaluate(CLOCK)
    yield
    condition = f"document.querySelector('h1') !== null && ({changed}) && ({{}})"

    def when(true: str) -> float:
        origin, now = tab.until(condition.format(true), CLOCK)
        # A page that was loaded has a clock of its own, which began with the request.
        return float(now - asked[1] if origin == asked[0] else now)

    if shown:
        times.shown.append(when(shown))
    times.finished.append(when(FINISHED))
    time.sleep(0.5)  # what a browser still draws then keeps it from answering too
    times.silent.append(max(tab.evaluate("window.stretches.splice(0)"), default=0.0))
    times.processor.append(1000 * (_processor(server) - used))


def _processor(server: psutil.Process) -> float:
    """Seconds of processor time that the server, and the browser that this process started, have used."""
    used = 0.0
    for process in (server, *psutil.Process().children(recursive=True)):
        with suppress(psutil.Error):
            if process == server or "chrom" in process.name():
                taken = process.cpu_times()
                used += taken.user + taken.system
    return used


def cases(pages: Sequence[str], runs: Sequence[int]) -> list[Case]:
    """List what is measured: each page with the fewest runs, Compare with each number, some and all of them chosen."""
    found = [Case(page, min(runs)) for page in pages if page != "compare"]
    if "compare" in pages:
        found += [Case("compare", number, query) for number in runs for query in ("", EVERY)]
    return found


def rows(case: Case) -> list[dict[str, object]]:
    """Sum up what was measured of a case: a row a kind of visit, medians in milliseconds."""
    found = []
    for kind, times in case.times.items():
        if times.finished:
            told = {name: round(statistics.median(values)) for name, values in asdict(times).items() if values}
            chosen = "all" if case.query else "as it opens"
            found.append({"page": case.page, "runs": case.runs, "chosen": chosen, "visit": kind, **told})
    return found


def over(row: dict[str, object]) -> str:
    """Say in words that a row is over its limit, "" where it is not."""
    limit, shown = LIMITS.get(str(row["visit"])), row.get("shown")
    if limit is None or not isinstance(shown, int) or shown <= limit:
        return ""
    return f"{row['page']} with {row['runs']:,} runs, {row['chosen']}, {row['visit']}: {shown} ms, at most {limit:.0f}"


def as_table(found: Sequence[dict[str, object]]) -> str:
    """Write rows as a table of docs/performance.md."""
    heads = {"page": "page", "runs": "saved runs", "chosen": "chosen", "visit": "visit", "shown": "chart and table",
             "finished": "finished", "silent": "longest silence", "processor": "processor time"}  # fmt: skip
    lines = [f"| {' | '.join(heads.values())} |", "|---" * len(heads) + "|"]
    for row in found:
        cells = [row.get(name, "") for name in heads]
        told = (f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in cells)
        lines.append(f"| {' | '.join(told)} |")
    return "\n".join(lines)


def main() -> int:
    """Measure every case, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", nargs="+", choices=PAGES, default=PAGES, help="default all")
    parser.add_argument("--runs", nargs="+", type=int, default=[10, 100, 1000], help="saved runs, default 10 100 1000")
    parser.add_argument("--epochs", type=int, default=100, help="of each run, default 100")
    parser.add_argument("--rounds", type=int, default=3, help="servers that are started for each, default 3")
    parser.add_argument("--floor", action="store_true", help="Streamlit itself instead: pages of a few lines")
    parser.add_argument("--json", type=Path, help="write the rows to this file too")
    args = parser.parse_args()
    executable = find()
    if executable is None:
        print("No Chromium was found; python -m tools.chromium installs one.", file=sys.stderr)
        return 1
    measured = [Case(page, 0) for page in FLOORS] if args.floor else cases(args.pages, args.runs)
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["CVCORE_CACHE"] = f"{scratch}/cache"
        for number in {case.runs for case in measured} - {0}:
            write_runs(Path(scratch) / f"runs-{number}", number, args.epochs)
        for _ in range(args.rounds):
            for case in measured:
                os.environ["CVCORE_RUNS"] = f"{scratch}/runs-{case.runs}"
                script = "app.py"
                if case.page in FLOORS:
                    script = f"{scratch}/floor.py"
                    Path(script).write_text(f"import streamlit as st\nst.title('Floor')\n{FLOORS[case.page][0]}\n")
                # A browser of its own: what one has compiled stays with it, whoever looks.
                with dashboard(Path(scratch), script) as (url, server), bare_chromium(executable, LISTEN) as tab:
                    visit(tab, url, server, case)
    found = [row for case in measured for row in rows(case)]
    print(as_table(found))
    if args.json:
        args.json.write_text(json.dumps(found, indent=1))
    problems = [problem for row in found if (problem := over(row))]
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
