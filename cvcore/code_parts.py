"""The parts of an exported script that are the same in every script, or that one policy decides (see `code_export`)."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from string import Template

from cvcore.augmentation import AugmentationPolicy

HEAD = Template('''"""Repeat one run of Fourways with Keras, NumPy and Pillow alone.

    python code.py DATA_FOLDER$usage

$layout
On the machine of the run the figures are the run's; elsewhere rounding differs, and later epochs drift apart.
"""

import argparse
${hashlib}import math
from pathlib import Path

import keras
import numpy as np
from keras import layers$ops
from PIL import Image, ImageOps''')

PICTURES = Template('''\
# The pictures
SUFFIXES = $suffixes


def read(path):
    """Read one picture as upright RGB, transparency laid on white, resized: uint8 (IMAGE_SIZE, IMAGE_SIZE, 3)."""
    with Image.open(path) as opened:
        image = ImageOps.exif_transpose(opened)
    if image.mode.startswith("I;16"):  # 16 bits a pixel
        image = Image.fromarray(((np.asarray(image).astype("uint32") + 128) // 257).astype("uint8"))
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return resized(image.convert("RGB"))


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
                layer.seed_generator.state.assign([epoch_seed(epoch, index + 1), 0])"""

FEATURES = """\
# The base is frozen: one look at each picture is enough, the head learns from what it saw.
inputs = keras.Input((IMAGE_SIZE, IMAGE_SIZE, 3), name="image")
extractor = keras.Model(inputs, through_base(inputs))"""

CAFFE_LAYER = 'CaffePreprocessing(name="preprocessing")'
CAFFE = '''\
class CaffePreprocessing(layers.Layer):
    """Pixels 0..255 RGB to BGR minus the mean of ImageNet, as VGG16 and ResNet50 were trained."""

    def call(self, images):
        return keras.ops.flip(images, axis=-1) - keras.ops.convert_to_tensor([103.939, 116.779, 123.68], "float32")'''


def augmentation_layer(policy: AugmentationPolicy, name: str) -> str:
    """Write a policy as one Keras layer that draws and warps as `augmentation_layer.Augmentation` does.

    Args:
        policy: only what it changes is in the layer.
        name: of the class.
    """

    def between(column: int, reach: float, middle: str = "") -> str:
        return f"{middle}{reach!r} * (2 * uniforms[:, {column}] - 1)"

    lines: list[str] = []
    if policy.has_geometry:
        lines += _geometry(policy, between)
    for flip, column, axis in (("horizontal_flip", 0, 2), ("vertical_flip", 1, 1)):
        if getattr(policy, flip) and not policy.has_geometry:
            lines.append(f"chosen = (uniforms[:, {column}] < 0.5)[:, None, None, None]  # {flip.replace('_', ' ')}")
            lines.append(f"images = ops.where(chosen, ops.flip(images, axis={axis}), images)")
    if policy.has_light:
        bias = []
        if policy.contrast:
            lines.append(f"gain = {between(9, policy.contrast, '1 + ')}")
            bias.append("(1 - gain) * 127.5")
        if policy.brightness:
            bias.append(f"255 * ({between(8, policy.brightness)})")
        lines.append(f"bias = {' + '.join(bias)}")
        product = "images * gain[:, None, None, None]" if policy.contrast else "images"
        lines.append(f"images = ops.clip({product} + bias[:, None, None, None], 0, 255)")
    body = "\n".join(f"        {line}" for line in lines)
    return f'''class {name}(layers.Layer):
    """Change each training picture at random; hand pictures on untouched otherwise."""

    def __init__(self, **options):
        super().__init__(**options)
        self.seed_generator = keras.random.SeedGenerator(SEED)

    def call(self, images, training=False):
        if not training:
            return images
        uniforms = keras.random.uniform((ops.shape(images)[0], 10), seed=self.seed_generator)
{body}
        return images'''


def _geometry(policy: AugmentationPolicy, between: Callable[..., str]) -> list[str]:
    """Write `augmentation.matrices` without the terms that are zero here, in its order, so that no bit differs."""
    lines = [
        "height, width = images.shape[1:3]",
        "centre_x, centre_y = (width - 1) / 2, (height - 1) / 2",
        "one = ops.ones_like(uniforms[:, 0])",
    ]
    scale_x, scale_y = "", ""
    if policy.zoom_per_axis and policy.zoom:
        scale_x, scale_y = (f"({between(column, policy.zoom, '1 + ')})" for column in (6, 7))
    elif policy.zoom:
        lines.append(f"zoom = {between(6, policy.zoom, '1 + ')}")
        scale_x = scale_y = "zoom"
    for axis, scale, flip, column in (
        ("x", scale_x, policy.horizontal_flip, 0),
        ("y", scale_y, policy.vertical_flip, 1),
    ):
        mirrored = f"ops.where(uniforms[:, {column}] < 0.5, -one, one)"
        factors = [factor for factor in (scale, mirrored if flip else "") if factor]
        lines.append(f"scale_{axis} = {' * '.join(factors) or 'one'}")
    squash = "scale_y"
    if policy.shear:
        lines.append(f"shear = np.pi / 180 * ({between(5, policy.shear)})")
        lines.append("lean, squash = -ops.sin(shear) * scale_y, ops.cos(shear) * scale_y")
        squash = "squash"
    shifts = [
        (name, side, column, reach)
        for name, side, column, reach in (
            ("right", "width", 3, policy.width_shift),
            ("down", "height", 4, policy.height_shift),
        )
        if reach
    ]
    lines += [f"{name} = -{side} * ({between(column, reach)})" for name, side, column, reach in shifts]
    moved = [name for name, *_ in shifts]
    if policy.rotation:
        lines.append(f"angle = np.pi / 180 * ({between(2, policy.rotation)})")
        lines.append("cos, sin = ops.cos(angle), ops.sin(angle)")
        a1 = f"cos * lean - sin * {squash}" if policy.shear else f"-sin * {squash}"
        b1 = f"sin * lean + cos * {squash}" if policy.shear else f"cos * {squash}"
        a, b = ("cos * scale_x", a1), ("sin * scale_x", b1)
        move_x = {"right": "cos * right", "down": "-sin * down"}
        move_y = {"right": "sin * right", "down": "cos * down"}
    else:
        a, b = ("scale_x", "lean" if policy.shear else "0 * one"), ("0 * one", squash)
        move_x, move_y = {"right": "right"}, {"down": "down"}
    along_x = " + ".join([*[move_x[name] for name in moved if name in move_x], "centre_x"]).replace("+ -", "- ")
    along_y = " + ".join([*[move_y[name] for name in moved if name in move_y], "centre_y"])
    fill = f'fill_mode="{policy.fill_mode}"'
    if policy.fill_mode == "constant":
        fill += f", fill_value={policy.fill_value!r}"
    return [
        *lines,
        "# Output pixel (x, y) is read from input point (a0 x + a1 y + a2, b0 x + b1 y + b2), all about the centre.",
        f"a0, a1 = {a[0]}, {a[1]}",
        f"b0, b1 = {b[0]}, {b[1]}",
        f"a2 = {along_x} - a0 * centre_x - a1 * centre_y",
        f"b2 = {along_y} - b0 * centre_x - b1 * centre_y",
        "numbers = ops.stack([a0, a1, a2, b0, b1, b2, 0 * one, 0 * one], axis=-1)",
        "images = ops.image.affine_transform(",
        f'    images, numbers, "bilinear", {fill}, data_format="channels_last"',
        ")",
    ]


def doodle_base_source() -> str:
    """Return the architecture of the bundled base as it is written in `doodle_base`, without loading Keras."""
    source = (Path(__file__).parent / "doodle_base.py").read_text()
    lines = source.splitlines()
    statements = ast.parse(source).body
    function = next(node for node in statements if isinstance(node, ast.FunctionDef) and node.name == "doodle_base")
    used = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
    constants = [
        ast.get_source_segment(source, node) or ""
        for node in statements
        if isinstance(node, ast.Assign) and used & {name.id for name in node.targets if isinstance(name, ast.Name)}
    ]
    docstring = function.body[0]
    assert docstring.end_lineno is not None
    code = [*lines[function.lineno - 1 : docstring.lineno - 1], *lines[docstring.end_lineno : function.end_lineno]]
    title = "# The bundled base: filters of each block's convolutions, a max pooling between blocks."
    return "\n".join([title, *constants]) + "\n\n\n" + "\n".join(code)
