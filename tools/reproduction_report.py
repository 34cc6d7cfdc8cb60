"""Write the tables of docs/reproduction.md from the reference runs in runs/; what stands around them is kept.

python -m tools.reproduction_report      # or: make reproduction
"""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median

from cvcore import reproduction
from cvcore.comparison import number
from cvcore.published import PUBLISHED, RECIPES
from cvcore.recipe import Recipe
from cvcore.reproduction import Measured
from cvcore.run_directory import Run, list_runs
from cvcore.settings import PROJECT

REPORT = PROJECT / "docs" / "reproduction.md"
MARKERS = {
    name: (f"<!-- {name}: made by make reproduction -->", f"<!-- end of {name} -->") for name in ("recipes", "runs")
}
NOTES = (
    "A single run of ours would lie, 95 times of 100, in the interval of its column. A published figure is known to "
    "half a unit of its last digit."
)
HEADINGS = """# Reproduction report

{introduction}

## How it was measured

## Published figures beside ours

{recipes}

## Findings

## The runs behind the figures

{runs}
"""


def main() -> None:
    """Write the tables between their markers; make the file with empty headings where there is none."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=PROJECT / "runs", help="default: runs/ of this project")
    parser.add_argument("--out", type=Path, default=REPORT, help="default: docs/reproduction.md")
    options = parser.parse_args()
    text = options.out.read_text() if options.out.is_file() else empty_report()
    options.out.write_text(with_tables(text, list_runs(options.runs)))
    print(options.out)


def empty_report() -> str:
    """The report with headings and nothing said."""
    places = {name: f"{start}\n{end}" for name, (start, end) in MARKERS.items()}
    introduction = "`make reproduction` writes the tables from the run directories in `runs/`."
    return HEADINGS.format(introduction=introduction, **places)


def with_tables(text: str, runs: Sequence[Run]) -> str:
    """Return the report with its tables made anew.

    Args:
        text: the report, with both pairs of markers.
        runs: saved runs, of which the reference runs are taken.
    """
    shipped = [run for run in runs if run.reference]
    for name, table in {"recipes": recipes_table(shipped), "runs": runs_table(shipped)}.items():
        start, end = MARKERS[name]
        before, _, rest = text.partition(start)
        _, found, after = rest.partition(end)
        if not found:
            raise SystemExit(f"the report must have the lines {start} and {end}, with the table between them")
        text = f"{before}{start}\n\n{table}\n\n{end}{after}"
    return text


def recipes_in_order() -> list[Recipe]:
    """The recipes with published figures, then ours on photographs."""
    ours = [recipe for recipe in RECIPES.values() if recipe.id not in PUBLISHED]
    return [RECIPES[name] for name in PUBLISHED] + [one for one in ours if not str(one.dataset).startswith("doodle")]


def recipes_table(runs: Sequence[Run]) -> str:
    """One row a recipe, and one more for each further figure of it."""
    head = (
        "recipe",
        "published",
        "ours",
        "95 % interval",
        "our interval",
        "one more run",
        "time",
        "peak memory",
        "device",
    )
    rows: list[tuple[str, ...]] = []
    for recipe in recipes_in_order():
        same = reproduction.same_recipe(recipe, runs)
        costs = (_times(same), _memory(same), _lines(dict.fromkeys(map(device, same))))
        first = f"`{recipe.id}`"
        for cells in _figures(recipe, runs) if same else _not_run(recipe):
            rows.append((first, *cells, *costs))
            first, costs = "", ("", "", "")
    return f"{_table(head, rows)}\n\n{reproduction.ONE_RUN} {NOTES} {reproduction.OPTIMISTIC}"


def runs_table(runs: Sequence[Run]) -> str:
    """One row a run that counts, for each recipe it counts for, then one an imported history."""
    head = ("recipe", "seed", "run", "train, last", "validation, last", "validation, highest",
            "validation, lowest loss", "test", "best epoch", "time", "device")  # fmt: skip
    asked = (("train", "last"), ("validation", "last"), ("validation", "best"), ("validation", "checkpoint"),
             ("test", "checkpoint"))  # fmt: skip
    told = [(recipe.id, run) for recipe in recipes_in_order() for run in reproduction.same_recipe(recipe, runs)]
    told += [(run.recipe["id"], run) for run in sorted(runs, key=lambda run: run.id) if run.imported]
    rows = []
    for recipe_id, run in told:
        values = [reproduction.figure_of(run, split, epoch) for split, epoch in asked]  # type: ignore[arg-type]
        shares = ["–" if value is None else _spaced(reproduction.percent(value)) for value in values]
        seed = "–" if run.seed is None else str(run.seed)
        costs = ("–", "imported") if run.imported else (_times([run]), device(run))
        best = number((run.metrics or {}).get("best_epoch"))
        rows.append((f"`{recipe_id}`", seed, f"`{run.id}`", *shares, str(best), *costs))
    return _table(head, rows)


def _figures(recipe: Recipe, runs: Sequence[Run]) -> list[tuple[str, ...]]:
    """For each figure: published, ours, the interval of the mean, how it lies, the interval of one more run."""
    rows: list[tuple[str, ...]] = []
    for one in reproduction.verdicts(recipe.id, runs):
        published = f"{one.figure.text} ({reproduction.where(one.figure.split, one.figure.epoch)})"
        if one.figure.epochs is not None:
            rows.append((published, f"no run of {one.figure.epochs} epochs here", "", "", ""))
        elif one.measured is None:
            rows.append((published, "not measured", "", "", ""))
        else:
            ours, interval, another = _ours(one.measured, one.digits)
            ours += f"; {one.ours_at}" if one.ours_at else ""
            rows.append((published, ours, interval, one.words or "–", another))
    if recipe.id not in PUBLISHED:
        for measured in reproduction.own_figures(recipe.id, runs):
            ours, interval, another = _ours(measured, 1)
            rows.append((f"– ({reproduction.where(measured.split, measured.epoch)})", ours, interval, "–", another))
    return rows


def _ours(measured: Measured, digits: int) -> tuple[str, str, str]:
    spread = "" if measured.spread is None else f" ± {measured.spread * 100:.{digits}f}"
    seeds = ", ".join(map(str, measured.seeds))
    seeds = f"{len(measured.seeds)} seeds: {seeds}" if len(measured.seeds) > 1 else f"seed {seeds}"
    span, another = (_spaced(text) for text in (reproduction.span(measured, digits),
                                                reproduction.one_span(measured, digits)))  # fmt: skip
    interval = f"{span}, {measured.interval}" if span else f"none: {measured.without}"
    return f"{measured.mean * 100:.{digits}f}{spread} % ({seeds})", interval, another or "–"


def _spaced(text: str) -> str:
    """Percentages as this report writes them, "74.0 %"."""
    return text.replace("%", " %")


def _not_run(recipe: Recipe) -> list[tuple[str, ...]]:
    why = why_not_run(recipe)
    rows: list[tuple[str, ...]] = []
    for figure in PUBLISHED.get(recipe.id, ()):
        rows.append((f"{figure.text} ({reproduction.where(figure.split, figure.epoch)})", why, "", "", ""))
        why = why.split(":")[0]
    return rows or [("–", why, "", "", "")]


def why_not_run(recipe: Recipe) -> str:
    """Say what stood against running a recipe where these runs were recorded."""
    if recipe.base in ("VGG16", "VGG19", "Xception"):
        return f"not run here: the ImageNet weights of {recipe.base} could not be had where these runs were recorded"
    if recipe.dataset == "mnist":
        return "not run here: the file mnist.npz could not be had where these runs were recorded"
    return "not run yet: its data and code are here, the processor time was not"


def device(run: Run) -> str:
    """Name what a run was trained on, "CPU, AMD EPYC, 2 cores, tensorflow"."""
    told = run.info.get("device")
    told = told if isinstance(told, dict) else {}
    cores = f"{told['cores']} cores" if told.get("cores") and told.get("kind") == "CPU" else ""
    precision = "" if told.get("precision") in (None, "float32") else told["precision"]
    return ", ".join(str(part) for part in (told.get("kind"), told.get("name"), cores, told.get("backend"), precision)
                     if part) or "–"  # fmt: skip


def _times(runs: Sequence[Run]) -> str:
    """The median wall time and the range, of each device apart, and of runs that found their features stored apart."""
    lines = []
    for name in dict.fromkeys(map(device, runs)):
        here = [run for run in runs if device(run) == name]
        found = [run for run in here if _found_features(run)]
        told = []
        if computed := [run for run in here if run not in found]:
            told.append(_time(computed) + (" with its features computed" if found else ""))
        if found:
            told.append(f"{_time(found)} with its features stored before")
        if any(run.info.get("from_run") for run in here):
            told[-1] += ", after its features run"
        lines.append("; ".join(told))
    return _lines(lines)


def _time(runs: Sequence[Run]) -> str:
    seconds = [run.info["timings"]["total"] for run in runs]
    said = _duration(median(seconds))
    return said if len(seconds) == 1 else f"{said}, of {_duration(min(seconds))} to {_duration(max(seconds))}"


def _found_features(run: Run) -> bool:
    """Say whether a run that trains on stored features found them all: those of any split take over a second."""
    seconds = (run.metrics or {}).get("seconds") or {}
    stored = run.recipe.get("cached") or run.recipe.get("views")
    return bool(stored) and float(seconds.get("features") or 0) < 1


def _memory(runs: Sequence[Run]) -> str:
    """The highest peak of each device's runs."""
    devices = dict.fromkeys(map(device, runs))
    peaks = [max(float(run.info.get("peak_memory") or 0) for run in runs if device(run) == name) for name in devices]
    return _lines(f"{peak / 1000:.1f} GB" if peak else "–" for peak in peaks)


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"


def _lines(parts: Iterable[str]) -> str:
    return "<br>".join(parts)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


if __name__ == "__main__":
    main()
