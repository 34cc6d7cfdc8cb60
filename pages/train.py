import streamlit as st

import people
import shell
from cvcore import choices
from cvcore.comparison import STRATEGY_TITLES
from cvcore.datasets import known_datasets
from cvcore.errors import InvalidRecipe
from cvcore.new_run import check_fits
from panels import (
    dataset_panels,
    group_panel,
    launch_panel,
    queue_panel,
    recipe_card,
    recipe_settings,
    run_actions,
    run_panel,
)

shell.navigation()

st.title("Train a strategy")

with shell.error_box(), st.container(border=True):
    policy, problem = None, None
    try:
        policy = choices.policy_from_text(st.query_params.get("train_augmentation"))
    except InvalidRecipe as error:
        problem = str(error)

    rows = {row["name"]: row for row in known_datasets()}
    left, right = st.columns(2)
    row = rows[
        left.selectbox("Pictures", list(rows), format_func=lambda name: rows[name]["title"], key="train_dataset")
    ]
    strategy = right.segmented_control(
        "Strategy", [*STRATEGY_TITLES, "all"], format_func=lambda name: STRATEGY_TITLES.get(name, "All"), required=True,
        default="augmented" if policy else "features", key="train_strategy", wrap=True,
    )  # fmt: skip
    left, right = st.columns(2)
    wanted = None if strategy == "all" else strategy
    offered = {one.id: one for one in choices.recipes_for(wanted, row["id"], row["kind"] == "drawn")}
    recipe = offered[
        left.selectbox(
            "Recipe", list(offered), format_func=lambda name: f"{offered[name].title} ({name})", key="train_recipe"
        )
    ]
    changes = {}
    with right:
        if recipe.base:
            changes |= recipe_settings.base(recipe)
    recipe_card.card(recipe, row, list(rows.values()))
    switch = st.container()
    epochs_column, seed_column, source_column = st.columns([1, 1, 2])
    with epochs_column:
        changes["epochs"] = recipe_settings.epochs(recipe)
    seed = seed_column.number_input(
        "Seed", 0, 2**31 - 1, 0, key="train_seed", help="Decides initial weights, order, augmentation and dropout."
    )
    with st.expander("More settings", icon=":material/tune:"):
        changes |= recipe_settings.more(recipe)
    with st.expander("Callbacks", icon=":material/notifications:"):
        changes |= recipe_settings.callbacks(recipe)
    recipe_settings.policy_note(recipe, policy)
    changes |= recipe_settings.stored_views(recipe, policy, one_pass=changes["steps_per_epoch"] is None)

    chosen, wanted = recipe, None
    try:
        chosen = choices.with_choices(recipe, policy, **changes)
    except InvalidRecipe as error:
        problem = problem or str(error)
    with switch:
        recipe_card.mismatch(chosen)
        recipe_card.changed(chosen, recipe)
    if not row["available"]:
        problem = problem or "These pictures are not on this computer yet: the Dataset page downloads them."
    elif not problem:
        dataset = dataset_panels.opened(row)
        source, earlier = None, choices.runs_to_continue(chosen, shell.runs(), dataset.fingerprint)
        if earlier:
            source = source_column.selectbox(
                "Continue from", ["", *(run.id for run in earlier)], key="train_source",  # "": None could be cleared
                format_func=lambda name: name or "its own head, trained first",
            ) or None  # fmt: skip
        recipe_card.views(chosen, dataset)
        launch_panel.expected(chosen, dataset, source)
        wanted = launch_panel.request(chosen, dataset, seed, source)
        try:
            check_fits(chosen, dataset)
        except InvalidRecipe as error:
            problem = str(error)
    if problem:
        st.markdown(f":red[:material/error: {shell.plain(problem)}]")
    launch_panel.button(None if problem or launch_panel.too_many(wanted) else wanted)

queue_panel.line()

st.subheader("Runs", anchor=False)
with shell.error_box():
    runs = shell.runs()
    group_panel.panel(st.query_params.get("group"))
    run = shell.pick_run("Run", "train_run", [run for run in runs if run.status != "damaged"], people.owner())
    if run is None:
        shell.empty_state("No run yet: launch one above, and it appears here with its progress and curves.")
    else:
        group_panel.part_of(run)
        run_panel.run_panel(run)
    for damaged in runs:
        if damaged.status == "damaged":
            run_actions.damaged(damaged)
    run_actions.trash_panel()
