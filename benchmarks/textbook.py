"""The four strategies in plain Keras, as a reader of the textbook writes them: what ours is held against.

Deep Learning with Python, second edition, chapter 8: files are decoded anew in each epoch, augmentation is three layers
of the model, and the base looks at the validation pictures in each epoch again. VGG16 has random weights, which take as
long as trained ones.
"""

from pathlib import Path
from typing import Any

import keras
from keras import layers


def pictures(folder: Path, split: str, image_size: int, batch_size: int) -> Any:
    """Read the files of a split, decoded and resized as they are asked for."""
    size = (image_size, image_size)
    return keras.utils.image_dataset_from_directory(
        str(folder / split), image_size=size, batch_size=batch_size, verbose=False
    )


def augmentation() -> keras.Model:
    """Flip, turn and zoom."""
    return keras.Sequential([layers.RandomFlip("horizontal"), layers.RandomRotation(0.1), layers.RandomZoom(0.2)])


def convnet(image_size: int, augmented: bool) -> keras.Model:
    """Build the convnet that is trained from scratch, without or with augmentation and dropout."""
    inputs = keras.Input((image_size, image_size, 3))
    x = augmentation()(inputs) if augmented else inputs
    x = layers.Rescaling(1 / 255)(x)
    for filters in (32, 64, 128, 256):
        x = layers.Conv2D(filters, 3, activation="relu")(x)
        x = layers.MaxPooling2D(2)(x)
    x = layers.Conv2D(256, 3, activation="relu")(x)
    x = layers.Flatten()(x)
    if augmented:
        x = layers.Dropout(0.5)(x)
    return compiled(keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x)), "rmsprop")


def base(image_size: int) -> keras.Model:
    """Build the frozen base that features are extracted with."""
    return keras.applications.VGG16(weights=None, include_top=False, input_shape=(image_size, image_size, 3))


def features(model: keras.Model, images: Any) -> Any:
    """Extract the features of one batch of pictures."""
    return model.predict(keras.applications.vgg16.preprocess_input(images), verbose=0)


def head(shape: tuple[int, ...]) -> keras.Model:
    """Build the classifier that is trained on extracted features."""
    inputs = keras.Input(shape)
    return compiled(keras.Model(inputs, _classified(inputs)), "rmsprop")


def end_to_end(image_size: int, fine_tuned: bool) -> keras.Model:
    """Build augmentation, base and classifier as one model; the base is frozen, or but for its last four layers."""
    model = keras.applications.VGG16(weights=None, include_top=False)
    model.trainable = fine_tuned
    for layer in model.layers[:-4]:
        layer.trainable = False
    inputs = keras.Input((image_size, image_size, 3))
    x = keras.applications.vgg16.preprocess_input(augmentation()(inputs))
    optimizer = keras.optimizers.RMSprop(1e-5) if fine_tuned else "rmsprop"
    return compiled(keras.Model(inputs, _classified(model(x))), optimizer)


def compiled(model: keras.Model, optimizer: Any) -> keras.Model:
    """Compile as the textbook does."""
    model.compile(loss="binary_crossentropy", optimizer=optimizer, metrics=["accuracy"])
    return model


def _classified(x: Any) -> Any:
    x = layers.Dense(256)(layers.Flatten()(x))
    return layers.Dense(1, activation="sigmoid")(layers.Dropout(0.5)(x))
