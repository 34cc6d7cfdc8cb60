"""Commands that train in this process: train, resume."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from cvcore import devices
from cvcore.cli.command_line import as_json, changed_recipe, main, parse_settings, runs_option, show, table
from cvcore.errors import CvcoreError

STOPPED = 130  # exit code of a training that was stopped, as of a command ended by Ctrl-C


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
    chosen = changed_recipe(recipe, changes)
    devices.import_keras()
    run = api.train(chosen, data, seed=seed, weights=weights, from_run=from_run, runs=runs, on_progress=progress_line())
    _finish(run.summary(), to_json)


@main.command()
@click.argument("run")
@runs_option
@as_json
def resume(run: str, runs: Path | None, to_json: bool) -> None:
    """Train a queued, stopped, failed or interrupted run in this process, from its last finished epoch."""
    from cvcore import api

    devices.import_keras()
    _finish(api.resume(run, runs, on_progress=progress_line()).summary(), to_json)


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


def _finish(summary: dict[str, Any], to_json: bool) -> None:
    if sys.stderr.isatty():
        click.echo(err=True)
    columns = ["run", "status", "best_epoch", "val_accuracy", "last_val_accuracy", "test_accuracy", "seconds"]
    show(summary, to_json, lambda row: table([row], columns))
    if summary["status"] == "failed":
        raise CvcoreError(str(summary["error"]))
    if summary["status"] == "stopped":
        sys.exit(STOPPED)
