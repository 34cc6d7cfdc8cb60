"""Tiny lessons for the training tests: pictures of a few kilobytes, recipes that train in seconds."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from cvcore.recipe import make_recipe

# Pictures of each class; 18 training pictures of two classes make three batches of 8, 8 and 2.
SPLITS = {"train": 9, "validation": 7, "test": 8}
AUGMENTATION = {"horizontal_flip": True, "rotation": 20, "zoom": 0.1, "brightness": 0.1}

tiny_scratch = make_recipe(
    id="tiny-scratch", strategy="scratch", image_size=32, filters=(4, 8), dense=(8,), optimizer="adam",
    learning_rate=0.01, batch_size=8, epochs=3,
)  # fmt: skip
tiny_augmented = tiny_scratch.with_changes(
    id="tiny-augmented", strategy="augmented", dropout=0.3, block_dropout=0.1, augmentation=AUGMENTATION, epochs=4
)
tiny_features = make_recipe(
    id="tiny-features", strategy="features", image_size=32, base="doodle-base", preprocessing="base",
    pooling="average", dropout=0.2, cached=True, optimizer="adam", learning_rate=0.01, batch_size=8, epochs=3,
)  # fmt: skip
tiny_features_augmented = tiny_features.with_changes(
    id="tiny-features-augmented", cached=False, augmentation=AUGMENTATION, epochs=2
)
tiny_features_softmax = tiny_features.with_changes(
    id="tiny-features-softmax", dense=(6,), dense_batch_norm=True, dense_dropout=0.2, classifier_activation="softmax",
    epochs=2,
)  # fmt: skip
tiny_greys = tiny_scratch.with_changes(
    id="tiny-greys", color_mode="grayscale", preprocessing="mean_image", optimizer="sgd", momentum=0.9, nesterov=True,
    learning_rate_decay=1e-6, epochs=2,
)  # fmt: skip
tiny_finetune = tiny_features.then(
    id="tiny-finetune", unfreeze_from="block4_conv1", learning_rate=0.001, epochs=2, augmentation=AUGMENTATION
)
tiny_features_views = tiny_features_augmented.with_changes(id="tiny-features-views", views=2, epochs=3)
tiny_finetune_views = tiny_finetune.with_changes(id="tiny-finetune-views", views=2)
# Its head never gets better, so that early stopping ends the first phase after 1 + 2 of 6 epochs on any machine.
tiny_stubborn = tiny_finetune.with_changes(
    id="tiny-stubborn", starts_from={"learning_rate": 1e-30, "early_stopping_patience": 2, "epochs": 6}
)


def write_lesson(root: Path, classes: tuple[str, ...] = ("bars", "discs"), splits: dict[str, int] = SPLITS) -> Path:
    """Write noisy 32-pixel pictures, root/split/class/number.png; the first two classes differ in one shape."""
    for split, count in splits.items():
        for label, name in enumerate(classes):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                random = np.random.default_rng([label, number, list(splits).index(split)])
                image = Image.fromarray(random.integers(60, 180, (32, 32, 3), np.uint8))
                drawing = ImageDraw.Draw(image)
                x, y = (int(place) for place in random.integers(2, 14, 2))
                if label == 0:
                    drawing.rectangle((x, y, x + 15, y + 4), fill="white")
                elif label == 1:
                    drawing.ellipse((x, y, x + 14, y + 14), fill="black")
                else:
                    drawing.line((x, y, x + 14, y + 14), fill="red", width=3)
                image.save(folder / f"{number}.png")
    return root
