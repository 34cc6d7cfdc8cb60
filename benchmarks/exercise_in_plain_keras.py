"""Train the neurocomputing exercise's convnet in plain Keras, without cvcore, one `History.history` a seed.

    python -m benchmarks.exercise_in_plain_keras --data DIR --out DIR [--seeds 1 2 3] [--interpolation nearest]

DIR of --data holds train/ and validation/ with one folder a class (the unpacked cats_and_dogs_filtered). What it is
for: if our `exercise-scratch` differs from its published figure and plain Keras differs in the same way, the cause is
not ours. The files it writes are read by `python -m cvcore import`.
"""

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
SIDE, EPOCHS = 150, 30


def pictures(folder: Path, interpolation: str):
    """Read a split as Keras' ImageDataGenerator does: pixels 0..1 (n, 150, 150, 3), labels 0 or 1 (n,)."""
    import keras
    import numpy as np

    images, labels = [], []
    for label, kind in enumerate(sorted(path for path in folder.iterdir() if path.is_dir())):
        for file in sorted(kind.glob("*.jpg")):
            picture = keras.utils.load_img(file, target_size=(SIDE, SIDE), interpolation=interpolation)
            images.append(np.asarray(picture))
            labels.append(label)
    return np.stack(images).astype("float32") / 255, np.array(labels, "float32")


def convnet():
    """Build the exercise's network: 1,667,169 parameters."""
    import keras
    from keras import layers

    model = keras.Sequential([keras.Input((SIDE, SIDE, 3))])
    for filters in (16, 32, 64, 64):
        model.add(layers.Conv2D(filters, 3, activation="relu"))
        model.add(layers.MaxPooling2D(2))
        model.add(layers.Dropout(0.2))
    model.add(layers.Flatten())
    model.add(layers.Dense(512, activation="relu"))
    model.add(layers.Dropout(0.2))
    model.add(layers.Dense(1, activation="sigmoid"))
    model.compile(keras.optimizers.Adam(5e-4), "binary_crossentropy", metrics=["binary_accuracy"])
    return model


def main() -> None:
    """Train once a seed and write each history."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--interpolation", choices=("nearest", "bilinear"), default="nearest")
    arguments = parser.parse_args()
    import keras

    train = pictures(arguments.data / "train", arguments.interpolation)
    validation = pictures(arguments.data / "validation", arguments.interpolation)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for seed in arguments.seeds:
        keras.utils.set_random_seed(seed)
        began = time.perf_counter()
        fitted = convnet().fit(*train, batch_size=64, epochs=EPOCHS, validation_data=validation, verbose=0)
        history = {name: [float(value) for value in values] for name, values in fitted.history.items()}
        path = arguments.out / f"plain-keras-exercise-scratch-{arguments.interpolation}-seed-{seed}.json"
        path.write_text(json.dumps(history))
        last = history["val_binary_accuracy"][-1]
        print(f"seed {seed}: validation {last:.3f} at the last epoch, {time.perf_counter() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
