"""What one may change of a recipe on the Train page: its base, its settings, the callbacks of its training."""

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from cvcore import choices, views
from cvcore.augmentation import AugmentationPolicy
from cvcore.bases import BASES, MOBILENET_ALPHAS, weights_megabytes
from cvcore.recipe import Recipe

MONITORS = {
    "val_loss": "validation loss",
    "val_accuracy": "validation accuracy",
    "loss": "training loss",
    "accuracy": "training accuracy",
}
PREPROCESSING = {
    None: "as in training",
    "rescale": "rescale: 0 to 1",
    "base": "base: as its own training",
    "none": "none: 0 to 255",
}
INSTALL_TENSORBOARD = 'TensorBoard is not installed here: `python -m pip install "tensorboard>=2.20,<2.22"`.'


def base(recipe: Recipe) -> dict[str, Any]:
    """Let the user pick the pretrained base, the recipe's own first, and the width of one that has several.

    Returns:
        Field names and values for `choices.with_choices`.
    """
    name = st.selectbox("Pretrained base", choices.bases_for(recipe), key=f"train_base_{recipe.id}")
    values: dict[str, Any] = {"base": name}
    alpha = recipe.alpha if name == recipe.base else 1.0
    if name == "MobileNetV2":
        values["alpha"] = alpha = st.selectbox(
            "Width (alpha)", MOBILENET_ALPHAS, MOBILENET_ALPHAS.index(alpha), key=f"train_alpha_{recipe.id}",
            format_func=lambda width: f"{width:g}", help="Channels of each layer, as a share of the full network's.",
        )  # fmt: skip
    if BASES[name].weights_file:
        size = weights_megabytes(name, alpha)
        st.caption(f"Its weights ({size:g} MB) are downloaded once, unless they are here already.")
    return values


def epochs(recipe: Recipe) -> int:
    """Let the user set the epochs; of a finetune recipe those of fine-tuning, and say what comes before."""
    label, words = "Epochs", "Passes over the training pictures."
    if recipe.starts_from is not None:
        label = "Epochs of fine-tuning"
        words = f"The head is trained for {recipe.starts_from.epochs} epochs first, unless a saved run is continued."
    low, high = choices.limits("epochs")
    return st.number_input(label, low, high, recipe.epochs, help=words, key=f"train_epochs_{recipe.id}")


def more(recipe: Recipe) -> dict[str, Any]:
    """Let the user set what a class tries out: rate, batches, dropout, pictures, steps, and what test pictures become.

    Returns:
        Field names and values for `choices.with_choices`, the recipe's own where nothing was changed.
    """
    first = recipe.starts_from
    rate = f" The head is trained with {first.learning_rate:g} first." if first else ""
    batch = f" The head is trained with {first.batch_size} first." if first else ""
    offered = {  # field: (label, step, help)
        "learning_rate": ("Learning rate", recipe.learning_rate / 10, f"Of {recipe.optimizer}.{rate}"),
        "batch_size": ("Batch size", 1, f"Pictures a step.{batch}"),
        "image_size": ("Image size", 1, "Side in pixels to which pictures are resized."),
        "dropout": ("Dropout", 0.05, "Share of features silenced at random, right before the dense layers."),
    }
    if recipe.dense:
        offered["dense_dropout"] = ("Dropout after dense layers", 0.05, "After each hidden dense layer.")
    if recipe.learning_rate_decay:
        words = "Each step's rate is the learning rate divided by 1 + decay × steps so far."
        offered["learning_rate_decay"] = ("Learning rate decay", recipe.learning_rate_decay, words)
    values: dict[str, Any] = {}
    with st.grid(4, min_column_width=150, vertical_alignment="bottom"):
        for name, (label, step, words) in offered.items():
            low, high = choices.limits(name)
            value = st.number_input(
                label, low, high, getattr(recipe, name), step, "%d" if step == 1 else "%g", help=words,
                key=f"train_{name}_{recipe.id}",
            )  # fmt: skip
            values[name] = float(f"{value:.6g}") if isinstance(value, float) else value  # 0.3, not 0.30000000000000004
        values["train_pictures"] = _number_or_none(
            recipe, "train_pictures", "Training pictures", "all pictures",
            "Train on this many, each class in proportion: the same ones for every seed, fewer are among more.",
        )  # fmt: skip
        values["steps_per_epoch"] = _number_or_none(
            recipe, "steps_per_epoch", "Steps per epoch", "one pass",
            "Batches an epoch, drawn from pass after pass over the training pictures; empty for one whole pass.",
        )  # fmt: skip
        values["validation_steps"] = _number_or_none(
            recipe, "validation_steps", "Validation steps", "all pictures",
            "Batches of validation pictures evaluated after each epoch, drawn once; empty for all of them.",
        )  # fmt: skip
        if recipe.base:
            offers = choices.preprocessings_for_test(recipe)
            values["test_preprocessing"] = _pick(
                recipe, "test_preprocessing", "Test preprocessing", offers, PREPROCESSING,
                "A teaching switch: what becomes of the test pictures' pixels. Anything but `as in training` is a "
                "mistake, and the test accuracy shows it.",
            )  # fmt: skip
        if choices.gpu():
            values["mixed_precision"] = st.toggle(
                "Mixed precision", recipe.mixed_precision, key=f"train_mixed_precision_{recipe.id}",
                help="Compute in bfloat16 and keep the weights in float32, where the GPU is good at it: faster.",
            )  # fmt: skip
    return values


def callbacks(recipe: Recipe) -> dict[str, Any]:
    """Let the user set the callbacks of training, Keras' own: early stopping, the rate over time, files kept.

    Returns:
        Field names and values for `choices.with_choices`, the recipe's own where nothing was changed.
    """
    if recipe.starts_from is not None:
        st.caption("For fine-tuning; the head that is trained first goes without them.")
    stopping, rate, files = st.columns(3)
    with stopping:
        values = _early_stopping(recipe)
    with rate:
        values |= _rate_over_time(recipe)
    with files:
        values |= _kept_files(recipe)
    return values


def stored_views(recipe: Recipe, policy: AugmentationPolicy | None, one_pass: bool) -> dict[str, Any]:
    """Let the user set how many augmented views of each picture are stored, where a recipe augments before a base.

    Args:
        recipe: the published one.
        policy: from the Augmentation page, or None.
        one_pass: whether an epoch is one pass over the training pictures.

    Returns:
        Field names and values for `choices.with_choices`; none where there is nothing to set.
    """
    if not recipe.views and not choices.views_possible(recipe, policy):
        return {}
    left, right = st.columns([1, 3], vertical_alignment="bottom")
    low, high = choices.limits("views")
    count = left.number_input(
        "Stored views", low, high, recipe.views, 1, key=f"train_views_{recipe.id}",
        help="Augmented versions of each training picture that are run through the frozen layers once, before "
             "training, and then taken in turn. 0 changes the pictures anew in every epoch.",
    )  # fmt: skip
    right.caption(
        f"Trains on {views.in_words(count, one_pass)}."
        if count
        else "Pictures are changed anew in every epoch and run through the frozen layers each time. Stored views run "
        "through them once, before training: another training, whose time and disk are estimated below."
    )
    return {"views": count}


def _early_stopping(recipe: Recipe) -> dict[str, Any]:
    values: dict[str, Any] = {
        "early_stopping_patience": _number_or_none(
            recipe, "early_stopping_patience", "Early stopping patience", "never stops early",
            "Stop after this many epochs without a better figure; empty to train all epochs.",
        ),
    }  # fmt: skip
    if values["early_stopping_patience"] is not None:
        values["early_stopping_monitor"] = _pick(
            recipe, "early_stopping_monitor", "Early stopping watches", choices.MONITORS, MONITORS
        )
        if values["early_stopping_monitor"] in ("loss", "accuracy"):
            st.caption("A training figure goes on improving while a network overfits: it rarely stops anything.")
    return values


def _rate_over_time(recipe: Recipe) -> dict[str, Any]:
    told = choices.schedules()
    names = {name: name or "constant" for name in told}
    values: dict[str, Any] = {
        "learning_rate_schedule": _pick(recipe, "learning_rate_schedule", "Learning rate schedule", list(told), names)
    }
    if values["learning_rate_schedule"]:
        st.caption(told[values["learning_rate_schedule"]])
    values["reduce_lr_patience"] = _number_or_none(
        recipe, "reduce_lr_patience", "Reduce on plateau, patience", "never reduces",
        "Lower the rate after this many epochs without a better figure, better by 0.0001 at least; empty never does.",
    )  # fmt: skip
    if values["reduce_lr_patience"] is not None:
        factor = st.number_input(
            "Reduce on plateau, factor", *choices.limits("reduce_lr_factor"), recipe.reduce_lr_factor, 0.1, "%g",
            key=f"train_reduce_lr_factor_{recipe.id}", help="The rate is multiplied by it.",
        )  # fmt: skip
        values["reduce_lr_factor"] = float(f"{factor:.6g}")
        values["reduce_lr_monitor"] = _pick(
            recipe, "reduce_lr_monitor", "Reduce on plateau watches", choices.MONITORS, MONITORS
        )
    return values


def _kept_files(recipe: Recipe) -> dict[str, Any]:
    names = {None: "no extra checkpoint", **MONITORS}
    values: dict[str, Any] = {
        "model_checkpoint": _pick(
            recipe, "model_checkpoint", "Model checkpoint keeps the best", [None, *choices.MONITORS], names
        )
    }
    values["csv_logger"] = st.toggle(
        "CSV log", recipe.csv_logger, key=f"train_csv_logger_{recipe.id}",
        help="Keras' own log of each epoch, a file to download with the run.",
    )  # fmt: skip
    here = choices.tensorboard_here()
    values["tensorboard"] = st.toggle(
        "TensorBoard logs", recipe.tensorboard and here, disabled=not here, key=f"train_tensorboard_{recipe.id}",
        help="Scalars, graph and histograms, kept with the run, which then shows the command to open them.",
    )  # fmt: skip
    if not here:
        st.caption(INSTALL_TENSORBOARD)
    return values


def _pick(
    recipe: Recipe,
    name: str,
    label: str,
    offered: Sequence[str | None],
    names: Mapping[str | None, str],
    words: str | None = None,
) -> str | None:
    """Pick one of the values of a field, which may be None; the page shows their names."""
    # Not None among the options: the widget would offer to clear it.
    options = [value or "" for value in offered]
    picked = st.selectbox(
        label, options, options.index(getattr(recipe, name) or ""), help=words, key=f"train_{name}_{recipe.id}",
        format_func=lambda value: names.get(value or None, value),
    )  # fmt: skip
    return picked or None


def _number_or_none(recipe: Recipe, name: str, label: str, none: str, words: str) -> int | None:
    """Set a whole number, or leave the field empty for none."""
    low, high = choices.limits(name)
    key = f"train_{name}_{recipe.id}"
    # Not `value=`: a field whose widget has a default of its own cannot be emptied.
    st.session_state.setdefault(key, getattr(recipe, name))
    return st.number_input(label, low, high, None, 1, key=key, placeholder=none, help=words)


def policy_note(recipe: Recipe, policy: AugmentationPolicy | None) -> None:
    """Say which augmentation policy a run takes, and offer to drop the one the Augmentation page sent."""
    if policy:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"Augmentation policy `{policy.digest}` from the Augmentation page", width="content")
            if st.button("Drop it", icon=":material/close:", key="train_drop_policy"):
                del st.query_params["train_augmentation"]
                st.rerun()
        if recipe.cached:
            st.caption(
                "Stored features cannot be augmented: with a policy this recipe trains end to end, which is slower, "
                "unless a few views of each picture are stored."
            )
    elif recipe.augmentation:
        st.caption(f"Trains with the recipe's own augmentation policy `{recipe.augmentation.digest}`.")
