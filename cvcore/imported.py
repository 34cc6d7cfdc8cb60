"""Make runs of training histories that were saved elsewhere: curves and figures without pictures, model or predictions.

The run says what its file says and nothing else: no seed, no timings, no device, no settings of a recipe. A file does
not say how or on what it was trained either; the user may, and it is "not known" otherwise.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import shutil
import tempfile
from datetime import UTC, datetime
from math import isnan
from pathlib import Path
from typing import Any

from cvcore.errors import CvcoreError, InvalidHistory
from cvcore.files import replace_json, replace_text
from cvcore.recipe import STRATEGIES
from cvcore.run_directory import SCHEMA, Run, list_runs, load_run
from cvcore.run_history import HISTORY_COLUMNS
from cvcore.saved_history import MAX_BYTES, SavedHistory, listed, read_history
from cvcore.settings import runs_folder

NOT_KNOWN = "not known"
MAX_TITLE = 120
MAX_DATASET = 60
MAX_RUNS = 200  # imported ones in a runs folder: any visitor may add them, and every page lists them
MAX_OF_AN_OWNER = 20  # of these, so that one visitor does not use them up


def import_history(
    data: bytes,
    file_name: str,
    *,
    strategy: str | None = None,
    title: str | None = None,
    dataset: str | None = None,
    owner: str | None = None,
    teacher: bool = False,
    folder: Path | None = None,
) -> Run:
    """Make a run of one saved history.

    Args:
        data: the whole file, as `saved_history.read_history` takes it.
        file_name: only its last part is used, for the title and the log.
        strategy: scratch, augmented, features or finetune; None leaves it not known, and the curves grey.
        title: a few words for people, at most MAX_TITLE characters; default the file's name without its ending.
        dataset: what it was trained on, in a few words, at most MAX_DATASET characters; default not known. It is not
            matched with the datasets that are here: nothing shows that the pictures and splits were the same.
        owner: whose run it is, who may have MAX_OF_AN_OWNER imported ones; None from a terminal.
        teacher: True for the owner whom that limit does not bind.
        folder: where run directories are; default `settings.runs_folder()`.

    Returns:
        The run, done and marked imported: run.json, history.csv, metrics.json and log.txt.

    Raises:
        InvalidHistory: the file breaks a rule, or is imported already; nothing is then written.
        CvcoreError: a word breaks a rule, folder or owner has too many imported runs, or the run cannot be written.
    """
    if strategy is not None and strategy not in STRATEGIES:
        raise CvcoreError(f"strategy must be one of {list(STRATEGIES)} or left out; received {_clean(strategy)!r}")
    name = _clean(Path(file_name.replace("\\", "/")).name) or "history"
    words = {"title": (_clean(title or "") or Path(name).stem[:MAX_TITLE], MAX_TITLE),
             "dataset": (_clean(dataset or "") or NOT_KNOWN, MAX_DATASET)}  # fmt: skip
    for what, (text, most) in words.items():
        if len(text) > most:
            raise CvcoreError(f"{what} must have at most {most} characters; received {len(text)}")
    history = read_history(data)
    folder = folder or runs_folder()
    origin = {"file": name[-MAX_TITLE:], "kind": history.kind, "sha256": hashlib.sha256(data).hexdigest(),
              "ignored": listed(history.ignored) if history.ignored else None}  # fmt: skip
    imported = [run for run in list_runs(folder) if run.imported]
    for run in imported:
        earlier = run.info.get("origin")
        if isinstance(earlier, dict) and earlier.get("sha256") == origin["sha256"]:
            raise InvalidHistory(f"each history is imported once; this one is run {run.id}: delete that run first to "
                                 "import it with other words")  # fmt: skip
    if len(imported) >= MAX_RUNS:
        raise CvcoreError(f"a runs folder may hold at most {MAX_RUNS} imported runs; delete those that are no longer "
                          "needed, then import again")  # fmt: skip
    if owner and not teacher and sum(run.owner == owner for run in imported) >= MAX_OF_AN_OWNER:
        raise CvcoreError(f"one browser may keep at most {MAX_OF_AN_OWNER} imported runs; delete those that are no "
                          "longer needed, then import again")  # fmt: skip
    return _write(folder, history, origin, strategy or NOT_KNOWN, words["title"][0], words["dataset"][0], owner)


def import_file(path: Path, **words: Any) -> Run:
    """Make a run of a file on this computer; arguments and errors as for `import_history`."""
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise InvalidHistory(f"the file cannot be read ({error.strerror or error})") from None
    return import_history(data, path.name, **words)


def _write(
    folder: Path, history: SavedHistory, origin: dict[str, Any], strategy: str, title: str, dataset: str,
    owner: str | None,
) -> Run:  # fmt: skip
    now = datetime.now(UTC)
    # The prefix keeps it apart from every recipe that is trained here, whatever the file is called.
    recipe_id = f"imported-{re.sub('[^a-z0-9]+', '-', title.lower()).strip('-')[:40].strip('-') or 'history'}"
    run_id = f"{now:%Y%m%dT%H%M%SZ}-{recipe_id}-{secrets.token_hex(2)}"
    created = now.isoformat(timespec="seconds")
    info = {
        "schema": SCHEMA,
        "run": run_id,
        "status": "done",
        "imported": True,
        "origin": origin,
        "recipe": {"id": recipe_id, "title": title, "strategy": strategy, "source": "imported"},
        "dataset": {"id": dataset, "title": dataset, "fingerprint": None, "counts": {}},
        "seed": None,
        "attempt": 1,
        "owner": owner,
        "created": created,
        "device": None,
        "timings": {},
        "error": None,
    }
    log = f"{created} imported {history.epochs} epochs from {origin['file']} ({history.kind})"
    log += f"; columns left out: {origin['ignored']}" if origin["ignored"] else ""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        making = Path(tempfile.mkdtemp(prefix=".import-", dir=folder))  # no reader looks into a hidden folder
        try:
            replace_json(making / "run.json", info)
            replace_text(making / "history.csv", _history_csv(history))
            replace_json(making / "metrics.json", history_metrics(history))
            replace_text(making / "log.txt", log + "\n")
            making.chmod(0o755)  # mkdtemp makes it private to this user
            making.rename(folder / run_id)
        except BaseException:
            shutil.rmtree(making, ignore_errors=True)
            raise
    except OSError as error:
        raise CvcoreError(f"the run could not be written ({error.strerror or error}); make room in or give access to "
                          "the runs folder, then import again") from error  # fmt: skip
    return load_run(run_id, folder)


def _history_csv(history: SavedHistory) -> str:
    """Return history.csv as text, an empty cell where there is no number; epochs count from 1."""
    lines = [",".join(HISTORY_COLUMNS)]
    for place in range(history.epochs):
        row: dict[str, Any] = {name: values[place] for name, values in history.columns.items()}
        row = {name: "" if isnan(value) else value for name, value in row.items()} | {"epoch": place + 1}
        lines.append(",".join(str(row.get(name, "")) for name in HISTORY_COLUMNS))
    return "\n".join(lines) + "\n"


def history_metrics(history: SavedHistory) -> dict[str, Any]:
    """Return the figures that a history alone gives, those of the best epoch null where it has no val_loss."""
    values = {name: [None if isnan(value) else value for value in column] for name, column in history.columns.items()}
    losses = [(loss, place) for place, loss in enumerate(values["val_loss"]) if loss is not None]
    best = min(losses)[1] if losses else None
    return {
        "epochs": history.epochs,
        "best_epoch": None if best is None else best + 1,
        "val_loss": None if best is None else values["val_loss"][best],
        "val_accuracy": None if best is None else values["val_accuracy"][best],
        "last_accuracy": values["accuracy"][-1],
        "last_val_accuracy": values["val_accuracy"][-1],
        "max_val_accuracy": max((value for value in values["val_accuracy"] if value is not None), default=None),
        "test_loss": None,
        "test_accuracy": None,
        "test_accuracy_interval": None,
        "test_count": None,
        "parameters": None,
        "seconds": {},
    }


def _clean(text: str) -> str:
    """Put text of people on one line, without control characters or halves of characters, which no file can hold."""
    whole = text.encode("utf-8", "replace").decode()
    return " ".join("".join(mark if mark.isprintable() else " " for mark in whole).split())
