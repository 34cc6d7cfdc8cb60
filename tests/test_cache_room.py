"""The limit that activations and decoded pictures share: what goes first, what never goes, what is said of it."""

import fcntl
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from handmade_pictures import SPLIT_COUNTS, write_classes

from cvcore import cache_room
from cvcore.activations import clear, entries, fill, fits, key_of, make_room, stored, used_bytes
from cvcore.datasets import open_dataset, pixels
from cvcore.errors import CvcoreError
from cvcore.locks import try_lock
from cvcore.settings import cache_limit

MB = 10**6


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CVCORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CVCORE_CACHE_LIMIT", "0.0035")
    return tmp_path / "cache"


def what(name):
    return {"title": f"Pictures {name}", "split": "train", "base": "VGG16", "layer": "block5_pool", "name": name}


def put(name, used=None, keep=False):
    """Store a megabyte, used last at this second of 1970."""
    array = fill(what(name), 10, (25_000,), "float32", lambda start, stop: np.zeros((stop - start, 25_000)))
    path = cache_room.activations_folder() / f"{key_of(what(name))}.npy"
    if used is not None:
        os.utime(path.with_suffix(".json"), (used, used))
    return array if keep else path


def there():
    return {entry.title.removeprefix("Pictures ") for entry in entries()}


def test_the_least_recently_used_goes_first():
    for second, name in enumerate("abc"):
        put(name, used=second)
    assert stored(key_of(what("a")), 10) is not None  # notes the use
    put("d")
    assert there() == {"a", "c", "d"}
    assert used_bytes() <= cache_limit()


def test_nothing_goes_that_need_not():
    for second, name in enumerate("abc"):
        put(name, used=second)
    make_room(400_000)
    assert there() == set("abc")
    make_room(1 * MB)
    assert there() == set("bc")


def test_what_is_mapped_stays():
    mapped = put("a", used=0, keep=True)
    put("b", used=1)
    put("c", used=2)
    (entry,) = (entry for entry in entries() if entry.in_use)
    assert entry.title == "Pictures a"
    make_room(3 * MB)
    assert there() == {"a"} and clear(entries()) == 0
    rows = mapped[:2]
    del mapped  # some rows of it are enough to keep it
    make_room(3 * MB)
    assert there() == {"a"} and float(rows.sum()) == 0.0
    del rows
    make_room(3 * MB)
    assert there() == set()


def test_a_mapping_is_in_use_though_somebody_looked_at_it_as_it_was_made(monkeypatch):
    path = put("a")
    looks = os.open(path, os.O_RDWR)
    real = cache_room.time.sleep
    try:
        assert try_lock(looks)
        monkeypatch.setattr(
            cache_room.time, "sleep", lambda seconds: (fcntl.flock(looks, fcntl.LOCK_UN), real(seconds))
        )
        mapped = stored(key_of(what("a")), 10)
    finally:
        os.close(looks)
    assert mapped is not None and entries()[0].in_use and clear(entries()) == 0


def test_nobody_is_looked_for_where_nothing_has_to_go(monkeypatch):
    """Who looks has the file to itself for a moment, and looking takes time with many."""
    put("a")

    def refused(descriptor):
        raise AssertionError("locked")

    monkeypatch.setattr(cache_room, "try_lock", refused)
    assert used_bytes() > MB and fits(MB) and cache_room.limit() > MB
    make_room(MB)
    with pytest.raises(AssertionError, match="locked"):
        make_room(3 * MB)


def test_what_arrays_say_of_themselves_is_read_once_and_again_when_it_changes(monkeypatch):
    path = put("a", used=1)
    assert cache_room.about(path)["name"] == "a"
    with monkeypatch.context() as patch:
        patch.setattr(cache_room, "_read", lambda file: {})
        assert cache_room.about(path)["name"] == "a"
    path.with_suffix(".json").write_text('{"name": "b"}')  # at a time at which it may change once more
    assert cache_room.about(path)["name"] == "b"
    path.with_suffix(".json").write_text('{"name": "c"}')
    assert cache_room.about(path)["name"] == "c"


def test_a_mapped_file_that_somebody_removes_stays_usable():
    mapped = put("a", keep=True)
    shutil.rmtree(cache_room.activations_folder())
    assert mapped.shape == (10, 25_000) and float(mapped.sum()) == 0.0


def test_what_is_being_filled_never_goes_and_counts_as_what_it_will_take():
    put("a", used=0)

    def compute(start, stop):
        (filling,) = (entry for entry in entries() if not entry.whole)
        assert filling.in_use and filling.bytes > 2 * MB and "being computed" in filling.words
        make_room(3 * MB)
        assert there() == {"b"} and clear(entries()) == 0
        return np.zeros((stop - start, 50_000))

    assert len(fill(what("b"), 10, (50_000,), "float32", compute)) == 10


def test_an_unfinished_one_goes_like_any_other():
    def compute(start, stop):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill(what("a"), 10, (25_000,), "float32", lambda start, stop: np.zeros((4, 25_000)) if start == 0
             else compute(start, stop), chunk=4)  # fmt: skip
    (entry,) = entries()
    assert not entry.whole and not entry.in_use and 400_000 < entry.bytes < 500_000
    make_room(int(3.4 * MB))
    assert entries() == [] and not list(cache_room.activations_folder().glob("[!.]*"))


def test_more_than_the_limit_is_a_sentence_and_takes_nothing_away():
    put("a")
    assert fits(3_500_000) and not fits(3_500_001)
    with pytest.raises(CvcoreError, match=r"^The pictures need 4.0 MB and .* may take 3.5 MB; raise CVCORE_CACHE_LI"):
        make_room(4 * MB, "The pictures")
    assert there() == {"a"}


def test_a_disk_that_cannot_have_the_room_keeps_what_it_has(monkeypatch):
    put("a")
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(cache_room.shutil, "disk_usage", lambda _: usage._replace(free=MB))
    with pytest.raises(CvcoreError, match=r"need 3.0 MB and the disk .* has 1.0 MB free, 2.0 MB without what is stor"):
        make_room(3 * MB)
    assert there() == {"a"}
    make_room(int(1.5 * MB))  # for which there is room once it is gone
    assert there() == set()


def test_the_usual_limit_is_ten_gigabytes_or_half_of_a_small_disk(monkeypatch):
    put("a")
    monkeypatch.delenv("CVCORE_CACHE_LIMIT")
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(cache_room.shutil, "disk_usage", lambda _: usage._replace(free=9 * MB))
    assert cache_room.limit() == (9 * MB + used_bytes()) // 2
    monkeypatch.setattr(cache_room.shutil, "disk_usage", lambda _: usage._replace(free=10**12))
    assert cache_room.limit() == cache_limit() == 10**10


@pytest.mark.parametrize("word", ["plenty", "-1", "nan"])
def test_a_limit_that_is_no_number_is_a_sentence(monkeypatch, word):
    monkeypatch.setenv("CVCORE_CACHE_LIMIT", word)
    with pytest.raises(CvcoreError, match="CVCORE_CACHE_LIMIT must be a number from 0"):
        cache_limit()


def test_decoded_pictures_count_and_go_too(tmp_path):
    dataset = open_dataset(write_classes(tmp_path / "set", SPLIT_COUNTS))
    array = pixels(dataset, "train", 200, "nearest", False)
    (entry,) = entries()
    assert (entry.kind, entry.title, entry.words) == ("pictures", "set", "8 train pictures, 200 pixels, nearest")
    assert entry.in_use and entry.bytes == used_bytes() > array.nbytes
    del array
    os.utime(entry.path.with_suffix(".json"), (0, 0))
    for name in "abc":
        put(name)
    assert there() == set("abc")
    kept = {path.name for path in cache_room.pixels_folder().rglob("*") if path.is_file()}
    assert kept == set()


def test_using_decoded_pictures_again_notes_it(tmp_path):
    dataset = open_dataset(write_classes(tmp_path / "set", SPLIT_COUNTS))
    pixels(dataset, "train", 20, "nearest", False)
    (entry,) = entries()
    os.utime(entry.path.with_suffix(".json"), (0, 0))
    pixels(dataset, "train", 20, "nearest", False)
    assert entries()[0].used > 10**9


def test_decoded_pictures_larger_than_the_limit_are_a_sentence(tmp_path, monkeypatch):
    dataset = open_dataset(write_classes(tmp_path / "set", SPLIT_COUNTS))
    monkeypatch.setenv("CVCORE_CACHE_LIMIT", "0.0001")
    with pytest.raises(CvcoreError, match=r"decoded pictures need 1.0 MB and .* may take 0.1 MB"):
        pixels(dataset, "train", 200, "nearest", False)


def test_clearing_takes_what_was_chosen_and_leaves_the_rest_of_the_cache(cache):
    kept = [cache / "uploads" / "mine.zip", cache / "weights" / "base.h5", cache / "activations" / "notes.txt"]
    put("a")
    put("b")
    for path in kept:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    one = next(entry for entry in entries() if entry.title == "Pictures a")
    assert clear([one]) == one.bytes and there() == {"b"}
    assert clear([one]) == 0
    clear(entries())
    assert entries() == [] and used_bytes() == 0
    assert all(path.is_file() for path in kept)


def test_nothing_outside_the_store_is_cleared(cache):
    put("a")
    outside = cache / "uploads" / f"{'a' * 32}.npy"
    outside.parent.mkdir()
    outside.write_text("mine")
    (entry,) = entries()
    assert clear([replace(entry, path=outside)]) == 0
    assert outside.is_file() and there() == {"a"}


def test_an_empty_or_missing_cache_has_nothing(cache):
    assert entries() == [] and used_bytes() == 0 and clear([]) == 0
    assert not cache.exists()


def test_features_of_an_earlier_version_go(cache):
    (cache / "features").mkdir(parents=True)
    (cache / "features" / f"{'a' * 32}.npy").write_bytes(b"x")
    make_room(0)
    assert not (cache / "features").exists()


def test_what_a_killed_process_left_behind_goes_after_a_day():
    path = put("a")
    left = path.parent / ".x.json.abc.tmp"
    pixels_left = cache_room.pixels_folder() / ("a" * 24) / ".train.npy.abc.tmp"
    pixels_left.parent.mkdir(parents=True)
    for one in (left, pixels_left):
        one.write_text("x")
    make_room(0)
    assert left.exists() and pixels_left.exists()
    for one in (left, pixels_left):
        os.utime(one, (0, 0))
    make_room(0)
    assert not left.exists() and not pixels_left.exists()


def test_descriptions_that_others_wrote_take_nothing_down():
    path = put("a")
    for text in ('{"title": 3, "split": [], "view": "x", "image_size": 1e400}', '{"title": "' + "x" * 9999 + '"}', "é"):
        path.with_suffix(".json").write_text(text)
        (entry,) = entries()
        assert len(entry.title) <= 120 and len(entry.words) <= 500
