"""What a run does, counted: pictures decoded, pictures through a frozen base, training steps, evaluations."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from cvcore import rates
from cvcore.layer_counts import Layer, Network, network
from cvcore.recipe import Recipe
from cvcore.strategies import phases
from cvcore.views import views_used

FLOAT16, FLOAT32 = 2, 4  # bytes of a number


@dataclass(frozen=True)
class Stock:
    """What of a run's work this machine has stored already; as it stands here, nothing, on a disk without a limit.

    Attributes:
        decoded: splits whose decoded pictures are there.
        extracted: activations that are there, as `Extraction.key` names them.
        limit: bytes that activations may take; None for any number.
        megapixels: of one picture as its file has it.
    """

    decoded: Collection[str] = ()
    extracted: Collection[tuple[str, str, int | None]] = ()
    limit: int | None = None
    megapixels: float = 0.19  # photographs of 500 by 375 pixels, as in the classroom's datasets


@dataclass(frozen=True)
class Extraction:
    """Pictures of one split that go through the frozen layers of one phase once.

    Attributes:
        recipe: of the phase.
        trainable: what the phase trains.
        split: whose pictures.
        view: number of the augmented view from 0, or None for pictures as they are.
        layers: that they go through.
        pictures: how many.
        stored: they are there already.
    """

    recipe: Recipe
    trainable: str
    split: str
    view: int | None
    layers: tuple[Layer, ...]
    pictures: int
    stored: bool

    @property
    def key(self) -> tuple[str, str, int | None]:
        """What tells it from the others of its run."""
        return self.trainable, self.split, self.view

    @property
    def bytes(self) -> int:
        """What its activations take on disk."""
        return self.pictures * self.layers[-1].outputs * (FLOAT32 if self.view is None else FLOAT16)


@dataclass(frozen=True)
class Training:
    """The epochs of one phase.

    Attributes:
        recipe: of the phase.
        network: below and above the cut.
        epochs: how many.
        steps: training steps an epoch.
        trained: pictures that an epoch trains on.
        validated: pictures that it is validated on.
        in_model: its steps begin with pixels, and the frozen layers run in each of them.
        validated_in_model: the same of its validation.
        compiled_epochs: many of its steps are one call.
    """

    recipe: Recipe
    network: Network
    epochs: int
    steps: int
    trained: float
    validated: int
    in_model: bool
    validated_in_model: bool
    compiled_epochs: bool


@dataclass(frozen=True)
class Workload:
    """All that a run does.

    Attributes:
        pictures: of each split, those that it uses.
        decode: pictures that it decodes.
        extractions: in their order.
        trainings: one a phase.
        evaluated: pictures that the best checkpoint is given at the end: those of the test split twice, once for its
            predictions and once for its loss.
        megapixels: of one picture's file.
        read: splits whose pictures it looks at.
    """

    pictures: Mapping[str, int]
    decode: int
    extractions: tuple[Extraction, ...]
    trainings: tuple[Training, ...]
    evaluated: int
    megapixels: float
    read: frozenset[str]

    @property
    def extract(self) -> int:
        """Pictures that go through frozen layers because their activations are not stored; each view counts."""
        return sum(extraction.pictures for extraction in self.extractions if not extraction.stored)

    @property
    def disk_bytes(self) -> int:
        """What its activations take on disk, those that are there already among them."""
        return sum(extraction.bytes for extraction in self.extractions)

    @property
    def views(self) -> int:
        """How many views of each training picture it stores, of the phase that stores most of them."""
        of = [each.trainable for each in self.extractions if each.view is not None]
        return max(map(of.count, of), default=0)

    @property
    def views_bytes(self) -> int:
        """What the activations of the phases that have views take in the store together; 0 without views."""
        cuts = {each.trainable for each in self.extractions if each.view is not None}
        return sum(each.bytes for each in self.extractions if each.trainable in cuts)


def workload(
    recipe: Recipe,
    counts: Mapping[str, object],
    *,
    continues: bool = False,
    stock: Stock | None = None,
    in_model: bool = False,
) -> Workload:
    """Count what a run does.

    Args:
        recipe: what is trained.
        counts: pictures a split, or {class: pictures} a split, as in `Dataset.counts`.
        continues: it continues a saved features run, so that its head need not be trained first.
        stock: what this machine has stored; None for nothing.
        in_model: it was trained by a version that stored activations for no phase but one on cached features.
    """
    stock = stock or Stock()
    pictures, classes = pictures_used(recipe, counts), _classes(counts)
    extractions: dict[tuple[str, str, int | None], Extraction] = {}
    trainings = []
    stages = phases(recipe, continues)
    before = 0  # epochs of the stages before
    for stage in stages:
        chosen, net = stage.recipe, network(stage.recipe, stage.trainable, classes)
        augments = chosen.augmentation is not None and not chosen.augmentation.is_identity
        cut = stores(chosen, net, sum(pictures.values()), stock.limit)
        if in_model and not stage.on_features:
            cut = False
        trained_on_stored = cut and (not augments or bool(chosen.views))
        wanted: list[tuple[str, int | None]] = []
        if trained_on_stored:
            wanted += [("train", view) for view in views_used(chosen, pictures["train"], before)] or [("train", None)]
        if cut:
            wanted += [("validation", None)] + ([("test", None)] if stage is stages[-1] else [])
        for split, view in wanted:
            found = Extraction(chosen, stage.trainable, split, view, net.below, pictures.get(split, 0),
                               (stage.trainable, split, view) in stock.extracted)  # fmt: skip
            if found.pictures:
                extractions[found.key] = found
        a_pass = -(-pictures["train"] // chosen.batch_size)
        steps = chosen.steps_per_epoch or a_pass
        trained = pictures["train"] * steps / a_pass if a_pass else 0.0
        validated = pictures.get("validation", 0)
        if recipe.validation_steps is not None:
            validated = min(validated, recipe.validation_steps * recipe.batch_size)
        trainings.append(
            Training(chosen, net, chosen.epochs, steps, trained, validated, not trained_on_stored, not cut,
                     trained_on_stored and stage.trainable == "head" and not in_model)
        )  # fmt: skip
        before += chosen.epochs
    read = {each.split for each in extractions.values() if not each.stored}
    read |= {"train"} if any(training.in_model for training in trainings) else set()
    read |= {"validation"} if any(training.validated_in_model for training in trainings) else set()
    read |= {"test"} if trainings[-1].validated_in_model else set()
    there = pictures_there(counts)
    decode = sum(there.get(split, 0) for split in read if split not in stock.decoded)
    evaluated = pictures.get("validation", 0) + 2 * pictures.get("test", 0)
    return Workload(pictures, decode, tuple(extractions.values()), tuple(trainings), evaluated, stock.megapixels,
                    frozenset(read))  # fmt: skip


def stores(recipe: Recipe, net: Network, pictures: int, limit: int | None = None) -> bool:
    """Say whether a phase stores what its frozen layers make of pictures, or runs them at each look at a picture.

    It stores where running them takes at least as long as writing what they make, at the rates of the device that
    `rates` was calibrated on, whatever it trains on: a recipe is trained in the same way everywhere. A cut near the
    input saves little work and makes many times the bytes of the pixels. Views are stored in any case: the phase is
    trained on them.

    Args:
        recipe: of the phase.
        net: as the phase divides it.
        pictures: of all splits, as many as the run uses.
        limit: bytes that may be stored; what the pictures as they are make must be within it. None for any number.
    """
    if not net.below or recipe.views:
        return bool(net.below)
    of_a_picture = net.below[-1].outputs * FLOAT32
    if limit is not None and pictures * of_a_picture > limit:
        return False
    return rates.forwards(net.below, pictures=1, batches=0) >= of_a_picture * rates.STORED


def pictures_there(counts: Mapping[str, object]) -> dict[str, int]:
    """Return how many pictures each split has, of counts with or without classes."""
    return {split: sum(n.values()) if isinstance(n, Mapping) else int(str(n)) for split, n in counts.items()}


def pictures_used(recipe: Recipe, counts: Mapping[str, object]) -> dict[str, int]:
    """Return how many pictures of a split a run uses: of the training split perhaps fewer than there are."""
    pictures = pictures_there(counts)
    train = pictures.get("train", 0)
    return {**pictures, "train": min(train, recipe.train_pictures or train)}


def _classes(counts: Mapping[str, object]) -> int:
    train = counts.get("train")
    return max(2, len(train)) if isinstance(train, Mapping) else 2
