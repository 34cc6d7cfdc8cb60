"""Recipes by name, each stated as its difference from another where there is one, and the published figures.

The doodle and MobileNetV2 recipes are ours, and so is `note-features-matched`; they carry no published figure. The
others are the configurations of the five sources named in `source`, in the order of a reader who meets them:

- `chollet2-`: F. Chollet, Deep Learning with Python, second edition, chapter 8; bilinear resize.
- `chollet1-`: its first edition, chapter 5; from here on the resize is nearest neighbour.
- `lecture-`: a university lecture that follows the first edition.
- `note-`: a course note on transfer learning.
- `exercise-`: an exercise of a neurocomputing course.
"""

from dataclasses import dataclass
from typing import Literal

from cvcore.augmentation import AugmentationPolicy
from cvcore.errors import InvalidRecipe
from cvcore.recipe import Recipe, make_recipe


@dataclass(frozen=True)
class PublishedFigure:
    """One accuracy that a source reports for a recipe; a single run of its author, as far as the sources say.

    Attributes:
        split: of whose pictures: `train`, `validation` or `test`.
        epoch: when: `last` epoch, `best` (the highest of all epochs), or `checkpoint` (the epoch of the lowest
            val_loss).
        low, high: the range reported, 0 to 1; both the same for one figure.
        text: as the source words its precision, such as "about 97 %"; shown instead of the range.
        epochs: epochs of the run it belongs to where those are not the recipe's own; it then marks no run of ours.
        note: what else a reader should know, one sentence; "" for nothing.
    """

    split: Literal["train", "validation", "test"]
    epoch: Literal["last", "best", "checkpoint"]
    low: float
    high: float
    text: str
    epochs: int | None = None
    note: str = ""


doodle_scratch = make_recipe(
    id="doodle-scratch", title="A small convnet from scratch", strategy="scratch", dataset="doodle-pets",
    image_size=96, filters=(16, 32, 64, 64), pooling="flatten", dense=(64,), optimizer="adam", learning_rate=1e-3,
    batch_size=20, epochs=20,
)  # fmt: skip
doodle_augmented = doodle_scratch.with_changes(
    id="doodle-augmented", title="The same convnet, augmentation and dropout", strategy="augmented", dropout=0.3,
    epochs=45, augmentation=AugmentationPolicy(
        horizontal_flip=True, rotation=10, width_shift=0.1, height_shift=0.1, zoom=0.1, fill_mode="nearest"
    ),
)  # fmt: skip
doodle_features = make_recipe(
    id="doodle-features", title="Features of the frozen bundled base", strategy="features", dataset="doodle-pets",
    image_size=96, base="doodle-base", preprocessing="base", pooling="average", cached=True, optimizer="adam",
    learning_rate=2e-3, batch_size=20, epochs=40,
)  # fmt: skip
doodle_finetune = doodle_features.then(
    id="doodle-finetune", title="Fine-tuning the top of the bundled base", learning_rate=2e-4, epochs=15,
    augmentation=doodle_augmented.augmentation,
)  # fmt: skip

mobilenet_features = make_recipe(
    id="mobilenet-features", title="Features of a frozen MobileNetV2", strategy="features",
    dataset="cats-and-dogs-filtered", image_size=224, base="MobileNetV2", alpha=0.35, preprocessing="base",
    pooling="average", dropout=0.5, cached=True, optimizer="adam", learning_rate=1e-3, batch_size=32, epochs=20,
)  # fmt: skip
mobilenet_finetune = mobilenet_features.then(
    id="mobilenet-finetune", title="Fine-tuning the top blocks of MobileNetV2", learning_rate=1e-5, epochs=5,
)  # fmt: skip
# Its end-to-end sibling takes the textbook's augmentation and is stated after that.

_TEXTBOOK = "Deep Learning with Python, 2nd edition, chapter 8"
_FIRST_EDITION = "Deep Learning with Python, 1st edition, chapter 5"
_LECTURE = "University lecture"
_NOTE = "Transfer-learning course note"
_EXERCISE = "Neurocomputing exercise"

chollet2_scratch = make_recipe(
    id="chollet2-scratch", title="The textbook's convnet from scratch", strategy="scratch", source=_TEXTBOOK,
    dataset="cats-vs-dogs-small", image_size=180, filters=(32, 64, 128, 256, 256), pools=4, optimizer="rmsprop",
    learning_rate=1e-3, batch_size=32, epochs=30,
)  # fmt: skip
chollet2_augmented = chollet2_scratch.with_changes(
    id="chollet2-augmented", title="The textbook's convnet, augmentation and dropout", strategy="augmented",
    dropout=0.5, epochs=100, augmentation=AugmentationPolicy(horizontal_flip=True, rotation=36, zoom=0.2),
)  # fmt: skip
chollet2_features = make_recipe(
    id="chollet2-features", title="Features of a frozen VGG16", strategy="features", source=_TEXTBOOK,
    dataset="cats-vs-dogs-small", image_size=180, base="VGG16", preprocessing="base", dense=(256,),
    dense_activation="linear", dense_dropout=0.5, cached=True, optimizer="rmsprop", learning_rate=1e-3,
    batch_size=32, epochs=20,
)  # fmt: skip
chollet2_features_augmented = chollet2_features.with_changes(
    id="chollet2-features-augmented", title="A frozen VGG16, end to end with augmentation", cached=False, epochs=50,
    augmentation=chollet2_augmented.augmentation,
)  # fmt: skip
chollet2_finetune = chollet2_features_augmented.then(
    id="chollet2-finetune", title="Fine-tuning the last block of VGG16", learning_rate=1e-5, epochs=30,
    augmentation=chollet2_augmented.augmentation,
)  # fmt: skip

mobilenet_features_augmented = mobilenet_features.with_changes(
    id="mobilenet-features-augmented", title="A frozen MobileNetV2, end to end with augmentation", cached=False,
    epochs=10, augmentation=chollet2_augmented.augmentation,
)  # fmt: skip
mobilenet_features_views = mobilenet_features_augmented.with_changes(
    id="mobilenet-features-views", title="A frozen MobileNetV2, augmented in four stored views", views=4,
)  # fmt: skip

chollet1_scratch = make_recipe(
    id="chollet1-scratch", title="The first edition's convnet from scratch", strategy="scratch", source=_FIRST_EDITION,
    dataset="cats-and-dogs-small", image_size=150, interpolation="nearest", filters=(32, 64, 128, 128), dense=(512,),
    optimizer="rmsprop", learning_rate=1e-4, batch_size=20, steps_per_epoch=100, epochs=30,
)  # fmt: skip
chollet1_augmented = chollet1_scratch.with_changes(
    id="chollet1-augmented", title="The first edition's convnet, augmentation and dropout", strategy="augmented",
    dropout=0.5, batch_size=32, epochs=100, augmentation=AugmentationPolicy(
        horizontal_flip=True, rotation=40, width_shift=0.2, height_shift=0.2, shear=0.2, zoom=0.2, zoom_per_axis=True,
        fill_mode="nearest",
    ),
)  # fmt: skip

# Its slide gives no batch size, steps or epochs; the lecture's callback example, 100 steps and 30 epochs, fills in.
lecture_scratch = chollet1_scratch.with_changes(
    id="lecture-scratch", title="The lecture's convnet from scratch", source=_LECTURE
)
lecture_augmented = chollet1_augmented.with_changes(
    id="lecture-augmented", title="The lecture's convnet, augmentation and dropout", source=_LECTURE, batch_size=16,
    validation_steps=50,
)  # fmt: skip
lecture_augmented_no_dropout = lecture_augmented.with_changes(
    id="lecture-augmented-no-dropout", title="The lecture's convnet, augmentation without dropout", dropout=0.0,
    validation_steps=None, epochs=130,
)  # fmt: skip
lecture_features = make_recipe(
    id="lecture-features", title="Features of a frozen VGG16, pixels 0 to 1", strategy="features", source=_LECTURE,
    dataset="cats-and-dogs-small", image_size=150, interpolation="nearest", base="VGG16", preprocessing="rescale",
    dense=(256,), dense_dropout=0.5, cached=True, optimizer="rmsprop", learning_rate=2e-5, batch_size=20, epochs=30,
)  # fmt: skip
lecture_features_augmented = lecture_features.with_changes(
    id="lecture-features-augmented", title="A frozen VGG16, pixels 0 to 1, end to end", dense_dropout=0.0,
    cached=False, steps_per_epoch=100, epochs=5, augmentation=chollet1_augmented.augmentation,
)  # fmt: skip
lecture_finetune = lecture_features_augmented.then(
    id="lecture-finetune", title="Fine-tuning the last block of VGG16, pixels 0 to 1", learning_rate=1e-5, epochs=100,
    augmentation=chollet1_augmented.augmentation,
)  # fmt: skip

note_features = make_recipe(
    id="note-features", title="A frozen VGG16 tested on other pixels than it trained on", strategy="features",
    source=_NOTE, dataset="dogs-vs-cats-tiny", image_size=224, interpolation="nearest", base="VGG16",
    preprocessing="none", test_preprocessing="base", dense=(64,), dense_batch_norm=True, dense_dropout=0.5,
    classifier_activation="softmax", cached=True, optimizer="adam", learning_rate=1e-4, batch_size=30,
    steps_per_epoch=4, validation_steps=2, epochs=20,
)  # fmt: skip
note_features_matched = note_features.with_changes(
    id="note-features-matched", title="The same frozen VGG16 on the same pixels throughout", source="Fourways",
    preprocessing="base", test_preprocessing=None,
)  # fmt: skip

exercise_mnist = make_recipe(
    id="exercise-mnist", title="Handwritten digits from scratch", strategy="scratch", source=_EXERCISE,
    dataset="mnist", image_size=28, interpolation="nearest", color_mode="grayscale", filters=(32, 64),
    block_dropout=0.5, preprocessing="mean_image", dense=(150,), dense_dropout=0.5, optimizer="sgd",
    learning_rate=0.01, momentum=0.9, nesterov=True, learning_rate_decay=1e-6, batch_size=64, epochs=20,
)  # fmt: skip
exercise_scratch = make_recipe(
    id="exercise-scratch", title="The exercise's convnet from scratch", strategy="scratch", source=_EXERCISE,
    dataset="cats-and-dogs-filtered", image_size=150, interpolation="nearest", filters=(16, 32, 64, 64),
    block_dropout=0.2, dense=(512,), dense_dropout=0.2, optimizer="adam", learning_rate=5e-4, batch_size=64, epochs=30,
)  # fmt: skip
exercise_augmented = exercise_scratch.with_changes(
    id="exercise-augmented", title="The exercise's convnet, augmented", strategy="augmented", epochs=100,
    augmentation=chollet1_augmented.augmentation,
)  # fmt: skip
exercise_xception = make_recipe(
    id="exercise-xception", title="Features of a frozen Xception", strategy="features", source=_EXERCISE,
    dataset="cats-and-dogs-filtered", image_size=150, interpolation="nearest", base="Xception",
    preprocessing="rescale", pooling="average", dropout=0.5, cached=True, optimizer="adam", learning_rate=1e-3,
    batch_size=64, epochs=10,
)  # fmt: skip

RECIPES: dict[str, Recipe] = {
    recipe.id: recipe
    for recipe in (
        doodle_scratch, doodle_augmented, doodle_features, doodle_finetune,
        mobilenet_features, mobilenet_features_augmented, mobilenet_features_views, mobilenet_finetune,
        chollet2_scratch, chollet2_augmented, chollet2_features, chollet2_features_augmented, chollet2_finetune,
        chollet1_scratch, chollet1_augmented,
        lecture_scratch, lecture_augmented_no_dropout, lecture_augmented, lecture_features, lecture_features_augmented,
        lecture_finetune, note_features, note_features_matched,
        exercise_mnist, exercise_scratch, exercise_augmented, exercise_xception,
    )
}  # fmt: skip

# Every recipe of a source has an entry; ours have none.
PUBLISHED: dict[str, tuple[PublishedFigure, ...]] = {
    "chollet2-scratch": (
        PublishedFigure("test", "checkpoint", 0.695, 0.695, "69.5 %"),
        PublishedFigure("validation", "best", 0.75, 0.75, "75 % at its peak",
                        note="Validation loss is lowest after about 10 of the 30 epochs."),
    ),
    "chollet2-augmented": (
        PublishedFigure("test", "checkpoint", 0.835, 0.835, "83.5 %"),
        PublishedFigure("validation", "last", 0.80, 0.85, "80 to 85 %", note="Overfits from epoch 60 to 70 on."),
    ),
    "chollet2-features": (
        PublishedFigure("validation", "last", 0.97, 0.97, "about 97 %", note="Overfits almost at once."),
    ),
    "chollet2-features-augmented": (
        PublishedFigure("test", "checkpoint", 0.975, 0.975, "97.5 %"),
        PublishedFigure("validation", "last", 0.98, 1.0, "over 98 %"),
    ),
    "chollet2-finetune": (PublishedFigure("test", "checkpoint", 0.985, 0.985, "98.5 %"),),
    "chollet1-scratch": (
        PublishedFigure("validation", "last", 0.70, 0.72, "70 to 72 %", note="Validation loss is lowest near epoch 5."),
    ),
    "chollet1-augmented": (PublishedFigure("validation", "last", 0.82, 0.82, "82 %"),),
    "lecture-scratch": (
        PublishedFigure("validation", "last", 0.70, 1.0, "over 70 %", note="Overfits after 5 to 10 epochs."),
    ),
    "lecture-augmented-no-dropout": (
        PublishedFigure("validation", "last", 0.80, 0.80, "80 %", note="Overfits from epoch 80 on."),
    ),
    "lecture-augmented": (
        PublishedFigure("validation", "last", 0.83, 0.84, "83 to 84 %", note="No overfitting by epoch 100."),
        PublishedFigure("validation", "last", 0.84, 0.84, "84 % after 130 epochs", epochs=130),
    ),
    "lecture-features": (PublishedFigure("validation", "last", 0.90, 0.90, "about 90 %"),),
    "lecture-features-augmented": (
        PublishedFigure("validation", "last", 0.90, 0.96, "90 to 96 %",
                        note="Of feature extraction in general; this run's own slide has no figure."),
    ),
    "lecture-finetune": (PublishedFigure("validation", "last", 0.97, 0.97, "97 %"),),
    "note-features": (
        PublishedFigure("test", "checkpoint", 0.96, 0.96, "96 %",
                        note="Trained on pixels 0 to 255 and tested on preprocessed ones: a bug of the source."),
    ),
    "exercise-mnist": (
        PublishedFigure("test", "last", 0.9914, 0.9914, "99.14 %",
                        note="Taken as the last epoch's; ours is that of the lowest validation loss."),
    ),
    "exercise-scratch": (
        PublishedFigure("validation", "last", 0.740, 0.740, "74.0 %", note="Saturates at 70 to 75 %."),
        PublishedFigure("train", "last", 0.959, 0.959, "95.9 %"),
    ),
    "exercise-augmented": (
        PublishedFigure("validation", "last", 0.782, 0.782, "78.2 %", note="Levels off at about 80 %."),
        PublishedFigure("train", "last", 0.813, 0.813, "81.3 %"),
    ),
    "exercise-xception": (PublishedFigure("validation", "last", 0.942, 0.942, "94.2 %"),),
}  # fmt: skip


def usual_classes(recipe: Recipe) -> int:
    """Return how many classes the pictures have that a recipe was written for: 10 digits, else cats and dogs."""
    return 10 if recipe.dataset == "mnist" else 2


def get_recipe(recipe_id: str) -> Recipe:
    """Return the recipe of this name.

    Raises:
        InvalidRecipe: there is none; the message names those there are.
    """
    if recipe_id not in RECIPES:
        raise InvalidRecipe(f"no recipe {recipe_id!r}; recipes: {', '.join(RECIPES)}")
    return RECIPES[recipe_id]
