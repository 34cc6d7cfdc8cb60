"""Published figures beside ours: which runs count, what they measured, and whether our interval covers the figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from cvcore.comparison import number, pictures
from cvcore.errors import InvalidRecipe
from cvcore.published import PUBLISHED, RECIPES, PublishedFigure, get_recipe
from cvcore.recipe import Recipe, make_recipe
from cvcore.statistics import seed_summary, wilson_interval

if TYPE_CHECKING:
    from cvcore.run_directory import Run

Split = Literal["train", "validation", "test"]
Epoch = Literal["last", "best", "checkpoint"]
EPOCHS = {"last": "last epoch", "best": "best epoch", "checkpoint": "lowest validation loss"}
VERDICTS = {
    "covers": "covers it",
    "above": "does not cover it and lies above",
    "below": "does not cover it and lies below",
}
_NAMES = ("id", "title", "source")  # recipe fields that decide nothing about a run


@dataclass(frozen=True)
class Measured:
    """What the runs of one recipe measured of one figure.

    Attributes:
        runs: their ids, in the order of their seeds.
        seeds: one a run.
        values: one a run, 0 to 1.
        mean: of the values.
        spread: sample standard deviation, None for one run.
        low, high: the 95 % interval, within 0..1; None where neither seeds nor pictures are enough for one.
        interval: its name, such as "t over 5 seeds"; "" where there is none.
    """

    runs: tuple[str, ...]
    seeds: tuple[int | None, ...]
    values: tuple[float, ...]
    mean: float
    spread: float | None
    low: float | None
    high: float | None
    interval: str


@dataclass(frozen=True)
class Verdict:
    """One published figure beside what we measured of it.

    Attributes:
        recipe: the recipe's id.
        figure: what was published.
        measured: ours, or None where no run of ours has this figure.
        verdict: `covers`, `above` or `below` (where our interval lies), or None without an interval. The interval's
            ends are compared as they are printed, to a tenth of a percent.
    """

    recipe: str
    figure: PublishedFigure
    measured: Measured | None
    verdict: Literal["covers", "above", "below"] | None

    @property
    def sentence(self) -> str:
        """Say it in one sentence."""
        note = f"; {self.figure.note[0].lower()}{self.figure.note[1:].rstrip('.')}" if self.figure.note else ""
        published = f"{self.figure.text} published ({where(self.figure.split, self.figure.epoch)}{note})"
        if self.figure.epochs is not None:
            return f"{published}: of another run of the source, {self.figure.epochs} epochs long; none of ours."
        if self.measured is None:
            return f"{published}: not measured here."
        ours = self.measured
        if self.verdict is None:
            return f"{published}: ours {percent(ours.mean)}, without an interval."
        kind, rest = ours.interval.split(" ", 1)
        return f"{published}: our 95 % {kind} interval {rest}, {span(ours)}, {VERDICTS[self.verdict]}."


def where(split: str, epoch: str) -> str:
    """Name the pictures and the epoch of a figure: "validation, last epoch"."""
    return f"{split}, {EPOCHS[epoch]}"


def percent(share: float) -> str:
    """Write a share as the report does: "74.0 %"."""
    return f"{share * 100:.1f} %"


def span(measured: Measured) -> str:
    """Write an interval: "62.1 to 71.9 %", "" where there is none."""
    if measured.low is None or measured.high is None:
        return ""
    return f"{measured.low * 100:.1f} to {measured.high * 100:.1f} %"


def changes(run: Run, recipe: Recipe) -> dict[str, tuple[Any, Any]] | None:
    """List the fields in which a run's recipe differs from this one, names (id, title, source) left aside.

    Returns:
        Field -> (the run's value, this recipe's); what a finetune recipe starts from counts as one field. None where
        the run's recipe is not one of this version.
    """
    try:
        trained = make_recipe(**run.recipe)
    except (InvalidRecipe, TypeError, ValueError):
        return None
    ours, theirs = _deciding(trained), _deciding(recipe)
    return {name: (ours[name], theirs[name]) for name in theirs if ours[name] != theirs[name]}


def why_not(run: Run, recipe: Recipe, runs: Sequence[Run]) -> str:
    """Say why a run tells nothing about a recipe's published figures, as the end of a sentence; "" when it counts.

    Args:
        run: any run.
        recipe: a recipe by its name.
        runs: all saved runs: the features run that a fine-tuning run continued is looked up among them.
    """
    if run.imported:
        return "it is imported, and its recipe is only what its file says"
    if run.status != "done":
        return f"it is {run.status}"
    if run.dataset.get("id") != recipe.dataset:
        return f"it was trained on {run.dataset.get('id')}, not on {recipe.dataset}"
    changed = changes(run, recipe)
    if changed is None:
        return "its recipe is of another version"
    if changed:
        said = [f"{name} {_short(mine)} instead of {_short(theirs)}" for name, (mine, theirs) in changed.items()]
        return f"its recipe was changed: {', '.join(said)}"
    if (told := run.info.get("from_run")) and recipe.starts_from is not None:
        source = next((one for one in runs if one.id == told), None)
        if source is None:
            return f"the run it continues, {told}, is not among the saved ones"
        if reason := why_not(source, recipe.starts_from, runs):
            return f"the run it continues, {told}, is not of recipe {recipe.starts_from.id}: {reason}"
    return ""


def same_recipe(recipe: Recipe, runs: Sequence[Run]) -> list[Run]:
    """Return the finished runs of exactly this recipe on its own dataset, by seed, then oldest first."""
    likely = [run for run in runs if run.strategy == recipe.strategy and run.dataset.get("id") == recipe.dataset]
    return sorted((run for run in likely if not why_not(run, recipe, runs)), key=lambda run: (_seed(run), run.id))


def one_a_seed(runs: Sequence[Run]) -> list[Run]:
    """Keep the newest run of each seed, by seed."""
    return list({_seed(run): run for run in sorted(runs, key=lambda run: (_seed(run), run.id))}.values())


def measure(runs: Sequence[Run], split: Split, epoch: Epoch) -> Measured | None:
    """Summarise one figure of runs of the same recipe, one a seed, in the order of their seeds.

    From three runs up the interval is t over their values. Two say nothing about their own spread and one has none:
    there it is Wilson's on the number of pictures, for two on their mean. That leaves the spread of the seeds out.

    Returns:
        What they measured, or None where no run has the figure.
    """
    told = [(run, value) for run in runs if (value := figure_of(run, split, epoch)) is not None]
    if not told:
        return None
    values = [value for _, value in told]
    summary = seed_summary(values)
    low, high, name = summary.low, summary.high, f"t over {summary.n} seeds"
    if low is None or high is None:
        counted = pictures_behind(told[0][0], split)
        name = f"Wilson for {'1 run' if summary.n == 1 else 'the mean of 2 runs'}, {counted:,} pictures"
        if counted:
            low, high = wilson_interval(round(min(1.0, max(0.0, summary.mean)) * counted), counted)
        else:
            low, high, name = None, None, ""
    else:
        low, high = max(0.0, low), min(1.0, high)
    ids, seeds = tuple(run.id for run, _ in told), tuple(number(run.seed) for run, _ in told)
    return Measured(ids, seeds, tuple(values), summary.mean, summary.deviation, low, high, name)


def figure_of(run: Run, split: Split, epoch: Epoch) -> float | None:
    """Read one figure from a run's metrics.json, None where it has none.

    A test accuracy is always the checkpoint's. A training accuracy is the mean over the last epoch as Keras reports
    it: measured while the weights change, with augmentation and dropout.
    """
    names = {
        ("train", "last"): "last_accuracy", ("validation", "last"): "last_val_accuracy",
        ("validation", "best"): "max_val_accuracy", ("validation", "checkpoint"): "val_accuracy",
    }  # fmt: skip
    name = "test_accuracy" if split == "test" else names.get((split, epoch))
    return number((run.metrics or {}).get(name)) if name else None


def pictures_behind(run: Run, split: Split) -> int:
    """Count the pictures on which a figure of this split rests, 0 where the run does not say."""
    if split == "test":
        return int(number((run.metrics or {}).get("test_count")) or 0)
    return pictures(run, split)


def verdicts(recipe_id: str, runs: Sequence[Run]) -> list[Verdict]:
    """Set each published figure of a recipe beside what the saved runs measured.

    Args:
        recipe_id: a name among `cvcore.published.RECIPES`.
        runs: all saved runs; those that count are picked here, the newest of each seed.

    Returns:
        One verdict a published figure; none for recipes of our own.

    Raises:
        InvalidRecipe: there is no recipe of this name.
    """
    counted = one_a_seed(same_recipe(get_recipe(recipe_id), runs))
    found = []
    for figure in PUBLISHED.get(recipe_id, ()):
        measured = None if figure.epochs is not None else measure(counted, figure.split, figure.epoch)
        found.append(Verdict(recipe_id, figure, measured, _verdict(figure, measured)))
    return found


def own_figures(recipe_id: str, runs: Sequence[Run]) -> list[tuple[Split, Epoch, Measured]]:
    """Measure what a recipe without published figures would be asked: validation at the last epoch, and the test."""
    counted = one_a_seed(same_recipe(get_recipe(recipe_id), runs))
    asked: tuple[tuple[Split, Epoch], ...] = (("validation", "last"), ("test", "checkpoint"))
    found = [(split, epoch, measure(counted, split, epoch)) for split, epoch in asked]
    return [(split, epoch, measured) for split, epoch, measured in found if measured is not None]


def published_marks(run: Run, runs: Sequence[Run]) -> tuple[PublishedFigure, ...]:
    """Return the published figures that a run may be held against: those of its recipe, unchanged."""
    recipe = RECIPES.get(str(run.recipe.get("id")))
    if recipe is None or recipe.id not in PUBLISHED or why_not(run, recipe, runs):
        return ()
    return tuple(figure for figure in PUBLISHED[recipe.id] if figure.epochs is None)


def _verdict(figure: PublishedFigure, measured: Measured | None) -> Literal["covers", "above", "below"] | None:
    if measured is None or measured.low is None or measured.high is None:
        return None
    # As printed, to a tenth of a percent: a published 74.0 % says no more, and the sentence must not contradict itself.
    if round(measured.low, 3) > figure.high:
        return "above"
    return "below" if round(measured.high, 3) < figure.low else "covers"


def _deciding(recipe: Recipe) -> dict[str, Any]:
    values = {name: value for name, value in recipe.model_dump(mode="json").items() if name not in _NAMES}
    if recipe.starts_from is not None:
        values["starts_from"] = _deciding(recipe.starts_from)
    return values


def _short(value: Any) -> str:
    """A whole policy or recipe says nothing in a sentence."""
    return "another" if isinstance(value, dict) else str(value)


def _seed(run: Run) -> float:
    seed = number(run.seed)
    return float("inf") if seed is None else seed
