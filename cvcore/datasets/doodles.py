"""Doodle pets: drawn cats and dogs, the small dataset that needs no download.

The label is in the shape alone: ears, muzzle, whiskers and tail. Coat, pattern, eyes, pose, place, scale,
background, clutter and light are drawn in the same way for both, so no colour or texture gives the answer away.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from cvcore.datasets.doodle_animals import Creature, animal_picture

CLASS_NAMES = ("cat", "dog")
COUNTS = {"train": 200, "validation": 100, "test": 500}
DEFAULT_SEED = 1
SIZE = 96


def cat(rng: np.random.Generator) -> Creature:
    """The measures of a cat: mostly pricked ears, a short muzzle, whiskers, a long thin tail."""
    return Creature(
        ears=str(rng.choice(["pointed", "folded"], p=[0.93, 0.07])),
        ear_length=rng.uniform(0.5, 0.9),
        ear_width=rng.uniform(0.3, 0.45),
        ear_spread=rng.uniform(30, 48),
        head_width=rng.uniform(0.95, 1.15),
        head_height=rng.uniform(0.75, 0.95),
        muzzle="puffs",
        muzzle_length=rng.uniform(0.1, 0.4),
        whiskers=rng.uniform(0.4, 0.9) if rng.random() < 0.7 else 0.0,
        tail=str(rng.choice(["long", "thick"], p=[0.8, 0.2])),
        leg=rng.uniform(0.5, 0.9),
    )


def dog(rng: np.random.Generator) -> Creature:
    """The measures of a dog: mostly hanging or folded ears, a long muzzle, sometimes a tongue, a shorter tail."""
    return Creature(
        ears=str(rng.choice(["floppy", "folded", "pointed"], p=[0.55, 0.27, 0.18])),
        ear_length=rng.uniform(0.6, 1.1),
        ear_width=rng.uniform(0.28, 0.45),
        ear_spread=rng.uniform(35, 58),
        head_width=rng.uniform(0.8, 1.05),
        head_height=rng.uniform(0.85, 1.05),
        muzzle="snout",
        muzzle_length=rng.uniform(0.4, 1.0),
        whiskers=rng.uniform(0.2, 0.5) if rng.random() < 0.15 else 0.0,
        tail=str(rng.choice(["long", "thick", "short"], p=[0.2, 0.5, 0.3])),
        leg=rng.uniform(0.6, 1.2),
        tongue=bool(rng.random() < 0.3),
    )


_KINDS = {"cat": cat, "dog": dog}


def draw(kind: str, rng: np.random.Generator, size: int = SIZE) -> Image.Image:
    """Draw one cat or dog.

    Args:
        kind: "cat" or "dog".
        rng: Source of every choice; the same state draws the same picture.
        size: Side in pixels. Default 96.

    Returns:
        RGB picture, `size` x `size` pixels.
    """
    return animal_picture(_KINDS[kind](rng), rng, size)


def picture_rng(seed: int, split: str, kind: str, index: int) -> np.random.Generator:
    """The random generator of one picture, which depends on nothing but these four values."""
    return np.random.default_rng([seed, zlib.crc32(f"{split}/{kind}".encode()), index])


def write_doodle_pets(
    folder: Path, seed: int = DEFAULT_SEED, progress: Callable[[int, int], None] | None = None
) -> None:
    """Draw the whole dataset, as `folder/train/cat/cat.0.png` and so on (`COUNTS` pictures a class).

    Args:
        folder: Where to write; made if missing.
        seed: Another seed draws another dataset. Default 1.
        progress: Called with (pictures done, pictures in all) after each picture.
    """
    total, done = sum(COUNTS.values()) * len(CLASS_NAMES), 0
    for split, count in COUNTS.items():
        for kind in CLASS_NAMES:
            target = folder / split / kind
            target.mkdir(parents=True, exist_ok=True)
            for index in range(count):
                picture = draw(kind, picture_rng(seed, split, kind, index))
                picture.save(target / f"{kind}.{index}.png", compress_level=1)
                done += 1
                if progress is not None:
                    progress(done, total)
