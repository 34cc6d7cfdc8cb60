"""Time a training step of a convnet compiled in different ways, interleaved in one process.

    python -m benchmarks.training_step [RECIPE] [--rounds N]

Prints, for each way, the median seconds a step and its ratio to TensorFlow's own kernels (`jit_compile=False`),
which is how Fourways compiles on a CPU.
"""

import argparse
import statistics
import time

import keras
import numpy as np

from cvcore import devices
from cvcore.models import build
from cvcore.published import get_recipe

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("recipe", nargs="?", default="chollet2-scratch")
parser.add_argument("--rounds", type=int, default=5)
args = parser.parse_args()
recipe = get_recipe(args.recipe)
devices.prepare()
random = np.random.default_rng(0)
images = random.uniform(0, 255, (recipe.batch_size, recipe.image_size, recipe.image_size, 3)).astype("float32")
labels = random.integers(0, 2, recipe.batch_size)

models = {}
for name, jit in (("own kernels", False), ("XLA", True)):
    model = build(recipe, 2).model()
    model.compile(keras.optimizers.RMSprop(1e-3), "binary_crossentropy", metrics=["accuracy"], jit_compile=jit)
    model.train_on_batch(images, labels)
    models[name] = model

seconds = {name: [] for name in models}
for _ in range(args.rounds):
    for name, model in models.items():
        began = time.perf_counter()
        for _ in range(3):
            model.train_on_batch(images, labels)
        seconds[name].append((time.perf_counter() - began) / 3)
medians = {name: statistics.median(values) for name, values in seconds.items()}
for name, value in medians.items():
    print(f"{name:12s} {value:.3f} s a step, {value / medians['own kernels']:.2f} times")
