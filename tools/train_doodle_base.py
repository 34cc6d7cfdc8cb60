"""Train the bundled base on drawn animals and things (no cats, no dogs) and save its weights.

    python -m tools.train_doodle_base

Run it from the project's root. It draws the pictures, trains a classifier of the classes in
`tools/doodle_things.py` on the CPU, says how well it does on pictures it has not seen, and writes
`cvcore/weights/doodle_base.weights.h5`. The same seed draws the same pictures; weights may differ
in their last digits from one processor to another.

While it trains, each convolution is followed by batch normalization; at the end that is folded into the
convolutions' weights, so that the base that is kept is seven plain convolutions.
"""

from __future__ import annotations

import argparse
import time
import zlib
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import keras
import numpy as np
from keras import layers

from cvcore.base_weights import BUNDLED
from cvcore.doodle_base import doodle_base
from tools.doodle_things import CLASS_NAMES, draw

EPSILON = 1e-3


def draw_class(kind: str, split: str, count: int, seed: int) -> np.ndarray:
    """Draw `count` pictures of one class: (count, 96, 96, 3) uint8."""
    code = zlib.crc32(f"{split}/{kind}".encode())
    return np.stack([np.asarray(draw(kind, np.random.default_rng([seed, code, index]))) for index in range(count)])


def draw_split(split: str, count: int, seed: int, processes: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw `count` pictures of every class: pictures (n, 96, 96, 3) uint8 and labels (n,) int32."""
    with ProcessPoolExecutor(processes) as pool:
        pictures = list(pool.map(partial(draw_class, split=split, count=count, seed=seed), CLASS_NAMES))
    return np.concatenate(pictures), np.repeat(np.arange(len(CLASS_NAMES), dtype=np.int32), count)


def training_twin(base: keras.Model) -> keras.Model:
    """The base as it is trained: batch normalization between each convolution and its relu, and a classifier."""
    pixels = keras.Input(base.input_shape[1:], dtype="uint8")
    x = layers.Rescaling(1 / 255)(pixels)
    for layer in base.layers[1:]:
        if isinstance(layer, layers.Conv2D):
            name = layer.name
            x = layers.Conv2D(layer.filters, 3, layer.strides, padding="same", use_bias=False, name=name)(x)
            x = layers.BatchNormalization(epsilon=EPSILON, name=f"{name}_norm")(x)
            x = layers.Activation("relu")(x)
        else:
            x = layers.MaxPooling2D(2)(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.2)(x)
    return keras.Model(pixels, layers.Dense(len(CLASS_NAMES), activation="softmax", name="classes")(x))


def fold(twin: keras.Model, base: keras.Model) -> None:
    """Fold each batch normalization of `twin` into the kernel and bias of the same convolution of `base`.

    Source: gamma * (w x - mean) / sqrt(variance + epsilon) + beta = (scale * w) x + (beta - scale * mean).
    """
    for layer in base.layers:
        if isinstance(layer, layers.Conv2D):
            (kernel,) = twin.get_layer(layer.name).get_weights()
            gamma, beta, mean, variance = twin.get_layer(f"{layer.name}_norm").get_weights()
            scale = gamma / np.sqrt(variance + EPSILON)
            layer.set_weights([kernel * scale, beta - scale * mean])


def mirrored(pictures: np.ndarray, labels: np.ndarray, batch_size: int, seed: int):
    """Batches for ever: every picture once an epoch in random order, half of them mirrored."""
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(len(pictures))
        for start in range(0, len(order) - batch_size + 1, batch_size):
            chosen = order[start : start + batch_size]
            batch = pictures[chosen]
            flip = rng.random(batch_size) < 0.5
            batch[flip] = batch[flip, :, ::-1]
            yield batch, labels[chosen]


def main() -> None:
    """Read the options, draw, train, fold, check, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=700, help="training pictures a class (default 700)")
    parser.add_argument("--held-out", type=int, default=50, help="held-out pictures a class (default 50)")
    parser.add_argument("--epochs", type=int, default=10, help="passes over the pictures (default 10)")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=3e-3, help="at the start; falls to 0 along a cosine")
    parser.add_argument("--seed", type=int, default=2024)
    parser.add_argument("--processes", type=int, default=2, help="processes that draw (default 2)")
    parser.add_argument("--output", type=Path, default=BUNDLED, help="weights file to write")
    options = parser.parse_args()

    began = time.perf_counter()
    print(f"Drawing {len(CLASS_NAMES)} classes: {', '.join(CLASS_NAMES)}", flush=True)
    pictures, labels = draw_split("train", options.pictures, options.seed, options.processes)
    held_out, held_out_labels = draw_split("held out", options.held_out, options.seed, options.processes)
    print(f"{len(pictures)} pictures drawn in {time.perf_counter() - began:.0f} s", flush=True)

    keras.utils.set_random_seed(options.seed)
    base = doodle_base()
    twin = training_twin(base)
    steps = len(pictures) // options.batch_size
    rate = keras.optimizers.schedules.CosineDecay(options.learning_rate, steps * options.epochs)
    twin.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    batches = mirrored(pictures, labels, options.batch_size, options.seed)
    began = time.perf_counter()
    twin.fit(
        batches,
        steps_per_epoch=steps,
        epochs=options.epochs,
        validation_data=(held_out, held_out_labels),
        validation_batch_size=50,
        verbose=2,
    )
    print(f"Trained in {time.perf_counter() - began:.0f} s", flush=True)

    fold(twin, base)
    classifier = twin.get_layer("classes")
    activations = base.predict(held_out / np.float32(255), batch_size=50, verbose=0).mean(axis=(1, 2))
    predicted = keras.ops.convert_to_numpy(classifier(activations)).argmax(axis=1)
    accuracy = float((predicted == held_out_labels).mean())
    options.output.parent.mkdir(parents=True, exist_ok=True)
    base.save_weights(options.output)
    size = options.output.stat().st_size / 1e6
    print(f"{base.count_params()} parameters, {size:.2f} MB; folded base on held-out pictures: {accuracy:.3f}")


if __name__ == "__main__":
    main()
