"""Stored activations: computed once, whole or not at all, gone on with after a stop, a kill or a power cut."""

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from cvcore import activations, cache_room, filling
from cvcore.activations import fill, key_of, stored
from cvcore.errors import CvcoreError, StoppedOnRequest
from cvcore.locks import locked, waiting_at_most

WHAT = {"title": "Doodle pets", "fingerprint": "f" * 64, "split": "train", "base": "VGG16", "layer": "block4_pool"}
KEY = key_of(WHAT)
ROWS, SHAPE = 10, (2, 3)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("CVCORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CVCORE_CACHE_LIMIT", raising=False)
    return tmp_path / "cache" / "activations"


def whole(rows=ROWS, shape=SHAPE):
    return np.arange(rows * np.prod(shape), dtype=np.float32).reshape(rows, *shape)


class Base:
    """Counts what it computes; stops, or fails, before a row."""

    def __init__(self, before=None, error=None):
        self.computed, self.before, self.error = [], before, error

    def __call__(self, start, stop):
        if self.before is not None and stop > self.before:
            raise self.error
        self.computed += range(start, stop)
        return whole()[start:stop]


def filled(base=None, what=WHAT, dtype="float32", **options):
    return fill(what, ROWS, SHAPE, dtype, base or Base(), chunk=4, **options)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_computed_once_in_chunks_and_mapped_read_only_ever_after(folder):
    assert stored(KEY, ROWS) is None
    base, seen = Base(), []
    first = filled(base, on_progress=lambda *done: seen.append(done))
    assert base.computed == list(range(ROWS)) and seen == [(4, 10), (8, 10), (10, 10)]
    assert isinstance(first, np.memmap) and first.dtype == np.float32 and not first.flags.writeable
    np.testing.assert_array_equal(first, whole())
    np.testing.assert_array_equal(filled(Base(0, AssertionError)), whole())
    np.testing.assert_array_equal(stored(KEY, ROWS), whole())
    assert names(folder) == [f"{KEY}.json", f"{KEY}.npy"]
    np.testing.assert_array_equal(np.load(folder / f"{KEY}.npy"), whole())
    said = json.loads((folder / f"{KEY}.json").read_text())
    assert said["base"] == "VGG16" and said["shape"] == [10, 2, 3] and said["dtype"] == "float32"


def test_half_precision_keeps_within_its_range():
    large = np.array([[1.5], [7e4], [-1e6]], np.float32)
    array = fill(WHAT, 3, (1,), "float16", lambda start, stop: large[start:stop])
    assert array.dtype == np.float16
    assert array.ravel().tolist() == [1.5, 65504, -65504]


def test_whatever_decides_them_gives_another_key_and_the_title_does_not():
    assert key_of({**WHAT, "title": "Our pets"}) == KEY
    assert len({KEY, key_of({**WHAT, "layer": "block5_pool"}), key_of({**WHAT, "view": 0})}) == 3
    assert key_of(dict(reversed(WHAT.items()))) == KEY
    numbered = {**WHAT, "layer": "add_10", "place": 57}
    assert key_of({**numbered, "layer": "add_22"}) == key_of(numbered) != key_of({**numbered, "place": 58})


@pytest.mark.parametrize("key", ["", "../" + "a" * 29, "A" * 32, "a" * 33, "a" * 32 + "\n", None])
def test_what_is_no_key_is_refused(key):
    with pytest.raises(CvcoreError, match="32 hexadecimal digits"):
        stored(key, ROWS)


def test_another_number_of_rows_is_not_there():
    filled()
    assert stored(KEY, ROWS + 1) is None


@pytest.mark.parametrize("error", [StoppedOnRequest("stopped"), KeyboardInterrupt()])
def test_a_stopped_extraction_goes_on_at_its_next_row(folder, error):
    with pytest.raises(type(error)):
        filled(Base(8, error))
    assert stored(KEY, ROWS) is None
    base, seen = Base(), []
    np.testing.assert_array_equal(filled(base, on_progress=lambda *done: seen.append(done)), whole())
    assert base.computed == [8, 9] and seen == [(8, 10), (10, 10)]
    assert names(folder) == [f"{KEY}.json", f"{KEY}.npy"]


def test_progress_that_raises_keeps_the_chunk_before_it():
    def stop(done, rows):
        raise StoppedOnRequest("stopped")

    with pytest.raises(StoppedOnRequest):
        filled(on_progress=stop)
    base = Base()
    filled(base)
    assert base.computed == list(range(4, ROWS))


def lose_rows(part):
    part.write_bytes(part.read_bytes()[:-30])


def fill_rows(part):
    part.write_bytes(part.read_bytes() + b"x" * 20)


def damage_header(part):
    part.write_bytes(b"\x93NUMPY\x02" + part.read_bytes()[7:])


@pytest.mark.parametrize(("damage", "first"), [(lose_rows, 6), (fill_rows, 8), (damage_header, 0)])
def test_only_rows_that_are_sure_to_be_there_are_kept(folder, damage, first):
    with pytest.raises(StoppedOnRequest):
        filled(Base(8, StoppedOnRequest("stopped")))
    damage(folder / f"{KEY}.part")
    base = Base()
    np.testing.assert_array_equal(filled(base), whole())
    assert base.computed[0] == first


@pytest.mark.parametrize("text", ["", "{", "[]", '{"done": "8"}', '{"done": 99}', "[" * 10_000])
def test_a_record_that_says_nothing_sure_starts_again(folder, text):
    with pytest.raises(StoppedOnRequest):
        filled(Base(8, StoppedOnRequest("stopped")))
    (folder / f"{KEY}.json").write_text(text)
    base = Base()
    np.testing.assert_array_equal(filled(base), whole())
    assert base.computed[0] == 0


def test_rows_are_recorded_only_after_they_are_on_the_disk(folder, monkeypatch):
    """A power cut loses what was not synced, so the record may say no more than what was."""
    synced, recorded = [0], []
    real_sync, real_record = os.fsync, filling.replace_json

    def fsync(descriptor):
        part = folder / f"{KEY}.part"
        if part.exists() and os.path.samestat(os.fstat(descriptor), part.stat()):
            synced.append(os.fstat(descriptor).st_size)
        real_sync(descriptor)

    def record(path, document):
        recorded.append((document.get("done", ROWS), synced[-1]))
        real_record(path, document)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(filling, "replace_json", record)
    monkeypatch.setattr(filling, "RECORD_EVERY", 0.0)
    filled()
    header = (folder / f"{KEY}.npy").stat().st_size - ROWS * 24
    assert [done for done, _ in recorded] == [0, 4, 8, 10]
    assert all(size >= header + done * 24 for done, size in recorded)


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY\x01\x00", b"words", "cut", "long", "other"])
def test_a_damaged_array_is_not_used_and_computed_again(folder, damage):
    filled()
    path = folder / f"{KEY}.npy"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-3])
    elif damage == "long":
        path.write_bytes(path.read_bytes() + b"x")
    elif damage == "other":
        np.save(path, np.zeros((ROWS, 2, 3), object), allow_pickle=True)
    else:
        path.write_bytes(damage)
    assert stored(KEY, ROWS) is None
    base = Base()
    np.testing.assert_array_equal(filled(base), whole())
    assert len(base.computed) == ROWS


def test_a_missing_or_damaged_description_takes_nothing_away(folder):
    filled()
    for text in ("{", None):
        (folder / f"{KEY}.json").unlink() if text is None else (folder / f"{KEY}.json").write_text(text)
        assert stored(KEY, ROWS) is not None
        (entry,) = activations.entries()
        assert entry.bytes > ROWS * 24 and entry.title == "unknown pictures"


FILL_SLOWLY = """
import sys
import numpy as np
from cvcore import filling
from cvcore.activations import fill
filling.RECORD_EVERY = 0.0
def compute(start, stop):
    print(start, flush=True)
    sys.stdin.readline()
    return np.arange(60, dtype=np.float32).reshape(10, 2, 3)[start:stop]
fill({what!r}, 10, (2, 3), "float32", compute, chunk=4)
print("done", flush=True)
"""


@contextlib.contextmanager
def another_process():
    """A process that fills the same entry, a chunk for each line it is sent."""
    child = subprocess.Popen([sys.executable, "-c", FILL_SLOWLY.format(what=WHAT)], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True)  # fmt: skip
    try:
        assert child.stdout.readline() == "0\n"
        yield child
    finally:
        child.kill()
        child.communicate()


def go_on(child):
    child.stdin.write("\n")
    child.stdin.flush()
    return child.stdout.readline().strip()


def test_who_wants_the_same_waits_with_its_progress_and_takes_over_when_the_other_is_killed(folder):
    with another_process() as child:
        assert go_on(child) == "4"
        seen, base = [], Base()

        def on_progress(done, rows):
            seen.append(done)
            if len(seen) == 2:
                child.send_signal(signal.SIGKILL)

        np.testing.assert_array_equal(filled(base, on_progress=on_progress), whole())
    assert seen[:2] == [4, 4] and base.computed == list(range(4, ROWS))
    assert names(folder) == [f"{KEY}.json", f"{KEY}.npy"]


def test_who_waits_takes_what_the_other_has_finished(folder):
    with another_process() as child:
        assert [go_on(child), go_on(child)] == ["4", "8"]
        seen, base = [], Base()

        def on_progress(done, rows):
            seen.append(done)
            if len(seen) == 1:
                assert go_on(child) == "done"

        np.testing.assert_array_equal(filled(base, on_progress=on_progress), whole())
    assert base.computed == [] and seen[0] == 8


def test_who_waits_can_be_stopped(folder):
    def stop(done, rows):
        raise StoppedOnRequest("stopped")

    with another_process(), pytest.raises(StoppedOnRequest):
        filled(Base(0, AssertionError), on_progress=stop)


def test_many_at_once_compute_every_row_once(monkeypatch):
    monkeypatch.setattr(filling, "LOOK_EVERY", 0.001)
    bases = [Base() for _ in range(8)]
    results = []
    threads = [threading.Thread(target=lambda base=base: results.append(filled(base))) for base in bases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(row for base in bases for row in base.computed) == list(range(ROWS))
    assert len(results) == 8
    for array in results:
        np.testing.assert_array_equal(array, whole())


def test_a_disk_that_fills_up_is_one_sentence_and_gets_its_room_back(folder, monkeypatch):
    real, writes = filling._write, []

    def write(stream, data):
        writes.append(len(data))
        if len(writes) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(stream, data)

    monkeypatch.setattr(filling, "_write", write)
    with pytest.raises(CvcoreError, match=r"^The activations could not .* \(no space left on device\); free[^\n]*$"):
        filled()
    assert not (folder / f"{KEY}.part").exists()
    np.testing.assert_array_equal(filled(), whole())


def test_an_array_larger_than_the_limit_is_a_sentence_before_anything_is_computed(folder, monkeypatch):
    monkeypatch.setenv("CVCORE_CACHE_LIMIT", "0.0000003")
    with pytest.raises(CvcoreError, match=r"activations need 0.0 MB and .* may take 0.0 MB; raise CVCORE_CACHE_LIMIT"):
        filled(Base(0, AssertionError))
    assert names(folder) == []


def test_a_disk_without_room_is_a_sentence_before_anything_is_computed(folder, monkeypatch):
    usage = cache_room.shutil.disk_usage("/")
    monkeypatch.setenv("CVCORE_CACHE_LIMIT", "1")
    monkeypatch.setattr(cache_room.shutil, "disk_usage", lambda _: usage._replace(free=100))
    with pytest.raises(CvcoreError, match=r"need 0.0 MB and the disk of the cache folder has 0.0 MB free"):
        filled(Base(0, AssertionError))
    assert names(folder) == []


def test_a_folder_that_cannot_be_written_is_a_sentence_and_what_is_there_is_read(folder, monkeypatch):
    filled()

    def refused(*args, **options):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    real = os.open
    monkeypatch.setattr(os, "utime", refused)
    monkeypatch.setattr(os, "open", lambda path, flags, *rest: real(path, flags, *rest)
                        if flags & (os.O_RDWR | os.O_WRONLY) == 0 else refused())  # fmt: skip
    np.testing.assert_array_equal(stored(KEY, ROWS), whole())
    np.testing.assert_array_equal(filled(Base(0, AssertionError)), whole())
    with pytest.raises(CvcoreError, match=r"could not be written to the cache folder \(permission denied\)"):
        filled(what={**WHAT, "view": 1})


def test_what_cannot_be_mapped_is_computed_once_and_a_sentence(monkeypatch):
    def refused(*args, **options):
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))

    def compute(start, stop):
        assert not base.computed or base.computed[-1] < start, "computed again and again"
        return base(start, stop)

    base = Base()
    monkeypatch.setattr(cache_room.np, "memmap", refused)
    with pytest.raises(CvcoreError, match=r"^The activations just stored cannot be mapped[^\n]*CVCORE_CACHE[^\n]*$"):
        filled(compute)
    assert base.computed == list(range(ROWS))


def test_a_store_that_is_locked_for_long_keeps_what_was_computed(folder):
    with pytest.raises(StoppedOnRequest):
        filled(Base(8, StoppedOnRequest("stopped")))
    with locked(cache_room.lock_file()), waiting_at_most(0.0), pytest.raises(CvcoreError, match=r"kept \.room\.lock"):
        filled()
    base = Base()
    filled(base)
    assert base.computed == [8, 9]


def test_what_no_longer_has_room_is_not_kept(folder, monkeypatch):
    with pytest.raises(StoppedOnRequest):
        filled(Base(8, StoppedOnRequest("stopped")))
    monkeypatch.setenv("CVCORE_CACHE_LIMIT", "0.0000003")
    with pytest.raises(CvcoreError, match="raise CVCORE_CACHE_LIMIT"):
        filled()
    assert names(folder) == []


def test_a_wrong_shape_is_the_programs_mistake():
    with pytest.raises(ValueError, match="activations of shape"):
        fill(WHAT, 4, (3,), "float32", lambda start, stop: np.zeros((stop - start, 2)))
    with pytest.raises(ValueError, match="float16 or float32"):
        fill(WHAT, 4, (3,), "int8", Base())
