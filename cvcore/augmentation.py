"""One augmentation policy: its random draws, the draws as matrices, and a seeded preview (no Keras needed).

Training and preview share `draw` and `matrices`; they differ only in who warps the pixels: `augmentation_layer` with
`keras.ops.image.affine_transform`, `preview` with Pillow.

The order, seen from the picture (all about its centre):

    rotate -> shift -> shear -> zoom -> flip -> contrast (about mid grey 127.5) -> brightness -> clip to 0..255

It is the order of the first-edition `ImageDataGenerator`, in one interpolation. The second edition's flip, rotate,
zoom is the same family: a mirrored rotation is the opposite rotation, which is as likely, and zoom and flip commute.
Contrast and brightness act on the whole frame, the filled zone included.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Self, get_args

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ModelWrapValidatorHandler, ValidationError, model_validator

from cvcore.errors import InvalidRecipe

FillMode = Literal["constant", "nearest", "reflect", "wrap"]
FILL_MODES: tuple[FillMode, ...] = get_args(FillMode)
MID_GREY = 127.5
UNIFORMS = (
    10  # columns of randomness a picture; each parameter reads its own, so a change of one keeps the others' draws
)


class AugmentationPolicy(BaseModel):
    """Say how far each picture may be changed at random; everything left out stays as it is.

    Args:
        horizontal_flip: mirror left and right in half of the draws. Default False.
        vertical_flip: mirror top and bottom in half of the draws. Default False.
        rotation: largest angle either way, degrees, 0..180. Default 0. A positive draw turns anticlockwise.
        width_shift: largest move either way, fraction of the width, 0..1. Default 0. A positive draw moves right.
        height_shift: largest move either way, fraction of the height, 0..1. Default 0. A positive draw moves down.
        shear: largest shear either way, degrees, 0..60, about the centre. Default 0. Positive moves the top left.
        zoom: the factor is drawn in [1 - zoom, 1 + zoom], 0..0.9. Default 0. Above 1 shows more scene.
        zoom_per_axis: draw one factor an axis instead of one for both. Default False.
        brightness: largest amount added or taken away, fraction of full scale 255, 0..1. Default 0.
        contrast: the gain about mid grey is drawn in [1 - contrast, 1 + contrast], 0..1. Default 0.
        fill_mode: what lies beyond the edge: "constant", "nearest" (edge colour), "reflect" (dcba|abcd|dcba), "wrap".
        fill_value: colour of the "constant" fill, 0..255. Default 0.

    Raises:
        InvalidRecipe: an unknown key or a value out of its range, in one sentence.

    Source: rotation, shifts, shear and zoom as `keras.preprocessing.image.ImageDataGenerator` defines them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    horizontal_flip: bool = False
    vertical_flip: bool = False
    rotation: float = Field(0.0, ge=0, le=180)
    width_shift: float = Field(0.0, ge=0, le=1)
    height_shift: float = Field(0.0, ge=0, le=1)
    shear: float = Field(0.0, ge=0, le=60)
    zoom: float = Field(0.0, ge=0, le=0.9)
    zoom_per_axis: bool = False
    brightness: float = Field(0.0, ge=0, le=1)
    contrast: float = Field(0.0, ge=0, le=1)
    fill_mode: FillMode = "reflect"
    fill_value: float = Field(0.0, ge=0, le=255)

    @model_validator(mode="wrap")
    @classmethod
    def _one_sentence(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if isinstance(data, dict) and (unknown := sorted(map(str, set(data) - set(cls.model_fields)))):
            raise InvalidRecipe(f"unknown augmentation keys {unknown}; known: {list(cls.model_fields)}")
        try:
            policy = handler(data)
        except ValidationError as error:
            raise InvalidRecipe(_sentence(error)) from error
        if policy.fill_value and policy.fill_mode != "constant":
            raise InvalidRecipe(
                f"fill_value is used only with fill_mode 'constant'; received fill_value {policy.fill_value:g} "
                f"with fill_mode {policy.fill_mode!r}"
            )
        return policy

    @property
    def digest(self) -> str:
        """Twelve hex digits that stand for exactly this policy."""
        text = json.dumps(self.model_dump(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def has_geometry(self) -> bool:
        """Whether some draw moves pixels in a way that needs a warp (a flip alone does not)."""
        return any((self.rotation, self.width_shift, self.height_shift, self.shear, self.zoom))

    @property
    def has_light(self) -> bool:
        """Whether some draw changes brightness or contrast."""
        return bool(self.brightness or self.contrast)

    @property
    def is_identity(self) -> bool:
        """Whether every draw leaves every picture as it is."""
        return not (self.has_geometry or self.has_light or self.horizontal_flip or self.vertical_flip)


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    if not first["loc"]:
        return f"augmentation must be a mapping of its keys to values; received {first['input']!r}"
    name, received = first["loc"][0], first["input"]
    field = AugmentationPolicy.model_fields[str(name)]
    if field.annotation is bool:
        return f"{name} must be true or false; received {received!r}"
    if name == "fill_mode":
        return f"fill_mode must be one of {list(FILL_MODES)}; received {received!r}"
    low, high = limits(str(name))
    return f"{name} must be a number between {low:g} and {high:g}; received {received!r}"


def limits(parameter: str) -> tuple[float, float]:
    """Tell the smallest and largest value a numeric field of the policy may have."""
    bounds = AugmentationPolicy.model_fields[parameter].metadata
    low = next(item.ge for item in bounds if hasattr(item, "ge"))
    high = next(item.le for item in bounds if hasattr(item, "le"))
    return float(low), float(high)


class Draw(NamedTuple):
    """The parameters drawn for n pictures; each field has shape (n,)."""

    flip_x: Any  # bool: mirror left and right
    flip_y: Any  # bool: mirror top and bottom
    rotation: Any  # degrees, positive is anticlockwise
    shift_x: Any  # fraction of the width, positive is to the right
    shift_y: Any  # fraction of the height, positive is down
    shear: Any  # degrees, positive moves the top to the left
    zoom_x: Any  # factor, above 1 shows more scene
    zoom_y: Any
    brightness: Any  # fraction of 255 added
    contrast: Any  # gain about mid grey


def draw(policy: AugmentationPolicy, uniforms: Any, ops: Any = np) -> Draw:
    """Turn uniform numbers into the parameters of one transform a picture.

    Args:
        policy: the ranges.
        uniforms: the only randomness, float (n, UNIFORMS) in [0, 1). Each parameter reads its own column.
        ops: the array library that made `uniforms`: numpy or keras.ops.
    """

    def between(column: int, reach: float, middle: float = 0.0) -> Any:
        return middle + reach * (2.0 * uniforms[:, column] - 1.0)

    zoom_x = between(6, policy.zoom, 1.0)
    return Draw(
        flip_x=uniforms[:, 0] < (0.5 if policy.horizontal_flip else 0.0),
        flip_y=uniforms[:, 1] < (0.5 if policy.vertical_flip else 0.0),
        rotation=between(2, policy.rotation),
        shift_x=between(3, policy.width_shift),
        shift_y=between(4, policy.height_shift),
        shear=between(5, policy.shear),
        zoom_x=zoom_x,
        zoom_y=between(7, policy.zoom, 1.0) if policy.zoom_per_axis else zoom_x,
        brightness=between(8, policy.brightness),
        contrast=between(9, policy.contrast, 1.0),
    )


def matrices(drawn: Draw, height: int, width: int, ops: Any = np) -> tuple[Any, Any, Any]:
    """Turn drawn parameters into one affine transform, one gain and one bias a picture.

    A transform maps an output pixel to the input point it is read from, pixel centres at whole numbers, as
    `keras.ops.image.affine_transform` wants it: (a0, a1, a2, b0, b1, b2, 0, 0) with x_in = a0 x + a1 y + a2 and
    y_in = b0 x + b1 y + b2. About the centre it is rotation * shift * shear * zoom * flip, the flip acting first on the
    output coordinates and therefore last on the picture.

    Args:
        drawn: parameters of shape (n,).
        height, width: pixels of the pictures.
        ops: the array library of `drawn`: numpy or keras.ops.

    Returns:
        transforms (n, 8), gain (n,), bias (n,): the new pixel is clip(gain * warped + bias, 0, 255).
    """
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    theta, shear = drawn.rotation * (np.pi / 180), drawn.shear * (np.pi / 180)
    cos, sin = ops.cos(theta), ops.sin(theta)
    one = ops.ones_like(cos)
    scale_x = drawn.zoom_x * ops.where(drawn.flip_x, -one, one)
    scale_y = drawn.zoom_y * ops.where(drawn.flip_y, -one, one)
    lean, squash = -ops.sin(shear) * scale_y, ops.cos(shear) * scale_y
    shift_x, shift_y = -drawn.shift_x * width, -drawn.shift_y * height

    a0, a1 = cos * scale_x, cos * lean - sin * squash
    b0, b1 = sin * scale_x, sin * lean + cos * squash
    a2 = cos * shift_x - sin * shift_y + centre_x - a0 * centre_x - a1 * centre_y
    b2 = sin * shift_x + cos * shift_y + centre_y - b0 * centre_x - b1 * centre_y
    zero = ops.zeros_like(cos)
    transforms = ops.stack([a0, a1, a2, b0, b1, b2, zero, zero], axis=-1)
    return transforms, drawn.contrast, (1.0 - drawn.contrast) * MID_GREY + 255.0 * drawn.brightness


PRESETS: dict[str, AugmentationPolicy] = {
    "none": AugmentationPolicy(),
    "mirror only": AugmentationPolicy(horizontal_flip=True),
    "gentle": AugmentationPolicy(
        horizontal_flip=True, rotation=10, width_shift=0.05, height_shift=0.05, zoom=0.1, brightness=0.1, contrast=0.1
    ),
    "textbook 1st edition": AugmentationPolicy(
        horizontal_flip=True,
        rotation=40,
        width_shift=0.2,
        height_shift=0.2,
        shear=0.2,
        zoom=0.2,
        zoom_per_axis=True,
        fill_mode="nearest",
    ),
    "textbook 2nd edition": AugmentationPolicy(horizontal_flip=True, rotation=36, zoom=0.2),
    "too much": AugmentationPolicy(
        horizontal_flip=True,
        vertical_flip=True,
        rotation=180,
        width_shift=0.5,
        height_shift=0.5,
        shear=45,
        zoom=0.7,
        zoom_per_axis=True,
        brightness=0.5,
        contrast=0.9,
        fill_mode="wrap",
    ),
}


# For "one parameter at a time": how far each number goes when the policy leaves it at zero.
EXAMPLE_REACH = {
    "rotation": 40.0,
    "width_shift": 0.2,
    "height_shift": 0.2,
    "shear": 20.0,
    "zoom": 0.4,
    "brightness": 0.3,
    "contrast": 0.6,
}
ONE_AT_A_TIME = ("horizontal_flip", "vertical_flip", *EXAMPLE_REACH, "fill_mode")
NEUTRAL = dict.fromkeys(Draw._fields, 0.0) | {"zoom_x": 1.0, "zoom_y": 1.0, "contrast": 1.0}
FILL_EXAMPLE = {"rotation": 25.0, "zoom_x": 1.5, "zoom_y": 1.5}  # a fill is seen only where something has moved away


def preview(image: Image.Image, policy: AugmentationPolicy, seed: int, count: int = 9) -> list[Image.Image]:
    """Show what training may make of one picture, the same variants for the same seed.

    Args:
        image: a picture of any mode; used as RGB. Training sees it squashed to a square first: pass it so.
        policy: the ranges.
        seed: 0 or more, decides all draws; one parameter's draws do not depend on another's range.
        count: how many variants. Default 9.

    Returns:
        `count` RGB pictures of the size of `image`, within 2/255 on average of what the Keras layer gives.
    """
    uniforms = np.random.default_rng(seed).random((count, UNIFORMS))
    return render(image, draw(policy, uniforms), policy.fill_mode, policy.fill_value)


def vary_one(
    image: Image.Image, policy: AugmentationPolicy, parameter: str, values: Sequence[Any]
) -> list[Image.Image]:
    """Show a picture with one parameter set to each of some values and all others at their neutral value.

    Args:
        image: a picture of any mode; used as RGB.
        policy: gives nothing but the fill.
        parameter: one of ONE_AT_A_TIME.
        values: the drawn values themselves: degrees, fractions, zoom factors and contrast gains (1 changes nothing),
            booleans for flips, names for fill_mode (seen on a picture turned by 25 degrees and zoomed out 1.5 times).

    Raises:
        InvalidRecipe: `parameter` is none of ONE_AT_A_TIME.
    """
    if parameter not in ONE_AT_A_TIME:
        raise InvalidRecipe(f"unknown augmentation parameter {parameter!r}; known: {list(ONE_AT_A_TIME)}")
    if parameter == "fill_mode":
        drawn = Draw(**{name: np.full(1, value) for name, value in (NEUTRAL | FILL_EXAMPLE).items()})
        return [render(image, drawn, mode, policy.fill_value)[0] for mode in values]
    fields = {"width_shift": ["shift_x"], "height_shift": ["shift_y"], "zoom": ["zoom_x", "zoom_y"]}
    fields |= {"horizontal_flip": ["flip_x"], "vertical_flip": ["flip_y"]}
    changed = dict.fromkeys(fields.get(parameter, [parameter]), np.asarray(values, dtype=float))
    drawn = Draw(**{name: changed.get(name, np.full(len(values), neutral)) for name, neutral in NEUTRAL.items()})
    return render(image, drawn, policy.fill_mode, policy.fill_value)


def spread(policy: AugmentationPolicy, parameter: str, count: int = 9) -> list[Any]:
    """List values of one parameter for `vary_one`: evenly over the policy's range, or over an example range if zero."""
    if parameter == "fill_mode":
        return list(FILL_MODES)
    if parameter in ("horizontal_flip", "vertical_flip"):
        return [False, True]
    reach = getattr(policy, parameter) or EXAMPLE_REACH[parameter]
    middle = 1.0 if parameter in ("zoom", "contrast") else 0.0
    return [float(value) for value in middle + np.linspace(-reach, reach, count)]


def value_label(parameter: str, value: Any) -> str:
    """Write one value of `spread` with its unit, a few characters."""
    if parameter in ("horizontal_flip", "vertical_flip"):
        return "mirrored" if value else "as it is"
    if isinstance(value, str):
        return value
    if parameter in ("zoom", "contrast"):
        return f"× {value:.2f}"
    number, unit = (value, "°") if parameter in ("rotation", "shear") else (100 * value, " %")
    return f"{number:+.3g}{unit}" if number else f"0{unit}"


def neutral_values(parameter: str) -> str:
    """Say in one line how the other parameters stand while `vary_one` varies this one."""
    rest = {
        "horizontal_flip": "no horizontal flip",
        "vertical_flip": "no vertical flip",
        "rotation": "rotation 0°",
        "width_shift": "width shift 0 %",
        "height_shift": "height shift 0 %",
        "shear": "shear 0°",
        "zoom": "zoom × 1",
        "brightness": "brightness 0 %",
        "contrast": "contrast × 1",
    }
    if parameter == "fill_mode":
        rest |= {"rotation": "rotation +25°", "zoom": "zoom × 1.5 (so that there is something to fill)"}
    return ", ".join(words for name, words in rest.items() if name != parameter)


def render(image: Image.Image, drawn: Draw, fill_mode: FillMode, fill_value: float = 0.0) -> list[Image.Image]:
    """Apply drawn parameters to one picture with Pillow, one RGB picture a draw."""
    pixels = np.asarray(image.convert("RGB"))
    height, width = pixels.shape[:2]
    transforms, gains, biases = matrices(drawn, height, width)
    pictures = []
    for index, (transform, gain, bias) in enumerate(zip(transforms, gains, biases, strict=True)):
        upright = np.allclose(np.abs(transform[[0, 1, 3, 4]]), (1, 0, 0, 1), rtol=0, atol=1e-12)
        if upright and drawn.shift_x[index] == 0 == drawn.shift_y[index]:
            # Flips and half turns are exact, without interpolation.
            picture = Image.fromarray(pixels[:: round(transform[4]), :: round(transform[0])])
        else:
            picture = _warp(pixels, transform, fill_mode, fill_value)
        if gain != 1 or bias != 0:
            table = np.rint(np.clip(gain * np.arange(256) + bias, 0, 255)).astype(int).tolist()
            picture = picture.point(table * 3)
        pictures.append(picture)
    return pictures


def _warp(pixels: np.ndarray, transform: np.ndarray, fill_mode: FillMode, fill_value: float) -> Image.Image:
    """Warp pixels (height, width, 3) uint8 on a canvas that already holds all of the filled zone that will be seen."""
    height, width = pixels.shape[:2]
    a0, a1, a2, b0, b1, b2 = (float(value) for value in transform[:6])
    x, y = np.array([0, width - 1, 0, width - 1]), np.array([0, 0, height - 1, height - 1])
    columns = _whole_range(a0 * x + a1 * y + a2)
    rows = _whole_range(b0 * x + b1 * y + b2)
    canvas = pixels.take(_inside(rows, height, fill_mode), 0).take(_inside(columns, width, fill_mode), 1)
    if fill_mode == "constant":
        canvas[(rows < 0) | (rows >= height)] = round(fill_value)
        canvas[:, (columns < 0) | (columns >= width)] = round(fill_value)
    # Pillow puts pixel centres at halves, Keras at whole numbers.
    origin_x = a2 - columns[0] + 0.5 - 0.5 * (a0 + a1)
    origin_y = b2 - rows[0] + 0.5 - 0.5 * (b0 + b1)
    data = (a0, a1, origin_x, b0, b1, origin_y)
    size = (width, height)
    return Image.fromarray(canvas).transform(size, Image.Transform.AFFINE, data, Image.Resampling.BILINEAR)


def _whole_range(values: np.ndarray) -> np.ndarray:
    return np.arange(int(np.floor(values.min())) - 1, int(np.ceil(values.max())) + 3)


def _inside(positions: np.ndarray, length: int, fill_mode: FillMode) -> np.ndarray:
    """Map whole positions beyond an edge to the pixel that fills them."""
    if fill_mode == "wrap":
        return positions % length
    if fill_mode == "reflect":
        folded = positions % (2 * length)
        return np.minimum(folded, 2 * length - 1 - folded)
    return np.clip(positions, 0, length - 1)
