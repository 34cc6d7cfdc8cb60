"""Launching: the same run, the limit of the line, memory, sweeps; each also from several processes at once."""

import json
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from tiny_lessons import tiny_features, tiny_finetune, tiny_scratch

from cvcore import admission, backends, launching, waiting_line
from cvcore.backends import Capacity
from cvcore.cli import main
from cvcore.errors import AlreadyThere, CvcoreError, InvalidRecipe, LineFull, TooLarge
from cvcore.identical import identical_run
from cvcore.launching import group_runs, launch, launch_sweep, seeds_from, sizes_of, sweep_title
from cvcore.run_directory import list_runs, load_run
from cvcore.run_writer import start_attempt

ANNE, BOB = "a" * 16, "b" * 16


@pytest.fixture
def folder(lessons, tmp_path, monkeypatch):
    """A runs folder whose backend trains nothing, on a machine of 100 GB."""
    monkeypatch.setattr(backends, "chosen", lambda: SimpleNamespace(name="local"))
    monkeypatch.setattr(backends, "capacity", lambda folder=None: Capacity(1, 1, "CPU", None, "a CPU"))
    monkeypatch.setattr(backends, "submit", lambda run: None)
    monkeypatch.setattr(admission, "room_here", lambda runs: admission.Room(100_000))
    monkeypatch.delenv("CVCORE_WAITING_LIMIT", raising=False)
    return tmp_path / "runs"


@pytest.fixture
def pictures(lessons):
    return lessons.dataset()


def put(folder, run, **fields):
    """Change a run.json by hand."""
    path = folder / run.id / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    return load_run(run.id, folder)


def test_a_launch_waits_in_the_line_with_its_owner_ticket_estimate_and_name(folder, pictures):
    first = launch(tiny_scratch, pictures, 3, runs=folder, owner=ANNE, name="mine")
    second = launch(tiny_scratch, pictures, 4, runs=folder)
    assert (first.status, first.owner, first.backend, first.name, first.seed) == ("queued", ANNE, "local", "mine", 3)
    assert second.owner is None and second.ticket > first.ticket
    assert {"seconds", "memory_mb", "basis", "disk_mb", "terms"} <= set(first.estimate)
    assert first.estimate["seconds"] == pytest.approx(sum(first.estimate["terms"].values()))
    assert (first.path / "code.py").is_file()
    assert list(waiting_line.places(list_runs(folder), 1)) == [first.id, second.id]


@pytest.mark.parametrize("status", ["queued", "running", "done"])
def test_the_same_run_is_offered_instead_of_trained_twice(folder, pictures, status):
    first = launch(tiny_scratch, pictures, 0, runs=folder, owner=ANNE)
    if status == "running":
        start_attempt(first, attempt=1)
    elif status == "done":
        put(folder, first, status="done")
    renamed = tiny_scratch.with_changes(id="mine", title="My own", source="me", dataset="doodle-pets")
    with pytest.raises(AlreadyThere) as there:
        launch(renamed, pictures, 0, runs=folder, owner=BOB)
    assert (there.value.run_id, there.value.status) == (first.id, status)
    assert first.id in str(there.value) and "launch it anyway" in str(there.value)
    again = launch(renamed, pictures, 0, runs=folder, owner=BOB, anyway=True)
    assert {run.id for run in list_runs(folder)} == {first.id, again.id}


@pytest.mark.parametrize("status", ["stopped", "failed", "interrupted"])
def test_a_run_that_did_not_finish_is_not_there(folder, pictures, status):
    first = launch(tiny_scratch, pictures, 0, runs=folder)
    put(folder, first, status=status, requeues=2)
    assert launch(tiny_scratch, pictures, 0, runs=folder).id != first.id


def test_one_that_lost_its_process_and_goes_on_by_itself_is_there(folder, pictures):
    first = launch(tiny_scratch, pictures, 0, runs=folder)
    assert put(folder, first, status="running").comes_back
    with pytest.raises(AlreadyThere):
        launch(tiny_scratch, pictures, 0, runs=folder)


def test_a_recorded_run_counts_and_one_older_than_a_field_of_its_recipe_too(folder, pictures):
    first = launch(tiny_scratch, pictures, 0, runs=folder)
    older = {name: value for name, value in first.recipe.items() if name != "train_pictures"}
    put(folder, first, status="done", reference=True, recipe=older, owner={"pid": 1})
    with pytest.raises(AlreadyThere, match=first.id):
        launch(tiny_scratch, pictures, 0, runs=folder)


@pytest.mark.parametrize("other", [
    {"epochs": 4}, {"learning_rate": 0.02}, {"train_pictures": 10}, {"batch_size": 9}, {"csv_logger": True},
    {"dropout": 0.1},
])  # fmt: skip
def test_whatever_decides_a_run_makes_another_run(folder, pictures, other):
    launch(tiny_scratch, pictures, 0, runs=folder)
    assert launch(tiny_scratch.with_changes(**other), pictures, 0, runs=folder).status == "queued"


def test_other_pictures_another_seed_and_another_start_make_another_run(folder, pictures, lessons):
    launch(tiny_scratch, pictures, 0, runs=folder)
    launch(tiny_scratch, pictures, 1, runs=folder)
    launch(tiny_scratch, lessons.dataset("three"), 0, runs=folder)
    start = lessons.trained(tiny_features)
    runs = lessons.runs
    known = [run for run in list_runs(runs) if run.id == start.id]
    summary = pictures.summary()
    assert identical_run(tiny_features, summary, 0, None, known) == known[0]
    assert identical_run(tiny_finetune, summary, 0, start.id, known) is None


def test_what_says_the_same_in_another_way_is_the_same_run(folder, pictures):
    launch(tiny_features.with_changes(cached=False), pictures, 0, runs=folder)
    same = {"train_pictures": 18, "test_preprocessing": "base", "augmentation": {}}
    with pytest.raises(AlreadyThere):
        launch(tiny_features.with_changes(cached=False, **same), pictures, 0, runs=folder)


def test_a_finetune_run_from_a_saved_head_does_not_depend_on_how_that_would_be_trained(lessons, pictures):
    start = lessons.trained(tiny_features)
    run = lessons.trained(tiny_finetune.with_changes(epochs=1), from_run=start.id)
    summary, other = pictures.summary(), tiny_finetune.with_changes(epochs=1, starts_from={"epochs": 9})
    assert identical_run(other, summary, 0, start.id, [run]) == run
    assert identical_run(other, summary, 0, None, [run]) is None


def test_a_done_run_is_offered_before_one_that_trains_or_waits(folder, pictures):
    done, *others = [launch(tiny_scratch, pictures, 0, runs=folder, anyway=True) for _ in range(3)]
    put(folder, done, status="done")
    start_attempt(others[0], attempt=1)
    found = identical_run(tiny_scratch, pictures.summary(), 0, None, list_runs(folder))
    assert found.id == done.id


def test_an_owner_may_have_three_launches_waiting_and_is_told_which_wait(folder, pictures):
    waiting = [launch(tiny_scratch, pictures, seed, runs=folder, owner=ANNE) for seed in range(3)]
    with pytest.raises(LineFull) as full:
        launch(tiny_scratch, pictures, 3, runs=folder, owner=ANNE)
    assert "at most 3 launches of yours" in str(full.value)
    assert "(tiny-scratch, seed 0; tiny-scratch, seed 1; tiny-scratch, seed 2)" in str(full.value)
    assert launch(tiny_scratch, pictures, 3, runs=folder, owner=BOB).owner == BOB
    start_attempt(waiting[0], attempt=1)
    assert launch(tiny_scratch, pictures, 4, runs=folder, owner=ANNE).seed == 4


def test_in_a_terminal_the_runs_that_wait_are_named_by_their_ids(folder, pictures):
    waiting = [launch(tiny_scratch, pictures, seed, runs=folder) for seed in range(3)]
    with pytest.raises(LineFull, match="at most 3 launches from the terminal") as full:
        launch(tiny_scratch, pictures, 3, runs=folder)
    assert all(run.id in str(full.value) for run in waiting)


def test_a_run_that_does_not_fit_into_memory_is_refused_and_nothing_is_left_of_it(folder, pictures, monkeypatch):
    monkeypatch.setattr(admission, "room_here", lambda runs: admission.Room(100, "this machine has 1 MB"))
    with pytest.raises(TooLarge, match=r"100 MB can be had \(this machine has 1 MB\)"):
        launch(tiny_scratch, pictures, 0, runs=folder)
    assert not list_runs(folder)


def test_of_a_cluster_its_own_memory_counts(folder, pictures, monkeypatch):
    monkeypatch.setattr(backends, "chosen", lambda: SimpleNamespace(name="ray"))
    monkeypatch.setattr(admission, "room_here", lambda runs: admission.Room(1))
    for kind, memory in (("CPU", 99_000.0), ("GPU", None)):
        monkeypatch.setattr(backends, "capacity", lambda _=None, k=kind, m=memory: Capacity(9, 9, k, m, "a cluster"))
        assert launch(tiny_scratch, pictures, 0, runs=folder, anyway=True).backend == "ray"
    monkeypatch.setattr(backends, "capacity", lambda _=None: Capacity(9, 9, "CPU", 50.0, "a cluster"))
    with pytest.raises(TooLarge, match=r"50 MB can be had \(what a run can have in the cluster\)"):
        launch(tiny_scratch, pictures, 1, runs=folder)


def test_a_recipe_that_does_not_fit_its_pictures_is_refused_first(folder, pictures):
    with pytest.raises(InvalidRecipe, match="batch_size"):
        launch(tiny_scratch.with_changes(batch_size=99), pictures, 0, runs=folder)
    assert not list_runs(folder)


def test_a_sweep_is_one_group_and_waits_as_one_launch(folder, pictures):
    sweep = launch_sweep(tiny_scratch, pictures, [5, 6], [8, 12, None], runs=folder, owner=ANNE)
    assert [(run.seed, run.recipe["train_pictures"]) for run in sweep.launched] == [
        (5, 8), (5, 12), (5, None), (6, 8), (6, 12), (6, None),
    ]  # fmt: skip
    tickets = [run.ticket for run in sweep.launched]
    assert tickets == sorted(set(tickets)) and not sweep.there
    for run in sweep.launched:
        assert run.group == sweep.group and run.status == "queued" and run.owner == ANNE
    assert sweep.group["title"] == "tiny-scratch over 2 seeds and 3 training-set sizes"
    assert (sweep.group["seeds"], sweep.group["train_pictures"]) == ([5, 6], [8, 12, None])
    for seed in (0, 1):
        launch(tiny_scratch, pictures, seed, runs=folder, owner=ANNE)
    with pytest.raises(LineFull, match="over 2 seeds and 3 training-set sizes"):
        launch(tiny_scratch, pictures, 2, runs=folder, owner=ANNE)
    group, runs = group_runs(sweep.group["id"], list_runs(folder))
    assert group == sweep.group and [run.id for run in runs] == [run.id for run in sweep.launched]
    assert group_runs("nobody", list_runs(folder)) == (None, [])


def test_what_is_there_already_belongs_to_the_group_and_is_not_trained_again(folder, pictures):
    there = launch(tiny_scratch.with_changes(train_pictures=8), pictures, 0, runs=folder, owner=BOB)
    sweep = launch_sweep(tiny_scratch, pictures, [0, 1], [8], runs=folder, owner=ANNE)
    assert [run.seed for run in sweep.launched] == [1]
    assert [run.id for run in sweep.there] == sweep.group["there"] == [there.id]
    _, runs = group_runs(sweep.group["id"], list_runs(folder))
    assert [run.id for run in runs] == [there.id, sweep.launched[0].id]
    with pytest.raises(AlreadyThere, match="all 2 runs"):
        launch_sweep(tiny_scratch, pictures, [0, 1], [8], runs=folder, owner=ANNE)
    assert len(launch_sweep(tiny_scratch, pictures, [0, 1], [8], runs=folder, anyway=True).launched) == 2


@pytest.mark.parametrize("seeds, sizes, most, sentence", [
    ([0, 1, 2, 3, 4], [8, 10, 12], 12, "at most 12 runs; received 5 seeds and 3 training-set sizes, which are 15"),
    ([0, 0], [8], 12, "different seeds"),
    ([0], [18, None], 12, "different training-set sizes"),
    ([], [8], 12, "different seeds"),
    ([-1], [8], 12, "seed must be between 0"),
    ([0], [8, 999], 12, "train_pictures must be between 2"),
    ([0], [4], 12, "batch_size must be at most the number of training pictures"),
    ([0], [1], 12, "train_pictures must be at least 2"),
])  # fmt: skip
def test_a_sweep_that_cannot_be_is_refused_whole(folder, pictures, seeds, sizes, most, sentence):
    with pytest.raises(CvcoreError, match=sentence):
        launch_sweep(tiny_scratch, pictures, seeds, sizes, runs=folder, most=most)
    assert not list_runs(folder)


def test_a_teacher_may_launch_more_at_once(folder, pictures):
    sweep = launch_sweep(
        tiny_scratch, pictures, seeds_from(0, 5), [8, 10, 12], runs=folder, most=launching.MOST_OF_A_TEACHER
    )
    assert len(sweep.launched) == 15


def test_a_sweep_whose_last_run_does_not_fit_queues_none(folder, pictures, monkeypatch):
    smaller = tiny_scratch.with_changes(train_pictures=8)
    enough = launching.estimated(smaller, pictures, [], backends.capacity()).memory_mb + 0.01
    monkeypatch.setattr(admission, "room_here", lambda runs: admission.Room(enough))
    with pytest.raises(TooLarge):
        launch_sweep(tiny_scratch, pictures, [0], [8, None], runs=folder)
    assert not list_runs(folder)


def test_a_sweep_of_fine_tuning_continues_a_run_of_its_own_size_only(lessons, folder, pictures):
    start = lessons.trained(tiny_features)
    shutil.copytree(start.path, folder / start.id)
    sweep = launch_sweep(tiny_finetune, pictures, [3, 4], runs=folder, from_run=start.id)
    assert [run.info["from_run"] for run in sweep.launched] == [start.id] * 2
    with pytest.raises(InvalidRecipe, match="differs from recipe tiny-finetune in train_pictures"):
        launch_sweep(tiny_finetune, pictures, [5], [8, None], runs=folder, from_run=start.id)


def test_seeds_follow_one_another_and_sizes_are_halves_of_halves(pictures):
    assert seeds_from(7, 3) == [7, 8, 9] and seeds_from(2**31 - 1, 2) == [2**31 - 1, 0]
    assert sizes_of(pictures) == [2, 4, 9] and sizes_of(pictures, least=8) == [9]


def test_a_title_says_what_a_sweep_is_repeated_over():
    assert sweep_title(tiny_scratch, [0, 1, 2], [None]) == "tiny-scratch over 3 seeds"
    assert sweep_title(tiny_scratch, [0], [8, None]) == "tiny-scratch over 2 training-set sizes"
    long = sweep_title(tiny_scratch.with_changes(title="x" * 100), [0, 1], [None])
    assert len(long) == 80 and long.endswith(" over 2 seeds")


AT_ONCE = """
import json, sys, time
from pathlib import Path
from types import SimpleNamespace
from cvcore import admission, backends, launching
from cvcore.datasets import open_dataset
from cvcore.errors import AlreadyThere, LineFull
from cvcore.recipe import make_recipe
folder, data, values, start = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]), Path(sys.argv[4])
backends.chosen = lambda: SimpleNamespace(name="local")
backends.capacity = lambda folder=None: backends.Capacity(1, 1, "CPU", None, "a CPU")
backends.submit = lambda run: None
admission.room_here = lambda runs: admission.Room(100_000)
dataset, recipe = open_dataset(data), make_recipe(**values)
print("ready", flush=True)
sys.stdin.readline()
for seed in json.loads(sys.argv[5]):
    try:
        print(launching.launch(recipe, dataset, seed, runs=folder, owner="a" * 16).id, flush=True)
    except (AlreadyThere, LineFull) as error:
        print(type(error).__name__, flush=True)
"""


@pytest.mark.parametrize("seeds, launched, answer", [([0], 1, "AlreadyThere"), ([0, 1, 2, 3, 4], 3, "LineFull")])
def test_two_tabs_and_two_dashboards_neither_pass_the_limit_nor_launch_a_run_twice(
    folder, pictures, lessons, seeds, launched, answer
):
    """Four processes that press the button at the same moment."""
    folder.mkdir()
    values = tiny_scratch.model_dump_json()
    command = [sys.executable, "-c", AT_ONCE, str(folder), str(lessons.folder()), values, "-", json.dumps(seeds)]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    try:
        for process in processes:
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            process.stdin.write("\n")
            process.stdin.flush()
        told = [line for process in processes for line in process.communicate(timeout=300)[0].splitlines()]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    runs = list_runs(folder)
    assert len(runs) == launched and len(told) == 4 * len(seeds)
    assert sorted(run.id for run in runs) == sorted(word for word in told if "-" in word)
    assert answer in told and len({run.ticket for run in runs}) == launched
    assert len({run.seed for run in runs}) == launched


def test_the_terminal_launches_a_run_or_a_group(folder, lessons, monkeypatch):
    monkeypatch.setenv("CVCORE_RUNS", str(folder))
    common = ["launch", "doodle-scratch", "--data", str(lessons.folder()), "--set", "batch_size=8"]

    def told(*words):
        done = CliRunner().invoke(main, [*common, *words])
        assert done.exit_code == 0, done.output
        return json.loads(done.output)

    assert told("--seed", "4", "--json")["status"] == "queued"
    group = told("--seeds", "4,5", "--train-pictures", "9, all", "--json", "--name", "Ours")
    assert [(row["seed"], row["train_pictures"]) for row in group["runs"]] == [(4, "all"), (4, 9), (5, 9), (5, "all")]
    assert group_runs(group["group"], list_runs(folder))[0]["title"] == "Ours"
    assert len(list_runs(folder)) == 4
    refused = CliRunner().invoke(main, [*common, "--seeds", "one"])
    assert refused.exit_code != 0 and isinstance(refused.exception, CvcoreError | SystemExit)
    assert "--seeds takes whole numbers with commas between them" in refused.output + str(refused.exception)
