"""Folders: layouts, splits, what is skipped, what is refused with one sentence."""

import os
import re

import pytest
from handmade_pictures import SPLIT_COUNTS, encoded, gradient, write_classes, write_pictures
from PIL import Image

from cvcore.datasets import open_dataset, report
from cvcore.datasets.health import check_files
from cvcore.datasets.splits import Labelled, assign_splits
from cvcore.errors import DatasetError


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("CVCORE_CACHE", str(folder))
    monkeypatch.delenv("CVCORE_DATA", raising=False)
    return folder


def assert_one_sentence(error: pytest.ExceptionInfo) -> None:
    text = str(error.value)
    assert "\n" not in text
    assert text.endswith(".")
    assert "Traceback" not in text and "Errno" not in text


def test_given_splits_are_kept(tmp_path):
    dataset = open_dataset(write_classes(tmp_path / "Pets 2024!", SPLIT_COUNTS))
    assert dataset.id == "pets-2024"
    assert dataset.title == "Pets 2024!"
    assert not dataset.drawn
    assert dataset.class_names == ("cats", "dogs")
    assert dataset.counts == {
        "train": {"cats": 4, "dogs": 4},
        "validation": {"cats": 2, "dogs": 2},
        "test": {"cats": 2, "dogs": 2},
    }
    assert dataset.notes == ()
    assert dataset.skipped == ()
    assert [picture.path for picture in dataset.split("test")] == [
        "test/cats/12.jpg",
        "test/cats/13.jpg",
        "test/dogs/14.jpg",
        "test/dogs/15.jpg",
    ]
    assert dataset.labels("test").tolist() == [0, 0, 1, 1]
    assert str(dataset.labels("test").dtype) == "int64"
    first = dataset.split("train")[0]
    assert (first.width, first.height, first.bytes) == (24, 16, (dataset.root / first.path).stat().st_size)


@pytest.mark.parametrize("name", ["validation", "valid", "val", "Val", "VALIDATION"])
def test_validation_by_any_name(tmp_path, name):
    root = write_classes(tmp_path / "set", {"Train/a": 2, "Train/b": 2, f"{name}/a": 1, f"{name}/b": 1})
    dataset = open_dataset(root)
    assert {split: sum(counts.values()) for split, counts in dataset.counts.items()} == {"train": 4, "validation": 2}
    assert dataset.notes == ("No test split: test accuracy will be missing.",)


def test_three_classes_without_splits(tmp_path):
    dataset = open_dataset(write_classes(tmp_path / "set", {"a": 20, "b": 40, "c": 10}))
    assert dataset.counts == {
        "train": {"a": 14, "b": 28, "c": 6},
        "validation": {"a": 3, "b": 6, "c": 2},
        "test": {"a": 3, "b": 6, "c": 2},
    }
    assert dataset.notes[0].startswith("No split folders: split 70/15/15")
    assert "seed 0" in dataset.notes[0]


def test_split_depends_on_the_seed_and_on_nothing_else(tmp_path):
    one = write_classes(tmp_path / "one", {"a": 20, "b": 20})
    two = write_classes(tmp_path / "elsewhere" / "one", {"a": 20, "b": 20})

    def chosen(dataset):
        return {picture.path: picture.split for picture in dataset.pictures}

    assert chosen(open_dataset(one)) == chosen(open_dataset(two))
    assert open_dataset(one).fingerprint == open_dataset(two).fingerprint
    assert chosen(open_dataset(one, seed=1)) != chosen(open_dataset(one))
    assert open_dataset(one, seed=1).fingerprint != open_dataset(one).fingerprint


def test_splits_are_fixed_for_ever():
    """The order is that of `printf "0:HASH" | sha256sum`, where a random generator could change with its library."""
    entries = [Labelled(f"a/{n}.jpg", None, "a", f"{n:064d}") for n in range(8)]
    splits, _ = assign_splits(entries, 0)
    assert [n for n, split in enumerate(splits) if split == "validation"] == [6]
    assert [n for n, split in enumerate(splits) if split == "test"] == [2]


def test_copies_of_a_picture_stay_in_one_split():
    entries = [Labelled(f"a/{n}.jpg", None, "a", f"{n // 2:064d}") for n in range(40)]
    splits, _ = assign_splits(entries, 3)
    assert sum(splits[n] != splits[n + 1] for n in range(0, 40, 2)) == 0


def test_only_train_gets_a_validation_split_and_no_test(tmp_path):
    dataset = open_dataset(write_classes(tmp_path / "set", {"train/a": 10, "train/b": 15}))
    assert dataset.counts == {"train": {"a": 8, "b": 12}, "validation": {"a": 2, "b": 3}}
    assert dataset.notes == (
        "No validation folder: 20 % of train became validation by seed 0, class by class.",
        "No test split: test accuracy will be missing.",
    )
    assert dataset.split("test") == []
    assert dataset.labels("test").shape == (0,)


def test_train_and_test_keep_their_test(tmp_path):
    root = write_classes(tmp_path / "set", {"train/a": 5, "train/b": 5, "test/a": 3, "test/b": 2})
    assert open_dataset(root).counts["test"] == {"a": 3, "b": 2}


def test_unlabelled_test_folder_is_left_out(tmp_path):
    root = write_classes(tmp_path / "set", {"train/a": 5, "train/b": 5, "test": 2})
    dataset = open_dataset(root)
    assert "test" not in dataset.counts
    assert "The folder 'test' has no class folders, so it is not used." in dataset.notes
    assert [reason for _, reason in dataset.skipped] == ["outside the class folders"] * 2


def test_wrapping_folders_junk_and_deep_folders(tmp_path):
    root = tmp_path / "download"
    inner = write_classes(root / "cats_and_dogs" / "v1", {"cat/indoors": 3, "cat": 2, "dog": 5})
    (root / "__MACOSX" / "cat").mkdir(parents=True)
    (root / "readme.txt").write_text("hello")
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._0.jpg"):
        (inner / "cat" / name).write_bytes(b"junk")
    (inner / ".git").mkdir()
    dataset = open_dataset(root)
    assert dataset.root == inner
    assert dataset.class_names == ("cat", "dog")
    assert len(dataset.pictures) == 10
    assert dataset.skipped == ()


def test_every_broken_file_is_skipped_with_its_reason(tmp_path):
    root = write_classes(tmp_path / "set", {"a": 5, "b": 5})
    sound = encoded(gradient(64, 64, seed=99))
    (root / "a" / "cut.jpg").write_bytes(sound[:-200])
    (root / "a" / "empty.jpg").write_bytes(b"")
    (root / "a" / "words.jpg").write_text("not a picture")
    (root / "a" / "notes.txt").write_text("words")
    (root / "a" / "inner.zip").write_bytes(b"PK")
    (root / "loose.png").write_bytes(encoded(gradient(), "PNG"))
    os.mkfifo(root / "b" / "pipe.jpg")  # opening it would wait for ever
    (root / "b" / "nowhere.jpg").symlink_to(tmp_path / "nowhere")
    dataset = open_dataset(root)
    assert dict(dataset.skipped) == {
        "a/cut.jpg": "truncated file",
        "a/empty.jpg": "empty file",
        "a/inner.zip": "not a picture by its name (.zip)",
        "a/notes.txt": "not a picture by its name (.txt)",
        "a/words.jpg": "not a picture in a known format",
        "b/nowhere.jpg": "not a regular file",
        "b/pipe.jpg": "not a regular file",
        "loose.png": "outside the class folders",
    }
    assert len(dataset.pictures) == 10
    summary = report(dataset)
    assert summary["skipped"][3] == {"path": "a/notes.txt", "reason": "not a picture by its name (.txt)"}
    assert len(summary["skipped"]) == 8
    assert summary["skipped_reasons"]["not a picture by its name"] == 2
    assert summary["width"] == {"min": 24, "median": 24, "max": 24}
    assert summary["pictures"] == 10


def test_a_name_that_is_not_utf8_is_skipped(tmp_path):
    root = write_classes(tmp_path / "set", {"a": 5, "b": 5})
    (root / "a" / os.fsdecode(b"caf\xe9.jpg")).write_bytes(encoded(gradient()))
    dataset = open_dataset(root)
    assert dataset.skipped == (("a/caf?.jpg", "name is not UTF-8"),)


def test_unusual_pictures_are_used_and_counted(tmp_path):
    root = write_classes(tmp_path / "set", {"a": 5, "b": 5})
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(root / "a" / "moving.gif", save_all=True, append_images=frames[1:])
    Image.new("CMYK", (8, 8), (9, 9, 9, 9)).save(root / "a" / "press.jpg")
    Image.new("RGBA", (8, 8), (9, 9, 9, 9)).save(root / "b" / "glass.png")
    Image.new("RGBA", (8, 8), (9, 8, 9, 9)).save(root / "b" / "glass2.png")
    dataset = open_dataset(root)
    assert len(dataset.pictures) == 14
    assert "1 picture animated or multi-page: the first frame is used." in dataset.notes
    assert "2 pictures transparent: laid on white." in dataset.notes
    assert "1 picture CMYK: converted to RGB." in dataset.notes


def test_a_picture_in_two_splits_or_under_two_labels_is_noted(tmp_path):
    root = write_classes(tmp_path / "set", SPLIT_COUNTS)
    write_pictures(root / "test" / "cats", [0])
    write_pictures(root / "train" / "dogs", [1])
    notes = open_dataset(root).notes
    assert "1 picture is in more than one split, byte for byte: scores will look too good." in notes
    assert "1 picture is under more than one label, byte for byte." in notes


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"cats": 9}, r"at least 2 classes, one folder each; pets has one, 'cats'"),
        ({"train/cats": 9}, r"at least 2 classes, one folder each; pets/train has one, 'cats'"),
        ({}, r"one folder a class.*pets has no such folders"),
        ({"": 4}, r"pets has 4 pictures and no class folders.*make-small"),
        ({"cats": 9, "dogs": 0}, r"Class 'dogs' has no usable picture"),
        ({"train/a": 5, "train/b": 5, "test/a": 1, "test/b": 0}, r"Too few pictures.*class 'b' has 0 in test"),
        ({"train/a": 5, "train/b": 5, "test/a": 1}, r"Too few pictures.*class 'b' has 0 in test"),
        ({"train/a": 5, "train/b": 5, "val/a": 1, "val/c": 1}, r"pets/val has 'c', which train lacks"),
        ({"train/a": 5, "train/b": 5, "val/a": 1, "valid/b": 1}, r"two folders for validation, 'val' and 'valid'"),
        (
            {"cats": 2, "dogs": 1},
            r"Too few pictures: each class needs at least 2 .*class 'cats' has 0 in train \(2 in all",
        ),
        ({"cats": 4, "dogs": 3}, r"class 'dogs' has 1 in train \(3 in all"),
        ({"train/a": 1, "train/b": 5, "val/a": 1, "val/b": 1}, r"class 'a' has 1 in train"),
    ],
)
def test_unusable_folders_are_refused_in_one_sentence(tmp_path, counts, message):
    root = tmp_path / "pets"
    root.mkdir()
    write_classes(root, counts)
    with pytest.raises(DatasetError, match=message) as error:
        open_dataset(root)
    assert_one_sentence(error)


def test_a_class_of_broken_files_says_how_many(tmp_path):
    root = write_classes(tmp_path / "pets", {"cats": 9, "dogs": 0})
    for number in range(3):
        (root / "dogs" / f"{number}.jpg").write_text("words")
    with pytest.raises(DatasetError, match=re.escape("Class 'dogs' has no usable picture (0 found, 3 unusable)")):
        open_dataset(root)


def test_smallest_dataset_that_is_accepted(tmp_path):
    dataset = open_dataset(write_classes(tmp_path / "pets", {"cats": 4, "dogs": 4}))
    assert dataset.counts == {
        split: {"cats": n, "dogs": n} for split, n in [("train", 2), ("validation", 1), ("test", 1)]
    }


@pytest.mark.parametrize("source", ["no/such/folder", "nul\0byte", "x" * 5000, "doodle-pets-x", ""])
def test_missing_sources(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DatasetError) as error:
        open_dataset(source)
    assert_one_sentence(error)


def test_a_file_that_is_no_zip(tmp_path):
    (tmp_path / "set.zip").write_text("no zip")
    with pytest.raises(DatasetError, match=r"set\.zip is not a zip archive") as error:
        open_dataset(tmp_path / "set.zip")
    assert_one_sentence(error)


def test_fingerprint_follows_names_labels_splits_and_bytes(tmp_path):
    root = write_classes(tmp_path / "set", SPLIT_COUNTS)
    seen = {open_dataset(root).fingerprint}

    def changed() -> bool:
        seen.add(open_dataset(root).fingerprint)
        return len(seen)

    (root / "train/cats/0.jpg").rename(root / "train/cats/zero.jpg")
    assert changed() == 2
    (root / "train/cats/1.jpg").rename(root / "train/dogs/1.jpg")
    assert changed() == 3
    (root / "test/cats/12.jpg").rename(root / "train/cats/12.jpg")
    assert changed() == 4
    gradient(seed=77).save(root / "train/cats/zero.jpg")
    assert changed() == 5
    (root / "train/cats/readme.txt").write_text("skipped files do not count")
    assert changed() == 5


def test_second_open_decodes_only_what_is_new(tmp_path, monkeypatch):
    from cvcore.datasets import health

    root = write_classes(tmp_path / "set", {"a": 5, "b": 5})
    (root / "a" / "words.jpg").write_text("broken files are remembered too")
    first = open_dataset(root)
    checked = []
    whole = health.check_bytes
    monkeypatch.setattr(health, "check_bytes", lambda data, *rest: checked.append(len(data)) or whole(data, *rest))
    assert open_dataset(root) == first
    assert checked == []
    write_pictures(root / "a", [50])
    open_dataset(root)
    assert len(checked) == 1


def test_damaged_health_memory_is_made_again(tmp_path, cache):
    root = write_classes(tmp_path / "set", {"a": 5, "b": 5})
    first = open_dataset(root)
    for file in (cache / "datasets" / "health").glob("*.json"):
        file.write_text('{"a/0.jpg": [1, 2], "a/1.jpg": ')
    assert open_dataset(root) == first


def test_checks_done_before_an_interruption_are_kept(tmp_path):
    root = write_classes(tmp_path / "set", {"a": 5})
    paths = [f"a/{n}.jpg" for n in range(5)]

    def stop(done, total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check_files(root, paths, progress=stop)
    calls = []
    check_files(root, paths, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(4, 5), (5, 5)]


def test_summary_has_nothing_of_this_machine(tmp_path):
    dataset = open_dataset(write_classes(tmp_path / "set", SPLIT_COUNTS))
    summary = dataset.summary()
    assert set(summary) == {"id", "title", "fingerprint", "counts", "class_names", "drawn", "skipped", "split_seed"}
    assert str(tmp_path) not in repr(summary)


def test_unwritable_cache_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("a file where the cache folder should be")
    monkeypatch.setenv("CVCORE_CACHE", str(tmp_path / "file"))
    with pytest.raises(DatasetError, match="could not be written to the cache folder") as error:
        open_dataset(write_classes(tmp_path / "set", SPLIT_COUNTS))
    assert_one_sentence(error)
