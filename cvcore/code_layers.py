"""The layers that an exported script defines itself, where Keras has none: see `code_export`."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

from cvcore.augmentation import AugmentationPolicy

CAFFE = '''\
class CaffePreprocessing(layers.Layer):
    """Pixels 0..255 RGB to BGR minus the mean of ImageNet, as VGG16 and ResNet50 were trained."""

    def call(self, images):
        return keras.ops.flip(images, axis=-1) - keras.ops.convert_to_tensor([103.939, 116.779, 123.68], "float32")'''


CHANGE = '''\
        return self.change(images, uniforms)

    def change(self, images, uniforms):
        """Change pictures as these numbers decide: (n, 10) in [0, 1)."""
'''


def augmentation_layer(policy: AugmentationPolicy, name: str, with_given_numbers: bool = False) -> str:
    """Write a policy as one Keras layer that draws and warps as `augmentation_layer.Augmentation` does.

    Args:
        policy: only what it changes is in the layer.
        name: of the class.
        with_given_numbers: it can also change pictures as given numbers decide, by its method `change`.
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
    if with_given_numbers:
        body = CHANGE + body
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
    lines += [f"{name} = -({between(column, reach)}) * {side}" for name, side, column, reach in shifts]
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
