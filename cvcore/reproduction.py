"""Published figures beside ours: which runs count, what they measured, and how our interval lies to the figure."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from cvcore.comparison import number, pictures
from cvcore.errors import InvalidRecipe
from cvcore.published import PUBLISHED, RECIPES, PublishedFigure, get_recipe
from cvcore.recipe import Recipe, make_recipe
from cvcore.run_settings import NAMES_ONLY
from cvcore.statistics import seed_summary, wilson_interval

if TYPE_CHECKING:
    from cvcore.run_directory import Run

Split = Literal["train", "validation", "test"]
Epoch = Literal["last", "best", "checkpoint"]
Word = Literal["covers", "within", "overlaps", "above", "below"]
EPOCHS = {"last": "last epoch", "best": "highest of all epochs", "checkpoint": "lowest validation loss"}
VERDICTS = {  # how our interval lies to what was published
    "covers": "covers",
    "within": "lies within",
    "overlaps": "partly overlaps",
    "above": "lies above",
    "below": "lies below",
}
ONE_RUN = "The interval is of the mean of our seeds; a single run, such as the published one, varies more."
OPTIMISTIC = "The highest of all epochs is picked on the pictures it is measured on, and so optimistic."
_TRAINING = "of pictures trained on, fewer than three runs tell none"


@dataclass(frozen=True)
class Measured:
    """What the runs of one recipe measured of one figure.

    Attributes:
        split, epoch: of which pictures, and when; where that differs from a published figure, this is ours.
        runs: their ids, in the order of their seeds.
        seeds: one a run.
        values: one a run, 0 to 1.
        mean: of the values.
        spread: sample standard deviation, None for one run.
        low, high: the 95 % interval of the mean, within 0..1; None where there is none.
        one_low, one_high: the 95 % prediction interval of one more run, within 0..1; None below three seeds.
        interval: the name of the interval of the mean, such as "t over 5 seeds"; "" where there is none.
        without: why there is none, as the end of a sentence; "" where there is one.
    """

    split: Split
    epoch: Epoch
    runs: tuple[str, ...]
    seeds: tuple[int | None, ...]
    values: tuple[float, ...]
    mean: float
    spread: float | None
    low: float | None = None
    high: float | None = None
    one_low: float | None = None
    one_high: float | None = None
    interval: str = ""
    without: str = ""


@dataclass(frozen=True)
class Verdict:
    """One published figure beside what we measured of it.

    Attributes:
        recipe: the recipe's id.
        figure: what was published.
        measured: ours, or None where no run of ours has this figure.
        verdict: how our interval lies to the figure, None without an interval. One figure is known to half a unit of
            its last digit: `covers` when our interval reaches that. A range: `covers` when our interval holds all of
            it, `within` when it holds all of our interval, `overlaps` when only parts of both agree. `above` and
            `below` where nothing does.
    """

    recipe: str
    figure: PublishedFigure
    measured: Measured | None
    verdict: Word | None

    @property
    def digits(self) -> int:
        """Decimals to write this figure with, in percent: as many as were published, one at least."""
        return max(1, _decimals(self.figure))

    @property
    def words(self) -> str:
        """Say the verdict in two or three words, "" without one."""
        return "" if self.verdict is None else f"{VERDICTS[self.verdict]} it"

    @property
    def ours_at(self) -> str:
        """Say when ours was measured, where that is not when the published figure was; else ""."""
        if self.measured is None or self.measured.epoch == self.figure.epoch:
            return ""
        return f"ours: {EPOCHS[self.measured.epoch]}"

    @property
    def sentence(self) -> str:
        """Say it in one sentence, or two."""
        note = f"; {self.figure.note[0].lower()}{self.figure.note[1:].rstrip('.')}" if self.figure.note else ""
        published = tight(f"{self.figure.text} published ({where(self.figure.split, self.figure.epoch)}{note})")
        if self.figure.epochs is not None:
            return f"{published}: of another run of the source, {self.figure.epochs} epochs long; none of ours."
        if self.measured is None:
            return f"{published}: not measured here."
        ours = self.measured
        optimistic = f" {OPTIMISTIC}" if ours.epoch == "best" else ""
        if self.verdict is None:
            mean = percent(ours.mean, self.digits)
            return f"{published}: ours {mean}, without an interval: {ours.without}.{optimistic}"
        kind, rest = ours.interval.split(" ", 1)
        one = one_span(ours, self.digits)
        single = f"; a single run of ours would lie in {one}" if one else ""
        return (f"{published}: our 95% {kind} interval {rest}, {span(ours, self.digits)}, {self.words}{single}."
                f"{optimistic}")  # fmt: skip


def where(split: str, epoch: str) -> str:
    """Name the pictures and the epoch of a figure: "validation, last epoch"."""
    return f"{split}, {EPOCHS[epoch]}"


def our_epoch(split: Split, epoch: Epoch) -> Epoch:
    """Return when we measure a figure: a test accuracy is always the checkpoint's, whatever epoch a source tested."""
    return "checkpoint" if split == "test" else epoch


def percent(share: float, digits: int = 1) -> str:
    """Write a share as the pages do: "74.0%"."""
    return f"{share:.{digits}%}"


def tight(text: str) -> str:
    """Write the percentages of a source's words as the pages do: "80 to 85%"."""
    return text.replace(" %", "%")


def span(measured: Measured, digits: int = 1) -> str:
    """Write the interval of the mean: "62.1 to 71.9%", "" where there is none."""
    return _span(measured.low, measured.high, digits)


def one_span(measured: Measured, digits: int = 1) -> str:
    """Write the interval of one more run: "58.2 to 75.8%", "" where there is none."""
    return _span(measured.one_low, measured.one_high, digits)


def _span(low: float | None, high: float | None, digits: int) -> str:
    return "" if low is None or high is None else f"{low * 100:.{digits}f} to {percent(high, digits)}"


def changed_fields(trained: Recipe, recipe: Recipe) -> dict[str, tuple[Any, Any]]:
    """List the fields in which a recipe differs from a published one, names (id, title, source) left aside.

    Returns:
        Field -> (its value, the published one's); what a finetune recipe starts from counts as one field.
    """
    ours, theirs = _deciding(trained), _deciding(recipe)
    return {name: (ours[name], theirs[name]) for name in theirs if ours[name] != theirs[name]}


def in_words(changed: dict[str, tuple[Any, Any]]) -> str:
    """Say changed fields: "epochs 12 instead of 30, dropout 0.5 instead of 0.0"."""
    return ", ".join(f"{name} {_short(mine)} instead of {_short(theirs)}" for name, (mine, theirs) in changed.items())


def changes(run: Run, recipe: Recipe) -> dict[str, tuple[Any, Any]] | None:
    """List the fields in which a run's recipe differs from this one, as `changed_fields` does.

    Returns:
        None where the run's recipe is not one of this version.
    """
    trained = _trained(json.dumps(run.recipe, sort_keys=True))
    return None if trained is None else changed_fields(trained, recipe)


@lru_cache(maxsize=1024)
def _trained(text: str) -> Recipe | None:
    try:
        return make_recipe(**json.loads(text))
    except (InvalidRecipe, TypeError, ValueError):
        return None


def reasons(asked: Sequence[Run], recipe: Recipe, runs: Sequence[Run]) -> dict[str, str]:
    """Say why runs tell nothing about a recipe's published figures, as the end of a sentence; "" for one that counts.

    Runs count on one and the same pictures only: those of the recipe's reference runs, or of its newest run where
    there are none. A dataset's name does not decide it; anybody may have split the pictures otherwise.

    Args:
        asked: any runs; the answer is by their ids.
        recipe: a recipe by its name.
        runs: all saved runs: the recipe's other runs and the features runs that these continued are among them.
    """
    found = {run.id: _why_not(run, recipe, runs) for run in asked}
    named = [run for run in runs if run.dataset.get("id") == recipe.dataset]
    # Comparing the recipes of hundreds of runs takes a while, and is needed only where pictures differ at all.
    if len(set(map(_fingerprint, [*named, *(run for run in asked if not found[run.id])]))) > 1:
        newest = _newest(_alike(recipe, runs))
        for run in asked:
            if not found[run.id] and _fingerprint(run) != _counting_pictures([run, *newest]):
                found[run.id] = "it was trained on other pictures of the same name"
    return found


def _why_not(run: Run, recipe: Recipe, runs: Sequence[Run]) -> str:
    """As `reasons`, whichever pictures of the dataset's name it was trained on."""
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
        return f"its recipe was changed: {in_words(changed)}"
    if (told := run.info.get("from_run")) and recipe.starts_from is not None:
        source = next((one for one in runs if one.id == told), None)
        if source is None:
            return f"the run it continues, {told}, is not among the saved ones"
        if reason := _why_not(source, recipe.starts_from, runs):  # a run continues one on its own pictures only
            return f"the run it continues, {told}, is not of recipe {recipe.starts_from.id}: {reason}"
    return ""


def _alike(recipe: Recipe, runs: Sequence[Run]) -> list[Run]:
    likely = [run for run in runs if run.strategy == recipe.strategy and run.dataset.get("id") == recipe.dataset]
    return [run for run in likely if not _why_not(run, recipe, runs)]


def _newest(alike: Sequence[Run]) -> list[Run]:
    return sorted(alike, key=lambda run: (run.reference, run.id))[-1:]


def _counting_pictures(alike: Sequence[Run]) -> str:
    return "".join(map(_fingerprint, _newest(alike)))


def _fingerprint(run: Run) -> str:
    return str(run.dataset.get("fingerprint"))


def same_recipe(recipe: Recipe, runs: Sequence[Run]) -> list[Run]:
    """Return the finished runs of exactly this recipe on its own pictures, by seed, then oldest first."""
    alike = _alike(recipe, runs)
    pictures_of = _counting_pictures(alike)
    return sorted((run for run in alike if _fingerprint(run) == pictures_of), key=lambda run: (_seed(run), run.id))


def one_a_seed(runs: Sequence[Run]) -> list[Run]:
    """Keep the newest run of each seed, by seed."""
    return list({_seed(run): run for run in sorted(runs, key=lambda run: (_seed(run), run.id))}.values())


def measure(runs: Sequence[Run], split: Split, epoch: Epoch) -> Measured | None:
    """Summarise one figure of runs of the same recipe, one a seed, in the order of their seeds.

    From three runs up the interval is t over their values. Two say nothing about their own spread and one has none:
    there it is Wilson's on the number of pictures, for two on their mean. That leaves the spread of the seeds out,
    and it is no interval for pictures that were trained on: their accuracy is no sample of others.

    Returns:
        What they measured, or None where no run has the figure.
    """
    told = [(run, value) for run in runs if (value := figure_of(run, split, epoch)) is not None]
    if not told:
        return None
    values = tuple(value for _, value in told)
    summary = seed_summary(values)
    ids, seeds = tuple(run.id for run, _ in told), tuple(number(run.seed) for run, _ in told)
    plain = Measured(split, our_epoch(split, epoch), ids, seeds, values, summary.mean, summary.deviation)
    ends = (summary.low, summary.high, summary.one_low, summary.one_high)
    if summary.low is not None:
        low, high, one_low, one_high = (min(1.0, max(0.0, end)) for end in ends if end is not None)
        return replace(plain, low=low, high=high, one_low=one_low, one_high=one_high,
                       interval=f"t over {summary.n} seeds")  # fmt: skip
    if split == "train":
        return replace(plain, without=_TRAINING)
    counted = pictures_behind(told[0][0], split)
    if not counted:
        return replace(plain, without="the number of pictures is not known")
    low, high = wilson_interval(round(min(1.0, max(0.0, summary.mean)) * counted), counted)
    of = "1 run" if summary.n == 1 else "the mean of 2 runs"
    return replace(plain, low=low, high=high, interval=f"Wilson for {of}, {counted:,} pictures")


def figure_of(run: Run, split: Split, epoch: Epoch) -> float | None:
    """Read one figure from a run's metrics.json, None where it has none.

    A training accuracy is the mean over the last epoch as Keras reports
    it: measured while the weights change, with augmentation and dropout.
    """
    names = {
        ("train", "last"): "last_accuracy", ("validation", "last"): "last_val_accuracy",
        ("validation", "best"): "max_val_accuracy", ("validation", "checkpoint"): "val_accuracy",
        ("test", "checkpoint"): "test_accuracy",
    }  # fmt: skip
    name = names.get((split, our_epoch(split, epoch)))
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


def own_figures(recipe_id: str, runs: Sequence[Run]) -> list[Measured]:
    """Measure what a recipe without published figures would be asked: validation at the last epoch, and the test."""
    counted = one_a_seed(same_recipe(get_recipe(recipe_id), runs))
    found = (measure(counted, "validation", "last"), measure(counted, "test", "checkpoint"))
    return [measured for measured in found if measured is not None]


def published_marks(asked: Sequence[Run], runs: Sequence[Run]) -> dict[str, tuple[PublishedFigure, ...]]:
    """Give the published figures that runs may be held against, those of their recipe, unchanged: run id -> figures."""
    found: dict[str, tuple[PublishedFigure, ...]] = {}
    for recipe_id, figures in PUBLISHED.items():
        own = [run for run in asked if run.recipe.get("id") == recipe_id]
        told = reasons(own, RECIPES[recipe_id], runs)
        marks = tuple(figure for figure in figures if figure.epochs is None)
        found |= {run.id: marks for run in own if not told[run.id]}
    return found


def _verdict(figure: PublishedFigure, measured: Measured | None) -> Word | None:
    if measured is None or measured.low is None or measured.high is None:
        return None
    low, high = known_range(figure)
    if measured.low > high:
        return "above"
    if measured.high < low:
        return "below"
    if figure.low == figure.high or (measured.low <= figure.low and measured.high >= figure.high):
        return "covers"
    return "within" if low <= measured.low and measured.high <= high else "overlaps"


def known_range(figure: PublishedFigure) -> tuple[float, float]:
    """Return what a published figure may be, 0 to 1: give or take half a unit of the last digit printed in its text."""
    half = 0.5 / 10 ** (_decimals(figure) + 2)
    # To nine digits, so that 0.74 - 0.0005 is 0.7395.
    return max(0.0, round(figure.low - half, 9)), min(1.0, round(figure.high + half, 9))


def _decimals(figure: PublishedFigure) -> int:
    found = re.search(r"\d(?:\.(\d+))? ?%", figure.text)
    return len(found[1] or "") if found else 1


def _deciding(recipe: Recipe) -> dict[str, Any]:
    values = {name: value for name, value in recipe.model_dump(mode="json").items() if name not in NAMES_ONLY}
    if recipe.starts_from is not None:
        values["starts_from"] = _deciding(recipe.starts_from)
    return values


def _short(value: Any) -> str:
    """A whole policy or recipe says nothing in a sentence."""
    return "another" if isinstance(value, dict) else str(value)


def _seed(run: Run) -> float:
    seed = number(run.seed)
    return float("inf") if seed is None else seed
