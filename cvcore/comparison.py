"""Runs side by side: their names, figures, differing settings, and what makes them hard to compare."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any

from cvcore.imported import NOT_KNOWN
from cvcore.published import PUBLISHED, RECIPES
from cvcore.recipe import other_test_pixels
from cvcore.run_settings import as_words, dataset_name, side_by_side
from cvcore.statistics import wilson_interval
from cvcore.views import in_words

if TYPE_CHECKING:
    import pandas as pd

    from cvcore.run_directory import Run

STRATEGY_TITLES = {
    "scratch": "From scratch",
    "augmented": "Augmented",
    "features": "Features",
    "finetune": "Fine-tuned",
}
MANY = 16  # runs: more than these are neither named nor drawn one by one


def in_teaching_order(runs: Sequence[Run]) -> list[Run]:
    """Sort runs by strategy in the order of the lesson, then oldest first."""
    order = list(STRATEGY_TITLES)
    return sorted(runs, key=lambda run: (order.index(run.strategy) if run.strategy in order else len(order), run.id))


def reference_runs(runs: Sequence[Run]) -> list[Run]:
    """Pick the lesson's runs, recorded on drawings that every computer makes: one a strategy (the newest), in order."""
    newest: dict[str | None, Run] = {}
    for run in sorted(runs, key=lambda run: run.id):
        if _recorded(run) and run.dataset.get("drawn"):
            newest[run.strategy] = run
    return in_teaching_order(list(newest.values()))


def opening_runs(runs: Sequence[Run]) -> list[Run]:
    """Pick what a comparison opens on: recorded runs on the same photographs, one a strategy, else the lesson's.

    Of several sets of photographs the one on which most strategies were recorded, two at least. Of a strategy's runs
    first those of recipes with published figures, then in the order of the recipes, then the lowest seed, then the
    newest.
    """
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in sorted(runs, key=lambda run: run.id, reverse=True):
        if _recorded(run) and not run.dataset.get("drawn"):
            groups[str(run.dataset.get("fingerprint"))].append(run)
    same = max(groups.values(), key=lambda group: len({run.strategy for run in group}), default=[])
    chosen: dict[str | None, Run] = {}
    for run in sorted(same, key=_opening_rank):
        chosen.setdefault(run.strategy, run)
    return in_teaching_order(list(chosen.values())) if len(chosen) > 1 else reference_runs(runs)


def on_the_same_pictures(run: Run, runs: Sequence[Run]) -> list[Run]:
    """Pick the recorded runs that compare with a run: one a strategy on its pictures, else the lesson's."""
    same = [other for other in runs if other.dataset.get("fingerprint") == run.dataset.get("fingerprint")]
    return opening_runs(same) or reference_runs(runs)


def _recorded(run: Run) -> bool:
    return run.reference and run.status == "done" and not run.imported


def _opening_rank(run: Run) -> tuple[bool, int, float]:
    name, order, seed = str(run.recipe.get("id")), list(RECIPES), number(run.seed)
    place = order.index(name) if name in order else len(order)
    return name not in PUBLISHED, place, float("inf") if seed is None else seed


def run_labels(runs: Sequence[Run]) -> dict[str, str]:
    """Name each run as briefly as tells it from the others: strategy, then recipe, dataset, seed…

    A run that its owner gave a name always says that, an imported one that it is imported, and its title.

    Args:
        runs: those shown together; a damaged one is named by its id.

    Returns:
        Run id -> label, all labels different.
    """
    parts = {run.id: _opening_words(run) for run in runs}
    more = (
        lambda run: run.recipe.get("id"),
        lambda run: short(dataset_name(run)),
        lambda run: f"{run.recipe.get('train_pictures') or 'all'} pictures",
        lambda run: f"{views(run)} views",
        lambda run: f"seed {run.seed}",
        lambda run: "reference" if run.reference else "trained here",
        lambda run: run.id[-4:],
    )
    for piece in more:
        unclear = _unclear(parts)
        groups: dict[str, set[str]] = {}
        for run in runs:
            if run.id in unclear:
                groups.setdefault(unclear[run.id], set()).add(str(piece(run)))
        for run in runs:
            if run.id in unclear and len(groups[unclear[run.id]]) > 1:
                parts[run.id] = [*parts[run.id], str(piece(run))]
    while unclear := _unclear(parts):
        for run_id in unclear:
            parts[run_id] = [*parts[run_id], run_id]
    return {run_id: _joined(names) for run_id, names in parts.items()}


def _opening_words(run: Run) -> list[str]:
    known = [STRATEGY_TITLES[run.strategy]] if run.strategy in STRATEGY_TITLES else []
    if run.imported:
        return [*known, short(str(run.name or run.recipe.get("title") or run.id)), "imported"]
    return [*known, short(run.name)] if run.name else known or [run.id]


def _joined(names: Sequence[str]) -> str:
    return " · ".join(names)


def _unclear(parts: dict[str, list[str]]) -> dict[str, str]:
    """The labels, by run id, that more than one run has: as they are read, for a title may hold a separator."""
    labels = {run_id: _joined(names) for run_id, names in parts.items()}
    same = Counter(labels.values())
    return {run_id: label for run_id, label in labels.items() if same[label] > 1}


def best_epoch(run: Run, history: pd.DataFrame) -> int | None:
    """Return the epoch of the lowest val_loss: the run's own word for it, else the lowest so far, None before any."""
    if told := number((run.metrics or {}).get("best_epoch")):
        return int(told)
    finished = history.dropna(subset=["val_loss"]) if len(history) else history
    return int(finished.loc[finished["val_loss"].idxmin(), "epoch"]) if len(finished) else None


def thawed_from(run: Run, history: pd.DataFrame) -> int | None:
    """Return the first epoch of a fine-tuning run in which part of its base is trained, None where there is none.

    Before it the run trained its head alone, for the epochs of `starts_from` or fewer if it stopped early: the
    learning rate, which differs between the two in every published recipe, tells first.
    """
    start = run.recipe.get("starts_from")
    if not isinstance(start, dict) or run.info.get("from_run") or not len(history):
        return None
    changed = history[history["learning_rate"] != history["learning_rate"].iloc[0]]
    if len(changed):
        return int(changed["epoch"].iloc[0])
    following = int(number(start.get("epochs")) or 0) + 1
    return following if following <= len(history) else None


def number(value: Any) -> Any:
    """Return a finite number as it is and None for everything else, such as text in a file edited by hand."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value) else None


def figures(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """List the figures of runs, one row each, every one read from the run's own files.

    Returns:
        Rows of run, label, strategy, recipe, dataset, fingerprint, seed, status, best_epoch, val_accuracy (at the
        lowest val_loss), last_val_accuracy, last_val_low, last_val_high (95% Wilson interval), val_count,
        val_guessing (share of the largest validation class), the same of the test: test_accuracy, test_low,
        test_high, test_count, guessing, then parameters, trainable, seconds (wall time, all of it), features_seconds
        (of those, the ones in which features were stored). None where there is no figure, or one that is no number.
    """
    labels = run_labels(runs)
    return [_row(run, labels[run.id]) for run in runs]


def _row(run: Run, label: str) -> dict[str, Any]:
    metrics = run.metrics or {}
    told = metrics.get("test_accuracy_interval")
    low, high = map(number, told) if isinstance(told, list | tuple) and len(told) == 2 else (None, None)
    parameters, phases = _dict(metrics.get("parameters")), _dict(metrics.get("seconds"))
    last, val_count = number(metrics.get("last_val_accuracy")), pictures(run, "validation") or None
    last_low = last_high = None
    if last is not None and 0 <= last <= 1 and val_count:
        last_low, last_high = wilson_interval(round(last * val_count), val_count)
    phase_seconds = [seconds for seconds in map(number, phases.values()) if seconds is not None]
    seconds = number(_dict(run.info.get("timings")).get("total")) or (sum(phase_seconds) if phase_seconds else None)
    return {
        "run": run.id,
        "label": label,
        "strategy": run.strategy,
        "recipe": str(run.recipe.get("id")),
        "dataset": short(dataset_name(run)),
        "fingerprint": str(run.dataset.get("fingerprint")),
        "seed": number(run.seed),
        "status": run.status,
        **{name: number(metrics.get(name)) for name in ("best_epoch", "val_accuracy")},
        "last_val_accuracy": last,
        "last_val_low": last_low,
        "last_val_high": last_high,
        "val_count": val_count,
        "val_guessing": _guessing(run, "validation"),
        "test_accuracy": number(metrics.get("test_accuracy")),
        "test_low": low,
        "test_high": high,
        "test_count": number(metrics.get("test_count")),
        "guessing": _guessing(run, "test"),
        "parameters": number(parameters.get("total")),
        "trainable": number(parameters.get("trainable")),
        "seconds": seconds if run.metrics else None,
        "features_seconds": number(phases.get("features")),
    }


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def short(name: str) -> str:
    """Cut a long title: one of a hundred characters would leave a chart no room; any white space becomes one space."""
    name = " ".join(name.split())
    return name if len(name) <= 32 else name[:31] + "…"


def pictures(run: Run, split: str) -> int:
    """Count the pictures of a split that a run's figures in training rest on, 0 where the run does not say.

    Of `train_pictures`, `validation_steps` or `steps_per_epoch` batches these are fewer than the split has.
    """
    there = sum(_class_counts(run, split))
    if split == "train":
        there = min(there, int(number(run.recipe.get("train_pictures")) or there))
    steps = {"train": "steps_per_epoch", "validation": "validation_steps"}.get(split, "")
    batches, size = number(run.recipe.get(steps)), number(run.recipe.get("batch_size"))
    return min(there, int(batches * size)) if batches and size else there


def views(run: Run) -> int:
    """Count the stored views of each picture that a run trained on last, 0 where pictures changed anew."""
    return int(number(run.recipe.get("views")) or 0)


def head_views(run: Run) -> int:
    """Count those on which the head of a fine-tuning run was trained first, in the same run."""
    start = {} if run.info.get("from_run") else _dict(run.recipe.get("starts_from"))
    return int(number(start.get("views")) or 0)


def _guessing(run: Run, split: str) -> float | None:
    counts = _class_counts(run, split)
    return max(counts) / sum(counts) if counts else None


def _class_counts(run: Run, split: str) -> list[int]:
    """The pictures of each class in a split, where there are any."""
    counts = map(number, _dict(_dict(run.dataset.get("counts")).get(split)).values())
    return [n for n in counts if n]


def differences(runs: Sequence[Run]) -> list[dict[str, str]]:
    """List only the settings in which runs differ.

    A run without augmentation counts as one whose policy changes nothing. What a fine-tuning run starts from is
    listed where it differs from the run's own settings. Names (id, title, source) decide nothing and are left out.
    What an imported run does not tell is not known, and no difference.

    Returns:
        Rows of `setting` (nested keys dotted, the dataset and the seed first) and one value a run id, as text.
    """
    rows = []
    for name, values in side_by_side(runs).items():
        if len({as_words(value) for value in values if value != NOT_KNOWN}) > 1:
            rows.append({"setting": name, **{run.id: as_words(value) for run, value in zip(runs, values, strict=True)}})
    return rows


def some(names: Sequence[str]) -> str:
    """List names; of more than `MANY` the first three, and how many there are besides."""
    return ", ".join(names) if len(names) <= MANY else f"{', '.join(names[:3])} and {len(names) - 3:,} more"


def cautions(runs: Sequence[Run]) -> list[str]:
    """Say in sentences what makes these runs hard to compare; empty when nothing does."""
    sentences = []
    datasets: dict[str, str] = {}
    for run in runs:
        if not run.imported:
            datasets[str(run.dataset.get("fingerprint"))] = dataset_name(run)
    if len(datasets) > 1:
        names = sorted(set(datasets.values()))
        what = some(names) if len(names) > 1 else f"{names[0]}, whose pictures or splits changed between them"
        sentences.append(f"These runs are on different pictures ({what}): their accuracies do not compare directly.")
    labels = run_labels(runs)
    imported = [run for run in runs if run.imported]
    if unknown := [labels[run.id] for run in imported if run.dataset.get("id") in (None, NOT_KNOWN)]:
        sentences.append(f"Imported from a saved history, and only its curves are known, not on which pictures: "
                         f"{some(unknown)}.")  # fmt: skip
    if named := [run for run in imported if run.dataset.get("id") not in (None, NOT_KNOWN)]:
        names = [f"{labels[run.id]} (on {dataset_name(run)})" for run in named]
        sentences.append(f"Imported from a saved history, and of its recipe and pictures only what its owner says is "
                         f"known: {some(names)}.")  # fmt: skip
    without = [labels[run.id] for run in runs if not _class_counts(run, "test") and not run.imported]
    if without:
        sentences.append(f"No test split, so no test accuracy: {some(without)}.")
    unfinished = [run for run in runs if run.status not in ("done", "damaged")]
    if unfinished:
        names = [f"{labels[run.id]} ({run.status})" for run in unfinished]
        sentences.append(f"Not finished, so their figures are missing or may still change: {some(names)}.")
    untested = [run for run in unfinished if _class_counts(run, "test") and _row(run, "")["test_accuracy"] is None]
    if untested:
        names = [labels[run.id] for run in untested]
        sentences.append(f"The test set is used once, at the end, and so not yet by: {some(names)}.")
    other_pixels, fewer, stored = defaultdict(list), defaultdict(list), defaultdict(list)
    for run in runs:
        start = _dict(run.recipe.get("starts_from"))
        if run.recipe.get("base") and (run.recipe.get("augmentation") or start.get("augmentation")):
            own = views(run) >= head_views(run)
            one_pass = not number((run.recipe if own else start).get("steps_per_epoch"))
            stored[max(views(run), head_views(run)), one_pass].append(labels[run.id])
        if other_test_pixels(run.recipe):
            pixels = run.recipe["test_preprocessing"], run.recipe.get("preprocessing")
            other_pixels[pixels].append(labels[run.id])
        there, used = sum(_class_counts(run, "validation")), pictures(run, "validation")
        if used < there:
            fewer[used, there].append(labels[run.id])
    for (count, one_pass), names in stored.items():
        if count and len({how_many for how_many, _ in stored}) > 1:
            sentences.append(f"{some(names)}: trained on {in_words(count, one_pass)}. Pictures changed anew in every "
                             "epoch, or another number of views, are another training.")  # fmt: skip
    for (told, trained), names in other_pixels.items():
        were, they = ("was", "it was") if len(names) == 1 else ("were", "they were")
        sentences.append(f"{some(names)} {were} tested on pixels preprocessed otherwise ({told}) than those {they} "
                         f"trained on ({trained}).")  # fmt: skip
    for (used, there), names in fewer.items():
        sentences.append(f"{some(names)}: validation accuracy rests on {used:,} of the {there:,} validation pictures.")
    return sentences
