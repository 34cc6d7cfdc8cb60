"""The Train page."""

import json
from types import SimpleNamespace

import pytest
from handmade_pictures import write_classes
from handmade_runs import DATASET, write_reference_runs, write_run
from pages_drawn import draw, living, sound, words

from cvcore.augmentation import AugmentationPolicy
from cvcore.datasets import SPLITS
from cvcore.published import PUBLISHED, RECIPES
from cvcore.recipe import STRATEGIES
from cvcore.reproduction import tight
from cvcore.run_directory import STOP_FILE, load_run

pytestmark = pytest.mark.usefixtures("drawings")
NO_RUN = SimpleNamespace(id="no-such-run")


def test_train_carries_the_policy_of_the_augmentation_page_verbatim_into_the_run(runs, monkeypatch):
    launched = []
    monkeypatch.setattr("cvcore.launching.launch", lambda *args, **kwargs: launched.append(args) or NO_RUN)
    policy = AugmentationPolicy(rotation=12.5, horizontal_flip=True)
    page = draw("train", train_augmentation=policy.model_dump_json())
    assert policy.digest in words(page)
    page.button(key="train_launch").click().run()
    recipe, dataset, seed = launched[0]
    assert recipe.strategy == "augmented" and recipe.augmentation == policy
    assert (dataset.id, seed) == ("doodle-pets", 0)


def test_train_drops_the_policy_on_request(runs):
    page = draw("train", train_augmentation=AugmentationPolicy(rotation=12.5).model_dump_json())
    page.button(key="train_drop_policy").click().run()
    assert "train_augmentation" not in page.query_params


@pytest.mark.parametrize("text", ["{", "[1]", '{"rotation": 999}', '{"spin": 1}'])
def test_train_answers_a_broken_policy_with_a_sentence_and_no_launch(runs, text):
    page = draw("train", train_augmentation=text)
    assert sound(page)
    assert ":red[" in words(page)
    assert page.button(key="train_launch").disabled


def test_train_refuses_augmentation_from_scratch_in_words(runs):
    page = draw("train", train_augmentation=AugmentationPolicy(rotation=10).model_dump_json())
    page.segmented_control(key="train_strategy").set_value("scratch").run()
    assert "a scratch recipe has no augmentation" in words(page)
    assert page.button(key="train_launch").disabled


def test_train_does_not_download_pictures_by_itself_and_says_where_to(runs):
    page = draw("train")
    (missing,) = [option for option in page.selectbox(key="train_dataset").options if "filtered" in option.lower()]
    page.selectbox(key="train_dataset").select(missing).run()
    assert sound(page)
    assert "the Dataset page downloads them" in words(page)
    assert page.button(key="train_launch").disabled


def test_train_launches_the_chosen_recipe_with_its_seed_and_epochs(runs, monkeypatch):
    launched = []
    monkeypatch.setattr("cvcore.launching.launch", lambda *args, **kwargs: launched.append(args) or NO_RUN)
    page = draw("train")
    page.segmented_control(key="train_strategy").set_value("scratch").run()
    page.number_input(key="train_seed").set_value(7)
    page.number_input(key="train_epochs_doodle-scratch").set_value(3).run()
    page.button(key="train_launch").click().run()
    recipe, _, seed = launched[0]
    assert (recipe.id, recipe.epochs, seed) == ("doodle-scratch", 3, 7)


def test_train_shows_the_run_of_the_address_after_a_reload(runs):
    write_run(runs, "doodle-scratch", seed=1)
    asked = write_run(runs, "doodle-features", seed=2)
    page = draw("train", run=asked)
    assert page.selectbox(key="train_run").value == asked
    assert f"`{asked}`" in words(page)


def test_train_shows_progress_within_the_epoch_and_stops_on_request(runs):
    run_id = write_run(runs, "doodle-scratch", status="running", owner=living())
    progress = {"phase": "training", "step": 5, "steps": 13, "epoch": 2, "epochs": 6, "seconds_left": 41.7}
    (runs / run_id / "progress.json").write_text(json.dumps(progress))
    page = draw("train", run=run_id)
    (bar,) = page.get("progress")
    assert bar.text == "Training, epoch 2 of 6, step 5 of 13, about 42 s left"
    page.button(key=f"stop_{run_id}").click().run()
    assert (runs / run_id / STOP_FILE).exists()


def test_train_offers_to_resume_a_run_whose_process_is_gone(runs, monkeypatch):
    resumed = []
    monkeypatch.setattr("cvcore.backends.resume", resumed.append)
    run_id = write_run(runs, "doodle-scratch", status="running", owner=living(started=1.0))
    assert load_run(run_id, runs).status == "interrupted"
    page = draw("train", run=run_id)
    page.button(key=f"resume_{run_id}").click().run()
    assert resumed == [run_id]


def test_train_shows_why_a_run_failed(runs):
    run_id = write_run(runs, "doodle-scratch", status="failed", error="The disk is full.")
    assert "The disk is full." in words(draw("train", run=run_id))


def test_train_deletes_a_run_and_shows_another(runs):
    write_reference_runs(runs)
    kept, unwanted = (write_run(runs, "doodle-scratch", seed=seed) for seed in (1, 2))
    page = draw("train", run=unwanted)
    page.button(key=f"delete_{unwanted}").click().run()
    assert sound(page)
    assert not (runs / unwanted).exists() and (runs / kept).exists()
    assert page.selectbox(key="train_run").value == kept
    assert f"`{kept}`" in words(page)


@pytest.mark.parametrize("kind", ["running", "reference"])
def test_train_does_not_offer_to_delete_a_live_run_or_a_reference_run(runs, kind):
    more = {"reference": True} if kind == "reference" else {"status": "running", "owner": living()}
    run_id = write_run(runs, "doodle-scratch", **more)
    page = draw("train", run=run_id)
    assert f"delete_{run_id}" not in {button.key for button in page.button}


def test_train_says_whose_epochs_are_set_when_fine_tuning(runs):
    page = draw("train")
    page.segmented_control(key="train_strategy").set_value("finetune").run()
    field = page.number_input(key="train_epochs_doodle-finetune")
    assert field.label == "Epochs of fine-tuning"
    assert "trained for 40 epochs first" in field.help


def test_train_launches_with_another_learning_rate_batch_size_and_dropout(runs, monkeypatch):
    launched = []
    monkeypatch.setattr("cvcore.launching.launch", lambda *args, **kwargs: launched.append(args) or NO_RUN)
    page = draw("train")
    page.number_input(key="train_learning_rate_doodle-features").set_value(0.005)
    page.number_input(key="train_batch_size_doodle-features").set_value(10)
    page.number_input(key="train_dropout_doodle-features").set_value(0.1 + 0.2).run()
    page.button(key="train_launch").click().run()
    recipe = launched[0][0]
    assert (recipe.learning_rate, recipe.batch_size, recipe.dropout) == (0.005, 10, 0.3)


def test_train_answers_a_learning_rate_of_zero_with_the_recipe_s_own_sentence(runs):
    page = draw("train")
    page.number_input(key="train_learning_rate_doodle-features").set_value(0.0).run()
    assert "learning_rate must be greater than 0; received 0" in words(page)
    assert page.button(key="train_launch").disabled


@pytest.fixture
def launched(monkeypatch):
    """What the page launched: (recipe, dataset, seed) each."""
    calls = []
    monkeypatch.setattr("cvcore.launching.launch", lambda *args, **kwargs: calls.append(args) or NO_RUN)
    return calls


def train_page(recipe_id):
    """The page with a recipe picked by its name among all."""
    return draw("train", {"train_strategy": "all", "train_recipe": recipe_id})


def pick(page, recipe_id):
    box = page.selectbox(key="train_recipe")
    (option,) = [option for option in box.options if option.endswith(f"({recipe_id})")]
    return box.select(option).run()


def test_every_recipe_can_be_picked_by_name_and_shows_its_source_and_what_was_published(runs):
    page = draw("train")
    page.segmented_control(key="train_strategy").set_value("all").run()
    assert len(page.selectbox(key="train_recipe").options) == len(RECIPES)
    for recipe in RECIPES.values():
        pick(page, recipe.id)
        assert sound(page), recipe.id
        told = words(page)
        assert f"{recipe.source}, `{recipe.id}`" in told
        for figure in PUBLISHED.get(recipe.id, ()):
            assert f"published] **{tight(figure.text)}** (" in told and tight(figure.note) in told, recipe.id
        assert ("no published figure: ours" in told) == (recipe.id not in PUBLISHED), recipe.id
        assert not page.button(key="train_launch").disabled, recipe.id


def test_a_published_figure_names_its_split_and_epoch(runs):
    told = words(train_page("chollet2-scratch"))
    assert "**69.5%** (test accuracy, lowest validation loss)" in told
    assert "**75% at its peak** (validation accuracy, highest of all epochs)" in told


def test_a_recipe_says_how_to_get_the_pictures_it_was_written_for(runs):
    told = words(train_page("chollet2-scratch"))
    assert "`cats-vs-dogs-small`, which is not here" in told and "--layout cats_vs_dogs_small" in told
    told = words(train_page("exercise-scratch"))
    assert "`cats-and-dogs-filtered`, which is not here: the Dataset page downloads it" in told
    assert "Written for these pictures." in words(train_page("doodle-scratch"))


def test_a_recipe_tested_on_other_pixels_says_so_and_the_switch_takes_it_away(runs, launched):
    page = train_page("note-features")
    assert "the source's bug, kept to be seen; `note-features-matched` is the same without it" in words(page)
    page.selectbox(key="train_test_preprocessing_note-features").select_index(0).run()
    assert "preprocessed otherwise (" not in words(page)
    page.button(key="train_launch").click().run()
    assert launched[0][0].test_preprocessing is None


def test_the_switch_can_be_set_where_a_recipe_has_a_base_and_is_warned_of(runs, launched):
    page = train_page("doodle-features")
    page.selectbox(key="train_test_preprocessing_doodle-features").select("none: 0 to 255").run()
    assert "a mistake to learn from" in words(page)
    page.button(key="train_launch").click().run()
    assert launched[0][0].test_preprocessing == "none"
    pick(page, "doodle-scratch")
    assert "train_test_preprocessing_doodle-scratch" not in {box.key for box in page.selectbox}


def test_callbacks_are_off_unless_set(runs, launched):
    page = train_page("doodle-scratch")
    page.button(key="train_launch").click().run()
    assert launched[0][0] is RECIPES["doodle-scratch"]


def test_callbacks_go_into_the_run(runs, launched, monkeypatch):
    monkeypatch.setattr("cvcore.choices.tensorboard_here", lambda: True)
    page = train_page("doodle-scratch")
    page.number_input(key="train_early_stopping_patience_doodle-scratch").set_value(2)
    page.number_input(key="train_reduce_lr_patience_doodle-scratch").set_value(3).run()
    page.selectbox(key="train_early_stopping_monitor_doodle-scratch").select("training accuracy")
    page.selectbox(key="train_reduce_lr_monitor_doodle-scratch").select("validation accuracy")
    page.number_input(key="train_reduce_lr_factor_doodle-scratch").set_value(0.1 + 0.2)
    page.selectbox(key="train_model_checkpoint_doodle-scratch").select("validation loss")
    page.toggle(key="train_csv_logger_doodle-scratch").set_value(True)
    page.toggle(key="train_tensorboard_doodle-scratch").set_value(True)
    page.number_input(key="train_steps_per_epoch_doodle-scratch").set_value(7)
    page.number_input(key="train_validation_steps_doodle-scratch").set_value(1).run()
    assert sound(page)
    assert "rarely stops anything" in words(page)
    assert "Early stopping may end it sooner." in words(page)
    page.button(key="train_launch").click().run()
    assert launched[0][0] == RECIPES["doodle-scratch"].with_changes(
        early_stopping_patience=2, early_stopping_monitor="accuracy", reduce_lr_patience=3,
        reduce_lr_monitor="val_accuracy", reduce_lr_factor=0.3, model_checkpoint="val_loss", csv_logger=True,
        tensorboard=True, steps_per_epoch=7, validation_steps=1,
    )  # fmt: skip


def test_a_schedule_says_what_it_does_and_two_changes_of_the_rate_are_refused(runs, launched):
    page = train_page("doodle-scratch")
    page.selectbox(key="train_learning_rate_schedule_doodle-scratch").select("step").run()
    assert "Halve the rate after every ten epochs." in words(page)
    page.number_input(key="train_reduce_lr_patience_doodle-scratch").set_value(3).run()
    assert "only one thing may change the learning rate" in words(page)
    assert page.button(key="train_launch").disabled
    page.number_input(key="train_reduce_lr_patience_doodle-scratch").set_value(None).run()
    page.button(key="train_launch").click().run()
    assert launched[0][0].learning_rate_schedule == "step"


def test_the_published_decay_can_be_set_to_zero_to_try_a_schedule(runs, launched):
    page = train_page("exercise-mnist")
    page.selectbox(key="train_learning_rate_schedule_exercise-mnist").select("cosine").run()
    assert "learning_rate_decay and learning_rate_schedule" in words(page)
    page.number_input(key="train_learning_rate_decay_exercise-mnist").set_value(0.0).run()
    page.button(key="train_launch").click().run()
    assert (launched[0][0].learning_rate_decay, launched[0][0].learning_rate_schedule) == (0, "cosine")


def test_steps_per_epoch_can_be_emptied_to_mean_one_pass(runs, launched):
    page = train_page("chollet1-scratch")
    assert page.number_input(key="train_steps_per_epoch_chollet1-scratch").value == 100
    page.number_input(key="train_steps_per_epoch_chollet1-scratch").set_value(None).run()
    page.button(key="train_launch").click().run()
    assert launched[0][0].steps_per_epoch is None


def test_without_the_tensorboard_package_its_logs_are_off_and_the_page_says_how_to_install_it(runs, monkeypatch):
    monkeypatch.setattr("cvcore.choices.tensorboard_here", lambda: False)
    page = train_page("doodle-scratch")
    assert page.toggle(key="train_tensorboard_doodle-scratch").disabled
    assert 'pip install "tensorboard' in words(page)


@pytest.mark.parametrize("gpu", [None, "NVIDIA H200"])
def test_mixed_precision_is_offered_where_a_gpu_is_named(runs, launched, monkeypatch, gpu):
    monkeypatch.setattr("cvcore.choices.gpu", lambda: gpu)
    page = train_page("doodle-scratch")
    key = "train_mixed_precision_doodle-scratch"
    (device,) = [metric.value for metric in page.metric if metric.label == "Device"]
    if gpu is None:
        assert key not in {toggle.key for toggle in page.toggle} and device.startswith("CPU, ")
        return
    assert device == gpu
    page.toggle(key=key).set_value(True).run()
    page.button(key="train_launch").click().run()
    assert launched[0][0].mixed_precision


def test_ten_classes_train_with_every_strategy(runs, launched, tmp_path, monkeypatch):
    write_classes(tmp_path / "data" / "ten", {f"{split}/class {label}": 6 for split in SPLITS for label in range(10)})
    monkeypatch.setenv("CVCORE_DATA", str(tmp_path / "data"))
    page = draw("train")
    page.selectbox(key="train_dataset").select("ten").run()
    for strategy in STRATEGIES:
        page.segmented_control(key="train_strategy").set_value(strategy).run()
        assert sound(page)
        page.button(key="train_launch").click().run()
    assert [recipe.strategy for recipe, _, _ in launched] == list(STRATEGIES)
    assert {len(dataset.class_names) for _, dataset, _ in launched} == {10}


def test_a_recipe_shows_what_its_own_finished_runs_measured_and_a_link_to_compare_them(runs):
    photographs = {**DATASET, "id": "cats-and-dogs-filtered", "drawn": False}
    ids = []
    for seed, last in enumerate((0.6, 0.7, 0.8)):
        ids.append(write_run(runs, "exercise-scratch", seed=seed, epochs=30, dataset=photographs))
        path = runs / ids[-1] / "metrics.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "last_val_accuracy": last, "last_accuracy": 0.9}))
    changed = write_run(runs, "exercise-scratch", seed=7, epochs=29, dataset=photographs)
    page = train_page("exercise-scratch")
    assert sound(page)
    (line,) = [text for text in words(page).splitlines() if text.startswith(":green-badge[ours]")]
    assert "**70.0%** (validation accuracy, last epoch; its interval covers the published)" in line
    assert "**90.0%** (training accuracy, last epoch; its interval lies below the published)" in line
    assert line.endswith("mean of 3 seeds (every finished run of the recipe here, the newest of each seed)")
    links = [link.proto.query_string for link in page.get("page_link") if link.proto.label == "Compare"]
    assert all(one in links[0] for one in ids) and changed not in links[0]
    pick(page, "exercise-augmented")
    assert ":green-badge[ours]" not in words(page)


def test_our_test_accuracy_is_said_to_be_the_checkpoint_s_whatever_epoch_the_source_tested(runs):
    write_run(runs, "exercise-mnist", epochs=20, dataset={**DATASET, "id": "mnist", "drawn": False})
    told = words(train_page("exercise-mnist"))
    assert "**99.14%** (test accuracy, last epoch)" in told
    assert (":green-badge[ours] **89.60%** (test accuracy, lowest validation loss; its interval lies below the "
            "published), 1 run") in told  # fmt: skip


def test_changed_settings_of_a_published_recipe_are_listed_and_those_of_ours_are_not(runs):
    not_held = "This run will not be held against the published figures."
    page = train_page("exercise-scratch")
    assert not_held not in words(page)
    page.number_input(key="train_epochs_exercise-scratch").set_value(12).run()
    assert f"Not as published: epochs 12 instead of 30. {not_held}" in words(page)
    pick(page, "doodle-scratch").number_input(key="train_epochs_doodle-scratch").set_value(3).run()
    assert sound(page) and not_held not in words(page)
