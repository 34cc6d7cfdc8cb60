"""What every doodle is drawn with: a pen, textures, backgrounds, clutter and light.

Only Pillow and numpy. A picture is drawn `SUPERSAMPLE` times larger than it will be, in a coordinate
system where the picture is the unit square (x to the right, y down), then reduced: that is its anti-aliasing.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from PIL import Image, ImageDraw

SUPERSAMPLE = 3

Colour = tuple[int, int, int]
Fill = Colour | Image.Image

WHITE: Colour = (250, 248, 244)
BLACK: Colour = (32, 28, 30)
PINK: Colour = (232, 150, 155)


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """An RGB colour (0 to 255) from hue (any number, 1 is a full turn), saturation and value (0 to 1, clipped)."""
    saturation, value = min(max(saturation, 0.0), 1.0), min(max(value, 0.0), 1.0)
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def blend(first: Colour, second: Colour, share: float) -> Colour:
    """The colour `share` of the way (0 to 1) from `first` to `second`."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def any_colour(rng: np.random.Generator) -> Colour:
    """A colour of any hue, neither black nor white."""
    return hsv(rng.random(), rng.uniform(0.12, 0.6), rng.uniform(0.55, 0.98))


@cache
def _spline_basis(steps: int) -> np.ndarray:
    """Catmull-Rom weights of four neighbouring points at `steps` places between the middle two: (steps, 4)."""
    t = np.arange(steps)[:, None] / steps
    return 0.5 * np.hstack([-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, -(t**2) + t**3])


def closed_curve(points: np.ndarray, steps: int = 6) -> np.ndarray:
    """A smooth closed curve through `points` (n, 2), as (n * steps, 2)."""
    neighbours = np.stack([np.roll(points, shift, axis=0) for shift in (1, 0, -1, -2)])
    return np.einsum("sk,knd->nsd", _spline_basis(steps), neighbours).reshape(-1, 2)


def open_curve(points: np.ndarray, steps: int = 6) -> np.ndarray:
    """A smooth open curve through `points` (n, 2), as ((n - 1) * steps + 1, 2)."""
    padded = np.vstack([2 * points[0] - points[1], points, 2 * points[-1] - points[-2]])
    neighbours = np.stack([padded[k : len(points) - 1 + k] for k in range(4)])
    curve = np.einsum("sk,knd->nsd", _spline_basis(steps), neighbours).reshape(-1, 2)
    return np.vstack([curve, points[-1:]])


_ANGLES = np.linspace(0, 2 * np.pi, 28, endpoint=False)
_CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)


@dataclass(frozen=True)
class Pen:
    """Draws wobbly shapes on a picture through its own coordinate system.

    Args:
        picture: RGB image that is drawn on.
        matrix: (2, 3) affine map from the pen's coordinates to the pixels of `picture`.
        rng: Source of the wobble.
        ink: Colour of outlines, or None for shapes without outlines.
        thickness: Width of outlines in pixels of `picture`.
        wobble: How far a shape strays from its ideal, as a fraction of its own size. Default 0.03.
    """

    picture: Image.Image
    matrix: np.ndarray
    rng: np.random.Generator
    ink: Colour | None = None
    thickness: int = 3
    wobble: float = 0.03

    def at(self, x: float, y: float, scale: float = 1.0, angle: float = 0.0, stretch: float = 1.0) -> Pen:
        """A pen whose origin is at (x, y), turned clockwise by `angle` degrees, its unit `scale` of this pen's.

        A `stretch` of -1 mirrors left and right; other values widen.
        """
        cos, sin = np.cos(np.radians(angle)) * scale, np.sin(np.radians(angle)) * scale
        step = np.array([[cos * stretch, -sin, x], [sin * stretch, cos, y], [0, 0, 1]])
        return replace(self, matrix=self.matrix @ step)

    def without_ink(self) -> Pen:
        """The same pen, drawing no outlines."""
        return replace(self, ink=None)

    def unit(self) -> float:
        """Pixels of the picture in one unit of this pen."""
        return float(np.sqrt(abs(np.linalg.det(self.matrix[:, :2]))))

    def polygon(self, points: np.ndarray, fill: Fill) -> None:
        """Fill the closed polygon `points` (n, 2) with a colour or with a texture as large as the picture."""
        pixels = points @ self.matrix[:, :2].T + self.matrix[:, 2]
        corners = [tuple(corner) for corner in pixels.tolist()]
        if isinstance(fill, Image.Image):
            mask = Image.new("L", self.picture.size)
            ImageDraw.Draw(mask).polygon(corners, fill=255)
            self.picture.paste(fill, mask=mask)
        else:
            ImageDraw.Draw(self.picture).polygon(corners, fill=fill)
        if self.ink is not None:
            ImageDraw.Draw(self.picture).line([*corners, corners[0], corners[1]], fill=self.ink, width=self.thickness)

    def shape(self, points: list[tuple[float, float]], fill: Fill) -> None:
        """Fill the smooth closed curve through `points`."""
        outline = np.array(points, float)
        extent = np.ptp(outline, axis=0).mean()
        outline += self.rng.normal(0, self.wobble * extent, outline.shape)
        self.polygon(closed_curve(outline), fill)

    def ellipse(self, x: float, y: float, rx: float, ry: float, fill: Fill, angle: float = 0.0) -> None:
        """Fill an ellipse round (x, y), turned clockwise by `angle` degrees, a little out of round."""
        phase, depth = self.rng.uniform(0, 2 * np.pi), self.rng.normal(0, self.wobble)
        outline = _CIRCLE * np.array([rx, ry]) * (1 + depth * np.cos(2 * _ANGLES + phase))[:, None]
        if angle:
            cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
            outline = outline @ np.array([[cos, sin], [-sin, cos]])
        self.polygon(outline + np.array([x, y]), fill)

    def tube(self, points: list[tuple[float, float]], start: float, end: float, fill: Fill, bulge: float = 0) -> None:
        """Fill a limb along `points` whose half width runs from `start` to `end`, `bulge` more at its middle."""
        spine = open_curve(np.array(points, float))
        direction = np.gradient(spine, axis=0)
        normal = direction[:, ::-1] * (-1, 1) / (np.linalg.norm(direction, axis=1, keepdims=True) + 1e-9)
        along = np.linspace(0, 1, len(spine))[:, None]
        half = start + (end - start) * along + bulge * np.sin(np.pi * along)
        tip = spine[-1] + direction[-1] / (np.linalg.norm(direction[-1]) + 1e-9) * half[-1]
        self.polygon(np.vstack([spine + normal * half, tip, (spine - normal * half)[::-1]]), fill)

    def stroke(self, points: list[tuple[float, float]], fill: Colour, width: float) -> None:
        """Draw a smooth line through `points`, `width` of this pen's units thick (at least a pixel)."""
        curve = open_curve(np.array(points, float)) @ self.matrix[:, :2].T + self.matrix[:, 2]
        line = [tuple(corner) for corner in curve.tolist()]
        ImageDraw.Draw(self.picture).line(line, fill=fill, width=max(1, round(width * self.unit())))

    def box(self, left: float, top: float, right: float, bottom: float, fill: Fill) -> None:
        """Fill a rectangle with sharp corners."""
        self.polygon(np.array([(left, top), (right, top), (right, bottom), (left, bottom)], float), fill)


def smooth_noise(rng: np.random.Generator, size: int, cells: int) -> np.ndarray:
    """A smooth random field (size, size), float32, about -1 to 1, with about `cells` bumps a side."""
    coarse = rng.uniform(-1, 1, (cells + 2, cells + 2)).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC))


def texture(rng: np.random.Generator, size: int, main: Colour, other: Colour, pattern: str) -> Image.Image:
    """A two-coloured coat as large as the picture.

    Args:
        size: Side in pixels.
        main, other: The two colours.
        pattern: "plain", "shaded", "stripes", "patches", "spots" or "ticked".
    """
    detail = size // SUPERSAMPLE
    if pattern == "stripes":
        y, x = np.mgrid[0:detail, 0:detail] / detail
        angle = rng.uniform(0, np.pi)
        wave = x * np.cos(angle) + y * np.sin(angle) + 0.05 * smooth_noise(rng, detail, 4)
        share = np.clip(2.5 * np.sin(2 * np.pi * rng.uniform(7, 14) * wave) - 0.5, 0, 1)
    elif pattern == "patches":
        share = np.clip(8 * (smooth_noise(rng, detail, int(rng.integers(3, 6))) - 0.05), 0, 1)
    elif pattern == "spots":
        share = np.clip(7 * (smooth_noise(rng, detail, int(rng.integers(11, 18))) - 0.3), 0, 1)
    elif pattern == "ticked":
        share = 0.25 + 0.5 * smooth_noise(rng, detail, 32)
    elif pattern == "shaded":
        share = np.linspace(0, rng.uniform(0.4, 1.0), detail)[:, None] + np.zeros((1, detail))
    else:
        share = np.zeros((detail, detail))
    share = np.clip(share + 0.10 * smooth_noise(rng, detail, 12), 0, 1)[..., None]
    pixels = np.array(main) * (1 - share) + np.array(other) * share
    return Image.fromarray(pixels.astype(np.uint8)).resize((size, size), Image.Resampling.BILINEAR)


def _wallpaper(pen: Pen, wall: Colour, horizon: float) -> None:
    """Decorate the wall above `horizon` with stripes, dots, tiles or nothing."""
    rng = pen.rng
    colour = blend(wall, any_colour(rng), rng.uniform(0.2, 0.7))
    kind = rng.choice(["plain", "stripes", "dots", "tiles"])
    step = rng.uniform(0.09, 0.2)
    places = np.arange(rng.uniform(-step, 0), 1, step)
    if kind == "stripes":
        for x in places:
            pen.box(x, -0.1, x + step * 0.45, horizon, colour)
    elif kind == "dots":
        for x in places:
            for y in np.arange(0.02, horizon, step):
                pen.ellipse(x, y, step * 0.18, step * 0.18, colour)
    elif kind == "tiles":
        for place in places:
            pen.stroke([(place, 0), (place, horizon)], colour, 0.012)
            if place < horizon:
                pen.stroke([(0, place), (1, place)], colour, 0.012)


def background(rng: np.random.Generator, size: int) -> Image.Image:
    """Paint a room, a meadow, a blanket or a haze, `size` pixels a side."""
    kind = rng.choice(["room", "meadow", "blanket", "haze"], p=[0.4, 0.25, 0.15, 0.2])
    first, second = any_colour(rng), any_colour(rng)
    if kind == "meadow":
        first = hsv(rng.uniform(0.48, 0.66), rng.uniform(0.1, 0.5), rng.uniform(0.7, 1))
        second = hsv(rng.uniform(0.12, 0.4), rng.uniform(0.3, 0.7), rng.uniform(0.4, 0.85))
    picture = Image.new("RGB", (size, size), first)
    pen = Pen(picture, np.array([[size, 0, 0], [0, size, 0]], float), rng)
    horizon = rng.uniform(0.4, 0.85)
    if kind == "room":
        _wallpaper(pen, first, horizon)
        pen.box(-0.1, horizon, 1.1, 1.1, second)
        pen.box(-0.1, horizon, 1.1, horizon + 0.025, blend(second, WHITE, 0.4))
    elif kind == "meadow":
        hills = [(x, horizon + rng.uniform(-0.12, 0.12)) for x in np.linspace(-0.1, 1.1, 5)]
        pen.polygon(np.vstack([open_curve(np.array(hills)), [(1.1, 1.1), (-0.1, 1.1)]]), second)
        for x, y in zip(rng.random(12), rng.uniform(horizon, 1, 12), strict=True):
            pen.stroke([(x, y), (x + rng.normal(0, 0.02), y - 0.06)], blend(second, BLACK, 0.2), 0.012)
    elif kind == "blanket":
        step = rng.uniform(0.12, 0.3)
        turned = pen.at(0.5, 0.5, angle=rng.uniform(0, 90))
        for x in np.arange(-1, 1, 2 * step):
            turned.box(x, -1, x + step, 1, blend(first, second, 0.5))
            turned.box(-1, x, 1, x + step * 0.5, blend(first, second, 0.3))
    else:
        return texture(
            rng, size, first, blend(first, second, 0.6), str(rng.choice(["patches", "shaded", "ticked", "spots"]))
        )
    return picture


def clutter(pen: Pen, x: float, y: float, extent: float) -> None:
    """Draw one everyday thing standing at (x, y), about `extent` of the picture across."""
    rng = pen.rng
    colour, other = any_colour(rng), any_colour(rng)
    thing = pen.at(x, y, extent, angle=rng.normal(0, 6))
    kind = rng.choice(["ball", "box", "plant", "cushion", "blocks", "bowl"])
    if kind == "ball":
        thing.ellipse(0, -0.4, 0.4, 0.4, colour)
        thing.without_ink().tube([(-0.3, -0.55), (0, -0.4), (0.3, -0.5)], 0.06, 0.06, other)
    elif kind == "box":
        thing.box(-0.5, -0.7, 0.5, 0, colour)
        thing.box(-0.55, -0.8, 0.55, -0.6, blend(colour, WHITE, 0.3))
    elif kind == "plant":
        leaf = hsv(rng.uniform(0.2, 0.42), rng.uniform(0.3, 0.7), rng.uniform(0.35, 0.8))
        for angle in np.linspace(-60, 60, int(rng.integers(3, 6))):
            thing.at(0, -0.35, angle=angle + rng.normal(0, 8)).ellipse(0, -0.4, 0.13, 0.42, leaf)
        thing.shape([(-0.3, -0.4), (0.3, -0.4), (0.2, 0), (-0.2, 0)], colour)
    elif kind == "cushion":
        thing.shape([(-0.6, -0.5), (0, -0.42), (0.6, -0.5), (0.55, 0), (0, -0.05), (-0.55, 0)], colour)
    elif kind == "blocks":
        thing.box(-0.5, -0.45, 0, 0, colour)
        thing.box(0, -0.4, 0.45, 0, other)
        thing.box(-0.3, -0.85, 0.15, -0.43, blend(colour, other, 0.5))
    else:
        thing.shape([(-0.5, -0.35), (0.5, -0.35), (0.35, 0), (-0.35, 0)], colour)
        thing.ellipse(0, -0.35, 0.48, 0.1, other)


def scatter_behind(pen: Pen, most: int = 2) -> None:
    """Put up to `most` things on the floor, anywhere."""
    for _ in range(int(pen.rng.integers(0, most + 1))):
        clutter(pen, pen.rng.uniform(0, 1), pen.rng.uniform(0.35, 1.05), pen.rng.uniform(0.12, 0.3))


def cover(pen: Pen) -> None:
    """Put something in front of the subject: grass, a thing standing near, or bars."""
    rng = pen.rng
    kind = rng.choice(["grass", "thing", "bars"], p=[0.3, 0.5, 0.2])
    if kind == "grass":
        colour = hsv(rng.uniform(0.18, 0.4), rng.uniform(0.3, 0.7), rng.uniform(0.35, 0.85))
        left = rng.uniform(-0.1, 0.5)
        for x in np.arange(left, left + rng.uniform(0.3, 0.7), 0.05):
            pen.without_ink().tube([(x, 1.05), (x + rng.normal(0, 0.05), rng.uniform(0.6, 0.85))], 0.022, 0.003, colour)
    elif kind == "thing":
        clutter(pen, rng.uniform(0.05, 0.95), rng.uniform(0.85, 1.15), rng.uniform(0.22, 0.42))
    else:
        colour = any_colour(rng)
        for x in np.arange(rng.uniform(-0.2, 0.1), 1.1, rng.uniform(0.28, 0.45)):
            pen.box(x, -0.1, x + 0.035, 1.1, colour)


def develop(picture: Image.Image, rng: np.random.Generator, size: int) -> Image.Image:
    """Light the large picture and reduce it to `size` pixels: slanting light, tint, contrast, grain."""
    small = np.asarray(picture.reduce(SUPERSAMPLE), np.float32) / 255
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j].astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    slope = rng.uniform(0, 0.3) * (x * np.cos(angle) + y * np.sin(angle)) / 1.4
    tint = 1 + rng.normal(0, 0.06, 3)
    contrast, brightness = rng.uniform(0.65, 1.1), rng.uniform(0.82, 1.1)
    lit = ((small - 0.5) * contrast + 0.5) * (1 + slope[..., None]) * tint * brightness
    grain = rng.normal(0, rng.uniform(0, 0.03), (size, size, 1))
    return Image.fromarray((np.clip(lit + grain, 0, 1) * 255).astype(np.uint8))


def scene(
    draw_subject: Callable[[Pen], None],
    middle: tuple[float, float],
    extent: float,
    rng: np.random.Generator,
    size: int,
) -> Image.Image:
    """Draw a subject somewhere in a scene, sometimes cut by the border or half hidden.

    Args:
        draw_subject: Draws the subject with the pen it is given.
        middle: Where the middle of the subject is, in the subject's own units.
        extent: How large the subject is, in the same units.
        rng: Source of every choice.
        size: Side of the picture in pixels.

    Returns:
        RGB picture, `size` x `size` pixels.
    """
    large = size * SUPERSAMPLE
    picture = background(rng, large)
    ink = None if rng.random() < 0.3 else blend(BLACK, any_colour(rng), rng.uniform(0, 0.4))
    whole = Pen(picture, np.array([[large, 0, 0], [0, large, 0]], float), rng, ink, int(rng.integers(2, 6)))
    scatter_behind(whole)
    pen = whole.at(rng.normal(0.5, 0.07), rng.normal(0.52, 0.06), rng.uniform(0.75, 1.1) / extent, rng.normal(0, 8))
    mirror = float(rng.choice([-1, 1]))
    draw_subject(pen.at(0, 0, stretch=mirror * rng.uniform(0.85, 1.2)).at(-middle[0], -middle[1]))
    if rng.random() < 0.25:
        cover(whole)
    return develop(picture, rng, size)
