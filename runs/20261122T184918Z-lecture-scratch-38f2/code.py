"""Repeat one run of Fourways with Keras, NumPy and Pillow alone.

    python code.py DATA_FOLDER

DATA_FOLDER holds train, validation and test, each with one folder a class.
On the processor of the run the figures are the run's; elsewhere, and on a GPU, rounding differs and later epochs drift.
"""

import argparse
import math
import sys
from pathlib import Path

# Python looks for modules beside a script first, and Keras needs one of Python's own that is called code too.
sys.path = [folder for folder in sys.path if Path(folder).resolve() != Path(__file__).resolve().parent]

import keras
import numpy as np
from keras import layers
from PIL import Image, ImageOps

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("data_folder")
parser.add_argument("--save", metavar="FILE.keras", help="keep the trained network")
arguments = parser.parse_args()

RUN = "20261122T184918Z-lecture-scratch-38f2"
RECIPE = "The lecture's convnet from scratch"
DATASET = "cats-and-dogs-small"
CLASS_NAMES = ["cats", "dogs"]
# Pictures of each class that the run had.
RUN_COUNTS = {"train": [1000, 1000], "validation": [500, 500], "test": [500, 500]}
IMAGE_SIZE = 150
SEED = 1
# TensorFlow's own CPU kernels train these networks faster than XLA's.
XLA = False if keras.config.backend() == "tensorflow" else "auto"
print(f"{RUN}: {RECIPE}, on {DATASET}")


# The pictures
SUFFIXES = [".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"]


def read(path):
    """Read one picture as upright RGB, transparency laid on white, resized: uint8 (IMAGE_SIZE, IMAGE_SIZE, 3)."""
    with Image.open(path) as opened:
        image = ImageOps.exif_transpose(opened)
    if image.mode.startswith("I;16"):  # 16 bits a pixel
        image = Image.fromarray(((np.asarray(image).astype("uint32") + 128) // 257).astype("uint8"))
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return resized(image.convert("RGB"))


def resized(image):
    """Resize by taking the nearest pixel, as the loaders of early Keras did."""
    return np.asarray(image.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.NEAREST))


def find(folder):
    """List the pictures below the class folders of a folder with their labels, sorted by path."""
    files = []
    for label, name in enumerate(CLASS_NAMES):
        for path in (folder / name).rglob("*"):
            hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
            if path.suffix.lower() in SUFFIXES and path.is_file() and not hidden:
                files.append((path, label))
    return sorted(files, key=lambda file: file[0].as_posix())


def load(files, split):
    """Read pictures into memory: uint8 (n, IMAGE_SIZE, IMAGE_SIZE, 3), and their labels (n,)."""
    images, labels = [], []
    for path, label in files:
        try:
            images.append(read(path))
            labels.append(label)
        except (OSError, SyntaxError, ValueError) as error:
            print(f"skipped {path}: {error}")
    counts = [labels.count(label) for label in range(len(CLASS_NAMES))]
    print(f"{split}: {dict(zip(CLASS_NAMES, counts))}")
    if counts != RUN_COUNTS[split]:
        print(f"The run had {RUN_COUNTS[split]} pictures in {split}: its figures will differ from these.")
    if 0 in counts:
        raise SystemExit(f"{split} must have pictures of every class; found {dict(zip(CLASS_NAMES, counts))}.")
    return np.stack(images), np.array(labels)


data = Path(arguments.data_folder)
if not data.is_dir():
    raise SystemExit(f"DATA_FOLDER must be a folder; received {data}")
folders = {folder.name.lower(): folder for folder in data.iterdir() if folder.is_dir()}


def files_of(*names):
    """List the pictures of the folder that has one of these names."""
    for name in names:
        if name in folders:
            return find(folders[name])
    raise SystemExit(f"{data} must hold a folder {names[0]} with one folder a class; it holds {sorted(folders)}")


train_files = files_of("train", "training")
validation_files = files_of("validation", "valid", "val")
test_files = files_of("test", "testing")
train_images, train_labels = load(train_files, "train")
validation_images, validation_labels = load(validation_files, "validation")
test_images, test_labels = load(test_files, "test")


# The order of the pictures
def epoch_seed(epoch, use):
    """Make one seed for each use in each epoch: 0 is the order, the others are layers that draw at random."""
    return int(np.random.SeedSequence((SEED, epoch, use)).generate_state(1)[0] >> 1)


class Batches(keras.utils.PyDataset):
    """Inputs and labels, a batch at a time, in the order given or shuffled anew in each epoch."""

    def __init__(self, inputs, labels, batch_size):
        super().__init__()
        self.inputs, self.labels, self.batch_size = inputs, labels, batch_size
        self.order = np.arange(len(labels))

    def shuffle(self, epoch):
        self.order = np.random.default_rng(epoch_seed(epoch, 0)).permutation(len(self.labels))

    def __len__(self):
        return math.ceil(len(self.labels) / self.batch_size)

    def __getitem__(self, index):
        rows = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        return self.inputs[rows].astype("float32"), self.labels[rows]


class Stream(Batches):
    """Batches of passes that go on from epoch to epoch; an epoch takes the next `steps` of them."""

    def __init__(self, inputs, labels, batch_size, steps):
        super().__init__(inputs, labels, batch_size)
        self.steps, self.taken = steps, 0

    def shuffle(self, epoch):
        self.taken = (epoch - 1) * self.steps

    def __len__(self):
        return self.steps

    def __getitem__(self, index):
        done, place = divmod(self.taken + index, super().__len__())
        super().shuffle(done + 1)  # each pass has its own order
        return super().__getitem__(place)


def pipeline(batches):
    """Give Keras batches by a pipeline that TensorFlow does not tune; another backend takes them as they are.

    With TensorFlow 2.21 the end of an epoch may wait up to a minute for the tuner, which has nothing to tune here.
    """
    if keras.config.backend() != "tensorflow":
        return batches
    import tensorflow as tf

    inputs, labels = batches[0]
    shapes = (tf.TensorSpec((None, *inputs.shape[1:]), inputs.dtype), tf.TensorSpec((None,), labels.dtype))
    made = tf.data.Dataset.from_generator(
        lambda: (batches[index] for index in range(len(batches))), output_signature=shapes
    )
    options = tf.data.Options()
    options.autotune.enabled = False
    return made.apply(tf.data.experimental.assert_cardinality(len(batches))).prefetch(1).with_options(options)


history = []
COLUMNS = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy")


class EveryEpoch(keras.callbacks.Callback):
    """Before an epoch: draw anew from (SEED, epoch). After it: print and keep its figures."""

    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def on_epoch_begin(self, epoch, logs=None):
        epoch = len(history) + 1
        self.batches.shuffle(epoch)

    def on_epoch_end(self, epoch, logs=None):
        history.append({"epoch": len(history) + 1, **{name: float(value) for name, value in logs.items()}})
        print("  ".join(f"{name} {history[-1][name]:.6g}" for name in COLUMNS), flush=True)


# The network
keras.utils.set_random_seed(SEED)
inputs = keras.Input((IMAGE_SIZE, IMAGE_SIZE, 3), name="image")
x = layers.Rescaling(1 / 255, name="preprocessing")(inputs)
x = layers.Conv2D(32, 3, activation="relu", name="conv1")(x)
x = layers.MaxPooling2D(2, name="pool1")(x)
x = layers.Conv2D(64, 3, activation="relu", name="conv2")(x)
x = layers.MaxPooling2D(2, name="pool2")(x)
x = layers.Conv2D(128, 3, activation="relu", name="conv3")(x)
x = layers.MaxPooling2D(2, name="pool3")(x)
x = layers.Conv2D(128, 3, activation="relu", name="conv4")(x)
x = layers.MaxPooling2D(2, name="pool4")(x)
x = layers.Flatten(name="flatten")(x)
x = layers.Dense(512, activation="relu", name="dense1")(x)
x = layers.Dense(1, activation="sigmoid", name="prediction")(x)
model = keras.Model(inputs, x)


# Training
batches = Stream(train_images, train_labels, 20, steps=100)
# Ends with the weights of the lowest val_loss.
keep_best = keras.callbacks.EarlyStopping("val_loss", patience=30, restore_best_weights=True)
model.compile(
    optimizer=keras.optimizers.RMSprop(0.0001),
    loss="binary_crossentropy",
    metrics=["accuracy"],
    jit_compile=XLA,
)
model.fit(
    pipeline(batches),
    validation_data=pipeline(Batches(validation_images, validation_labels, 64)),
    epochs=30,
    callbacks=[keep_best, EveryEpoch(batches)],
    shuffle=False,
    verbose=0,
)


# The best epoch, and the test split for the first and only time
best = min(history, key=lambda row: row["val_loss"])
print("best_epoch {epoch}  val_loss {val_loss:.6g}  val_accuracy {val_accuracy:.6g}".format(**best))
test_loss, test_accuracy = model.evaluate(pipeline(Batches(test_images, test_labels, 64)), verbose=0)
print(f"test_loss {test_loss:.6g}  test_accuracy {test_accuracy:.6g}")
if arguments.save:
    model.save(arguments.save)
