"""Repeat one run of Fourways with Keras, NumPy and Pillow alone.

    python code.py DATA_FOLDER [WEIGHTS_FILE]

DATA_FOLDER holds train and validation, each with one folder a class.
On the processor of the run the figures are the run's; elsewhere, and on a GPU, rounding differs and later epochs drift.
"""

import argparse
import math
import sys
from pathlib import Path
from tempfile import TemporaryFile

# Python looks for modules beside a script first, and Keras needs one of Python's own that is called code too.
sys.path = [folder for folder in sys.path if Path(folder).resolve() != Path(__file__).resolve().parent]

import keras
import numpy as np
from keras import layers, ops
from PIL import Image, ImageOps

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("data_folder")
parser.add_argument("weights_file", nargs="?", default="imagenet", help="default: Keras downloads it")
parser.add_argument("--save", metavar="FILE.keras", help="keep the trained network")
arguments = parser.parse_args()

RUN = "20261122T161054Z-mobilenet-features-views-12bb"
RECIPE = "A frozen MobileNetV2, augmented in four stored views"
DATASET = "cats_and_dogs_filtered"
CLASS_NAMES = ["cats", "dogs"]
# Pictures of each class that the run had.
RUN_COUNTS = {"train": [1000, 1000], "validation": [500, 500]}
IMAGE_SIZE = 224
SEED = 4
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


def neighbours(length):
    """For each output pixel along one axis: the two input pixels around its centre, and the share of the second."""
    centre = (np.arange(IMAGE_SIZE, dtype="float32") + 0.5) * np.float32(length / IMAGE_SIZE) - 0.5
    first = np.floor(centre).astype(int)
    return first.clip(0, length - 1), (first + 1).clip(0, length - 1), centre - np.floor(centre)


def resized(image):
    """Resize as tf.image.resize does: bilinear between four pixels, however much the picture shrinks."""
    pixels = np.asarray(image).astype("float32")
    top, bottom, down = neighbours(image.height)
    left, right, across = neighbours(image.width)
    upper = pixels[top][:, left] + (pixels[top][:, right] - pixels[top][:, left]) * across[:, None]
    lower = pixels[bottom][:, left] + (pixels[bottom][:, right] - pixels[bottom][:, left]) * across[:, None]
    return np.rint(upper + (lower - upper) * down[:, None, None]).astype("uint8")


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
train_images, train_labels = load(train_files, "train")
validation_images, validation_labels = load(validation_files, "validation")


# The order of the pictures
def epoch_seed(epoch, use):
    """Make one seed for each use in each epoch: 0 is the order, the others are layers that draw at random."""
    return int(np.random.SeedSequence((SEED, epoch, use)).generate_state(1)[0] >> 1)


class Batches(keras.utils.PyDataset):
    """Inputs and labels, a batch at a time, in the order given or shuffled anew in each epoch."""

    views = None  # several inputs, of which each pass takes the next

    def __init__(self, inputs, labels, batch_size):
        super().__init__()
        self.inputs, self.labels, self.batch_size = inputs, labels, batch_size
        self.order = np.arange(len(labels))

    def shuffle(self, epoch):
        self.order = np.random.default_rng(epoch_seed(epoch, 0)).permutation(len(self.labels))
        if self.views is not None:
            self.inputs = self.views[(epoch - 1) % len(self.views)]

    def __len__(self):
        return math.ceil(len(self.labels) / self.batch_size)

    def __getitem__(self, index):
        rows = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        return self.inputs[rows].astype("float32"), self.labels[rows]


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

    def __init__(self, batches, below=0):
        super().__init__()
        self.batches, self.below = batches, below  # layers that the model has not

    def on_epoch_begin(self, epoch, logs=None):
        epoch = len(history) + 1
        self.batches.shuffle(epoch)
        for index, layer in enumerate(self.model.layers):
            if hasattr(layer, "seed_generator"):
                layer.seed_generator.state.assign([epoch_seed(epoch, self.below + index + 1), 0])
        if keras.config.backend() == "torch":  # its dropout asks PyTorch's own generator instead
            keras.utils.set_random_seed(epoch_seed(epoch, 0))

    def on_epoch_end(self, epoch, logs=None):
        history.append({"epoch": len(history) + 1, **{name: float(value) for name, value in logs.items()}})
        print("  ".join(f"{name} {history[-1][name]:.6g}" for name in COLUMNS), flush=True)


class Augmentation(layers.Layer):
    """Change each training picture at random; hand pictures on untouched otherwise."""

    def __init__(self, **options):
        super().__init__(**options)
        self.seed_generator = keras.random.SeedGenerator(SEED)

    def call(self, images, training=False):
        if not training:
            return images
        uniforms = keras.random.uniform((ops.shape(images)[0], 10), seed=self.seed_generator)
        return self.change(images, uniforms)

    def change(self, images, uniforms):
        """Change pictures as these numbers decide: (n, 10) in [0, 1)."""
        height, width = images.shape[1:3]
        centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
        one = ops.ones_like(uniforms[:, 0])
        zoom = 1 + 0.2 * (2 * uniforms[:, 6] - 1)
        scale_x = zoom * ops.where(uniforms[:, 0] < 0.5, -one, one)
        scale_y = zoom
        angle = np.pi / 180 * (36.0 * (2 * uniforms[:, 2] - 1))
        cos, sin = ops.cos(angle), ops.sin(angle)
        # Output pixel (x, y) is read from input point (a0 x + a1 y + a2, b0 x + b1 y + b2), all about the centre.
        a0, a1 = cos * scale_x, -sin * scale_y
        b0, b1 = sin * scale_x, cos * scale_y
        a2 = centre_x - a0 * centre_x - a1 * centre_y
        b2 = centre_y - b0 * centre_x - b1 * centre_y
        numbers = ops.stack([a0, a1, a2, b0, b1, b2, 0 * one, 0 * one], axis=-1)
        images = ops.image.affine_transform(
            images, numbers, "bilinear", fill_mode="reflect", data_format="channels_last"
        )
        return images


# Stored views: a few changed versions of each training picture are drawn once. What the frozen layers make of them is
# kept in half precision, and each pass over the pictures takes the next version. Training sees the same versions again
# and again: another training than one whose pictures change anew in every epoch.
def stored_views(frozen, augmentation, views):
    """Run changed training pictures through the frozen layers: float16 (views, n, ...), in a file that is not kept."""
    frozen.compile(jit_compile=XLA)
    shape = (len(views), len(train_images), *frozen.output_shape[1:])
    with TemporaryFile(dir=".") as file:  # gone from the folder as soon as nothing needs it
        stored = np.memmap(file, "float16", "w+", shape=shape)
    for place, view in enumerate(views):
        random = np.random.default_rng(np.random.SeedSequence((20230917, view)))  # whatever the seed
        uniforms = random.random((len(train_images), 10), dtype="float32")
        for start in range(0, len(train_images), 32):
            part = slice(start, start + 32)
            images = ops.convert_to_tensor(train_images[part].astype("float32"))
            changed = augmentation.change(images, ops.convert_to_tensor(uniforms[part]))
            stored[place, part] = np.clip(frozen.predict_on_batch(changed), -65504, 65504)  # all that float16 can hold
    return stored


# The network
keras.utils.set_random_seed(SEED)
base = keras.applications.MobileNetV2(
    include_top=False, alpha=0.35, name="mobilenetv2", weights=arguments.weights_file, input_shape=(IMAGE_SIZE, IMAGE_SIZE, 3)
)
base.trainable = False
head = [
    layers.Dropout(0.5, name="dropout"),
    layers.Dense(1, activation="sigmoid", name="prediction"),
]


def through_base(x):
    x = layers.Rescaling(1 / 127.5, offset=-1, name="preprocessing")(x)
    x = base(x, training=False)
    x = layers.GlobalAveragePooling2D(name="average_pool")(x)
    return x


def through_head(x):
    for layer in head:
        x = layer(x)
    return x


# Training
inputs = keras.Input((IMAGE_SIZE, IMAGE_SIZE, 3), name="image")
extractor = keras.Model(inputs, through_base(inputs))
numbers = range(4)
views = stored_views(extractor, Augmentation(), numbers)
batches = pipeline(Batches(validation_images, validation_labels, 32))
validation_features = extractor.predict(batches, verbose=0)
feature = keras.Input(extractor.output_shape[1:], name="feature")
model = keras.Model(feature, through_head(feature))
batches = Batches(views[0], train_labels, 32)
batches.views = views
# Ends with the weights of the lowest val_loss.
keep_best = keras.callbacks.EarlyStopping("val_loss", patience=10, restore_best_weights=True)
model.compile(
    optimizer=keras.optimizers.Adam(0.001),
    loss="binary_crossentropy",
    metrics=["accuracy"],
    jit_compile=XLA,
)
model.fit(
    pipeline(batches),
    validation_data=pipeline(Batches(validation_features, validation_labels, 64)),
    epochs=10,
    callbacks=[keep_best, EveryEpoch(batches, below=4)],
    shuffle=False,
    verbose=0,
)


# The best epoch, and the test split for the first and only time
best = min(history, key=lambda row: row["val_loss"])
print("best_epoch {epoch}  val_loss {val_loss:.6g}  val_accuracy {val_accuracy:.6g}".format(**best))
# The whole network, from pictures on
inputs = keras.Input((IMAGE_SIZE, IMAGE_SIZE, 3), name="image")
x = Augmentation(name="augmentation")(inputs)
model = keras.Model(inputs, through_head(through_base(x)))
# keras.saving.load_model needs custom_objects for Augmentation
if arguments.save:
    model.save(arguments.save)
