"""Many runs at once: which may be chosen together, and the kinds of runs as which they are drawn."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cvcore.comparison import STRATEGY_TITLES, head_views, short, views
from cvcore.imported import NOT_KNOWN
from cvcore.run_settings import as_words, dataset_name, settings, side_by_side

if TYPE_CHECKING:
    from cvcore.run_directory import Run

MOST_KINDS = 12  # in one chart
_EVERY, _TOGETHER = 5, 3  # runs from which on all of them, or those of a recipe or sweep, are offered as one choice
_VALUES = 6  # of a setting that are told


@dataclass(frozen=True)
class Kind:
    """Runs that are drawn as one.

    Attributes:
        label: what tells this kind from the others, and holds for all of its runs.
        runs: of it, in the order given.
        alike: whether they differ in their seed alone.
    """

    label: str
    runs: tuple[Run, ...]
    alike: bool

    @property
    def strategy(self) -> str | None:
        """The strategy of its runs, which is one and the same."""
        return self.runs[0].strategy


def together(runs: Sequence[Run]) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Name the runs that may be chosen as one: all of them, those of a recipe, those of a sweep.

    Returns:
        `all`, `recipe:ID` or `sweep:ID` -> (what a picker calls them, their ids); no run has such an id. None of a few.
    """
    found: dict[str, tuple[str, list[str]]] = {}
    for run in runs:
        recipe, group = str(run.recipe.get("id")), run.group or {}
        names = [("all", "Every run"), (f"recipe:{recipe}", f"Every run of {short(recipe)}")]
        if group.get("id"):
            title = short(str(group.get("title") or group["id"]))
            names.append((f"sweep:{group['id']}", f"Every run of the sweep {title} ({str(group['id'])[-4:]})"))
        for name, label in names:
            found.setdefault(name, (label, []))[1].append(run.id)
    ranks = ("all", "recipe", "sweep")
    order = sorted(found, key=lambda name: (ranks.index(name.partition(":")[0]), found[name][0]))
    return {
        name: (found[name][0], tuple(found[name][1]))
        for name in order
        if len(found[name][1]) >= (_EVERY if name == "all" else _TOGETHER)
    }


def kinds(runs: Sequence[Run]) -> tuple[list[Kind], str]:
    """Sort runs into at most `MOST_KINDS` kinds, as fine as that allows.

    Returns:
        The kinds in the order of their first runs, and what the runs of one have in common, as the end of a sentence.
    """
    levels: tuple[tuple[str, Callable[[Run], Any]], ...] = (
        ("with the same settings and pictures, whatever their seed", _all_but_the_seed),
        ("of one recipe on the same pictures", lambda run: (run.strategy, run.recipe.get("id"), _pictures(run))),
        ("of one strategy on the same pictures", lambda run: (run.strategy, _pictures(run))),
        ("of one strategy", lambda run: run.strategy),
    )
    sorted_by = ((words, key, _grouped(runs, key)) for words, key in levels)
    words, key, groups = next(one for one in sorted_by if len(one[2]) <= MOST_KINDS or one[:2] == levels[-1])
    labels = _labels(list(groups.values()))
    alike = key is _all_but_the_seed
    return [Kind(name, tuple(group), alike) for name, group in zip(labels, groups.values(), strict=True)], words


def _grouped(runs: Sequence[Run], key: Callable[[Run], Any]) -> dict[Any, list[Run]]:
    groups: dict[Any, list[Run]] = defaultdict(list)
    for run in runs:
        groups[key(run)].append(run)
    return groups


def _pictures(run: Run) -> str:
    """Which pictures a run is on: those of an imported one are only named."""
    return f"imported {dataset_name(run)}" if run.imported else str(run.dataset.get("fingerprint"))


def _all_but_the_seed(run: Run) -> str:
    return repr((run.strategy, run.recipe.get("id"), _pictures(run), {**settings(run), "seed": None}))


def _labels(groups: Sequence[Sequence[Run]]) -> list[str]:
    """Name kinds: strategy, then recipe, pictures, and the settings that all runs of each have and that differ."""
    labels = [" · ".join(_opening_words(group)) for group in groups]
    pieces: tuple[tuple[Callable[[Run], str], str], ...] = (
        (lambda run: short(str(run.recipe.get("id"))), "recipes"),
        (lambda run: short(dataset_name(run)), "datasets"),
    )
    for piece, several in pieces:
        for place in _unclear(labels).values():
            words = [_agreed(map(piece, groups[n]), several) for n in place]
            if len(set(words)) > 1:
                labels = _with(labels, place, words)
    for place in _unclear(labels).values():
        labels = _with(labels, place, _settings_words([groups[n] for n in place]))
    labels = [_with_views(label, group) for label, group in zip(labels, groups, strict=True)]
    for place in _unclear(labels).values():
        labels = _with(labels, place, [str(n) for n in range(1, len(place) + 1)])
    return labels


def _opening_words(group: Sequence[Run]) -> list[str]:
    """What the name of a kind always begins with: its strategy, and whether its runs are imported."""
    words = [STRATEGY_TITLES.get(str(group[0].strategy), "Another strategy")]
    imported = [run for run in group if run.imported]
    if len(imported) < len(group):
        words += ["partly imported"] if imported else []
    else:
        words += [_agreed((short(str(run.name or run.recipe.get("title"))) for run in group), "titles"), "imported"]
    return words


def _with_views(label: str, group: Sequence[Run]) -> str:
    """Say where the runs of a kind were trained on different numbers of stored views, or some on none."""
    counts = {max(views(run), head_views(run)) for run in group if run.recipe.get("base") and _is_augmented(run)}
    if len(counts) < 2:
        return label
    return f"{label} · {' and '.join(map(str, sorted(counts))) if len(counts) < 4 else 'different'} views"


def _is_augmented(run: Run) -> bool:
    start = run.recipe.get("starts_from")
    return bool(run.recipe.get("augmentation") or (isinstance(start, dict) and start.get("augmentation")))


def _agreed(words: Iterable[str], several: str) -> str:
    """A word on which all agree, else how many there are."""
    found = set(words)
    return found.pop() if len(found) == 1 else f"{len(found):,} {several}"


def _settings_words(groups: Sequence[Sequence[Run]]) -> list[str]:
    """Up to three settings, of those in which no kind's own runs differ, that tell kinds apart."""
    place = [n for n, group in enumerate(groups) for _ in group]
    telling: list[list[str]] = []
    for name, values in side_by_side([run for group in groups for run in group]).items():
        found: list[set[str]] = [set() for _ in groups]
        for n, value in zip(place, values, strict=True):
            found[n].add(as_words(value))
        if name != "seed" and all(len(one) == 1 for one in found) and len(set().union(*found)) > 1:
            telling.append([f"{name} {short(*one)}" for one in found])
    return [", ".join(words) for words in zip(*telling[:3], strict=True)] or [""] * len(groups)


def _with(labels: list[str], place: Sequence[int], words: Sequence[str]) -> list[str]:
    more = dict(zip(place, words, strict=True))
    return [f"{label} · {more[n]}" if more.get(n) else label for n, label in enumerate(labels)]


def _unclear(labels: Sequence[str]) -> dict[str, list[int]]:
    """Labels that more than one has: label -> their places."""
    places: dict[str, list[int]] = defaultdict(list)
    for n, label in enumerate(labels):
        places[label].append(n)
    return {label: found for label, found in places.items() if len(found) > 1}


def differing(runs: Sequence[Run]) -> list[dict[str, str]]:
    """List the settings in which runs differ, with how many runs have each value.

    What an imported run does not tell is not known, and no difference.

    Returns:
        Rows of `setting` and `values`, such as "0.001 (800); 0.0005 (200)", the most frequent first.
    """
    rows = []
    for name, values in side_by_side(runs).items():
        counts = Counter(map(as_words, values))
        unknown = counts.pop(NOT_KNOWN, 0)
        if len(counts) > 1:
            told = [f"{short(value)} ({n:,})" for value, n in counts.most_common(_VALUES)]
            rest = len(counts) - len(told)
            others = [f"and {rest:,} other values"] if rest else []
            others += [f"{NOT_KNOWN} ({unknown:,})"] if unknown else []
            rows.append({"setting": name, "values": "; ".join([*told, *others])})
    return rows
