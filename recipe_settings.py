"""What one may change of a recipe on the Train page: its base, epochs, learning rate, batch size and dropout."""

from typing import Any

import streamlit as st

from cvcore import choices
from cvcore.bases import BASES
from cvcore.recipe import Recipe


def base(recipe: Recipe) -> str:
    """Let the user pick the pretrained base, the recipe's own first."""
    name = st.selectbox("Pretrained base", choices.bases_for(recipe), key=f"train_base_{recipe.id}")
    if BASES[name].weights_file:
        st.caption(f"Its weights ({BASES[name].megabytes:g} MB) are downloaded once, unless they are here already.")
    return name


def epochs(recipe: Recipe) -> int:
    """Let the user set the epochs; of a finetune recipe those of fine-tuning, and say what comes before."""
    label, words = "Epochs", "Passes over the training pictures."
    if recipe.starts_from is not None:
        label = "Epochs of fine-tuning"
        words = f"The head is trained for {recipe.starts_from.epochs} epochs first, unless a saved run is continued."
    low, high = choices.limits("epochs")
    return st.number_input(label, low, high, recipe.epochs, help=words, key=f"train_epochs_{recipe.id}")


def more(recipe: Recipe) -> dict[str, Any]:
    """Let the user set what a class tries out: learning rate, batch size, dropout.

    Returns:
        Field names and values for `choices.with_choices`, the recipe's own where nothing was changed.
    """
    first = recipe.starts_from
    rate = f" The head is trained with {first.learning_rate:g} first." if first else ""
    batch = f" The head is trained with {first.batch_size} first." if first else ""
    offered = {  # field: (label, step, help)
        "learning_rate": ("Learning rate", recipe.learning_rate / 10, f"Of {recipe.optimizer}.{rate}"),
        "batch_size": ("Batch size", 1, f"Pictures a step.{batch}"),
        "dropout": ("Dropout", 0.05, "Share of features silenced at random, right before the dense layers."),
    }
    if recipe.dense:
        offered["dense_dropout"] = ("Dropout after dense layers", 0.05, "After each hidden dense layer.")
    values = {}
    for column, (name, (label, step, words)) in zip(st.columns(4), offered.items(), strict=False):
        low, high = choices.limits(name)
        value = column.number_input(
            label, low, high, getattr(recipe, name), step, "%d" if name == "batch_size" else "%g", help=words,
            key=f"train_{name}_{recipe.id}",
        )  # fmt: skip
        values[name] = float(f"{value:.6g}") if isinstance(value, float) else value  # 0.3, not 0.30000000000000004
    return values
