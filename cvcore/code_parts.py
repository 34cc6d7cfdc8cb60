"""The parts of an exported script that are nearly the same in every script (see `code_export`)."""

from __future__ import annotations

from string import Template
from typing import Any

from cvcore.recipe import Recipe


def literal(value: Any) -> str:
    """Write a string, a number, or a list of them as Python source, strings in double quotes where that is plain."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(literal, value))}]"
    text = repr(value)
    plain = isinstance(value, str) and text[0] == "'" and '"' not in text and "\\" not in text
    return f'"{text[1:-1]}"' if plain else text


HEAD = Template('''"""Repeat one run of Fourways with Keras, NumPy and Pillow alone.

    python code.py DATA_FOLDER$usage

$layout
On the processor of the run the figures are the run's; elsewhere, and on a GPU, rounding differs and later epochs drift.
"""

import argparse
${hashlib}import math
import sys
from pathlib import Path
${tempfile}
# Python looks for modules beside a script first, and Keras needs one of Python's own that is called code too.
sys.path = [folder for folder in sys.path if Path(folder).resolve() != Path(__file__).resolve().parent]

import keras
import numpy as np
from keras import layers$ops
from PIL import Image, ImageOps''')

PICTURES = Template('''\
# The pictures
SUFFIXES = $suffixes


def read(path):
    """Read one picture as upright $colours, transparency laid on white, resized: uint8 ($sides)."""
    with $opening as opened:
        image = ImageOps.exif_transpose(opened)
    if image.mode.startswith("I;16"):  # 16 bits a pixel
        image = Image.fromarray(((np.asarray(image).astype("uint32") + 128) // 257).astype("uint8"))
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return resized(image.convert("RGB")$greys)


$resize


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
    """Read pictures into memory: uint8 (n, $sides), and their labels (n,)."""
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
    return np.stack(images), np.array(labels)''')

RESIZE = {
    ("bilinear", False): '''\
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
    return np.rint(upper + (lower - upper) * down[:, None, None]).astype("uint8")''',
    ("bilinear", True): '''\
def resized(image):
    """Resize with Pillow's bilinear filter, which averages over more pixels the more the picture shrinks."""
    return np.asarray(image.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BILINEAR))''',
    ("nearest", False): '''\
def resized(image):
    """Resize by taking the nearest pixel, as the loaders of early Keras did."""
    return np.asarray(image.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.NEAREST))''',
}


def pictures(suffixes: list[str], recipe: Recipe, digits: bool = False) -> str:
    """Write the functions that find, read and resize pictures as a recipe says; `digits` may be arrays instead."""
    resize, grey = RESIZE[recipe.interpolation, recipe.antialias], recipe.color_mode == "grayscale"
    if grey:  # Pillow's greys have no axis for their one channel
        lines = [line + "[..., None]" if "return np.asarray(" in line else line for line in resize.splitlines()]
        resize = "\n".join(lines).replace("pixels = np.asarray(image)", "pixels = np.asarray(image)[..., None]")
    array = "Image.fromarray(path) if isinstance(path, np.ndarray)"
    return PICTURES.substitute(
        suffixes=literal(suffixes),
        opening=f"({array} else Image.open(path))" if digits else "Image.open(path)",
        colours="greys" if grey else "RGB",
        greys='.convert("L")' if grey else "",
        sides=f"IMAGE_SIZE, IMAGE_SIZE, {1 if grey else 3}",
        resize=resize,
    )


DIGITS = Template('''\
def digits(file):
    """Divide an .npz of digits as the app does: the last of its training digits are for validation."""
    with np.load(file) as arrays:
        train, test = (
            [(x, CLASS_NAMES.index(str(y))) for x, y in zip(arrays[f"x_{part}"], arrays[f"y_{part}"])]
            for part in ("train", "test")
        )
    kept = math.floor(len(train) * (1.0 - $held_out))
    return [sorted(part, key=lambda digit: digit[1]) for part in (train[:kept], train[kept:], test)]''')

FOLDERS = '''\
data = Path(arguments.data_folder)
if not data.is_dir():
    raise SystemExit(f"DATA_FOLDER must be a folder; received {data}")
folders = {folder.name.lower(): folder for folder in data.iterdir() if folder.is_dir()}


def files_of(*names):
    """List the pictures of the folder that has one of these names."""
    for name in names:
        if name in folders:
            return find(folders[name])
    raise SystemExit(f"{data} must hold a folder {names[0]} with one folder a class; it holds {sorted(folders)}")'''

OR_DIGITS = (
    (
        "if not data.is_dir():",
        'in_one_file = data.suffix == ".npz" and data.is_file()\nif not (data.is_dir() or in_one_file):',
    ),
    ("must be a folder;", "must be a folder or an .npz of digits;"),
    ("in data.iterdir()", "in ([] if in_one_file else data.iterdir())"),
)


def folders(digits: bool) -> str:
    """Write the part that looks into the folder of the pictures, or takes one file of digits."""
    text = FOLDERS
    for old, new in OR_DIGITS if digits else ():
        text = text.replace(old, new)
    return text


DIVIDE = '''\
def divide(files, *shares):
    """Divide usable pictures as the app does, class by class, in an order that only their bytes decide."""
    ranked = []
    for path, label in files:
        try:
            read(path)
        except (OSError, SyntaxError, ValueError):
            continue
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        ranked.append((hashlib.sha256(f"SPLIT_SEED:{digest}".encode()).hexdigest(), path, label))
    parts = [[] for _ in range(len(shares) + 1)]
    for label in range(len(CLASS_NAMES)):
        mine = [(path, label) for _, path, theirs in sorted(ranked, key=lambda row: row[:2]) if theirs == label]
        start = 0
        for part, share in zip(parts[1:], shares):
            count = max(1, int(share * len(mine) + 0.5))
            part += mine[start : start + count]
            start += count
        parts[0] += mine[start:]
    return [sorted(part, key=lambda file: file[0].as_posix()) for part in parts]'''

SUBSET = """\
rows = training_rows(train_labels, PICTURES)
train_images, train_labels = train_images[rows], train_labels[rows]
print(f"train: {len(rows)} of them are trained on")"""

BATCHES = '''\
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
        return self.inputs[rows].astype("float32"), self.labels[rows]'''

STREAM = '''\
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
        return super().__getitem__(place)'''

PIPELINE = '''\
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
    return made.apply(tf.data.experimental.assert_cardinality(len(batches))).prefetch(1).with_options(options)'''

EVERY_EPOCH = Template('''\
history = []
COLUMNS = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy")


class EveryEpoch(keras.callbacks.Callback):
    """Before an epoch: draw anew from (SEED, epoch). After it: print and keep its figures."""

    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def on_epoch_begin(self, epoch, logs=None):
        epoch = len(history) + 1
        self.batches.shuffle(epoch)$reseed

    def on_epoch_end(self, epoch, logs=None):
        history.append({"epoch": len(history) + 1, **{name: float(value) for name, value in logs.items()}})
        print("  ".join(f"{name} {history[-1][name]:.6g}" for name in COLUMNS), flush=True)
''')

RESEED = """
        for index, layer in enumerate(self.model.layers):
            if hasattr(layer, "seed_generator"):
                layer.seed_generator.state.assign([epoch_seed(epoch, index + 1), 0])
        if keras.config.backend() == "torch":  # its dropout asks PyTorch's own generator instead
            keras.utils.set_random_seed(epoch_seed(epoch, 0))"""

FEATURES = """\
# The base is frozen: one look at each picture is enough, the head learns from what it saw.
inputs = INPUT
extractor = keras.Model(inputs, through_base(inputs))"""

BFLOAT16 = '''\
def good_at_bfloat16():
    """Say whether there is a GPU that multiplies bfloat16 in hardware: compute capability 8 (2020) or more."""
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        about = tf.config.experimental.get_device_details(gpus[0]) if gpus else {}
        return about.get("compute_capability", (0, 0)) >= (8, 0)
    if keras.config.backend() == "jax":
        import jax

        gpu = jax.local_devices()[0]
        return gpu.platform == "gpu" and float(getattr(gpu, "compute_capability", 0)) >= 8
    import torch

    return bool(torch.version.cuda) and torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 0)


# Mixed precision: computes in bfloat16 where that is quick, and keeps the weights in float32.
keras.config.set_dtype_policy("mixed_bfloat16" if good_at_bfloat16() else "float32")'''
