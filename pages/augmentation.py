import json
from collections.abc import Sequence
from pathlib import Path

import streamlit as st
from PIL import Image

import shell
from cvcore import augmentation
from cvcore.augmentation import ONE_AT_A_TIME, PRESETS, AugmentationPolicy
from cvcore.augmentation_code import keras_code
from cvcore.contact_sheet import contact_sheet
from cvcore.datasets import known_datasets, load_picture, open_dataset, resize
from cvcore.published import RECIPES

shell.navigation()

KEY, SIDE, MODES = "augmentation_", 224, ("Nine variants", "One parameter at a time")
START = PRESETS["textbook 2nd edition"]
CHOICES = {"none": PRESETS["none"], "doodle lesson": RECIPES["doodle-augmented"].augmentation, **PRESETS}
TOGGLES = {"horizontal_flip": "Horizontal flip", "vertical_flip": "Vertical flip", "zoom_per_axis": "Zoom axes apart"}
SLIDERS = {  # name: (label, step, format, help)
    "rotation": ("Rotation, ± degrees", 1.0, "%d°", "36° is Keras' factor 0.1, a tenth of a turn."),
    "zoom": ("Zoom, ± share", 0.01, "percent", "20 % draws a factor from 0.8 (nearer) to 1.2 (farther)."),
    "width_shift": ("Width shift, ± share of the width", 0.01, "percent", "Moves left or right."),
    "height_shift": ("Height shift, ± share of the height", 0.01, "percent", "Moves up or down."),
    "brightness": ("Brightness, ± share of full scale", 0.01, "percent", "Added to every pixel or taken away."),
    "contrast": ("Contrast, ± share", 0.01, "percent", "20 % draws a gain about mid grey from 0.8 to 1.2."),
    "shear": ("Shear, ± degrees", 0.1, "%.1f°", "The first edition's 0.2 means 0.2°, which is almost nothing."),
}
NAMES = TOGGLES | {name: words[0].split(",")[0] for name, words in SLIDERS.items()} | {"fill_mode": "Fill mode"}


def bound(name: str) -> dict[str, str]:
    return {"key": f"{KEY}{name}", "bind": "query-params"}


def take_preset() -> None:
    if policy := CHOICES.get(st.session_state[f"{KEY}preset"]):
        st.session_state.update({f"{KEY}{name}": value for name, value in policy.model_dump().items()})


@st.cache_resource(max_entries=4, ttl=60, show_spinner="Opening the pictures")
def some_pictures(source: str, a_class: int = 12) -> dict[str, Path]:
    found, dataset = {}, open_dataset(source)
    for label, title in enumerate(dataset.class_names):
        paths = [dataset.root / picture.path for picture in dataset.split("train") if picture.label == label]
        found |= {f"{title} {number}": path for number, path in enumerate(paths[:a_class], start=1)}
    return found


def show(shown: list[Image.Image], alt: str, labels: Sequence[str] = ()) -> None:
    theme = st.context.theme.type or "light"
    background, ink = (st.get_option(f"theme.{theme}.{name}") for name in ("backgroundColor", "textColor"))
    columns = 3 if len(shown) > 4 else min(len(shown), 2)
    st.image(contact_sheet(shown, columns, labels, background, ink), alt=alt, width="stretch")


st.title("Augmentation")
st.markdown(
    "In every epoch the network sees each training picture changed at random, within these limits. "
    "Turn one up until you would give the picture another label: that is too far."
)

with shell.error_box():
    presets_row = st.container()
    pictures_side, controls_side = st.columns([5, 6], gap="medium")

    with controls_side:
        values = {}
        with st.container(horizontal=True):
            for name, label in TOGGLES.items():
                values[name] = st.toggle(label, getattr(START, name), **bound(name))
        cells = [cell for _ in range(4) for cell in st.columns(2)]
        for cell, (name, (label, step, unit, words)) in zip(cells, SLIDERS.items(), strict=False):
            span = (*augmentation.limits(name), getattr(START, name))
            values[name] = cell.slider(label, *span, step, unit, help=words, **bound(name))
        values["fill_mode"] = cells[7].selectbox(
            "Fill mode", augmentation.FILL_MODES, augmentation.FILL_MODES.index(START.fill_mode), **bound("fill_mode"),
            help="What is seen where the picture has moved away.",
        )  # fmt: skip
        if values["fill_mode"] == "constant":
            values["fill_value"] = st.slider("Grey to fill with", 0.0, 255.0, 0.0, 1.0, "%d", **bound("fill_value"))
        policy = AugmentationPolicy(**values)

        with st.container(horizontal=True, vertical_alignment="bottom"):
            original = st.container(width=72)
            sources = {row["name"]: row["source"] for row in known_datasets() if row["available"]}
            pictures = some_pictures(sources[st.selectbox("Dataset", sources, **bound("dataset"))])
            chosen = st.selectbox("Picture", pictures, **bound("picture"))
            seed = st.number_input("Seed", 0, 999, 0, **bound("seed"))
        square = Image.fromarray(resize(load_picture(pictures[chosen]), SIDE, "bilinear", antialias=True))
        with original:
            show([square], f"{chosen}, as it is")

    with presets_row:
        st.session_state[f"{KEY}preset"] = next((name for name, it in CHOICES.items() if it == policy), None)
        st.pills("Presets", CHOICES, key=f"{KEY}preset", on_change=take_preset)

    with pictures_side:
        mode = st.segmented_control(
            "Show", MODES, default=MODES[0], required=True, label_visibility="collapsed", **bound("mode")
        )
        if mode == MODES[0]:
            show(augmentation.preview(square, policy, seed), f"Nine variants of {chosen}")
        else:
            one = st.selectbox("Parameter", ONE_AT_A_TIME, 2, NAMES.get, **bound("parameter"))
            steps = augmentation.spread(policy, one)
            labels = [augmentation.value_label(one, step) for step in steps]
            show(augmentation.vary_one(square, policy, one, steps), f"{chosen}, {NAMES[one].lower()} varied", labels)
            st.caption(f"All others stand still: {augmentation.neutral_values(one)}; fill mode {policy.fill_mode}.")
        if st.button("Train with this policy", type="primary", disabled=policy.is_identity):
            changes = json.dumps(policy.model_dump(exclude_defaults=True), separators=(",", ":"))
            st.switch_page(shell.page_path("train"), query_params={"train_augmentation": changes})
        st.caption(f"Policy `{policy.digest}`. The run keeps it word for word; the same digits mean the same policy.")

    st.subheader("The nearest Keras layers", anchor=False)
    st.code(keras_code(policy), language="python")
