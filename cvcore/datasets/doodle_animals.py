"""An animal put together from parts: ears, eyes, muzzle, tail, body, in four poses.

What kind of animal it is is decided by the values of `Creature` alone; everything else about a picture
(pose, colours, pattern, place, clutter, light) is drawn at random in the same way for every kind.
Heads are drawn in their own units: the head is about 1 in radius, y runs down.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from cvcore.datasets.doodle_parts import (
    BLACK,
    PINK,
    WHITE,
    Colour,
    Fill,
    Pen,
    any_colour,
    blend,
    hsv,
    scene,
    texture,
)

POSES = ("face", "sitting", "side", "lying")

_COATS = [  # hue, saturation, value
    (0.07, 0.65, 0.85),
    (0.08, 0.35, 0.92),
    (0.06, 0.55, 0.50),
    (0.05, 0.45, 0.32),
    (0.09, 0.15, 0.95),
    (0.60, 0.12, 0.55),
    (0.60, 0.10, 0.28),
    (0.10, 0.55, 0.72),
    (0.00, 0.02, 0.75),
]


@dataclass(frozen=True)
class Creature:
    """The measures of one animal, in head radii.

    Args:
        ears: "pointed", "tufted", "floppy", "folded", "round", "long", "side" or "none".
        ear_length, ear_width: How long and (half) how wide the ears are.
        ear_spread: Degrees from the top of the head to each ear.
        head_width, head_height: Half axes of the head.
        muzzle: "puffs", "snout", "disc", "wide", "tiny", "beak" or "trunk".
        muzzle_length: How far the muzzle sticks out in profile, and its size from the front.
        whiskers: Length of the whiskers, 0 for none.
        tail: "long", "thick", "short", "bush", "puff", "tuft" or "none".
        horns: Length of the horns, 0 for none.
        leg: Length of the legs.
        tongue: Whether the tongue hangs out.
        poses: The poses it takes.
    """

    ears: str
    ear_length: float
    ear_width: float
    ear_spread: float
    head_width: float
    head_height: float
    muzzle: str
    muzzle_length: float
    whiskers: float = 0.0
    tail: str = "long"
    horns: float = 0.0
    leg: float = 0.9
    tongue: bool = False
    poses: tuple[str, ...] = POSES


@dataclass(frozen=True)
class Coat:
    """Colours of one animal: `fur` for most of it, `light` for muzzle and belly, `dark` for marks, `nose`, `iris`."""

    fur: Fill
    light: Fill
    dark: Colour
    nose: Colour
    iris: Colour
    eyes: str


def any_coat(rng: np.random.Generator, size: int) -> Coat:
    """Colours and pattern for any animal; `size` is the side of the large picture in pixels."""
    hue, saturation, value = _COATS[rng.integers(len(_COATS))]
    main = hsv(hue + rng.normal(0, 0.02), saturation + rng.normal(0, 0.06), value + rng.normal(0, 0.06))
    if rng.random() < 0.12:
        main = any_colour(rng)
    other = blend(main, WHITE if rng.random() < 0.5 else BLACK, rng.uniform(0.25, 0.85))
    pattern = rng.choice(
        ["plain", "shaded", "stripes", "patches", "spots", "ticked"], p=[0.3, 0.3, 0.12, 0.12, 0.08, 0.08]
    )
    fur = texture(rng, size, main, other, str(pattern))
    light = blend(main, WHITE, rng.uniform(0.3, 0.9)) if rng.random() < 0.7 else fur
    return Coat(
        fur=fur,
        light=light,
        dark=blend(main, BLACK, rng.uniform(0.3, 0.7)),
        nose=PINK if rng.random() < 0.35 else BLACK,
        iris=hsv(rng.choice([0.1, 0.25, 0.55, 0.07]), rng.uniform(0.4, 0.8), rng.uniform(0.5, 0.9)),
        eyes=str(rng.choice(["dots", "round", "slit", "closed"], p=[0.4, 0.3, 0.2, 0.1])),
    )


def draw_ear(pen: Pen, animal: Creature, coat: Coat) -> None:
    """Draw one ear whose root is the pen's origin, pointing up (hanging ears: down), its outer side to the right."""
    length, width = animal.ear_length, animal.ear_width
    inner = pen.without_ink()
    if animal.ears in ("pointed", "tufted"):
        pen.shape([(-width, 0.25), (-0.65 * width, -0.5 * length), (-0.05 * width, -length), (0.08 * width, -length),
                   (0.65 * width, -0.45 * length), (width, 0.25)], coat.fur)  # fmt: skip
        inner.shape([(-0.5 * width, 0.1), (-0.3 * width, -0.45 * length), (0, -0.75 * length),
                     (0.35 * width, -0.4 * length), (0.5 * width, 0.1)], PINK)  # fmt: skip
        if animal.ears == "tufted":
            inner.stroke([(0, -0.9 * length), (0.1, -1.4 * length)], coat.dark, 0.12)
    elif animal.ears == "floppy":
        pen.shape([(-0.3 * width, -0.12), (0.6 * width, -0.15), (1.2 * width, 0.4 * length),
                   (0.9 * width, 0.9 * length), (0.1 * width, length), (-0.6 * width, 0.75 * length),
                   (-0.5 * width, 0.35 * length)],
                  coat.dark if isinstance(coat.light, Image.Image) else coat.fur)  # fmt: skip
    elif animal.ears == "folded":
        pen.shape([(-width, 0.25), (-0.7 * width, -0.5 * length), (0.7 * width, -0.5 * length), (width, 0.25)],
                  coat.fur)  # fmt: skip
        pen.shape([(-0.72 * width, -0.5 * length), (0, -0.62 * length), (0.75 * width, -0.5 * length),
                   (0.75 * width, 0.12), (0.45 * width, 0.12)], coat.dark)  # fmt: skip
    elif animal.ears == "round":
        pen.ellipse(0, -0.4 * length, width, 0.6 * length, coat.fur)
        inner.ellipse(0, -0.35 * length, 0.6 * width, 0.36 * length, PINK)
    elif animal.ears == "long":
        bend = pen.rng.normal(0, 0.15)
        ear = [(0, 0.2), (bend / 2, -0.5 * length), (bend, -length)]
        pen.tube(ear, 0.7 * width, 0.35 * width, coat.fur, 0.3 * width)
        inner.tube([(0, 0), (bend / 2, -0.5 * length), (bend, -0.85 * length)], 0.3 * width, 0.1, PINK, 0.1)
    elif animal.ears == "side":
        pen.shape([(-0.1, 0), (0.35 * length, -width), (length, -0.3 * width), (0.6 * length, 0.6 * width), (0, 0.3)],
                  coat.fur)  # fmt: skip


def draw_eye(pen: Pen, coat: Coat, radius: float) -> None:
    """Draw one eye round the pen's origin."""
    flat = pen.without_ink()
    if coat.eyes == "closed":
        flat.stroke([(-radius, 0), (0, 0.6 * radius), (radius, 0)], BLACK, 0.1)
        return
    if coat.eyes == "dots":
        flat.ellipse(0, 0, 0.75 * radius, 0.85 * radius, BLACK)
    else:
        pen.ellipse(0, 0, 1.1 * radius, radius, coat.iris)
        narrow = 0.3 if coat.eyes == "slit" else 0.6
        flat.ellipse(0, 0, narrow * radius, 0.75 * radius, BLACK)
    flat.ellipse(-0.25 * radius, -0.3 * radius, 0.25 * radius, 0.25 * radius, WHITE)


def draw_muzzle(pen: Pen, animal: Creature, coat: Coat) -> None:
    """Draw muzzle, nose, mouth and whiskers seen from the front, round the pen's origin."""
    reach = animal.muzzle_length
    flat = pen.without_ink()
    if animal.muzzle == "puffs":
        for side in (-1, 1):
            flat.ellipse(side * 0.2, 0.12, 0.26, 0.2 * (0.7 + reach), coat.light)
        flat.shape([(-0.14, -0.08), (0.14, -0.08), (0.02, 0.08), (-0.02, 0.08)], coat.nose)
        for side in (-1, 1):
            flat.stroke([(0, 0.08), (side * 0.08, 0.24), (side * 0.26, 0.2)], BLACK, 0.06)
    elif animal.muzzle == "snout":
        pen.ellipse(0, 0.1, 0.36 + 0.12 * reach, 0.28 + 0.22 * reach, coat.light)
        flat.ellipse(0, -0.1, 0.2, 0.14, coat.nose)
        flat.stroke([(0, 0.02), (0, 0.22)], BLACK, 0.06)
        if animal.tongue:
            flat.tube([(0.04, 0.28), (0.06, 0.42 + 0.2 * reach)], 0.13, 0.12, hsv(0.97, 0.55, 0.92))
        flat.stroke([(-0.24, 0.2), (0, 0.3), (0.24, 0.2)], BLACK, 0.06)
    elif animal.muzzle == "disc":
        pen.ellipse(0, 0.1, 0.4, 0.3, blend(PINK, coat.dark, 0.2))
        for side in (-1, 1):
            flat.ellipse(side * 0.15, 0.1, 0.06, 0.11, BLACK)
        flat.stroke([(-0.2, 0.5), (0, 0.56), (0.2, 0.5)], BLACK, 0.06)
    elif animal.muzzle == "wide":
        pen.ellipse(0, 0.25, 0.62, 0.4, coat.light)
        for side in (-1, 1):
            flat.ellipse(side * 0.28, 0.15, 0.09, 0.07, BLACK)
        flat.stroke([(-0.3, 0.42), (0, 0.48), (0.3, 0.42)], BLACK, 0.06)
    elif animal.muzzle == "tiny":
        flat.ellipse(0, 0, 0.1, 0.07, coat.nose)
        flat.stroke([(-0.12, 0.2), (0, 0.12), (0.12, 0.2)], BLACK, 0.05)
        flat.box(-0.08, 0.2, 0.08, 0.36, WHITE)
    elif animal.muzzle == "beak":
        pen.shape([(-0.2, -0.1), (0.2, -0.1), (0.1, 0.2), (0, 0.42), (-0.1, 0.2)], hsv(0.1, 0.75, 0.9))
    elif animal.muzzle == "trunk":
        bend = pen.rng.choice([-1, 1]) * pen.rng.uniform(0.1, 0.6)
        pen.tube([(0, -0.2), (0, 0.5), (bend / 2, 1), (bend, 1.3)], 0.3, 0.16, coat.fur)
    if animal.whiskers:
        for side in (-1, 1):
            for slant in (-0.14, 0.02, 0.18):
                tip = side * (0.3 + animal.whiskers)
                flat.stroke([(side * 0.26, 0.1 + slant / 3), (tip, 0.1 + slant)], coat.dark, 0.035)


def draw_face(pen: Pen, animal: Creature, coat: Coat) -> None:
    """Draw a head seen from the front or turned a little."""
    rng = pen.rng
    width, height = animal.head_width, animal.head_height
    turn = rng.uniform(-0.35, 0.35)
    hanging = animal.ears in ("floppy", "folded")

    def both_ears() -> None:
        for side in (-1, 1):
            spread = np.radians(animal.ear_spread + rng.normal(0, 4))
            nearness = 1 + 0.35 * side * turn
            root = (side * width * np.sin(spread) * 0.95 - 0.15 * turn, -height * np.cos(spread) * 0.9)
            lean = 0.0 if animal.ears == "side" else side * np.degrees(spread) * 0.6
            if animal.ears == "floppy":
                lean = -side * rng.uniform(-5, 22)
            draw_ear(pen.at(*root, nearness, lean + rng.normal(0, 4), stretch=side), animal, coat)

    if not hanging:
        both_ears()
    for side in (-1, 1):
        if animal.horns:
            tip = (side * (0.45 + 0.3 * animal.horns), -height - animal.horns)
            root = (side * 0.35, -0.8 * height)
            bend = (side * (0.5 + 0.4 * animal.horns), -height - 0.3 * animal.horns)
            pen.tube([root, bend, tip], 0.13, 0.04, blend(WHITE, coat.dark, 0.3))
    jaw = rng.uniform(0.75, 1.0)
    pen.shape([(0, -height), (0.7 * width, -0.72 * height), (width, 0), (0.75 * width * jaw, 0.7 * height), (0, height),
               (-0.75 * width * jaw, 0.7 * height), (-width, 0), (-0.7 * width, -0.72 * height)], coat.fur)  # fmt: skip
    if hanging:
        both_ears()
    if rng.random() < 0.25:
        pen.without_ink().ellipse((rng.choice([-1, 1]) * 0.4 + turn * 0.5) * width, -0.15, 0.34, 0.38, coat.dark)
    gap, radius = rng.uniform(0.33, 0.46), rng.uniform(0.14, 0.24)
    for side in (-1, 1):
        draw_eye(pen.at(side * gap * width + 0.45 * turn, -0.12 * height), coat, radius)
    draw_muzzle(pen.at(0.65 * turn, 0.3 * height), animal, coat)


def draw_profile(pen: Pen, animal: Creature, coat: Coat) -> None:
    """Draw a head seen from the side, looking left."""
    rng = pen.rng
    width, height, reach = animal.head_width, animal.head_height, animal.muzzle_length
    flat = pen.without_ink()
    tip = -width - reach * 0.9
    if animal.ears not in ("floppy", "folded", "side"):
        draw_ear(pen.at(-0.1, -0.75 * height, 0.95, rng.uniform(-25, 0)), animal, coat)
    if animal.horns:
        pen.tube([(-0.3, -0.8 * height), (-0.4, -height - animal.horns)], 0.13, 0.03, blend(WHITE, coat.dark, 0.3))
    if animal.muzzle == "beak":
        pen.shape([(-0.8 * width, -0.1), (tip, 0.15), (tip, 0.25), (-0.7 * width, 0.4)], hsv(0.1, 0.75, 0.9))
    elif animal.muzzle == "trunk":
        pen.tube([(-0.6, 0.1), (-1.2, 0.6), (-1.2, 1.2), (-1.5, 1.5)], 0.32, 0.14, coat.fur)
    snout = [(-0.95 * width, 0.0), (tip, 0.1), (tip + 0.05, 0.5), (-0.75 * width, 0.72 * height)]
    if animal.muzzle in ("beak", "trunk"):
        snout = [(-width, 0.2)]
    pen.shape([(0, -height), (-0.65 * width, -0.72 * height), *snout, (0, height), (0.75 * width, 0.65 * height),
               (width, 0), (0.7 * width, -0.7 * height)], coat.fur)  # fmt: skip
    if animal.muzzle not in ("beak", "trunk"):
        extent = 0.09 if animal.muzzle in ("puffs", "tiny") else 0.16
        flat.ellipse(tip, 0.14, extent, extent * 0.8, coat.nose)
        if animal.muzzle == "disc":
            pen.ellipse(tip, 0.28, 0.14, 0.28, blend(PINK, coat.dark, 0.2))
        flat.stroke([(tip + 0.1, 0.42), (tip * 0.7, 0.48), (tip * 0.7 + 0.3, 0.4)], BLACK, 0.06)
    if animal.tongue:
        flat.tube([(tip + 0.25, 0.45), (tip + 0.25, 0.9)], 0.11, 0.1, hsv(0.97, 0.55, 0.92))
    if animal.whiskers:
        for slant in (-0.15, 0.02, 0.2):
            flat.stroke([(tip + 0.3, 0.3), (tip + 0.35 + 0.7 * animal.whiskers, 0.3 + slant)], coat.dark, 0.035)
    draw_eye(pen.at(-0.4 * width, -0.15 * height), coat, rng.uniform(0.13, 0.22))
    if animal.ears == "floppy":
        draw_ear(pen.at(0.15, -0.55 * height, 1.0, rng.uniform(-20, 10)), animal, coat)
    elif animal.ears in ("folded", "side"):
        draw_ear(pen.at(0.1, -0.75 * height, 1.0, rng.uniform(-10, 15)), animal, coat)


def draw_tail(pen: Pen, animal: Creature, coat: Coat) -> None:
    """Draw a tail whose root is the pen's origin, pointing up and to the right."""
    rng = pen.rng
    sway = rng.normal(0, 0.3)
    if animal.tail == "long":
        spine = [(0, 0.1), (0.6, -0.1), (0.8 + sway, -0.9), (1.1 + sway, -1.5), (0.8 + 2 * sway, -1.9)]
        pen.tube(spine, 0.15, 0.1, coat.fur)
    elif animal.tail == "thick":
        pen.tube([(0, 0.1), (0.4, -0.5), (0.4 + sway, -1.1)], 0.16, 0.08, coat.fur, rng.uniform(0, 0.2))
    elif animal.tail == "short":
        pen.tube([(0, 0.1), (0.3, -0.3), (0.4 + sway / 2, -0.5)], 0.14, 0.08, coat.fur)
    elif animal.tail == "bush":
        pen.tube([(-0.1, 0.1), (0.8, -0.1), (0.9 + sway, -1.2), (0.5 + sway, -1.7)], 0.25, 0.2, coat.fur, 0.35)
    elif animal.tail == "puff":
        pen.ellipse(0.15, 0, 0.32, 0.3, coat.light)
    elif animal.tail == "tuft":
        pen.tube([(0, 0), (0.5, 0.4), (0.6 + sway / 2, 1.0)], 0.06, 0.05, coat.fur)
        pen.ellipse(0.6 + sway / 2, 1.1, 0.13, 0.22, coat.dark)


def _head(pen: Pen, animal: Creature, coat: Coat, profile: bool) -> None:
    (draw_profile if profile else draw_face)(pen, animal, coat)


def draw_sitting(pen: Pen, animal: Creature, coat: Coat) -> None:
    """Draw an animal that sits facing us."""
    rng = pen.rng
    draw_tail(pen.at(0.7, 2.4, angle=rng.uniform(-15, 70)), animal, coat)
    hip = rng.uniform(0.85, 1.25)
    pen.shape([(-0.5, 0.5), (0.5, 0.5), (hip, 2), (0.9, 2.75), (-0.9, 2.75), (-hip, 2)], coat.fur)
    pen.without_ink().ellipse(0, 1.6, 0.42, 0.7, coat.light)
    for side in (-1, 1):
        pen.tube([(side * 0.36, 1.3), (side * 0.34, 2.65)], 0.2, 0.2, coat.fur)
        pen.ellipse(side * 0.38, 2.72, 0.3, 0.17, coat.light)
    _head(pen.at(rng.normal(0, 0.12), -0.1, angle=rng.normal(0, 10)), animal, coat, profile=False)


def draw_side(pen: Pen, animal: Creature, coat: Coat) -> None:
    """Draw an animal that walks to the left."""
    rng = pen.rng
    length, leg, thick = rng.uniform(1.6, 2.5), animal.leg, rng.uniform(0.6, 0.85)
    draw_tail(pen.at(0.6 + length, 0.9, angle=rng.uniform(-20, 40)), animal, coat)
    for x, near in ((0.55, False), (length + 0.35, False), (0.25, True), (length + 0.05, True)):
        if near:
            continue
        pen.tube([(x, 1.2), (x + rng.normal(0, 0.2), 1.6 + leg)], 0.22, 0.15, coat.dark)
    middle = 0.3 + length / 2
    pen.shape([(-0.2, 0.5), (middle, 0.45), (length + 0.6, 0.6), (length + 0.75, 1.2), (length + 0.3, 1.1 + thick),
               (middle, 1.0 + thick), (0, 1.1 + thick), (-0.35, 1.1)], coat.fur)  # fmt: skip
    for x in (0.2, length + 0.1):
        step = rng.normal(0, 0.2)
        pen.tube([(x, 1.3), (x + step, 1.7 + leg)], 0.26, 0.17, coat.fur)
    _head(pen.at(-0.35, -0.05, angle=rng.normal(0, 10)), animal, coat, profile=rng.random() < 0.6)


def draw_lying(pen: Pen, animal: Creature, coat: Coat) -> None:
    """Draw an animal that lies down, its paws before it."""
    rng = pen.rng
    length = rng.uniform(1.7, 2.4)
    draw_tail(pen.at(length + 0.2, 1.2, angle=rng.uniform(10, 100)), animal, coat)
    pen.shape([(-0.5, 0.6), (0.5 * length, 0.1), (length, 0.4), (length + 0.3, 1.1), (length, 1.5), (0, 1.5),
               (-0.7, 1.3)], coat.fur)  # fmt: skip
    for x in (-0.1, 0.4):
        pen.tube([(x, 1.3), (x - 0.9, 1.45)], 0.2, 0.18, coat.light if x > 0 else coat.fur)
    _head(pen.at(-0.35, 0.05, angle=rng.normal(0, 14)), animal, coat, profile=rng.random() < 0.4)


_FRAMES = {  # pose: how it is drawn, the middle of the drawing, its extent (both in head radii), how often
    "face": (draw_face, (0, 0), 2.6, 0.45),
    "sitting": (draw_sitting, (0, 1.1), 4.6, 0.25),
    "side": (draw_side, (0.9, 0.9), 4.8, 0.15),
    "lying": (draw_lying, (0.8, 0.5), 4.2, 0.15),
}


def animal_picture(animal: Creature, rng: np.random.Generator, size: int) -> Image.Image:
    """Draw `animal` in a scene: pose, colours, place, scale, clutter and light are all drawn from `rng`.

    Returns:
        RGB picture, `size` x `size` pixels.
    """
    shares = np.array([_FRAMES[pose][3] for pose in animal.poses])
    pose = str(rng.choice(animal.poses, p=shares / shares.sum()))
    draw_pose, middle, extent, _ = _FRAMES[pose]

    def draw_subject(pen: Pen) -> None:
        draw_pose(pen, animal, any_coat(rng, pen.picture.width))

    return scene(draw_subject, middle, extent, rng, size)
