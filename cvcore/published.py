"""Recipes by name, each stated as its difference from another where there is one.

The doodle and MobileNetV2 recipes are ours; the `chollet2-` ones are the published configurations of
F. Chollet, Deep Learning with Python, second edition, chapter 8.
"""

from cvcore.augmentation import AugmentationPolicy
from cvcore.errors import InvalidRecipe
from cvcore.recipe import Recipe, make_recipe

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

_TEXTBOOK = "Deep Learning with Python, 2nd edition, chapter 8"
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

RECIPES: dict[str, Recipe] = {
    recipe.id: recipe
    for recipe in (
        doodle_scratch, doodle_augmented, doodle_features, doodle_finetune, mobilenet_features, mobilenet_finetune,
        chollet2_scratch, chollet2_augmented, chollet2_features, chollet2_features_augmented, chollet2_finetune,
    )
}  # fmt: skip


def get_recipe(recipe_id: str) -> Recipe:
    """Return the recipe of this name.

    Raises:
        InvalidRecipe: there is none; the message names those there are.
    """
    if recipe_id not in RECIPES:
        raise InvalidRecipe(f"no recipe {recipe_id!r}; recipes: {', '.join(RECIPES)}")
    return RECIPES[recipe_id]
