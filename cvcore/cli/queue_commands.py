"""Commands about the line of queued runs and what is done with runs: launch, queue, worker, stop, delete, restore."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

from cvcore import backends, permissions, settings, trash, waiting_line
from cvcore.cli.command_line import as_json, changed_recipe, main, parse_settings, runs_option, show, table
from cvcore.errors import CvcoreError
from cvcore.run_directory import Run, list_runs, load_run

DIGITS = 12  # of a number on the command line


@main.command()
@click.argument("recipe")
@click.option("--data", help="Dataset name, folder or zip; default the recipe's own.")
@click.option("--from", "from_run", help="Features run whose model a finetune recipe continues.")
@click.option("--seed", default=0, show_default=True, type=int)
@click.option("--seeds", metavar="0,1,2", help="Repeat the run over seeds, as one group.")
@click.option("--train-pictures", metavar="250,500,all", help="Repeat it over training-set sizes, as one group.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a field, e.g. dropout=0.4.")
@click.option("--name", help="What to call the run.")
@click.option("--anyway", is_flag=True, help="Train it although the same run is there already.")
@runs_option
@as_json
def launch(
    recipe: str,
    data: str | None,
    from_run: str | None,
    seed: int,
    seeds: str | None,
    train_pictures: str | None,
    settings: tuple[str, ...],
    name: str | None,
    anyway: bool,
    runs: Path | None,
    to_json: bool,
) -> None:
    """Queue a run, or a group over seeds and training-set sizes, and return at once; a worker process trains it."""
    from cvcore import launching
    from cvcore.datasets import open_dataset

    chosen = changed_recipe(recipe, parse_settings(settings))
    dataset = open_dataset(data or chosen.dataset or "doodle-pets")
    if seeds is not None or train_pictures is not None:
        sweep = launching.launch_sweep(
            chosen, dataset, _numbers("--seeds", seeds or str(seed)),
            _numbers("--train-pictures", train_pictures or str(chosen.train_pictures or "all"), none="all"),
            runs=runs, from_run=from_run, anyway=anyway, title=name, most=launching.MOST_OF_A_TEACHER,
        )  # fmt: skip
        rows = [{"run": run.id, "status": run.status, "seed": run.seed,
                 "train_pictures": run.recipe.get("train_pictures") or "all"}
                for run in (*sweep.there, *sweep.launched)]  # fmt: skip
        show({"group": sweep.group["id"], "runs": rows}, to_json,
             lambda found: table(found["runs"], ["run", "status", "seed", "train_pictures"]))  # fmt: skip
        return
    run = launching.launch(chosen, dataset, seed, runs=runs, from_run=from_run, anyway=anyway, name=name)
    show({"run": run.id, "status": run.status}, to_json, lambda row: row["run"])


def _numbers(option: str, text: str, none: str | None = None) -> list[Any]:
    """Read whole numbers between commas; the word `none` stands for None."""
    words = [word.strip() for word in text.split(",")]
    if not all(word == none or (word.isdecimal() and len(word) <= DIGITS) for word in words):
        raise CvcoreError(f"{option} takes whole numbers with commas between them; received {text[:80]!r}")
    return [None if word == none else int(word) for word in words]


@main.command()
@runs_option
@as_json
def queue(runs: Path | None, to_json: bool) -> None:
    """Print what trains, and the line of runs that wait, each with its place and when it is expected to start."""
    listed, status, capacity = list_runs(runs), backends.status(runs), backends.capacity(runs)
    places = waiting_line.places(listed, capacity.slots)
    running = [run for run in listed if run.status == "running"]
    rows = [_row(run, None) for run in running]
    rows += [_row(run, places[run.id]) for run in waiting_line.in_order(listed)]
    found = {"backend": status.words, "worker": status.worker_alive, "problem": status.problem, "runs": rows}

    def text(found: dict[str, Any]) -> str:
        lines = [{**row, "starts_in": _duration(row["starts_in"])} for row in found["runs"]]
        columns = ["position", "run", "status", "starts_in", "name"]
        parts = [found["backend"], found["problem"], table(lines, columns) if lines else "nothing trains or waits"]
        return "\n".join(filter(None, parts))

    show(found, to_json, text)


def _row(run: Run, place: waiting_line.Place | None) -> dict[str, Any]:
    position, starts_in = (place.position, place.starts_in) if place else (None, None)
    return {"position": position, "run": run.id, "status": run.status, "starts_in": starts_in, "name": run.name}


def _duration(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


@main.command()
@click.option("--stay", is_flag=True, help="Stay when there is nothing to do, until Ctrl-C.")
@runs_option
def worker(stay: bool, runs: Path | None) -> None:
    """Serve the line in this process until nothing is left to do; whatever trains goes on when it is ended."""
    from cvcore.backends.worker import serve

    folder = runs or settings.runs_folder()
    folder.mkdir(parents=True, exist_ok=True)
    if not serve(folder.resolve(), idle=math.inf if stay else None):
        raise CvcoreError(f"another worker serves {folder} already; one is enough")


@main.command()
@click.argument("run", nargs=-1, required=True)
@runs_option
def stop(run: tuple[str, ...], runs: Path | None) -> None:
    """Ask queued or running runs to stop; what they have is kept."""
    for run_id in run:
        found = load_run(run_id, runs)
        permissions.require(found, permissions.TERMINAL, "stop")
        backends.stop(found)
        click.echo(f"{run_id} " + ("stops at its next batch" if found.status == "running" else "has left the line"))


@main.command()
@click.argument("run", nargs=-1, required=True)
@runs_option
def delete(run: tuple[str, ...], runs: Path | None) -> None:
    """Move runs to the trash, where they are kept for some days."""
    for run_id in run:
        found = load_run(run_id, runs)
        permissions.require(found, permissions.TERMINAL, "delete")
        trash.delete_run(found)
        click.echo(f"{run_id} is in the trash for {trash.KEPT_DAYS:.0f} days; `restore {run_id}` takes it back")


@main.command()
@click.argument("run", nargs=-1)
@runs_option
@as_json
def restore(run: tuple[str, ...], runs: Path | None, to_json: bool) -> None:
    """Take runs back out of the trash; without a name, list what is in it."""
    for run_id in run:
        trash.restore(run_id, runs)
    if run:
        show({"restored": list(run)}, to_json, lambda found: "\n".join(found["restored"]))
        return
    rows = [{"run": one.id, "deleted": one.deleted and one.deleted.isoformat(timespec="seconds")}
            for one in trash.trashed(runs)]  # fmt: skip
    show(rows, to_json, lambda rows: table(rows, ["run", "deleted"]) if rows else "the trash is empty")
