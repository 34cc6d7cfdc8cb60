"""Read a training history that Keras saved elsewhere: `History.history` as JSON, or a CSVLogger file.

Such files also come from browsers: how much is read is limited first, and nothing in them is run.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite, isnan, nan
from typing import Any

from cvcore.errors import InvalidHistory

MAX_BYTES = 2_000_000
MAX_EPOCHS = 10_000
MAX_COLUMNS = 200
LOSSES = ("loss",)
ACCURACIES = ("accuracy", "acc", "binary_accuracy", "categorical_accuracy", "sparse_categorical_accuracy")
LEARNING_RATES = ("learning_rate", "lr")
COLUMNS = {  # of history.csv: the names that Keras has had for each
    "loss": LOSSES,
    "accuracy": ACCURACIES,
    "val_loss": tuple(f"val_{name}" for name in LOSSES),
    "val_accuracy": tuple(f"val_{name}" for name in ACCURACIES),
    "learning_rate": LEARNING_RATES,
}
MEASURES = tuple(COLUMNS)[:4]
_KNOWN = {name for names in COLUMNS.values() for name in names}
_NO_NUMBER = {"", "na", "nan", "none", "null", "inf", "+inf", "-inf", "infinity", "+infinity", "-infinity"}
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)(e[+-]?[0-9]+)?")


@dataclass(frozen=True)
class SavedHistory:
    """What a file says, in the names of history.csv.

    Attributes:
        kind: `JSON` or `CSV`.
        columns: loss, accuracy, val_loss, val_accuracy and learning_rate, each a value an epoch from the first on, NaN
            where there is none. Accuracies are shares, 0 to 1.
        ignored: the names of columns that a run does not keep.
    """

    kind: str
    columns: dict[str, list[float]]
    ignored: tuple[str, ...]

    @property
    def epochs(self) -> int:
        return len(self.columns["loss"])


def read_history(data: bytes) -> SavedHistory:
    """Read a saved history.

    Args:
        data: the whole file, at most MAX_BYTES. JSON: a mapping of key to list, as `History.history`, or an object
            that has one as `history` (and perhaps `epoch`); lists that pandas wrote as {"0": …} are read too.
            Anything else is taken for a table with a line of names, as CSVLogger writes it, its columns apart by
            comma, semicolon or tab; an unnamed first column is the epoch.

    Raises:
        InvalidHistory: one sentence: too large, not text, not JSON, no loss or accuracy, two accuracies, unequal
            lengths, no numbers, accuracies outside 0 to 1, epochs that do not count up from 0 or 1.
    """
    if len(data) > MAX_BYTES:
        raise InvalidHistory(f"a saved history may be at most {MAX_BYTES // 10**6} MB; this file is larger")
    try:
        text = data.decode("utf-8-sig").strip("\r\n ")
    except UnicodeDecodeError:
        raise InvalidHistory("a saved history is text in UTF-8, JSON or CSV; this file is not (write history.history "
                             "with json.dump, or train with CSVLogger)") from None  # fmt: skip
    if not text:
        raise InvalidHistory("a saved history has at least one epoch; this file is empty")
    if text[0] in "{[":
        return _checked("JSON", _json_table(text))
    return _checked("CSV", _csv_table(text))


def _json_table(text: str) -> dict[str, Any]:
    try:
        # Whole numbers as floats: one of a thousand digits is then infinite, and not an error of its own.
        document = json.loads(text, object_pairs_hook=_unique, parse_constant=lambda _: nan, parse_int=float)
    except RecursionError:
        raise InvalidHistory("a history is a JSON object of lists; this one is nested too deeply") from None
    except ValueError as error:
        raise InvalidHistory(f"the file begins like JSON and is none: {error}") from None
    table = document
    if isinstance(document, dict) and isinstance(document.get("history"), dict):
        table = dict(document["history"])
        if "epoch" in document:
            table["epoch"] = document["epoch"]
    if not isinstance(table, dict):
        raise InvalidHistory('a history is a JSON object such as {"loss": [0.6, 0.5]}; received a list')
    _limit("columns", len(table), MAX_COLUMNS)
    return {name: _as_list(value) for name, value in table.items()}


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _no_repeats(name for name, _ in pairs)
    return dict(pairs)


def _as_list(value: Any) -> Any:
    """Turn {"0": a, "1": b}, as pandas writes a column, into [a, b]; leave everything else as it is."""
    if isinstance(value, dict) and value and list(value) == [str(index) for index in range(len(value))]:
        return list(value.values())
    return value


def _csv_table(text: str) -> dict[str, Any]:
    # The separator is the one that makes most known names of the first line.
    first = re.split(r"[\r\n]", text, maxsplit=1)[0]
    separator = max(",;\t", key=lambda mark: sum(name.strip(' "') in _KNOWN for name in first.split(mark)))
    reader = csv.reader(io.StringIO(text, newline=None), delimiter=separator, strict=True)
    names: list[str] = []
    rows: list[list[str]] = []
    try:
        names = [name.strip() for name in next(reader)]
        _limit("columns", len(names), MAX_COLUMNS)
        if names[0] == "" and "epoch" not in names:
            names[0] = "epoch"
        _no_repeats(name for name in names if name in _KNOWN or name == "epoch")
        for row in reader:
            if not row or [cell.strip() for cell in row] == names:  # old versions of Keras repeat it when they append
                continue
            if len(row) != len(names):
                raise InvalidHistory(f"each line must have a value for each of the {len(names)} names; line "
                                     f"{reader.line_num} has {len(row)}: complete it or take it out")  # fmt: skip
            rows.append(row)
            _limit("epochs", len(rows), MAX_EPOCHS)
    except csv.Error as error:
        raise InvalidHistory(f"line {reader.line_num} is not a line of a CSVLogger file: {error}") from None
    return {name: [row[place] for row in rows] for place, name in enumerate(names)}


def _checked(kind: str, table: dict[str, Any]) -> SavedHistory:
    found = {column: [name for name in names if name in table] for column, names in COLUMNS.items()}
    if not any(found[column] for column in MEASURES):
        raise InvalidHistory(f"a history must have loss or accuracy; received {listed(table)}")
    accuracies = found["accuracy"] + found["val_accuracy"]
    measures = {name.removeprefix("val_") for name in accuracies}
    measures = {"accuracy" if name == "acc" else name for name in measures}
    if len(measures) > 1 or max(len(found["accuracy"]), len(found["val_accuracy"])) > 1:
        raise InvalidHistory(f"a history must have one measure of accuracy, with its val_ or without; received "
                             f"{listed(accuracies)}: leave one in the file")  # fmt: skip
    if len(found["learning_rate"]) > 1:
        raise InvalidHistory("a history must have one learning rate; received learning_rate and lr: leave one in "
                             "the file")  # fmt: skip
    taken = {column: names[0] for column, names in found.items() if names}
    lists = {name: table[name] for name in (*taken.values(), "epoch") if name in table}
    for name, value in lists.items():
        if not isinstance(value, list):
            raise InvalidHistory(f"{name} must be a list, a number an epoch; received {_shown(value)}")
    lengths = {name: len(value) for name, value in lists.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise InvalidHistory(f"all columns must be equally long, a value an epoch; received lengths {told}: nothing "
                             "says which epochs the shorter ones leave out")  # fmt: skip
    epochs = next(iter(lengths.values()))
    _limit("epochs", epochs, MAX_EPOCHS)
    if not epochs:
        raise InvalidHistory("a history must have at least one epoch; received none")
    if "epoch" in lists:
        _check_epochs([_number("epoch", place, value) for place, value in enumerate(lists["epoch"], start=1)])
    columns = {column: [nan] * epochs for column in COLUMNS}
    for column, name in taken.items():
        read = _share if column.endswith("accuracy") else _number
        columns[column] = [read(name, epoch, value) for epoch, value in enumerate(table[name], start=1)]
    if all(isnan(value) for column in MEASURES for value in columns[column]):
        raise InvalidHistory("a history must have loss or accuracy in at least one epoch; received no number at all")
    ignored = tuple(name for name in table if name not in (*taken.values(), "epoch"))
    return SavedHistory(kind, columns, ignored)


def _check_epochs(epochs: list[float]) -> None:
    if epochs[0] not in (0, 1):
        raise InvalidHistory(f"epochs must begin with 0 or 1; received {epochs[0]:g}: put the epochs before it in the "
                             "same file")  # fmt: skip
    for before, epoch in pairwise(epochs):
        if epoch != before + 1:
            why = "an epoch is missing" if epoch > before else "give each training a file of its own"
            raise InvalidHistory(f"epochs must follow one another; received {epoch:g} after {before:g}: {why}")


def _share(name: str, epoch: int, value: Any) -> float:
    number = _number(name, epoch, value)
    # A little above 1 is what averaging in float32 made of a whole share in old versions of Keras.
    if not isnan(number) and not 0 <= number <= 1 + 1e-6:
        raise InvalidHistory(f"{name} must be between 0 and 1; received {number:g} in epoch {epoch}: divide it by 100 "
                             "if it is in percent")  # fmt: skip
    return min(number, 1.0) if number > 1 else number


def _number(name: str, epoch: int, value: Any) -> float:
    """Return a finite number, or NaN for what stands for none."""
    if value is None:
        return nan
    if isinstance(value, str):
        word = value.strip().lower()
        if word in _NO_NUMBER:
            return nan
        value = float(word) if _NUMBER.fullmatch(word) else value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidHistory(f"{name} must be numbers, with a decimal point; received {_shown(value)} in epoch {epoch}")
    return float(value) if isfinite(value) else nan


def _limit(what: str, number: int, most: int) -> None:
    if number > most:
        raise InvalidHistory(f"a history may have at most {most:,} {what}; this one has more")


def _no_repeats(names: Iterable[str]) -> None:
    seen = set()
    for name in names:
        if name in seen:
            raise InvalidHistory(f"each column must be there once; received {_shown(name)} twice")
        seen.add(name)


def listed(names: Iterable[str]) -> str:
    """Name at most eight columns, those of more than 40 characters cut, in a form that is safe to print."""
    every = list(names)
    shown = [_shown(name) for name in every[:8]]
    return ", ".join(shown) + (f" and {len(every) - 8} more" if len(every) > 8 else "") if every else "no columns"


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return repr(value if len(value) <= 40 else value[:39] + "…")
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    return json.dumps(value)
