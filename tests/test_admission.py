"""Memory: what there is, by handmade control groups, and what a run may take of it, by handmade limits."""

import os
import subprocess
import sys
from types import SimpleNamespace

import psutil
import pytest
from handmade_runs import write_run

from cvcore import admission
from cvcore.admission import Room
from cvcore.errors import TooLarge
from cvcore.estimate import estimate
from cvcore.memory import Memory, held, memory
from cvcore.processes import this_process
from cvcore.published import RECIPES, get_recipe
from cvcore.run_directory import list_runs
from cvcore.workload import Stock, workload

GB = 10**9
PICTURES = {"train": 2000, "validation": 1000}


@pytest.fixture
def machine(monkeypatch):
    """A machine of 16 GB, 10 GB of them free."""
    told = SimpleNamespace(total=16 * GB, available=10 * GB)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: told)


def groups(tmp_path, line, files):
    """Write control groups: the line that names this process' own, and their files."""
    (tmp_path / "cgroup").write_text(f"12:cpuset:/elsewhere\n{line}\n")
    for name, text in files.items():
        path = tmp_path / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(text))
    return memory(tmp_path / "cgroup", tmp_path / "groups")


def test_a_machine_without_control_groups_has_what_it_says(machine, tmp_path):
    assert memory(tmp_path / "none", tmp_path) == Memory(16_000, 10_000)
    assert groups(tmp_path, "0::/", {}) == Memory(16_000, 10_000)


def test_the_limit_of_a_container_counts_and_its_file_caches_do_not(machine, tmp_path):
    stat = f"anon {GB}\ninactive_file {GB // 2}\nactive_file {GB // 4}\nslab 5\n"
    files = {"memory.max": 4 * GB, "memory.current": 3 * GB, "memory.stat": stat}
    assert groups(tmp_path, "0::/", files) == Memory(4_000, 1_750, contained=True)


def test_the_smallest_limit_of_the_groups_above_counts_too(machine, tmp_path):
    files = {"a/b/memory.max": "max", "a/b/memory.current": GB, "a/memory.max": 6 * GB, "a/memory.current": 5 * GB}
    assert groups(tmp_path, "0::/a/b", files) == Memory(6_000, 1_000, contained=True)


def test_in_a_container_the_name_may_be_that_outside(machine, tmp_path):
    files = {"memory.max": 3 * GB, "memory.current": GB}
    assert groups(tmp_path, "0::/../../kubepods/x", files) == Memory(3_000, 2_000, contained=True)


def test_a_limit_above_what_the_machine_has_free_changes_nothing(machine, tmp_path):
    files = {"memory.max": 64 * GB, "memory.current": GB}
    assert groups(tmp_path, "0::/", files) == Memory(16_000, 10_000)


def test_the_first_version_of_control_groups(machine, tmp_path):
    stat = f"inactive_file 1\ntotal_inactive_file {GB}\ntotal_active_file 0\n"
    files = {"memory/a/memory.limit_in_bytes": 5 * GB, "memory/a/memory.usage_in_bytes": 3 * GB,
             "memory/a/memory.stat": stat, "memory/memory.limit_in_bytes": 9223372036854771712,
             "memory/memory.usage_in_bytes": 9 * GB}  # fmt: skip
    assert groups(tmp_path, "4:memory:/a\n0::/", files) == Memory(5_000, 3_000, contained=True)


@pytest.mark.parametrize("limit", ["", "much", "-"])
def test_a_file_that_is_no_number_is_no_limit(machine, tmp_path, limit):
    assert groups(tmp_path, "0::/", {"memory.max": limit, "memory.stat": "odd"}) == Memory(16_000, 10_000)


def test_this_machine_has_memory_and_this_process_holds_some():
    now = memory()
    assert 0 < now.free <= now.total < 10**8
    assert 5 < held(os.getpid()) < now.total
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait(60)
    assert held(child.pid) == 0


def test_what_runs_hold_that_train_here_comes_back(tmp_path):
    now = Memory(8_000, 1_000)
    write_run(tmp_path, "doodle-scratch", status="running", process=this_process())
    write_run(tmp_path, "doodle-scratch", status="running", process={**this_process(), "host": "elsewhere"})
    room = admission.room_here(list_runs(tmp_path), now)
    assert room.megabytes == pytest.approx(1_000 + held(os.getpid()), abs=50)
    alone = admission.room_here([], now)
    assert alone == Room(1_000, "this machine has 8,000 MB, and others take 7,000 MB of it")
    contained = admission.room_here([], Memory(2_000, 1_500, contained=True))
    assert contained.words == "the container's limit is 2,000 MB, and others take 500 MB of it"


def test_a_run_that_fits_is_admitted_with_its_estimate():
    recipe = get_recipe("doodle-scratch")
    expected = estimate(recipe, PICTURES)
    assert admission.check(recipe, PICTURES, Room(expected.memory_mb)) == expected
    assert admission.check(recipe, PICTURES, Room(None)) == expected


def test_one_that_does_not_is_refused_with_the_numbers_and_the_largest_batch_that_fits():
    recipe = get_recipe("exercise-scratch").with_changes(batch_size=128)
    needed = estimate(recipe, PICTURES).memory_mb
    smaller = {batch: estimate(recipe.with_changes(batch_size=batch), PICTURES).memory_mb for batch in (64, 32)}
    room = Room((smaller[64] + smaller[32]) / 2, "this machine has 9 MB")
    with pytest.raises(TooLarge) as refused:
        admission.check(recipe, PICTURES, room)
    assert str(refused.value) == (
        f"this run would need about {needed:,.0f} MB of memory and {room.megabytes:,.0f} MB can be had (this machine "
        f"has 9 MB); choose batch_size 32, with which it would need about {smaller[32]:,.0f} MB"
    )


@pytest.mark.parametrize("name", RECIPES)
def test_every_suggestion_fits_by_the_estimate_itself(name):
    recipe = RECIPES[name]
    needed = estimate(recipe, PICTURES).memory_mb
    suggested = 0
    for share in (0.95, 0.8, 0.6, 0.45, 0.3):
        with pytest.raises(TooLarge) as refused:
            admission.check(recipe, PICTURES, Room(needed * share))
        told = str(refused.value)
        assert f"{needed:,.0f} MB" in told and f"{needed * share:,.0f} MB" in told
        if "choose" in told:
            words = told.partition("choose ")[2].partition(", with")[0].split(" and ")
            changes = {name: float(value) if name == "alpha" else int(value) for name, value in map(str.split, words)}
            assert estimate(recipe.with_changes(**changes), PICTURES).memory_mb <= needed * share
            suggested += 1
        else:
            assert "no smaller" in told
    assert suggested or needed < 1000


def test_where_batches_alone_do_not_help_pictures_and_the_width_of_the_base_are_smaller():
    recipe = get_recipe("mobilenet-features")
    needed = {size: estimate(recipe.with_changes(image_size=size), PICTURES).memory_mb for size in (160, 128)}
    with pytest.raises(TooLarge, match="choose image_size 128, with"):
        admission.check(recipe.with_changes(image_size=160), PICTURES, Room((needed[160] + needed[128]) / 2))
    tiny = recipe.with_changes(image_size=32, alpha=1.0, cached=False, batch_size=4)
    # The largest layers of alpha 0.75 are as wide as those of 1.
    without = estimate(tiny.with_changes(alpha=0.5), PICTURES).memory_mb
    with pytest.raises(TooLarge, match=r"choose alpha 0\.5, with"):
        admission.check(tiny, PICTURES, Room(without))


def test_measured_memory_comes_first_and_smaller_suggestions_grow_with_it(tmp_path):
    recipe = get_recipe("exercise-scratch")
    guessed = estimate(recipe, PICTURES).memory_mb
    write_run(tmp_path, "exercise-scratch", epochs=recipe.epochs, peak_memory=3 * guessed)
    runs = list_runs(tmp_path)
    assert admission.check(recipe, PICTURES, Room(2 * guessed)).memory_mb == guessed
    with pytest.raises(TooLarge) as refused:
        admission.check(recipe, PICTURES, Room(2 * guessed), runs)
    told = str(refused.value)
    assert f"about {3 * guessed:,.0f} MB" in told
    batch = int(told.partition("batch_size ")[2].partition(",")[0])
    assert 3 * estimate(recipe.with_changes(batch_size=batch), PICTURES).memory_mb <= 2 * guessed


def test_views_that_take_more_than_half_of_the_store_are_refused_with_the_most_that_do_not():
    recipe = get_recipe("chollet2-finetune").with_changes(views=4)
    needed = {views: workload(recipe.with_changes(views=views), PICTURES).views_bytes for views in (4, 3, 1)}
    limit = needed[4] + needed[3]  # half of it has room for three
    with pytest.raises(TooLarge) as refused:
        admission.check(recipe, PICTURES, Room(None), stock=Stock(limit=limit))
    assert str(refused.value) == (
        f"the activations of 4 views of each training picture would take {needed[4] / 1e9:.2f} GB, and the views of "
        f"one run may take half of the store's {limit / 1e9:.2f} GB (CVCORE_CACHE_LIMIT); choose views 3, "
        f"which take {needed[3] / 1e9:.2f} GB, or 0, which draws them anew in every epoch"
    )
    with pytest.raises(TooLarge, match="set views to 0, which draws them anew in every epoch, or take smaller"):
        admission.check(recipe, PICTURES, Room(None), stock=Stock(limit=2 * needed[1] - 1))
    for fits in (Stock(limit=2 * needed[4]), Stock(), None):
        assert admission.check(recipe, PICTURES, Room(None), stock=fits).disk_mb > needed[4] / 1e6 - 1
    fresh = recipe.with_changes(views=0)
    assert admission.check(fresh, PICTURES, Room(None), stock=Stock(limit=1)).disk_mb == 0


def test_views_of_the_head_phase_are_counted_too():
    recipe = get_recipe("chollet2-finetune").with_changes(starts_from={"views": 4})
    needed = workload(recipe, PICTURES).views_bytes
    with pytest.raises(TooLarge, match=r"4 views .* choose views 3"):
        admission.check(recipe, PICTURES, Room(None), stock=Stock(limit=2 * needed - 1))
    assert admission.check(recipe, PICTURES, Room(None), continues=True, stock=Stock(limit=2 * needed - 1))


def test_only_views_that_a_pass_takes_are_counted():
    recipe = get_recipe("chollet2-finetune").with_changes(epochs=5, views=64)
    needed = workload(recipe, PICTURES).views_bytes
    with pytest.raises(TooLarge, match=r"of 5 views .* choose views 4"):
        admission.check(recipe, PICTURES, Room(None), stock=Stock(limit=2 * needed - 1))
    assert admission.check(recipe, PICTURES, Room(None), stock=Stock(limit=2 * needed))
