"""What the doodle base learns from: ten other animals and six things, drawn with the same parts as doodle pets.

No cats and no dogs. The base can learn from these what an ear, a muzzle, a tail, an outline
and a background look like, as a base trained on photographs learns fur and wheels; it never sees the two
classes it is used for.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from cvcore.datasets.doodle_animals import Creature, animal_picture
from cvcore.datasets.doodle_parts import BLACK, WHITE, Pen, any_colour, blend, hsv, scene, texture


def _rabbit(rng: np.random.Generator) -> Creature:
    return Creature(
        ears="long",
        ear_length=rng.uniform(1.2, 1.9),
        ear_width=rng.uniform(0.25, 0.4),
        ear_spread=rng.uniform(12, 30),
        head_width=rng.uniform(0.8, 1.0),
        head_height=rng.uniform(0.85, 1.0),
        muzzle="tiny",
        muzzle_length=rng.uniform(0.2, 0.4),
        whiskers=rng.uniform(0.3, 0.6) if rng.random() < 0.5 else 0.0,
        tail="puff",
    )


def _bear(rng: np.random.Generator) -> Creature:
    return Creature(
        ears="round",
        ear_length=rng.uniform(0.5, 0.75),
        ear_width=rng.uniform(0.28, 0.42),
        ear_spread=rng.uniform(40, 55),
        head_width=rng.uniform(0.95, 1.15),
        head_height=rng.uniform(0.85, 1.0),
        muzzle="snout",
        muzzle_length=rng.uniform(0.3, 0.7),
        tail="short",
        leg=rng.uniform(0.4, 0.7),
    )


def _mouse(rng: np.random.Generator) -> Creature:
    return Creature(
        ears="round",
        ear_length=rng.uniform(1.0, 1.5),
        ear_width=rng.uniform(0.55, 0.8),
        ear_spread=rng.uniform(40, 55),
        head_width=rng.uniform(0.75, 0.95),
        head_height=rng.uniform(0.75, 0.95),
        muzzle="tiny",
        muzzle_length=rng.uniform(0.5, 0.8),
        whiskers=rng.uniform(0.4, 0.8),
        leg=rng.uniform(0.2, 0.5),
    )


def _pig(rng: np.random.Generator) -> Creature:
    return Creature(
        ears="side",
        ear_length=rng.uniform(0.45, 0.8),
        ear_width=rng.uniform(0.28, 0.42),
        ear_spread=rng.uniform(45, 58),
        head_width=rng.uniform(0.9, 1.15),
        head_height=rng.uniform(0.85, 1.0),
        muzzle="disc",
        muzzle_length=rng.uniform(0.25, 0.4),
        tail="short",
        leg=rng.uniform(0.3, 0.6),
    )


def _cow(rng: np.random.Generator) -> Creature:
    return Creature(
        ears="side",
        ear_length=rng.uniform(0.7, 1.0),
        ear_width=rng.uniform(0.25, 0.38),
        ear_spread=rng.uniform(58, 72),
        head_width=rng.uniform(0.75, 0.95),
        head_height=rng.uniform(0.95, 1.1),
        muzzle="wide",
        muzzle_length=rng.uniform(0.6, 0.8),
        tail="tuft",
        horns=rng.uniform(0.2, 0.5),
        leg=rng.uniform(0.8, 1.2),
    )


def _squirrel(rng: np.random.Generator) -> Creature:
    return Creature(
        ears="round",
        ear_length=rng.uniform(0.5, 0.8),
        ear_width=rng.uniform(0.2, 0.32),
        ear_spread=rng.uniform(25, 40),
        head_width=rng.uniform(0.8, 1.0),
        head_height=rng.uniform(0.8, 0.95),
        muzzle="tiny",
        muzzle_length=rng.uniform(0.3, 0.5),
        tail="bush",
        leg=rng.uniform(0.3, 0.6),
    )


def _elephant(rng: np.random.Generator) -> Creature:
    return Creature(
        ears="side",
        ear_length=rng.uniform(0.9, 1.3),
        ear_width=rng.uniform(0.6, 0.9),
        ear_spread=rng.uniform(65, 80),
        head_width=rng.uniform(0.8, 1.0),
        head_height=rng.uniform(0.85, 1.0),
        muzzle="trunk",
        muzzle_length=0.5,
        tail="tuft",
        leg=rng.uniform(0.6, 1.0),
    )


def _owl(rng: np.random.Generator) -> Creature:
    return Creature(
        ears="none",
        ear_length=0.0,
        ear_width=0.0,
        ear_spread=0.0,
        head_width=rng.uniform(0.95, 1.15),
        head_height=rng.uniform(0.85, 1.0),
        muzzle="beak",
        muzzle_length=rng.uniform(0.2, 0.4),
        tail="none",
        poses=("face", "sitting"),
    )


def _donkey(rng: np.random.Generator) -> Creature:
    return Creature(
        ears="long",
        ear_length=rng.uniform(0.9, 1.4),
        ear_width=rng.uniform(0.3, 0.45),
        ear_spread=rng.uniform(25, 45),
        head_width=rng.uniform(0.7, 0.85),
        head_height=rng.uniform(1.0, 1.2),
        muzzle="wide",
        muzzle_length=rng.uniform(0.7, 1.0),
        tail="tuft",
        leg=rng.uniform(1.0, 1.4),
    )


def _deer(rng: np.random.Generator) -> Creature:
    return Creature(
        ears="side",
        ear_length=rng.uniform(0.6, 0.9),
        ear_width=rng.uniform(0.22, 0.32),
        ear_spread=rng.uniform(50, 65),
        head_width=rng.uniform(0.7, 0.85),
        head_height=rng.uniform(0.95, 1.15),
        muzzle="snout",
        muzzle_length=rng.uniform(0.5, 0.9),
        tail="puff",
        horns=rng.uniform(0.8, 1.4),
        leg=rng.uniform(1.1, 1.5),
    )


def _fish(pen: Pen) -> None:
    scales = texture(pen.rng, pen.picture.width, any_colour(pen.rng), any_colour(pen.rng), "stripes")
    fin = any_colour(pen.rng)
    pen.shape([(0.6, 0), (1.3, -0.5), (1.2, 0), (1.3, 0.5)], fin)
    pen.shape([(-0.2, -0.5), (0.1, -0.9), (0.4, -0.4)], fin)
    pen.ellipse(0, 0, 1.0, pen.rng.uniform(0.45, 0.7), scales)
    pen.ellipse(-0.6, -0.12, 0.14, 0.14, WHITE)
    pen.without_ink().ellipse(-0.6, -0.12, 0.07, 0.07, BLACK)


def _car(pen: Pen) -> None:
    paint, glass = any_colour(pen.rng), hsv(0.55, 0.2, 0.9)
    roof = pen.rng.uniform(0.5, 0.9)
    pen.shape([(-0.7, 0), (-0.4, -roof), (0.4, -roof), (0.8, 0)], paint)
    pen.without_ink().shape([(-0.5, -0.05), (-0.3, -roof * 0.8), (0.3, -roof * 0.8), (0.55, -0.05)], glass)
    pen.shape([(-1.2, -0.05), (0, -0.08), (1.2, 0), (1.25, 0.5), (0, 0.55), (-1.25, 0.5)], paint)
    for x in (-0.7, 0.7):
        pen.ellipse(x, 0.5, 0.3, 0.3, BLACK)
        pen.without_ink().ellipse(x, 0.5, 0.13, 0.13, WHITE)


def _house(pen: Pen) -> None:
    wall, roof, door = (any_colour(pen.rng) for _ in range(3))
    pen.box(-0.8, -0.2, 0.8, 1, wall)
    pen.polygon(np.array([(-1.05, -0.2), (pen.rng.uniform(-0.2, 0.2), -1.1), (1.05, -0.2)]), roof)
    pen.box(-0.15, 0.35, 0.2, 1, door)
    for x in (-0.55, 0.45):
        pen.box(x, 0.05, x + 0.25, 0.35, hsv(0.55, 0.2, 0.95))


def _tree(pen: Pen) -> None:
    leaf = hsv(pen.rng.uniform(0.05, 0.4), pen.rng.uniform(0.3, 0.7), pen.rng.uniform(0.4, 0.9))
    leaves = texture(pen.rng, pen.picture.width, leaf, blend(leaf, BLACK, 0.3), "ticked")
    pen.tube([(0, 1.1), (0.05, 0.4), (0, -0.2)], 0.2, 0.12, hsv(0.07, 0.5, pen.rng.uniform(0.3, 0.6)))
    for x, y in ((-0.45, 0), (0.45, 0), (0, -0.5)):
        pen.ellipse(x, y - 0.1, 0.55, 0.5, leaves)


def _mug(pen: Pen) -> None:
    glaze = texture(pen.rng, pen.picture.width, any_colour(pen.rng), any_colour(pen.rng), "spots")
    for radius, fill in ((0.5, glaze), (0.28, blend(WHITE, BLACK, 0.3))):
        pen.ellipse(0.75, 0.1, radius * 0.8, radius, fill)
    pen.box(-0.7, -0.7, 0.65, 0.9, glaze)
    pen.ellipse(-0.02, -0.7, 0.67, 0.18, any_colour(pen.rng))


def _umbrella(pen: Pen) -> None:
    cloth, other = any_colour(pen.rng), any_colour(pen.rng)
    pen.stroke([(0, -0.3), (0, 0.9), (0.2, 1.05), (0.35, 0.85)], BLACK, 0.1)
    dome = [(-1.1, 0.1), (-0.8, -0.65), (0, -1.0), (0.8, -0.65), (1.1, 0.1), (0.55, -0.05), (0, 0.1), (-0.55, -0.05)]
    pen.shape(dome, cloth)
    pen.shape([(-0.35, 0), (-0.2, -0.6), (0, -1.0), (0.2, -0.6), (0.35, 0), (0, 0.1)], other)


ANIMALS: dict[str, Callable[[np.random.Generator], Creature]] = {
    "rabbit": _rabbit,
    "bear": _bear,
    "mouse": _mouse,
    "pig": _pig,
    "cow": _cow,
    "squirrel": _squirrel,
    "elephant": _elephant,
    "owl": _owl,
    "donkey": _donkey,
    "deer": _deer,
}
THINGS: dict[str, Callable[[Pen], None]] = {
    "fish": _fish,
    "car": _car,
    "house": _house,
    "tree": _tree,
    "mug": _mug,
    "umbrella": _umbrella,
}
CLASS_NAMES = (*ANIMALS, *THINGS)


def draw(kind: str, rng: np.random.Generator, size: int = 96) -> Image.Image:
    """Draw one animal or thing.

    Args:
        kind: One of `CLASS_NAMES`.
        rng: Source of every choice.
        size: Side in pixels. Default 96.

    Returns:
        RGB picture, `size` x `size` pixels.
    """
    if kind in ANIMALS:
        return animal_picture(ANIMALS[kind](rng), rng, size)
    return scene(THINGS[kind], (0, 0), 2.6, rng, size)
