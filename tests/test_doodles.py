"""Doodle pets: the same seed draws the same bytes, and only shape gives the label away."""

import numpy as np
import pytest

from cvcore.datasets import doodles
from cvcore.datasets.doodle_animals import POSES, Creature, animal_picture
from cvcore.datasets.doodle_parts import Pen, closed_curve, open_curve, texture
from tools import doodle_things


def _draw_many(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    pictures = [
        np.asarray(doodles.draw(kind, doodles.picture_rng(seed, "any", kind, index)))
        for kind in doodles.CLASS_NAMES
        for index in range(count)
    ]
    return np.stack(pictures), np.repeat([0, 1], count)


@pytest.mark.parametrize("kind", doodles.CLASS_NAMES)
def test_same_state_draws_same_bytes_and_another_draws_another(kind):
    first = doodles.draw(kind, doodles.picture_rng(5, "train", kind, 3))
    again = doodles.draw(kind, doodles.picture_rng(5, "train", kind, 3))
    assert first.tobytes() == again.tobytes()
    for other in ((6, "train", 3), (5, "test", 3), (5, "train", 4)):
        seed, split, index = other
        assert doodles.draw(kind, doodles.picture_rng(seed, split, kind, index)).tobytes() != first.tobytes()


@pytest.mark.parametrize("size", [64, 96, 150])
def test_size_and_mode(size):
    picture = doodles.draw("dog", np.random.default_rng(0), size)
    assert picture.size == (size, size)
    assert picture.mode == "RGB"


def test_unknown_kind_fails():
    with pytest.raises(KeyError):
        doodles.draw("unicorn", np.random.default_rng(0))


def test_written_folder_has_the_stated_counts_and_reports_progress(tmp_path, monkeypatch):
    monkeypatch.setattr(doodles, "COUNTS", {"train": 3, "validation": 2, "test": 4})
    seen = []
    doodles.write_doodle_pets(tmp_path / "pets", seed=7, progress=lambda done, total: seen.append((done, total)))
    names = sorted(str(path.relative_to(tmp_path / "pets")) for path in (tmp_path / "pets").rglob("*.png"))
    assert len(names) == 18
    assert names[0] == "test/cat/cat.0.png"
    assert seen == [(done, 18) for done in range(1, 19)]
    assert {path.stat().st_size > 1000 for path in (tmp_path / "pets").rglob("*.png")} == {True}


def test_shipped_counts():
    assert doodles.COUNTS == {"train": 200, "validation": 100, "test": 500}
    assert doodles.CLASS_NAMES == ("cat", "dog")


def test_colour_does_not_give_the_label_away():
    """A linear classifier of colour statistics alone stays near chance on pictures it has not seen."""
    pictures, labels = _draw_many(150, seed=31)
    pixels = pictures / 255
    statistics = np.column_stack(
        [pixels.mean(axis=(1, 2)), pixels.std(axis=(1, 2)), pixels[:, 32:64, 32:64].mean(axis=(1, 2)), np.ones(300)]
    )
    rows = np.random.default_rng(0).permutation(len(labels))
    fitted, held_out = rows[:180], rows[180:]
    weights, *_ = np.linalg.lstsq(statistics[fitted], 2.0 * labels[fitted] - 1, rcond=None)
    accuracy = ((statistics[held_out] @ weights > 0) == labels[held_out]).mean()
    assert 0.38 < accuracy < 0.62


def test_pictures_differ_from_one_another():
    pictures, _ = _draw_many(20, seed=8)
    assert len({picture.tobytes() for picture in pictures}) == len(pictures)
    assert pictures.std() > 30


@pytest.mark.parametrize("kind", doodle_things.CLASS_NAMES)
def test_other_things_are_drawn_the_same_way(kind):
    first = doodle_things.draw(kind, np.random.default_rng(4))
    assert first.size == (96, 96)
    assert first.tobytes() == doodle_things.draw(kind, np.random.default_rng(4)).tobytes()


def test_the_base_never_sees_a_cat_or_a_dog():
    for word in ("cat", "dog", "kitten", "puppy", "wolf", "fox", "lion", "tiger"):
        assert not any(word == name for name in doodle_things.CLASS_NAMES)


def _fixed_creature(**changes) -> Creature:
    values = {
        "ears": "pointed",
        "ear_length": 0.7,
        "ear_width": 0.4,
        "ear_spread": 40,
        "head_width": 1,
        "head_height": 1,
        "muzzle": "puffs",
        "muzzle_length": 0.3,
    }
    return Creature(**(values | changes))


@pytest.mark.parametrize("pose", POSES)
def test_ears_change_the_picture_in_every_pose(pose):
    pictures = [
        animal_picture(_fixed_creature(ears=ears, poses=(pose,)), np.random.default_rng(2), 96)
        for ears in ("pointed", "floppy")
    ]
    assert pictures[0].tobytes() != pictures[1].tobytes()


def test_curves_pass_through_their_points():
    square = np.array([(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)])
    assert np.allclose(closed_curve(square, steps=4)[::4], square)
    assert np.allclose(open_curve(square, steps=4)[::4], square)


def test_pen_places_units_and_mirrors():
    from PIL import Image

    picture = Image.new("RGB", (100, 100))
    pen = Pen(picture, np.array([[100.0, 0, 0], [0, 100.0, 0]]), np.random.default_rng(0), wobble=0)
    assert pen.unit() == pytest.approx(100)
    pen.at(0.5, 0.5, 0.1, stretch=-1).box(1, -1, 3, 1, (255, 0, 0))
    assert picture.getpixel((30, 50)) == (255, 0, 0)
    assert picture.getpixel((70, 50)) == (0, 0, 0)


@pytest.mark.parametrize("pattern", ["plain", "shaded", "stripes", "patches", "spots", "ticked"])
def test_texture_stays_between_its_two_colours(pattern):
    pixels = np.asarray(texture(np.random.default_rng(1), 96, (200, 10, 10), (100, 60, 10), pattern))
    assert pixels[..., 0].min() >= 99
    assert pixels[..., 0].max() <= 200
