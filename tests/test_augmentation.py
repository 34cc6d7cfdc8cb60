"""The policy, its draws, its matrices, the preview and the Keras code: handmade numbers, no Keras."""

import io
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from cvcore.augmentation import (
    FILL_MODES,
    NEUTRAL,
    ONE_AT_A_TIME,
    PRESETS,
    UNIFORMS,
    AugmentationPolicy,
    Draw,
    draw,
    limits,
    matrices,
    neutral_values,
    preview,
    render,
    spread,
    value_label,
    vary_one,
)
from cvcore.augmentation_code import keras_code
from cvcore.contact_sheet import contact_sheet
from cvcore.errors import InvalidRecipe


def noise(height=40, width=40, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def one_draw(**changes):
    return Draw(**{name: np.full(1, value) for name, value in (NEUTRAL | changes).items()})


def rendered(image, fill_mode="reflect", fill_value=0.0, **changes):
    return np.asarray(render(image, one_draw(**changes), fill_mode, fill_value)[0])


# The policy


def test_defaults_change_nothing():
    assert AugmentationPolicy().is_identity
    assert not AugmentationPolicy(rotation=1).is_identity
    assert not AugmentationPolicy(vertical_flip=True).is_identity
    assert not AugmentationPolicy(contrast=0.1).is_identity
    assert AugmentationPolicy(fill_mode="wrap", zoom_per_axis=True).is_identity


def test_unknown_keys_are_named_beside_the_known_ones():
    with pytest.raises(InvalidRecipe) as caught:
        AugmentationPolicy(rotate=3)
    assert str(caught.value).startswith("unknown augmentation keys ['rotate']; known: ['horizontal_flip', ")


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"rotation": 200}, "rotation must be a number between 0 and 180; received 200"),
        ({"zoom": 1}, "zoom must be a number between 0 and 0.9; received 1"),
        ({"shear": -1}, "shear must be a number between 0 and 60; received -1"),
        ({"brightness": float("nan")}, "brightness must be a number between 0 and 1; received nan"),
        ({"width_shift": "far"}, "width_shift must be a number between 0 and 1; received 'far'"),
        ({"horizontal_flip": 7}, "horizontal_flip must be true or false; received 7"),
        (
            {"fill_mode": "mirror"},
            "fill_mode must be one of ['constant', 'nearest', 'reflect', 'wrap']; received 'mirror'",
        ),
        (
            {"fill_value": 3},
            "fill_value is used only with fill_mode 'constant'; received fill_value 3 with fill_mode 'reflect'",
        ),
    ],
)
def test_a_bad_value_is_one_sentence(fields, sentence):
    with pytest.raises(InvalidRecipe) as caught:
        AugmentationPolicy(**fields)
    assert str(caught.value) == sentence


def test_a_policy_is_made_from_a_mapping_only():
    with pytest.raises(InvalidRecipe, match="augmentation must be a mapping of its keys to values; received 3"):
        AugmentationPolicy.model_validate(3)


def test_a_digest_stands_for_the_values_and_stays_the_same_across_processes():
    assert AugmentationPolicy().digest == "b9e82936178a"
    assert AugmentationPolicy(rotation=36, zoom=0.2, horizontal_flip=True).digest == "e9cfbf49a795"
    assert PRESETS["textbook 2nd edition"].digest == "e9cfbf49a795"
    assert AugmentationPolicy(rotation=40).digest == AugmentationPolicy(rotation="40").digest
    assert len({policy.digest for policy in PRESETS.values()}) == len(PRESETS)


def test_a_policy_survives_json_with_only_its_differences():
    policy = PRESETS["textbook 1st edition"]
    text = json.dumps(policy.model_dump(exclude_defaults=True))
    assert AugmentationPolicy.model_validate(json.loads(text)) == policy


def test_limits_are_those_of_the_fields():
    assert limits("rotation") == (0, 180)
    assert limits("zoom") == (0, 0.9)


# Draws


def test_each_number_is_drawn_over_its_whole_range_and_no_further():
    policy = AugmentationPolicy(
        rotation=30, width_shift=0.2, height_shift=0.1, shear=15, zoom=0.3, brightness=0.4, contrast=0.5
    )
    drawn = draw(policy, np.random.default_rng(0).random((20_000, UNIFORMS)))
    ranges = {
        "rotation": (-30, 30),
        "shift_x": (-0.2, 0.2),
        "shift_y": (-0.1, 0.1),
        "shear": (-15, 15),
        "zoom_x": (0.7, 1.3),
        "brightness": (-0.4, 0.4),
        "contrast": (0.5, 1.5),
    }
    for name, (low, high) in ranges.items():
        values = getattr(drawn, name)
        assert low <= values.min() < low + 0.001 * (high - low), name
        assert high >= values.max() > high - 0.001 * (high - low), name
        assert abs(values.mean() - (low + high) / 2) < 0.02 * (high - low), name
    assert not drawn.flip_x.any()


def test_flips_come_in_half_of_the_draws_and_only_where_allowed():
    uniforms = np.random.default_rng(0).random((20_000, UNIFORMS))
    drawn = draw(AugmentationPolicy(horizontal_flip=True), uniforms)
    assert abs(drawn.flip_x.mean() - 0.5) < 0.02
    assert not drawn.flip_y.any()
    both = draw(AugmentationPolicy(horizontal_flip=True, vertical_flip=True), uniforms)
    assert abs(np.mean(both.flip_x & both.flip_y) - 0.25) < 0.02


def test_zoom_is_one_factor_unless_drawn_per_axis():
    uniforms = np.random.default_rng(0).random((500, UNIFORMS))
    one = draw(AugmentationPolicy(zoom=0.2), uniforms)
    assert np.array_equal(one.zoom_x, one.zoom_y)
    two = draw(AugmentationPolicy(zoom=0.2, zoom_per_axis=True), uniforms)
    assert abs(np.corrcoef(two.zoom_x, two.zoom_y)[0, 1]) < 0.2


def test_moving_one_slider_leaves_the_other_draws_as_they_were():
    uniforms = np.random.default_rng(0).random((9, UNIFORMS))
    before = draw(AugmentationPolicy(rotation=30, zoom=0.2), uniforms)
    after = draw(AugmentationPolicy(rotation=30, zoom=0.2, shear=10, brightness=0.5, horizontal_flip=True), uniforms)
    assert np.array_equal(before.rotation, after.rotation)
    assert np.array_equal(before.zoom_x, after.zoom_x)


# Matrices and what they do to a picture


def test_matrices_by_hand():
    turned = matrices(one_draw(rotation=90), height=5, width=5)[0][0]
    assert np.allclose(turned, [0, -1, 4, 1, 0, 0, 0, 0], atol=1e-12)  # output (0, 0) shows input (4, 0)
    moved = matrices(one_draw(shift_x=0.2, shift_y=-0.1), height=20, width=10)[0][0]
    assert np.allclose(moved, [1, 0, -2, 0, 1, 2, 0, 0])
    zoomed = matrices(one_draw(zoom_x=2.0, zoom_y=1.0), height=5, width=5)[0][0]
    assert np.allclose(zoomed, [2, 0, -2, 0, 1, 0, 0, 0])
    _, gain, bias = matrices(one_draw(contrast=0.5, brightness=0.1), 5, 5)
    assert (gain[0], bias[0]) == (0.5, pytest.approx(63.75 + 25.5))


def test_the_order_is_rotate_shift_shear_zoom_flip():
    values = {"rotation": 20, "shift_x": 0.1, "shift_y": 0.2, "shear": 15, "zoom_x": 1.3, "zoom_y": 0.8, "flip_x": 1}
    angle, lean = np.deg2rad(20), np.deg2rad(15)
    steps = [
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]],
        [[1, 0, -0.1 * 31], [0, 1, -0.2 * 21], [0, 0, 1]],
        [[1, -np.sin(lean), 0], [0, np.cos(lean), 0], [0, 0, 1]],
        [[1.3, 0, 0], [0, 0.8, 0], [0, 0, 1]],
        [[-1, 0, 0], [0, 1, 0], [0, 0, 1]],
    ]
    to_centre = np.array([[1, 0, 15], [0, 1, 10], [0, 0, 1]])
    expected = to_centre @ np.linalg.multi_dot([np.array(step) for step in steps]) @ np.linalg.inv(to_centre)
    assert np.allclose(matrices(one_draw(**values), 21, 31)[0][0, :6], expected[:2].ravel())


def test_signs_are_those_the_docstring_names():
    image = Image.new("RGB", (41, 41))
    image.putpixel((30, 20), (255, 255, 255))  # right of the centre

    def brightest(**changes):
        return tuple(int(axis[0]) for axis in np.where(rendered(image, "constant", **changes)[..., 0] > 100))

    assert brightest(rotation=90) == (10, 20)  # row, column: anticlockwise, so it is above the centre
    assert brightest(shift_x=5 / 41) == (20, 35)
    assert brightest(shift_y=5 / 41) == (25, 20 + 10)
    assert brightest(zoom_x=2.0, zoom_y=2.0) == (20, 25)  # more scene, everything nearer the centre
    assert brightest(flip_x=1) == (20, 10)
    above = Image.new("RGB", (41, 41))
    above.paste((255, 255, 255), (19, 8, 22, 11))
    rows, columns = np.where(rendered(above, "constant", shear=30)[..., 0] > 100)
    assert columns.mean() < 18 and rows.mean() < 15  # the top leans to the left


@pytest.mark.parametrize(
    ("fill_mode", "row"),
    [
        ("constant", [7, 7, 7, 10, 20, 30]),
        ("nearest", [10, 10, 10, 10, 20, 30]),
        ("reflect", [30, 20, 10, 10, 20, 30]),
        ("wrap", [40, 50, 60, 10, 20, 30]),
    ],
)
def test_each_fill_mode_fills_what_has_moved_away(fill_mode, row):
    pixels = np.repeat(np.array([[10, 20, 30, 40, 50, 60]], dtype=np.uint8), 4, axis=0)
    picture = rendered(Image.fromarray(pixels), fill_mode, 7 if fill_mode == "constant" else 0, shift_x=0.5)
    assert picture[0, :, 0].tolist() == row


def test_contrast_turns_about_mid_grey_then_brightness_is_added_then_all_is_clipped():
    image = Image.fromarray(np.array([[[0, 100, 255]]], dtype=np.uint8))
    assert rendered(image, contrast=0.5)[0, 0].tolist() == [64, 114, 191]
    assert rendered(image, brightness=0.2)[0, 0].tolist() == [51, 151, 255]
    assert rendered(image, contrast=2.0, brightness=-0.2)[0, 0].tolist() == [0, 22, 255]


# The preview


def test_an_identity_policy_returns_the_same_picture_exactly():
    image = noise()
    for picture in preview(image, AugmentationPolicy(), seed=3):
        assert np.array_equal(np.asarray(picture), np.asarray(image))


def test_flips_alone_move_pixels_without_changing_them():
    image = noise(12, 17)
    pixels = np.asarray(image)
    pictures = preview(image, AugmentationPolicy(horizontal_flip=True, vertical_flip=True), seed=0, count=30)
    wanted = {pixels[::y, ::x].tobytes() for x in (1, -1) for y in (1, -1)}
    assert {np.asarray(picture).tobytes() for picture in pictures} == wanted


def test_a_half_turn_is_not_taken_for_no_turn():
    image = noise(12, 17)
    assert np.array_equal(rendered(image, rotation=180), np.asarray(image)[::-1, ::-1])
    assert np.array_equal(rendered(image, rotation=-180, flip_x=1), np.asarray(image)[::-1])


def test_a_preview_is_the_same_for_the_same_seed_and_another_for_another():
    image, policy = noise(), PRESETS["textbook 1st edition"]
    first, again, other = (preview(image, policy, seed) for seed in (1, 1, 2))
    assert len(first) == 9
    assert [picture.tobytes() for picture in first] == [picture.tobytes() for picture in again]
    assert all(one.tobytes() != two.tobytes() for one, two in zip(first, other, strict=True))
    assert {picture.tobytes() for picture in preview(image, policy, 1, count=4)} <= {p.tobytes() for p in first}


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK"])
def test_a_preview_of_any_picture_mode_is_rgb_of_the_same_size(mode):
    pictures = preview(noise(20, 30).convert(mode), PRESETS["too much"], seed=0, count=2)
    assert [(picture.mode, picture.size) for picture in pictures] == [("RGB", (30, 20))] * 2


@pytest.mark.parametrize("fill_mode", FILL_MODES)
def test_the_widest_policy_needs_no_more_than_the_canvas_it_gets(fill_mode):
    grey = Image.new("RGB", (33, 21), (90, 90, 90))
    widest = {name: limits(name)[1] for name in ("rotation", "width_shift", "height_shift", "shear", "zoom")}
    policy = AugmentationPolicy(
        **widest, zoom_per_axis=True, fill_mode=fill_mode, fill_value=90 if fill_mode == "constant" else 0
    )
    for picture in preview(grey, policy, seed=0, count=50):
        assert np.unique(np.asarray(picture)).tolist() == [90]


def test_one_parameter_at_a_time_leaves_the_rest_alone():
    image, policy = noise(), PRESETS["gentle"].model_copy(update={"shear": 10})
    pixels = np.asarray(image)
    plain, mirrored = vary_one(image, policy, "horizontal_flip", [False, True])
    assert np.array_equal(np.asarray(plain), pixels)
    assert np.array_equal(np.asarray(mirrored), pixels[:, ::-1])
    for parameter in ("rotation", "width_shift", "height_shift", "shear", "brightness"):
        values = spread(policy, parameter)
        assert values[4] == 0 and values[0] == -values[8] == -getattr(policy, parameter)
        pictures = vary_one(image, policy, parameter, values)
        assert np.array_equal(np.asarray(pictures[4]), pixels), parameter
        assert len({picture.tobytes() for picture in pictures}) == 9, parameter
    assert spread(policy, "contrast", 5) == pytest.approx([0.9, 0.95, 1, 1.05, 1.1])
    assert np.array_equal(np.asarray(vary_one(image, policy, "zoom", [1.0])[0]), pixels)


def test_one_parameter_at_a_time_uses_an_example_range_when_the_policy_has_none():
    assert spread(AugmentationPolicy(), "rotation", 5) == [-40, -20, 0, 20, 40]
    assert spread(AugmentationPolicy(), "vertical_flip") == [False, True]
    for parameter in ONE_AT_A_TIME:
        values = spread(AugmentationPolicy(), parameter)
        pictures = vary_one(noise(), AugmentationPolicy(), parameter, values)
        assert len({picture.tobytes() for picture in pictures}) == len(values), parameter


def test_one_unknown_parameter_at_a_time_is_one_sentence():
    with pytest.raises(InvalidRecipe, match="unknown augmentation parameter 'rotate'; known: "):
        vary_one(noise(), AugmentationPolicy(), "rotate", [1])


@pytest.mark.parametrize(
    ("parameter", "value", "label"),
    [
        ("rotation", -40.0, "-40°"),
        ("rotation", 22.5, "+22.5°"),
        ("shear", 0.0, "0°"),
        ("zoom", 1.2, "× 1.20"),
        ("contrast", 0.4, "× 0.40"),
        ("width_shift", 0.075, "+7.5 %"),
        ("brightness", -0.3, "-30 %"),
        ("horizontal_flip", True, "mirrored"),
        ("vertical_flip", False, "as it is"),
        ("fill_mode", "wrap", "wrap"),
    ],
)
def test_a_value_is_shown_with_its_unit(parameter, value, label):
    assert value_label(parameter, value) == label


def test_the_others_values_are_stated():
    assert neutral_values("rotation").startswith("no horizontal flip, no vertical flip, width shift 0 %")
    assert "rotation" not in neutral_values("rotation") and "zoom × 1," in neutral_values("rotation")
    assert "rotation +25°" in neutral_values("fill_mode") and "zoom × 1.5" in neutral_values("fill_mode")


def test_a_contact_sheet_lays_pictures_out_in_rows():
    colours = [(200, 30, 30), (30, 200, 30), (30, 30, 200)]
    pictures = [Image.new("RGB", (40, 20), colour) for colour in colours]
    sheet = Image.open(io.BytesIO(contact_sheet(pictures, 2, background="#808080", gap=4)))
    assert (sheet.format, sheet.size) == ("JPEG", (84, 44))
    for colour, centre in zip([*colours, (128, 128, 128)], [(20, 10), (64, 10), (20, 34), (64, 34)], strict=True):
        assert np.abs(np.subtract(sheet.getpixel(centre), colour)).max() < 8
    labelled = Image.open(io.BytesIO(contact_sheet(pictures, 3, ["one", "two", "three"])))
    assert labelled.height > 20 and np.asarray(labelled)[20:].min() < 100


# The code and the guard


def test_the_code_of_a_policy_names_its_numbers():
    code = keras_code(PRESETS["textbook 2nd edition"])
    assert 'layers.RandomRotation(0.1, fill_mode="reflect"),  # fraction of a turn: 36 degrees' in code
    assert 'layers.RandomZoom(height_factor=0.2, fill_mode="reflect"),  # one factor for both axes' in code
    assert 'layers.RandomFlip("horizontal"),' in code
    assert "Shear" not in code and "Contrast" not in code
    assert keras_code(AugmentationPolicy()).startswith("# No augmentation")
    black = keras_code(AugmentationPolicy(rotation=5, fill_mode="constant", fill_value=12))
    assert 'fill_mode="constant", fill_value=12)' in black


def test_the_policy_and_its_preview_need_no_keras():
    script = (
        "import sys; import cvcore.augmentation, cvcore.augmentation_code; "
        "sys.exit(bool({'keras', 'tensorflow', 'scipy', 'pandas'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
