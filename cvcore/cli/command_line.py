"""What the commands share: the group, options, printing as a table or as JSON, `--set key=value`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from cvcore.errors import CvcoreError
from cvcore.recipe import Recipe

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
    text = "-" if value is None else str(value)
    return text if text.isprintable() else "".join(letter if letter.isprintable() else " " for letter in text)


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


def changed_recipe(recipe: str, changes: dict[str, Any]) -> Recipe:
    from cvcore.published import get_recipe

    chosen = get_recipe(recipe)
    augmentation = changes.get("augmentation")
    if isinstance(augmentation, dict) and chosen.augmentation is not None:
        changes = {**changes, "augmentation": {**chosen.augmentation.model_dump(), **augmentation}}
    return chosen.with_changes(**changes)


def counter(what: str) -> Callable[[int, int], None] | None:
    if not sys.stderr.isatty():
        return None
    return lambda done, total: click.echo(f"\r{what} {done:,}/{total:,}", err=True, nl=done >= total)
