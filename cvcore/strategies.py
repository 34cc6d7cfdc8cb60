"""The four strategies, each a list of phases: what is trained, on what, with which part of the recipe.

Read the four functions from top to bottom: this is the whole lesson.
"""

from __future__ import annotations

from dataclasses import dataclass

from cvcore.datasets import Dataset
from cvcore.errors import InvalidRecipe
from cvcore.recipe import SHARED_WITH_START, Recipe
from cvcore.run_directory import Run


@dataclass(frozen=True)
class Phase:
    """One stretch of training with one optimizer.

    Attributes:
        name: shown to people.
        trainable: `everything`, `head`, or the base layer from which on the base is trained too.
        recipe: whose optimizer, learning_rate, batch_size, epochs and augmentation apply.
        on_features: the head is trained on stored features; the base runs once a picture, before.
    """

    name: str
    trainable: str
    recipe: Recipe
    on_features: bool = False


def scratch(recipe: Recipe) -> tuple[Phase, ...]:
    """Train a small convnet from random weights on the pictures as they are."""
    return (Phase("training", "everything", recipe),)


def augmented(recipe: Recipe) -> tuple[Phase, ...]:
    """Train the same convnet on pictures changed anew in every epoch, with dropout."""
    return (Phase("training", "everything", recipe),)


def features(recipe: Recipe) -> tuple[Phase, ...]:
    """Train a new head on what a frozen pretrained base sees: stored once, or end to end with augmentation."""
    return (Phase("head", "head", recipe, on_features=recipe.cached),)


def finetune(recipe: Recipe) -> tuple[Phase, ...]:
    """Train the head first, then continue from its best epoch with the top of the base, at a low rate."""
    assert recipe.starts_from is not None and recipe.unfreeze_from is not None
    return (*features(recipe.starts_from), Phase("fine-tuning", recipe.unfreeze_from, recipe))


def phases(recipe: Recipe, continues_a_run: bool = False) -> tuple[Phase, ...]:
    """Return a recipe's phases; one that continues a saved features run has its head already."""
    every = {"scratch": scratch, "augmented": augmented, "features": features, "finetune": finetune}[recipe.strategy](
        recipe
    )
    return every[-1:] if continues_a_run else every


def total_epochs(recipe: Recipe, continues_a_run: bool = False) -> int:
    """Return the number of epochs of all phases together."""
    return sum(phase.recipe.epochs for phase in phases(recipe, continues_a_run))


def check_fits(recipe: Recipe, dataset: Dataset) -> None:
    """Check that a recipe can train on a dataset, before anything is written or computed.

    Raises:
        InvalidRecipe: a batch is larger than the training split.
    """
    pictures = len(dataset.split("train"))
    for part in (recipe.starts_from, recipe):
        if part is not None and part.batch_size > pictures:
            raise InvalidRecipe(
                f"batch_size must be at most the number of training pictures ({pictures}); received {part.batch_size}"
            )


def check_continues(recipe: Recipe, source: Run, dataset: Dataset | None = None) -> None:
    """Check that a recipe can continue a saved run.

    Args:
        recipe: to be trained.
        source: the run whose model it would continue.
        dataset: to be trained on, or None to leave that open.

    Raises:
        InvalidRecipe: the recipe is not a finetune one, the run's network is another or gone, or it was trained on
            other pictures, among which may be those that would now test it.
    """
    if recipe.strategy != "finetune":
        raise InvalidRecipe(f"only a finetune recipe continues a saved run; {recipe.id} is {recipe.strategy}")
    if source.strategy != "features" or source.status != "done":
        raise InvalidRecipe(
            f"a finetune recipe continues a finished features run; received {source.id}, "
            f"a {source.strategy} run that is {source.status}"
        )
    wanted = recipe.model_dump(mode="json")
    differing = [name for name in SHARED_WITH_START if name != "dataset" and wanted[name] != source.recipe.get(name)]
    if differing:
        raise InvalidRecipe(
            f"run {source.id} differs from recipe {recipe.id} in {', '.join(differing)}; choose another run"
        )
    if not (source.path / "model.keras").is_file():
        raise InvalidRecipe(f"run {source.id} has no model.keras to continue from; train it again")
    if dataset is not None and dataset.fingerprint != source.dataset.get("fingerprint"):
        raise InvalidRecipe(
            f"a finetune recipe continues a run on the same pictures and splits; run {source.id} was trained on "
            f"{source.dataset.get('id')} with the fingerprint {str(source.dataset.get('fingerprint'))[:12]}, received "
            f"{dataset.id} with {dataset.fingerprint[:12]}"
        )
