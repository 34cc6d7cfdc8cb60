"""The command about what the cache stores: storage."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from cvcore.cli.command_line import as_json, main, show, table


@main.command()
@click.option("--clear", "to_clear", is_flag=True, help="Remove it all; a run computes it again when it needs it.")
@as_json
def storage(to_clear: bool, to_json: bool) -> None:
    """List stored activations and decoded pictures, the last used first, and how much they may take."""
    from cvcore.cache_entries import clear, entries
    from cvcore.cache_room import limit, size_words, used_bytes

    cleared = clear(entries()) if to_clear else 0
    rows = [
        {
            "kind": entry.kind, "pictures": entry.title, "what": entry.words, "bytes": entry.bytes,
            "used": datetime.fromtimestamp(entry.used, UTC).isoformat(timespec="seconds"), "in_use": entry.in_use,
            "file": str(entry.path),
        }
        for entry in entries()
    ]  # fmt: skip
    found = {"entries": rows, "bytes": used_bytes(), "limit": limit(), "cleared": cleared}

    def text(found: dict[str, Any]) -> str:
        lines = [{**row, "size": size_words(row["bytes"])} for row in found["entries"]]
        parts = [table(lines, ["kind", "size", "used", "pictures", "what"])] if lines else []
        parts += [f"{size_words(cleared)} cleared"] if to_clear else []
        return "\n".join([*parts, f"{size_words(found['bytes'])} stored of at most {size_words(found['limit'])}"])

    show(found, to_json, text)
