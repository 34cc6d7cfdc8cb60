"""Make a run directory after every check that needs no training: the only way a run comes into being."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cvcore.code_export import standalone_script
from cvcore.datasets import Dataset
from cvcore.errors import InvalidRecipe
from cvcore.layer_counts import network
from cvcore.recipe import SHARED_WITH_START, Recipe, make_recipe
from cvcore.run_directory import Run, load_run
from cvcore.run_writer import create_run
from cvcore.settings import runs_folder
from cvcore.strategies import phases


def new_run(
    recipe: Recipe,
    dataset: Dataset,
    seed: int,
    *,
    runs: Path | None = None,
    from_run: str | None = None,
    status: str = "queued",
    **words: Any,
) -> Run:
    """Check a recipe against its dataset, then create the run directory with run.json and code.py.

    Args:
        recipe: what to train.
        dataset: an opened dataset.
        seed: 0 to 2**31 - 1.
        runs: the runs folder; default `settings.runs_folder()`.
        from_run: id of a features run that a finetune recipe continues; None trains the head first.
        status: `queued` for a worker, or `running` when this process is about to train it.
        **words: owner, backend, ticket, estimate, group and name, as `run_writer.create_run` takes them.

    Raises:
        CvcoreError: the recipe does not fit the dataset or the run it continues, or the run cannot be written; then
            nothing is left of it.
    """
    folder = runs or runs_folder()
    check_fits(recipe, dataset)
    if from_run is not None:
        check_continues(recipe, load_run(from_run, folder), dataset)
    return create_run(recipe, dataset.summary(), seed, folder=folder, from_run=from_run, status=status,
                      code=standalone_script, **words)  # fmt: skip


def check_fits(recipe: Recipe, dataset: Dataset) -> None:
    """Check that a recipe can train on a dataset, before anything is written or computed.

    Raises:
        InvalidRecipe: there are fewer training pictures than the recipe wants, a batch is larger than what it takes
            of them, TensorBoard logs cannot be written here, `unfreeze_from` names no layer of the base, or views are
            wanted where nothing below it is frozen.
    """
    there, classes = len(dataset.split("train")), len(dataset.class_names)
    pictures = recipe.train_pictures or there
    if not classes <= pictures <= there:
        raise InvalidRecipe(f"train_pictures must be between {classes} (one of each class) and {there:,}, the training "
                            f"pictures that there are; received {pictures:,}")  # fmt: skip
    for part in (recipe.starts_from, recipe):
        if part is not None and part.batch_size > pictures:
            raise InvalidRecipe(
                f"batch_size must be at most the number of training pictures ({pictures}); received {part.batch_size}"
            )
        # Keras writes them through TensorFlow, whichever backend computes.
        missing = [name for name in ("tensorboard", "tensorflow") if find_spec(name) is None]
        if part is not None and part.tensorboard and missing:
            raise InvalidRecipe(f"tensorboard logs need a package that is not installed: pip install "
                                f"{' '.join(missing)}, or leave tensorboard out of the recipe")  # fmt: skip
    for phase in phases(recipe):
        below = network(phase.recipe, phase.trainable).below
        if phase.recipe.views and not below:
            raise InvalidRecipe(f"views are of what frozen layers make of pictures; below {phase.trainable} there are "
                                "none: set views to 0 or unfreeze_from to a later layer")  # fmt: skip


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
    if source.imported:
        raise InvalidRecipe(f"run {source.id} was imported and has no model to continue; choose one trained here")
    wanted = recipe.model_dump(mode="json")
    trained = make_recipe(**source.recipe).model_dump(mode="json")  # a run older than a field has its default
    differing = [name for name in SHARED_WITH_START if name != "dataset" and wanted[name] != trained[name]]
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
