"""The Augmentation page, driven without a browser."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest
from tiny_lessons import write_lesson

import shell
from cvcore import augmentation
from cvcore.augmentation import PRESETS, AugmentationPolicy
from cvcore.augmentation_code import keras_code
from cvcore.datasets import open_dataset
from cvcore.published import RECIPES
from cvcore.settings import PROJECT


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CVCORE_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("CVCORE_RUNS", str(tmp_path_factory.mktemp("runs")))
        yield


def draw(**query):
    page = AppTest.from_file(str(PROJECT / "pages" / "augmentation.py"), default_timeout=300)
    for key, value in query.items():
        page.query_params[f"augmentation_{key}"] = value
    page.run()
    assert not page.exception and not page.error
    return page


def policy_of(page):
    """Read the policy back from what the page shows."""
    widgets = {str(widget.key): widget.value for widget in [*page.toggle, *page.slider, *page.selectbox]}
    names = [name for name in AugmentationPolicy.model_fields if f"augmentation_{name}" in widgets]
    policy = AugmentationPolicy(**{name: widgets[f"augmentation_{name}"] for name in names})
    assert any(f"`{policy.digest}`" in caption.value for caption in page.caption)
    assert page.code[0].value.strip() == keras_code(policy).strip()
    return policy


def train_button(page):
    return next(button for button in page.button if button.label == "Train with this policy")


@pytest.fixture
def drawn(monkeypatch):
    """Keep the pictures handed to the sheet, by what they show."""
    calls = []
    for name in ("preview", "vary_one"):
        real = getattr(augmentation, name)

        def keep(*args, real=real, name=name):
            calls.append((name, args[1:], pictures := real(*args)))
            return pictures

        monkeypatch.setattr(augmentation, name, keep)
    return calls


def test_the_first_view_is_nine_variants_by_the_textbook(drawn):
    page = draw()
    assert policy_of(page) == PRESETS["textbook 2nd edition"]
    [(name, (policy, seed), pictures)] = drawn
    assert (name, policy, seed, len(pictures)) == ("preview", PRESETS["textbook 2nd edition"], 0, 9)
    assert len({picture.tobytes() for picture in pictures}) == 9
    assert {picture.size for picture in pictures} == {(224, 224)}


@pytest.mark.parametrize("name", [*PRESETS, "doodle lesson"])
def test_a_preset_sets_every_slider(name):
    page = draw(rotation="77", contrast="0.5", vertical_flip="true")
    page.button_group(key="augmentation_preset").set_value(name).run()
    assert not page.exception and not page.error
    wanted = PRESETS[name] if name in PRESETS else RECIPES["doodle-augmented"].augmentation
    assert policy_of(page) == wanted


def test_a_slider_that_leaves_a_preset_unmarks_it():
    page = draw()
    assert page.session_state["augmentation_preset"] == "textbook 2nd edition"
    page.slider(key="augmentation_shear").set_value(12.0).run()
    assert page.session_state["augmentation_preset"] is None
    assert policy_of(page).shear == 12.0


def test_a_url_opens_as_it_was(drawn):
    page = draw(rotation="60", zoom="0.0", fill_mode="wrap", picture="dog 3", seed="4")
    assert policy_of(page) == AugmentationPolicy(horizontal_flip=True, rotation=60, fill_mode="wrap")
    assert page.selectbox(key="augmentation_picture").value == "dog 3"
    assert drawn[0][1][1] == 4


def test_a_number_out_of_range_in_the_url_is_not_an_error():
    assert policy_of(draw(rotation="999", zoom="far", fill_mode="mirror")).rotation <= 180


def test_the_grey_to_fill_with_is_asked_for_only_where_it_is_used():
    page = draw()
    assert "augmentation_fill_value" not in {slider.key for slider in page.slider}
    page.selectbox(key="augmentation_fill_mode").set_value("constant").run()
    page.slider(key="augmentation_fill_value").set_value(90.0).run()
    assert policy_of(page).fill_value == 90
    page.selectbox(key="augmentation_fill_mode").set_value("nearest").run()
    assert policy_of(page).fill_value == 0


@pytest.mark.parametrize("parameter", augmentation.ONE_AT_A_TIME)
def test_one_parameter_at_a_time_states_the_others(parameter, drawn):
    page = draw(mode="One parameter at a time")
    page.selectbox(key="augmentation_parameter").set_value(parameter).run()
    assert not page.exception and not page.error
    name, (_, shown, values), pictures = drawn[-1]
    assert (name, shown) == ("vary_one", parameter)
    assert len({picture.tobytes() for picture in pictures}) == len(values) == len(pictures)
    assert any(augmentation.neutral_values(parameter) in caption.value for caption in page.caption)


def test_one_parameter_goes_as_far_as_its_slider(drawn):
    draw(mode="One parameter at a time", rotation="90")
    assert drawn[-1][1][2][::4] == [-90, 0, 90]


def test_train_with_this_policy_carries_it_word_for_word(monkeypatch):
    moved = []
    monkeypatch.setattr("streamlit.switch_page", lambda page, query_params: moved.append((page, query_params)))
    page = draw(shear="0.2", zoom_per_axis="true", width_shift="0.2")
    train_button(page).click().run()
    [(target, query)] = moved
    assert target == shell.page_path("train")
    assert AugmentationPolicy.model_validate(json.loads(query["train_augmentation"])) == policy_of(page)
    assert " " not in query["train_augmentation"]


def test_nothing_to_train_with_when_nothing_changes():
    page = draw()
    page.button_group(key="augmentation_preset").set_value("none").run()
    assert train_button(page).disabled


def test_pictures_are_sent_as_jpeg(monkeypatch):
    sent = []
    monkeypatch.setattr("streamlit.image", lambda data, **_: sent.append(data))
    draw()
    assert len(sent) == 2
    sheet, original = sorted((Image.open(io.BytesIO(data)) for data in sent), key=lambda image: -image.width)
    assert (sheet.format, original.format) == ("JPEG", "JPEG")
    assert original.size == (224, 224) and sheet.size == (688, 688)
    assert sum(map(len, sent)) < 200_000
    assert np.asarray(sheet).std() > 10


def test_the_page_is_short():
    assert len(Path(PROJECT / "pages" / "augmentation.py").read_text().splitlines()) < 120


def test_two_datasets_of_one_name_are_both_offered_and_shown(tmp_path, monkeypatch):
    monkeypatch.setenv("CVCORE_DATA", str(tmp_path))
    for parent, classes in (("a", ("bars", "discs")), ("b", ("rings", "strokes"))):
        open_dataset(write_lesson(tmp_path / parent / "pets", classes=classes))
    page = draw()
    picker = page.selectbox(key="augmentation_dataset")
    assert picker.value == "doodle-pets"
    names = [name for name in picker.options if name.startswith("pets ")]
    assert len(names) == 2
    shown = set()
    for name in names:
        page.selectbox(key="augmentation_dataset").select(name).run()
        shown.add(page.selectbox(key="augmentation_picture").options[0])
    assert shown == {"bars 1", "rings 1"}
