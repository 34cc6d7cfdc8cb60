"""Commands about saved runs: runs, compare, export-code, import."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from cvcore.cli.command_line import as_json, main, runs_option, show, table
from cvcore.errors import CvcoreError
from cvcore.recipe import STRATEGIES


@main.command("runs")
@runs_option
@as_json
def runs_command(runs: Path | None, to_json: bool) -> None:
    """List the saved runs, newest first."""
    from cvcore.run_directory import list_runs

    rows = [run.summary() for run in list_runs(runs)]
    columns = ["run", "status", "dataset", "seed", "best_epoch", "val_accuracy", "test_accuracy", "seconds"]
    show(
        rows, to_json, lambda rows: table(rows, columns) if rows else "no runs yet; `python -m cvcore train` makes one"
    )


@main.command()
@click.argument("run", nargs=-1, required=True)
@runs_option
@as_json
def compare(run: tuple[str, ...], runs: Path | None, to_json: bool) -> None:
    """Print runs side by side: their figures, and only those settings in which they differ."""
    from cvcore import comparison
    from cvcore.run_directory import load_run

    chosen = [load_run(run_id, runs) for run_id in run]
    found = {
        "runs": [one.summary() for one in chosen],
        "differences": comparison.differences(chosen),
        "cautions": comparison.cautions(chosen),
    }

    def text(found: dict[str, Any]) -> str:
        columns = ["run", "status", "strategy", "best_epoch", "val_accuracy", "test_accuracy", "seconds"]
        parts = [table(found["runs"], columns)]
        if found["differences"]:
            parts.append(table(found["differences"], list(found["differences"][0])))
        return "\n\n".join([*parts, *found["cautions"]])

    show(found, to_json, text)


@main.command("export-code")
@click.argument("run")
@runs_option
@as_json
def export_code(run: str, runs: Path | None, to_json: bool) -> None:
    """Print a standalone Keras script that repeats a run without this app."""
    from cvcore.code_export import standalone_script
    from cvcore.run_directory import load_run

    found = load_run(run, runs)
    if found.imported:
        raise CvcoreError(f"only a run trained here can be repeated; {run} was imported, and its recipe is not known")
    code = standalone_script(found.info)
    show({"run": run, "code": code}, to_json, lambda found: found["code"].rstrip("\n"))


@main.command("import")
@click.argument("file", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--strategy", type=click.Choice(STRATEGIES), help="How it was trained; not known when left out.")
@click.option("--title", help="A few words for one file; default its name.")
@click.option("--dataset", "pictures", help="What it was trained on, in a few words; not known when left out.")
@runs_option
@as_json
def import_command(
    file: tuple[Path, ...],
    strategy: str | None,
    title: str | None,
    pictures: str | None,
    runs: Path | None,
    to_json: bool,
) -> None:
    """Import training histories saved elsewhere, as runs to compare: Keras' History.history as JSON, CSVLogger files.

    Each file is taken or refused by itself: a refused one is named, the others are imported all the same, and the exit
    code is then 1. A file is imported once.
    """
    from cvcore.imported import import_file

    if title and len(file) > 1:
        raise CvcoreError(f"--title names one run; received {len(file)} files")
    found: dict[str, Any] = {"runs": [], "refused": []}
    for path in file:
        name = click.format_filename(path)
        try:
            run = import_file(path, strategy=strategy, title=title, dataset=pictures, folder=runs)
            found["runs"].append({**run.summary(), "file": name, "ignored": run.info["origin"]["ignored"]})
        except CvcoreError as error:
            found["refused"].append({"file": name, "error": str(error)})

    def text(found: dict[str, Any]) -> str:
        lines = [
            table(found["runs"], ["run", "strategy", "dataset", "best_epoch", "val_accuracy", "last_val_accuracy"])
        ]
        lines += [f"{row['file']}: columns left out: {row['ignored']}" for row in found["runs"] if row["ignored"]]
        return "\n".join(lines)

    if found["runs"] or to_json:
        show(found, to_json, text)
    for refused in found["refused"]:
        click.echo(f"Error: {refused['file']}: {refused['error']}", err=True)
    if found["refused"]:
        sys.exit(1)
