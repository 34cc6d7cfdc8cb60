"""Recipe: one frozen, validated object that decides a run. What it does not say does not happen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cvcore.augmentation import AugmentationPolicy
from cvcore.bases import BASES, MOBILENET_ALPHAS, pixels_become
from cvcore.errors import InvalidRecipe
from cvcore.schedules import SCHEDULES

Monitor = Literal["val_loss", "val_accuracy", "loss", "accuracy"]
Preprocessing = Literal["rescale", "mean_image", "base", "none"]
Strategy = Literal["scratch", "augmented", "features", "finetune"]
STRATEGIES: tuple[Strategy, ...] = ("scratch", "augmented", "features", "finetune")
# A finetune recipe continues its features recipe: these fields must be the same in both.
SHARED_WITH_START = (
    "dataset", "train_pictures", "image_size", "interpolation", "antialias", "color_mode", "base", "alpha", "weights",
    "preprocessing", "pooling", "dense", "dense_activation", "dense_batch_norm", "dropout", "dense_dropout",
    "classifier_activation", "mixed_precision",
)  # fmt: skip


class Recipe(BaseModel):
    """Everything that decides a run except the pictures and the seed; make one with `make_recipe`.

    Attributes:
        id: name, of small letters, digits and hyphens.
        title: a few words for people.
        strategy: `scratch`, `augmented`, `features` or `finetune`.
        dataset: id of the dataset it was written for, or None.
        source: where its configuration comes from.
        train_pictures: train on this many pictures of the training split, each class in proportion, chosen within
            every larger choice and whatever the seed (`cvcore.datasets.subset`), at least 2; None takes all.
        image_size: side in pixels to which pictures are resized, the aspect ratio not kept, 16 to 1024.
        interpolation: `bilinear` (textbook, second edition) or `nearest` (first edition).
        antialias: average over all source pixels when shrinking (Pillow's way, bilinear only); Keras' loaders do not.
        color_mode: `rgb`, or `grayscale` (one channel; convnets only).
        filters: filters of each 3x3 convolution, ReLU, no padding, of a convnet trained from scratch.
        pools: how many of the first convolutions are followed by 2x2 max pooling; None means all.
        block_dropout: dropout rate after each pooling, 0 to 0.9.
        base: name of a pretrained base (see `cvcore.bases`), or None for a convnet.
        alpha: width multiplier, MobileNetV2 only.
        weights: `pretrained`, or `random` to try a base's architecture without its knowledge.
        preprocessing: pixels 0..255 become: `rescale` 0..1, `mean_image` 0..1 minus the mean picture of the training
            and validation splits (convnets only), `base` what the base was trained on, `none` as they are.
        test_preprocessing: a teaching switch: test pictures become this instead; None, as it should be, treats them
            like the training pictures. What comes to the same pixels is as None: see `tests_other_pixels`.
        pooling: how feature maps become a vector: `flatten`, or `average` (global average pooling).
        dropout: dropout rate right after that, 0 to 0.9.
        dense: units of each hidden dense layer.
        dense_activation: `relu` or `linear`.
        dense_batch_norm: batch normalization after each hidden dense layer, before its dropout.
        dense_dropout: dropout rate after each hidden dense layer, 0 to 0.9.
        classifier_activation: with two classes `sigmoid` (one unit) or `softmax` (two units); more always `softmax`.
        augmentation: random changes to training pictures, or None.
        cached: features only: run the base once per picture and train the head on what is stored.
        views: features end to end and finetune, with augmentation: draw this many augmented views of each training
            picture once, store what the frozen layers make of them (float16) and take them in turn, one an epoch. That
            is another training than 0, which draws anew in every epoch; 0 to 64.
        optimizer: `rmsprop`, `adam` or `sgd`, Keras' defaults but for what follows.
        learning_rate: positive.
        learning_rate_decay: each step's rate is learning_rate / (1 + learning_rate_decay x steps so far), 0 to 1.
        learning_rate_schedule: name of a schedule in `cvcore.schedules` that sets the rate of each epoch, or None.
        reduce_lr_patience: epochs without a better `reduce_lr_monitor` after which the rate is multiplied by
            `reduce_lr_factor`, and again; better by less than 0.0001 is no better, as Keras counts; None never does.
        reduce_lr_factor: above 0 and below 1.
        reduce_lr_monitor: as `early_stopping_monitor`.
        momentum: SGD only, 0 to 1.
        nesterov: SGD only.
        batch_size: pictures a step, at least 1.
        epochs: at least 1; each passes over the training pictures once, or takes `steps_per_epoch` steps.
        steps_per_epoch: steps an epoch, over pictures in passes that go on from epoch to epoch; None for one pass.
        validation_steps: only this many batches of `batch_size` validation pictures, drawn once by the seed, give
            val_loss and val_accuracy in training; None takes all of them. A finetune recipe's own decides for all
            of its run, not that of the recipe it starts from.
        early_stopping_patience: epochs without a better `early_stopping_monitor` after which to stop; None never.
        early_stopping_monitor: `val_loss`, `val_accuracy`, `loss` or `accuracy`.
        csv_logger: keep Keras' CSVLogger file of each phase in the run directory.
        tensorboard: keep TensorBoard logs of each phase in the run directory; needs the tensorboard package.
        model_checkpoint: monitor by which Keras' ModelCheckpoint keeps the best model so far while training, in a
            file of each phase, besides the run's own model.keras (lowest `val_loss`, at the end); None keeps none.
        mixed_precision: compute in bfloat16 with float32 weights where the device is good at it (a GPU); elsewhere
            float32. run.json says which was used.
        unfreeze_from: finetune only: first layer of the base that is trained; those below stay frozen.
        starts_from: finetune only: the features recipe whose trained model it continues.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,48}$")
    title: str = Field(default="", max_length=120)
    strategy: Strategy
    dataset: str | None = None
    source: str = "Fourways"
    train_pictures: int | None = Field(default=None, ge=2, le=10_000_000)
    image_size: int = Field(default=180, ge=16, le=1024)
    interpolation: Literal["bilinear", "nearest"] = "bilinear"
    antialias: bool = False
    color_mode: Literal["rgb", "grayscale"] = "rgb"
    filters: tuple[int, ...] = ()
    pools: int | None = Field(default=None, ge=0)
    block_dropout: float = Field(default=0.0, ge=0, le=0.9)
    base: str | None = None
    alpha: float = 1.0
    weights: Literal["pretrained", "random"] = "pretrained"
    preprocessing: Preprocessing = "rescale"
    test_preprocessing: Preprocessing | None = None
    pooling: Literal["flatten", "average"] = "flatten"
    dropout: float = Field(default=0.0, ge=0, le=0.9)
    dense: tuple[int, ...] = ()
    dense_activation: Literal["relu", "linear"] = "relu"
    dense_batch_norm: bool = False
    dense_dropout: float = Field(default=0.0, ge=0, le=0.9)
    classifier_activation: Literal["sigmoid", "softmax"] = "sigmoid"
    augmentation: AugmentationPolicy | None = None
    cached: bool = False
    views: int = Field(default=0, ge=0, le=64)
    optimizer: Literal["rmsprop", "adam", "sgd"] = "rmsprop"
    learning_rate: float = Field(default=1e-3, gt=0, le=10)
    learning_rate_decay: float = Field(default=0.0, ge=0, le=1)
    learning_rate_schedule: str | None = None
    reduce_lr_patience: int | None = Field(default=None, ge=1)
    reduce_lr_factor: float = Field(default=0.1, gt=0, lt=1)
    reduce_lr_monitor: Monitor = "val_loss"
    momentum: float = Field(default=0.0, ge=0, le=1)
    nesterov: bool = False
    batch_size: int = Field(default=32, ge=1, le=4096)
    epochs: int = Field(default=30, ge=1, le=1000)
    steps_per_epoch: int | None = Field(default=None, ge=1, le=100_000)
    validation_steps: int | None = Field(default=None, ge=1, le=100_000)
    early_stopping_patience: int | None = Field(default=None, ge=1)
    early_stopping_monitor: Monitor = "val_loss"
    csv_logger: bool = False
    tensorboard: bool = False
    model_checkpoint: Monitor | None = None
    mixed_precision: bool = False
    unfreeze_from: str | None = None
    starts_from: Recipe | None = None

    @model_validator(mode="after")
    def _fits_its_strategy(self) -> Recipe:
        uses_base = self.strategy in ("features", "finetune")
        for units in (*self.filters, *self.dense):
            _rule(1 <= units <= 4096, f"filters and dense must be between 1 and 4096; received {units}")
        if uses_base:
            _rule(self.base in BASES, f"base must be one of {list(BASES)}; received {self.base!r}")
            _rule(not self.filters, f"filters belong to a convnet from scratch; a {self.strategy} recipe has a base")
        else:
            _rule(self.base is None, f"a {self.strategy} recipe trains its own convnet: base must be left out")
            _rule(bool(self.filters), "filters must name at least one convolution; received none")
            _rule((self.pools or 0) <= len(self.filters), f"pools must be at most {len(self.filters)} (one a "
                  f"convolution); received {self.pools}")  # fmt: skip
            _rule("base" not in (self.preprocessing, self.test_preprocessing), "preprocessing 'base' needs a base; "
                  "use 'rescale' for a convnet")  # fmt: skip
        if self.base == "MobileNetV2":
            _rule(self.alpha in MOBILENET_ALPHAS, f"alpha must be one of {MOBILENET_ALPHAS}; received {self.alpha}")
        else:
            _rule(
                self.alpha == 1, f"alpha belongs to MobileNetV2; received {self.alpha} for {self.base or 'a convnet'}"
            )
        if self.base:
            _rule("mean_image" not in (self.preprocessing, self.test_preprocessing) and self.color_mode == "rgb",
                  f"a pretrained base takes rgb pictures and no mean_image; received color_mode {self.color_mode!r}, "
                  f"preprocessing {self.preprocessing!r}")  # fmt: skip
            smallest = BASES[self.base].min_image_size
            _rule(self.image_size >= smallest, f"image_size must be at least {smallest} for {self.base}; "
                  f"received {self.image_size}")  # fmt: skip
        _rule(not self.antialias or self.interpolation == "bilinear", "antialias averages over pixels: it needs "
              "interpolation 'bilinear'; received 'nearest'")  # fmt: skip
        schedules = list(SCHEDULES)
        _rule(self.learning_rate_schedule in (None, *schedules), f"learning_rate_schedule must be one of {schedules} "
              f"or left out; received {self.learning_rate_schedule!r}")  # fmt: skip
        changing = [name for name in ("learning_rate_decay", "learning_rate_schedule", "reduce_lr_patience")
                    if getattr(self, name)]  # fmt: skip
        _rule(len(changing) < 2, f"only one thing may change the learning rate; received {' and '.join(changing)}")
        _rule(self.strategy != "scratch" or self.augmentation is None, "a scratch recipe has no augmentation; "
              "use the strategy 'augmented'")  # fmt: skip
        _rule(
            self.strategy != "augmented" or self.augmentation is not None, "an augmented recipe needs an augmentation"
        )
        _rule(not self.cached or self.strategy == "features", "cached is for features recipes: others train the base")
        _rule(not (self.cached and self.augmentation), "cached features are computed once a picture and cannot be "
              "augmented; set cached to false to train end to end with augmentation")  # fmt: skip
        changes = self.augmentation is not None and not self.augmentation.is_identity
        _rule(not self.views or (uses_base and not self.cached and changes), "views are of augmented pictures "
              f"through a frozen base: they need a base, cached false and an augmentation; received views {self.views} "
              "without one of these")  # fmt: skip
        if self.strategy == "finetune":
            start = self.starts_from
            if start is None or start.strategy != "features":
                raise ValueError("a finetune recipe needs starts_from, the features recipe it continues")
            differing = [name for name in SHARED_WITH_START if getattr(self, name) != getattr(start, name)]
            _rule(not differing, f"a finetune recipe and its starts_from must have the same {', '.join(differing)}")
            _rule(bool(self.unfreeze_from), "a finetune recipe needs unfreeze_from, the first base layer to train")
        else:
            _rule(self.starts_from is None, f"starts_from is for finetune recipes; this one is {self.strategy}")
            _rule(self.unfreeze_from is None, f"unfreeze_from is for finetune recipes; this one is {self.strategy}")
        return self

    @property
    def tests_other_pixels(self) -> bool:
        """Whether the test pictures' pixels are preprocessed otherwise than those of the training pictures."""
        return other_test_pixels(self.model_dump(include={"preprocessing", "test_preprocessing", "base"}))

    def with_changes(self, **changes: Any) -> Recipe:
        """Return a validated copy with some fields changed.

        Args:
            **changes: field names and new values. `augmentation` may be a policy, a mapping or None; a mapping for
                `starts_from` changes only the fields it names. Fields that a finetune recipe shares with the
                recipe it starts from change in both, and a new `base` brings its own `unfreeze_from`.

        Raises:
            InvalidRecipe: a key is unknown or a value breaks a rule.
        """
        _check_keys(changes)
        values = self.model_dump()
        new_base = BASES.get(changes["base"]) if isinstance(changes.get("base"), str) else None
        if new_base is not None and new_base.name != self.base:
            if self.strategy == "finetune":
                values["unfreeze_from"] = new_base.unfreeze_from
            if "alpha" not in changes and new_base.name != "MobileNetV2":
                changes = {**changes, "alpha": 1.0}
        if self.starts_from is not None:
            inner = {name: changes[name] for name in SHARED_WITH_START if name in changes}
            own = changes.get("starts_from", {})
            if not isinstance(own, dict | Recipe):
                raise InvalidRecipe(f"starts_from must be a features recipe or changes to it; received {own!r}")
            start = own if isinstance(own, Recipe) else self.starts_from.with_changes(**{**inner, **own})
            changes = {**changes, "starts_from": start.model_dump()}
        return make_recipe(**{**values, **changes})

    def then(self, **changes: Any) -> Recipe:
        """Return a finetune recipe that continues this features recipe and states only its difference.

        Raises:
            InvalidRecipe: this is no features recipe, a key is unknown or a value breaks a rule.
        """
        _check_keys(changes)
        if self.strategy != "features":
            raise InvalidRecipe(f"only a features recipe is continued; {self.id} is {self.strategy}")
        values = {**self.model_dump(), "strategy": "finetune", "cached": False, "augmentation": None, "views": 0,
                  "starts_from": self.model_dump(), "unfreeze_from": BASES[str(self.base)].unfreeze_from}  # fmt: skip
        return make_recipe(**{**values, **changes})


def other_test_pixels(fields: Mapping[str, Any]) -> bool:
    """Say of a recipe's fields, as run.json has them, what `Recipe.tests_other_pixels` says.

    Args:
        fields: of these preprocessing, test_preprocessing and base are read; any may be missing.
    """
    trained, tested = fields.get("preprocessing", "rescale"), fields.get("test_preprocessing")
    return tested is not None and pixels_become(tested, fields.get("base")) != pixels_become(
        trained, fields.get("base")
    )


def make_recipe(**values: Any) -> Recipe:
    """Make a validated recipe from field names and values.

    Raises:
        InvalidRecipe: a key is unknown (the message names the known ones) or a value breaks a rule.
    """
    _check_keys(values)
    if isinstance(values.get("starts_from"), dict):
        values["starts_from"] = make_recipe(**values["starts_from"])
    if isinstance(values.get("augmentation"), dict):
        values["augmentation"] = AugmentationPolicy(**values["augmentation"])
    try:
        return Recipe(**values)
    except ValidationError as error:
        raise InvalidRecipe(_sentence(error)) from None


def _check_keys(values: dict[str, Any]) -> None:
    known = sorted(Recipe.model_fields)
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise InvalidRecipe(f"unknown recipe keys {unknown}; known: {known}")


def _rule(holds: bool, sentence: str) -> None:
    if not holds:
        raise ValueError(sentence)


def _sentence(error: ValidationError) -> str:
    """The first broken rule and what was received, as one sentence."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    context = {
        name: f"{value:g}" if isinstance(value, float) else value for name, value in first.get("ctx", {}).items()
    }
    rules = {
        "greater_than_equal": "be at least {ge}", "greater_than": "be greater than {gt}",
        "less_than_equal": "be at most {le}", "less_than": "be below {lt}", "literal_error": "be one of {expected}",
        "int_type": "be a whole number", "int_parsing": "be a whole number", "int_from_float": "be a whole number",
        "float_type": "be a number", "float_parsing": "be a number", "finite_number": "be a finite number",
        "missing": "be given", "bool_type": "be true or false", "bool_parsing": "be true or false",
        "string_pattern_mismatch": "match {pattern}", "tuple_type": "be a list", "string_type": "be text",
    }  # fmt: skip
    if first["type"] == "value_error":
        return str(context["error"])
    if first["type"] not in rules:
        return f"{field}: {first['msg']}; received {first['input']!r}"
    rule = rules[first["type"]].format(**context)
    return f"{field} must {rule}" + ("" if first["type"] == "missing" else f"; received {first['input']!r}")
