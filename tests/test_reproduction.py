"""Published figures beside ours, on handmade numbers."""

import json

import pytest
from handmade_runs import write_run
from photograph_runs import photographs, write_photograph_run

from cvcore import reproduction
from cvcore.published import PUBLISHED, RECIPES, PublishedFigure, get_recipe
from cvcore.run_directory import list_runs, load_run

SCRATCH = "exercise-scratch"


def verdict_of(folder, recipe_id=SCRATCH, place=0):
    return reproduction.verdicts(recipe_id, list_runs(folder))[place]


def counted(folder, recipe_id=SCRATCH):
    return [run.id for run in reproduction.same_recipe(get_recipe(recipe_id), list_runs(folder))]


def test_three_seeds_have_a_t_interval_over_seeds(tmp_path):
    # mean 0.62, deviation 0.02, t(0.975, 2) = 4.302653: half = 4.302653 * 0.02 / sqrt(3) = 0.049683
    for seed, value in {1: 0.60, 2: 0.62, 3: 0.64}.items():
        write_photograph_run(tmp_path, seed=seed, last_val_accuracy=value)
    told = verdict_of(tmp_path)
    assert (told.measured.seeds, told.measured.values) == ((1, 2, 3), (0.60, 0.62, 0.64))
    assert (told.measured.mean, told.measured.spread) == pytest.approx((0.62, 0.02))
    assert (told.measured.low, told.measured.high) == pytest.approx((0.570317, 0.669683), abs=1e-6)
    assert (told.measured.interval, told.verdict) == ("t over 3 seeds", "below")
    # of one more run: 4.302653 * 0.02 * sqrt(4 / 3) = 0.099366
    assert (told.measured.one_low, told.measured.one_high) == pytest.approx((0.520634, 0.719366), abs=1e-6)
    assert told.sentence == (
        "74.0% published (validation, last epoch; saturates at 70 to 75%): our 95% t interval over 3 seeds, "
        "57.0 to 67.0%, lies below it; a single run of ours would lie in 52.1 to 71.9%."
    )


def test_one_run_has_wilson_s_interval_on_the_validation_pictures(tmp_path):
    # 743 of 1000: 0.7150 to 0.7691, the formula by hand.
    write_photograph_run(tmp_path, last_val_accuracy=0.743)
    told = verdict_of(tmp_path)
    assert (told.measured.low, told.measured.high) == pytest.approx((0.7150, 0.7691), abs=5e-5)
    assert (told.measured.interval, told.verdict) == ("Wilson for 1 run, 1,000 pictures", "covers")
    assert told.measured.spread is None and told.measured.one_low is None
    assert told.sentence.endswith("our 95% Wilson interval for 1 run, 1,000 pictures, 71.5 to 76.9%, covers it.")


def test_two_runs_have_wilson_s_interval_of_their_mean_and_it_says_so(tmp_path):
    # mean 0.896 of 1000 pictures: 0.8755 to 0.9134
    for seed, value in {1: 0.890, 2: 0.902}.items():
        write_photograph_run(tmp_path, seed=seed, last_val_accuracy=value)
    told = verdict_of(tmp_path)
    assert (told.measured.low, told.measured.high) == pytest.approx((0.8755, 0.9134), abs=5e-5)
    assert told.measured.interval == "Wilson for the mean of 2 runs, 1,000 pictures"
    assert told.verdict == "above"


def test_each_figure_is_read_from_the_metric_of_its_split_and_epoch(tmp_path):
    values = {"last_accuracy": 0.91, "last_val_accuracy": 0.71, "max_val_accuracy": 0.74, "val_accuracy": 0.73,
              "test_accuracy": 0.69}  # fmt: skip
    run = load_run(write_photograph_run(tmp_path, "chollet2-scratch", test_count=2000, **values), tmp_path)
    asked = [("train", "last"), ("validation", "last"), ("validation", "best"), ("validation", "checkpoint"),
             ("test", "checkpoint")]  # fmt: skip
    assert [reproduction.figure_of(run, split, epoch) for split, epoch in asked] == list(values.values())
    test, peak = reproduction.verdicts("chollet2-scratch", [run])
    assert (test.measured.interval, test.measured.mean) == ("Wilson for 1 run, 2,000 pictures", 0.69)
    assert (peak.measured.interval, peak.measured.mean) == ("Wilson for 1 run, 1,000 pictures", 0.74)


RANGES = {  # of 71.5 to 76.9 %, the interval of 743 of 1000
    "covers": [(0.72, 0.76, "72 to 76 %"), (0.743, 0.743, "74.3 %"), (0.77, 0.77, "77 %"), (0.76, 0.76, "about 76 %")],
    "within": [(0.60, 0.90, "60 to 90 %"), (0.71, 1.0, "over 71 %")],
    "overlaps": [(0.76, 0.90, "76 to 90 %"), (0.60, 0.72, "60 to 72 %"), (0.74, 1.0, "over 74 %")],
    "below": [(0.80, 0.85, "80 to 85 %"), (0.78, 1.0, "over 78 %"), (0.77, 0.77, "77.0 %"), (0.775, 0.775, "77.50 %")],
    "above": [(0.60, 0.70, "60 to 70 %"), (0.71, 0.71, "71.0 %")],
}
RANGES["overlaps"].append((0.72, 0.78, "72.0 to 78.0 %"))


@pytest.mark.parametrize(
    ("verdict", "low", "high", "text"), [(verdict, *told) for verdict, cases in RANGES.items() for told in cases]
)
def test_a_verdict_says_how_our_interval_lies_to_what_was_published(tmp_path, verdict, low, high, text):
    run = load_run(write_photograph_run(tmp_path, last_val_accuracy=0.743), tmp_path)
    measured = reproduction.measure([run], "validation", "last")
    assert reproduction._verdict(PublishedFigure("validation", "last", low, high, text), measured) == verdict


@pytest.mark.parametrize(
    ("low", "high", "text", "expected"),
    [
        (0.74, 0.74, "74.0 %", (0.7395, 0.7405)),
        (0.97, 0.97, "about 97 %", (0.965, 0.975)),
        (0.80, 0.85, "80 to 85 %", (0.795, 0.855)),
        (0.9914, 0.9914, "99.14 %", (0.99135, 0.99145)),
        (0.98, 1.0, "over 98 %", (0.975, 1.0)),
        (0.75, 0.75, "75 % at its peak", (0.745, 0.755)),
    ],
)
def test_a_published_figure_is_known_to_half_a_unit_of_its_last_digit(low, high, text, expected):
    assert reproduction.known_range(PublishedFigure("test", "checkpoint", low, high, text)) == expected


def test_every_published_text_has_a_last_digit():
    for figures in PUBLISHED.values():
        for figure in figures:
            low, high = reproduction.known_range(figure)
            assert low < figure.low and high >= figure.high and figure.low - low in (
                pytest.approx(0.005), pytest.approx(0.0005), pytest.approx(0.00005)), figure  # fmt: skip


def test_a_figure_is_written_with_as_many_digits_as_the_published_one(tmp_path):
    write_photograph_run(tmp_path, "exercise-mnist", tested=True, test_accuracy=0.9917, test_count=10000)
    told = verdict_of(tmp_path, "exercise-mnist")
    # Wilson of 9917 of 10000, the formula by hand
    assert told.verdict == "covers" and "98.97 to 99.33%" in told.sentence


def test_a_test_accuracy_is_ours_at_the_lowest_validation_loss_whatever_the_source_tested(tmp_path):
    write_photograph_run(tmp_path, "exercise-mnist", tested=True, test_accuracy=0.9917, test_count=10000)
    told = verdict_of(tmp_path, "exercise-mnist")
    assert (told.figure.epoch, told.measured.epoch) == ("last", "checkpoint")
    assert told.ours_at == "ours: lowest validation loss"


def test_a_training_accuracy_has_no_interval_below_three_seeds_and_that_is_said(tmp_path):
    for seed in (1, 2):
        write_photograph_run(tmp_path, seed=seed, last_accuracy=0.957)
        told = verdict_of(tmp_path, place=1)
        assert (told.figure.split, told.measured.low, told.verdict) == ("train", None, None)
        assert told.sentence.endswith(
            "ours 95.7%, without an interval: of pictures trained on, fewer than three runs tell none."
        )
    write_photograph_run(tmp_path, seed=3, last_accuracy=0.961)
    assert verdict_of(tmp_path, place=1).verdict == "covers"


def test_the_highest_of_all_epochs_is_said_to_be_optimistic(tmp_path):
    write_photograph_run(tmp_path, "chollet2-scratch", max_val_accuracy=0.75)
    told = verdict_of(tmp_path, "chollet2-scratch", place=1)
    assert "validation, highest of all epochs" in told.sentence and told.sentence.endswith(" and so optimistic.")


OTHER = photographs("cats-and-dogs-filtered", fingerprint="f" * 64)
ELSEWHERE = "it was trained on other pictures of the same name"


def test_without_reference_runs_those_on_the_pictures_of_the_newest_count(tmp_path):
    write_photograph_run(tmp_path, run_id="20260101T000000Z-a-0001")
    write_photograph_run(tmp_path, seed=2, run_id="20260101T000000Z-a-0002")
    newest = write_photograph_run(tmp_path, seed=3, run_id="20260102T000000Z-a-0003", dataset=OTHER)
    assert counted(tmp_path) == [newest]
    runs = list_runs(tmp_path)
    told = reproduction.reasons(runs, get_recipe(SCRATCH), runs)
    reasons = {run.seed: told[run.id] for run in runs}
    assert reasons == {1: ELSEWHERE, 2: ELSEWHERE, 3: ""}


def test_reference_runs_decide_on_which_pictures_runs_count(tmp_path):
    reference = write_photograph_run(tmp_path, run_id="20260101T000000Z-a-0001", reference=True)
    write_photograph_run(tmp_path, seed=1, run_id="20260102T000000Z-a-0002", dataset=OTHER, last_val_accuracy=0.1)
    own = write_photograph_run(tmp_path, seed=3, run_id="20260102T000000Z-a-0003")
    assert counted(tmp_path) == [reference, own]
    assert verdict_of(tmp_path).measured.runs == (reference, own)
    other = next(run for run in list_runs(tmp_path) if run.id.endswith("0002"))
    assert reproduction.reasons([other], get_recipe(SCRATCH), list_runs(tmp_path)) == {other.id: ELSEWHERE}
    assert reproduction.published_marks([other], list_runs(tmp_path)) == {}


def test_an_interval_that_prints_as_the_published_figure_covers_it(tmp_path):
    # mean 0.70225, deviation 0.023670, t(0.975, 3) = 3.182446: high = 0.70225 + 3.182446 * 0.02367 / 2 = 0.73991
    for seed, value in enumerate((0.67, 0.70, 0.722, 0.717), start=1):
        write_photograph_run(tmp_path, seed=seed, last_val_accuracy=value)
    told = verdict_of(tmp_path)
    assert told.measured.high < 0.74 and reproduction.span(told.measured).endswith("74.0%")
    assert told.verdict == "covers"


def test_validation_steps_leave_fewer_pictures_behind_a_figure(tmp_path):
    run = load_run(write_photograph_run(tmp_path, "chollet2-scratch"), tmp_path)
    assert [reproduction.pictures_behind(run, split) for split in ("train", "validation")] == [2000, 1000]
    run.recipe.update(validation_steps=50, batch_size=16, steps_per_epoch=100)
    assert [reproduction.pictures_behind(run, split) for split in ("train", "validation")] == [1600, 800]


def test_only_the_newest_run_of_a_seed_is_taken(tmp_path):
    write_photograph_run(tmp_path, run_id="20260101T000000Z-a-0001", last_val_accuracy=0.1)
    newest = write_photograph_run(tmp_path, run_id="20260102T000000Z-a-0002", last_val_accuracy=0.7)
    other = write_photograph_run(tmp_path, seed=2, run_id="20251231T000000Z-a-0003", last_val_accuracy=0.7)
    assert verdict_of(tmp_path).measured.runs == (newest, other)
    assert len(counted(tmp_path)) == 3


def test_names_decide_nothing_and_fields_younger_than_a_run_have_their_defaults(tmp_path):
    run_id = write_photograph_run(tmp_path)
    path = tmp_path / run_id / "run.json"
    info = json.loads(path.read_text())
    info["recipe"].update(id="mine", title="Mine", source="me")
    for young in ("color_mode", "mixed_precision", "steps_per_epoch", "tensorboard"):
        del info["recipe"][young]
    path.write_text(json.dumps(info))
    assert counted(tmp_path) == [run_id]


NOT_COUNTED = {
    "changed": ({"epochs": 12}, "its recipe was changed: epochs 12 instead of 30"),
    "elsewhere": ({"dataset": photographs("cats-vs-dogs-small")},
                  "it was trained on cats-vs-dogs-small, not on cats-and-dogs-filtered"),
    "imported": ({"imported": True}, "it is imported, and its recipe is only what its file says"),
    "unfinished": ({"status": "stopped"}, "it is stopped"),
}  # fmt: skip


@pytest.mark.parametrize(("told", "reason"), NOT_COUNTED.values(), ids=NOT_COUNTED)
def test_a_run_that_does_not_count_has_a_reason_and_no_mark(tmp_path, told, reason):
    run = load_run(write_photograph_run(tmp_path, **told), tmp_path)
    assert reproduction.reasons([run], get_recipe(SCRATCH), [run]) == {run.id: reason}
    assert reproduction.published_marks([run], [run]) == {}
    assert counted(tmp_path) == []
    assert verdict_of(tmp_path).sentence.endswith("not measured here.")


def test_a_recipe_of_another_version_does_not_count_and_does_no_harm(tmp_path):
    run_id = write_photograph_run(tmp_path)
    path = tmp_path / run_id / "run.json"
    info = json.loads(path.read_text())
    path.write_text(json.dumps({**info, "recipe": {**info["recipe"], "warmup": 3, "augmentation": [1]}}))
    assert counted(tmp_path) == []


def test_a_fine_tuning_run_counts_when_the_features_run_it_continued_does(tmp_path):
    features = write_photograph_run(tmp_path, "mobilenet-features")
    short = write_photograph_run(tmp_path, "mobilenet-features", seed=2, epochs=2)
    good = write_photograph_run(tmp_path, "mobilenet-finetune", from_run=features)
    whole = write_photograph_run(tmp_path, "mobilenet-finetune", seed=4)
    write_photograph_run(tmp_path, "mobilenet-finetune", seed=2, from_run=short)
    write_photograph_run(tmp_path, "mobilenet-finetune", seed=3, from_run="20260101T000000Z-gone-0000")
    assert counted(tmp_path, "mobilenet-finetune") == [good, whole]


def test_a_figure_of_another_number_of_epochs_is_held_against_no_run_of_ours(tmp_path):
    run_id = write_photograph_run(tmp_path, "lecture-augmented", last_val_accuracy=0.83)
    ours, other = reproduction.verdicts("lecture-augmented", list_runs(tmp_path))
    assert ours.measured.runs == (run_id,) and ours.verdict == "covers"
    assert other.measured is None and other.verdict is None
    assert "another run of the source, 130 epochs long; none of ours" in other.sentence
    (marks,) = reproduction.published_marks(list_runs(tmp_path), []).values()
    assert [one.epochs for one in marks] == [None]


def test_an_interval_stays_within_zero_and_one(tmp_path):
    for seed, value in {1: 0.95, 2: 0.99, 3: 1.0}.items():
        write_photograph_run(tmp_path, seed=seed, last_val_accuracy=value)
    assert verdict_of(tmp_path).measured.high == 1.0


def test_a_recipe_without_published_figures_is_measured_all_the_same(tmp_path):
    write_photograph_run(tmp_path, "mobilenet-features", last_val_accuracy=0.974)
    assert reproduction.verdicts("mobilenet-features", list_runs(tmp_path)) == []
    (measured,) = reproduction.own_figures("mobilenet-features", list_runs(tmp_path))
    assert (measured.split, measured.epoch, measured.mean) == ("validation", "last", 0.974)


def test_a_doodle_run_with_a_figure_missing_is_not_measured(tmp_path):
    write_run(tmp_path, "doodle-scratch", epochs=20, tested=False)  # handmade metrics have no last_accuracy
    runs = reproduction.same_recipe(get_recipe("doodle-scratch"), list_runs(tmp_path))
    assert len(runs) == 1 and reproduction.measure(runs, "train", "last") is None


def test_every_published_figure_has_words_and_every_recipe_with_figures_is_there():
    assert set(PUBLISHED) <= set(RECIPES)
    for recipe_id in PUBLISHED:
        told = reproduction.verdicts(recipe_id, [])
        assert len(told) == len(PUBLISHED[recipe_id]) >= 1
        assert all(reproduction.tight(one.figure.text) in one.sentence and one.sentence.endswith(".") for one in told)
