"""`python -m cvcore …`: everything the dashboard does, without a browser."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from cvcore.errors import CvcoreError
from cvcore.recipe import STRATEGIES, Recipe

STOPPED = 130  # exit code of a training that was stopped, as of a command ended by Ctrl-C
as_json = click.option("--json", "to_json", is_flag=True, help="Print one JSON document on stdout.")
runs_option = click.option("--runs", type=click.Path(path_type=Path), help="Folder of run directories.")


class _Group(click.Group):
    """Turns an error meant for a user into one sentence on stderr and exit code 1."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except CvcoreError as error:
            click.echo(f"Error: {error}", err=True)
        except BrokenPipeError:
            raise
        except OSError as error:
            click.echo(f"Error: {error.strerror or error}: {error.filename}", err=True)
        context.exit(1)


@click.group(cls=_Group, help="Train and compare the four ways to classify images with few pictures.")
def main() -> None:
    """Group of the commands below."""


def show(document: Any, to_json: bool, text: Callable[[Any], str]) -> None:
    """Print a document as JSON, or as the text that a function makes of it."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False) if to_json else text(document))


def table(rows: list[dict[str, Any]], columns: list[str]) -> str:
    """Lay rows out in aligned columns; None is a dash, a float between 0 and 1 has four digits."""
    cells = [columns, *([_cell(row.get(name)) for name in columns] for row in rows)]
    widths = [max(len(row[index]) for row in cells) for index in range(len(columns))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    )


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}" if 0 <= value <= 1 else f"{value:.1f}"
    return "-" if value is None else str(value)


@main.command()
@as_json
def datasets(to_json: bool) -> None:
    """List the datasets by name and say which are here."""
    from cvcore.datasets import known_datasets

    show(known_datasets(everything=True), to_json, lambda rows: table(rows, ["id", "kind", "available", "title"]))


@main.command()
@click.argument("folder")
@as_json
def check(folder: str, to_json: bool) -> None:
    """Report on a folder, a zip or a dataset's name: counts, sizes, and each skipped file with its reason."""
    from cvcore.datasets import open_dataset, report

    def text(found: dict[str, Any]) -> str:
        named = {name: value for name, value in found.items() if name != "skipped"}
        lines = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in named.items()]
        lines += [f"skipped {item['path']}: {item['reason']}" for item in found["skipped"]]
        return "\n".join(lines)

    show(report(open_dataset(folder, progress=_counter("checking"))), to_json, text)


@main.command("make-small")
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("destination", type=click.Path(path_type=Path))
@click.option("--layout", default="cats_vs_dogs_small", show_default=True, help="Which source's subset.")
@as_json
def make_small_command(source: Path, destination: Path, layout: str, to_json: bool) -> None:
    """Make a source's small dataset from the competition's train folder or zip; a tiny one from any two classes."""
    from cvcore.datasets import make_small, open_dataset, report

    make_small(source, destination, layout)
    found = report(open_dataset(destination))
    show(found, to_json, lambda found: f"{destination}: {json.dumps(found['counts'])}")


@main.command()
@click.argument("dataset")
@as_json
def download(dataset: str, to_json: bool) -> None:
    """Download a public dataset by its name."""
    from cvcore.datasets import download as fetch

    path = fetch(dataset, progress=_counter("downloading"))
    show({"dataset": dataset, "path": str(path)}, to_json, lambda found: f"{found['path']}")


@main.command()
@as_json
def recipes(to_json: bool) -> None:
    """List the recipes by name."""
    from cvcore.published import RECIPES

    rows = [recipe.model_dump(mode="json") for recipe in RECIPES.values()]
    show(rows, to_json, lambda rows: table(rows, ["id", "strategy", "dataset", "image_size", "epochs", "title"]))


@main.command()
@click.argument("recipe")
@click.option(
    "--classes", type=click.IntRange(2), help="Number of classes; default that of the pictures the recipe is for."
)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a field of the recipe.")
@as_json
def describe(recipe: str, classes: int | None, settings: tuple[str, ...], to_json: bool) -> None:
    """Print a recipe's layers, shapes and parameters; or those of a pretrained base without its top, by its name."""
    from cvcore.bases import BASES
    from cvcore.published import usual_classes

    changes = parse_settings(settings)
    _import_keras()
    from cvcore.models import describe as describe_recipe
    from cvcore.models import describe_base

    if recipe in BASES:
        if unknown := sorted(set(changes) - {"image_size", "alpha"}):
            raise CvcoreError(f"a base is described by image_size and alpha only; received {unknown}")
        found = describe_base(recipe, **{"image_size": BASES[recipe].image_size, **changes})
    else:
        chosen = _changed(recipe, changes)
        found = describe_recipe(chosen, classes or usual_classes(chosen))

    def text(found: dict[str, Any]) -> str:
        rows = [{**row, "output_shape": tuple(row["output_shape"])} for row in found["layers"]]
        counts = ", ".join(f"{name} {count:,}" for name, count in found["parameters"].items())
        return table(rows, ["name", "type", "output_shape", "parameters"]) + f"\nparameters: {counts}"

    show(found, to_json, text)


@main.command()
@click.argument("recipe")
@click.option("--data", help="Dataset name, folder or zip; default the recipe's own.")
@click.option("--base", help="Another pretrained base.")
@click.option("--weights", type=click.Path(path_type=Path), help="Local file with the base's weights.")
@click.option("--from", "from_run", help="Features run whose model a finetune recipe continues.")
@click.option("--seed", default=0, show_default=True, type=int)
@click.option("--epochs", type=int, help="Epochs (of the last phase).")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a field, e.g. dropout=0.4.")
@runs_option
@as_json
def train(
    recipe: str,
    data: str | None,
    base: str | None,
    weights: Path | None,
    from_run: str | None,
    seed: int,
    epochs: int | None,
    settings: tuple[str, ...],
    runs: Path | None,
    to_json: bool,
) -> None:
    """Train a recipe and print its figures."""
    from cvcore import api

    changes = parse_settings(settings)
    changes |= {name: value for name, value in (("base", base), ("epochs", epochs)) if value is not None}
    chosen = _changed(recipe, changes)
    _import_keras()
    run = api.train(chosen, data, seed=seed, weights=weights, from_run=from_run, runs=runs, on_progress=progress_line())
    _finish(run.summary(), to_json)


@main.command()
@click.argument("run")
@click.option("--if-queued", is_flag=True, help="Do nothing unless the run is queued.")
@runs_option
@as_json
def resume(run: str, if_queued: bool, runs: Path | None, to_json: bool) -> None:
    """Train a queued, stopped, failed or interrupted run in this process, from its last finished epoch."""
    from cvcore import api

    _import_keras()
    if if_queued and api.load(run, runs).status != "queued":
        return
    _finish(api.resume(run, runs, on_progress=progress_line()).summary(), to_json)


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


def parse_settings(settings: tuple[str, ...]) -> dict[str, Any]:
    """Turn `key=value` words into changes of a recipe; `augmentation.rotation=20` names a field within a field.

    Raises:
        CvcoreError: a word has no `=`.
    """
    changes: dict[str, Any] = {}
    for setting in settings:
        key, equals, word = setting.partition("=")
        if not equals or not key:
            raise CvcoreError(f"--set takes key=value; received {setting!r}")
        try:
            value = json.loads(word)
        except ValueError:
            value = word
        outer, dot, inner = key.partition(".")
        if dot:
            if not isinstance(changes.setdefault(outer, {}), dict):
                raise CvcoreError(f"--set {outer}=… and --set {key}=… contradict one another; leave one out")
            changes[outer][inner] = value
        else:
            changes[key] = value
    return changes


def progress_line() -> Callable[[dict[str, Any]], None] | None:
    """Return a function that keeps one line of progress on a terminal; None where stderr is not one."""
    if not sys.stderr.isatty():
        return None

    def line(now: dict[str, Any]) -> None:
        left = "" if now["seconds_left"] is None else f", {now['seconds_left']:.0f} s left"
        loss = "" if now.get("loss") is None else f", loss {now['loss']:.3f}, accuracy {now['accuracy']:.3f}"
        text = f"{now['phase']}: epoch {now['epoch']}/{now['epochs']}, step {now['step']}/{now['steps']}{loss}{left}"
        click.echo(f"\r{text[:118]:<118}", err=True, nl=False)

    return line


def _counter(what: str) -> Callable[[int, int], None] | None:
    if not sys.stderr.isatty():
        return None
    return lambda done, total: click.echo(f"\r{what} {done:,}/{total:,}", err=True, nl=done >= total)


def _changed(recipe: str, changes: dict[str, Any]) -> Recipe:
    from cvcore.published import get_recipe

    chosen = get_recipe(recipe)
    augmentation = changes.get("augmentation")
    if isinstance(augmentation, dict) and chosen.augmentation is not None:
        changes = {**changes, "augmentation": {**chosen.augmentation.model_dump(), **augmentation}}
    return chosen.with_changes(**changes)


def _finish(summary: dict[str, Any], to_json: bool) -> None:
    if sys.stderr.isatty():
        click.echo(err=True)
    columns = ["run", "status", "best_epoch", "val_accuracy", "last_val_accuracy", "test_accuracy", "seconds"]
    show(summary, to_json, lambda row: table([row], columns))
    if summary["status"] == "failed":
        raise CvcoreError(str(summary["error"]))
    if summary["status"] == "stopped":
        sys.exit(STOPPED)


def _import_keras() -> None:
    """Import Keras without pandas, 67 MB that training has no use for, and without TensorFlow's log on a terminal."""
    if "keras" in sys.modules or "pandas" in sys.modules:
        return
    sys.modules["pandas"] = None  # type: ignore[assignment]
    terminal = os.dup(2)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 2)
    try:
        import keras  # noqa: F401
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
        os.close(silence)
        del sys.modules["pandas"]
