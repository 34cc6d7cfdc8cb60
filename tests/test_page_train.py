"""The Train page."""

import json

import pytest
from handmade_runs import write_reference_runs, write_run
from pages_drawn import draw, living, sound, words

from cvcore.augmentation import AugmentationPolicy
from cvcore.run_directory import STOP_FILE, load_run


def test_train_carries_the_policy_of_the_augmentation_page_verbatim_into_the_run(runs, monkeypatch):
    launched = []
    monkeypatch.setattr("cvcore.backends.launch", lambda *args, **kwargs: launched.append(args) or "no-such-run")
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
    monkeypatch.setattr("cvcore.backends.launch", lambda *args, **kwargs: launched.append(args) or "no-such-run")
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
    monkeypatch.setattr("cvcore.backends.launch", lambda *args, **kwargs: launched.append(args) or "no-such-run")
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
