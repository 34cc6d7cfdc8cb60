"""Time what the Augmentation page and a training step pay: `python -m benchmarks.augmentation_preview [--layer]`.

Nine previews of one 300-px picture, with and without JPEG encoding, and with --layer the warp of a batch of 32 pictures
of 180 px beside Keras' own stack of layers, in interleaved rounds; medians in milliseconds.
"""

import argparse
import io
import json
import statistics
import time
from collections.abc import Callable

import numpy as np
from PIL import Image

from cvcore.augmentation import FILL_MODES, PRESETS, AugmentationPolicy, preview


def photo_like(side: int) -> Image.Image:
    """Draw smooth colours, edges and grain."""
    y, x = np.mgrid[0:side, 0:side] / side
    pixels = np.stack([60 + 150 * x, 50 + 140 * y, 120 + 80 * np.sin(20 * (x + 2 * y))], axis=-1)
    pixels[(x - 0.6) ** 2 + (y - 0.5) ** 2 < 0.06] = (190, 80, 50)
    grain = np.random.default_rng(0).normal(0, 10, pixels.shape)
    return Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8))


def medians(jobs: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Time each job once a round, after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for round_number in range(rounds + 1):
        for name, job in jobs.items():
            start = time.perf_counter()
            job()
            if round_number:
                seconds[name].append(time.perf_counter() - start)
    return {name: round(1000 * statistics.median(values), 1) for name, values in seconds.items()}


def encoded(pictures: list[Image.Image]) -> None:
    for picture in pictures:
        picture.save(io.BytesIO(), "JPEG", quality=85)


def previews(rounds: int) -> dict[str, float]:
    """Time nine variants of one 300-px picture for each preset, and the widest in each fill mode."""
    image = photo_like(300)
    policies = {name: policy for name, policy in PRESETS.items() if name != "none"}
    for mode in FILL_MODES:
        policies[f"too much, {mode}"] = AugmentationPolicy(**PRESETS["too much"].model_dump() | {"fill_mode": mode})
    jobs: dict[str, Callable[[], object]] = {
        name: lambda policy=policy: preview(image, policy, seed=0) for name, policy in policies.items()
    }
    second = PRESETS["textbook 2nd edition"]
    jobs["textbook 2nd edition, as JPEG"] = lambda: encoded(preview(image, second, seed=0))
    return medians(jobs, rounds)


def layer(rounds: int) -> dict[str, float]:
    """Time a training batch of 32 at 180 px: the layer, and Keras' stack for the same policy."""
    import keras
    import tensorflow as tf

    from cvcore.augmentation_layer import Augmentation

    batch = tf.constant(np.stack([np.asarray(photo_like(180))] * 32).astype("float32"))
    stack = keras.Sequential(
        [keras.layers.RandomFlip("horizontal"), keras.layers.RandomRotation(0.1), keras.layers.RandomZoom(0.2)]
    )
    models = {name: Augmentation(policy, seed=0) for name, policy in PRESETS.items()} | {"three Keras layers": stack}
    calls = {
        name: tf.function(lambda images, model=model: model(images, training=True)) for name, model in models.items()
    }
    return medians({name: lambda call=call: call(batch).numpy() for name, call in calls.items()}, rounds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layer", action="store_true", help="also the Keras layer (loads TensorFlow)")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    result = {"nine previews at 300 px, ms": previews(options.rounds)}
    if options.layer:
        result["batch of 32 at 180 px, ms"] = layer(options.rounds)
    print(json.dumps(result, indent=2))
