"""Commands about datasets and recipes: datasets, check, make-small, download, recipes, describe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from cvcore import devices
from cvcore.cli.command_line import as_json, changed_recipe, counter, main, parse_settings, show, table
from cvcore.errors import CvcoreError


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

    show(report(open_dataset(folder, progress=counter("checking"))), to_json, text)


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

    path = fetch(dataset, progress=counter("downloading"))
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
    devices.import_keras()
    from cvcore.models import describe as describe_recipe
    from cvcore.models import describe_base

    if recipe in BASES:
        if unknown := sorted(set(changes) - {"image_size", "alpha"}):
            raise CvcoreError(f"a base is described by image_size and alpha only; received {unknown}")
        found = describe_base(recipe, **{"image_size": BASES[recipe].image_size, **changes})
    else:
        chosen = changed_recipe(recipe, changes)
        found = describe_recipe(chosen, classes or usual_classes(chosen))

    def text(found: dict[str, Any]) -> str:
        rows = [{**row, "output_shape": tuple(row["output_shape"])} for row in found["layers"]]
        counts = ", ".join(f"{name} {count:,}" for name, count in found["parameters"].items())
        return table(rows, ["name", "type", "output_shape", "parameters"]) + f"\nparameters: {counts}"

    show(found, to_json, text)
