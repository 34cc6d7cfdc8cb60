"""The textbook's subsets: index ranges, folder names, and what is refused before anything is written."""

import os
import zipfile

import pytest
from handmade_pictures import encoded, gradient, write_classes
from PIL import Image

from cvcore.datasets import make_small, open_dataset, small
from cvcore.datasets.small_by_order import OrderedLayout
from cvcore.errors import DatasetError
from cvcore.published import get_recipe

DATA = {(kind, n): f"{kind} {n}".encode() for kind in ("cat", "dog") for n in range(2500)}


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    path = tmp_path_factory.mktemp("competition") / "train.zip"
    with zipfile.ZipFile(path, "w") as zipped:
        for (kind, n), data in DATA.items():
            zipped.writestr(f"train/{kind}.{n}.jpg", data)
        zipped.writestr("train/cat.12499.jpg", b"beyond every range")
    return path


@pytest.fixture
def tiny_layout(monkeypatch):
    layout = small.SmallLayout({"train": (0, 2), "test": (2, 3)}, {"cat": "cats", "dog": "dogs"})
    monkeypatch.setitem(small.LAYOUTS, "tiny", layout)


def write_tiny(folder, names=("cat.0", "cat.1", "cat.2", "dog.0", "dog.1", "dog.2")):
    folder.mkdir(parents=True)
    for name in names:
        (folder / f"{name}.jpg").write_bytes(encoded(gradient()))
    return folder


@pytest.mark.parametrize(
    ("layout", "folders", "test_stop"),
    [
        ("cats_vs_dogs_small", {"cat": "cat", "dog": "dog"}, 2500),
        ("cats_and_dogs_small", {"cat": "cats", "dog": "dogs"}, 2000),
    ],
)
def test_ranges_and_folders_from_the_zip(archive, tmp_path, layout, folders, test_stop):
    calls = []
    counts = make_small(archive, tmp_path / "out", layout, progress=lambda *call: calls.append(call))
    ranges = {"train": range(1000), "validation": range(1000, 1500), "test": range(1500, test_stop)}
    assert counts == {split: {folder: len(numbers) for folder in folders.values()} for split, numbers in ranges.items()}
    expected = {
        f"{split}/{folders[kind]}/{kind}.{n}.jpg": DATA[kind, n]
        for split, numbers in ranges.items()
        for kind in folders
        for n in numbers
    }
    written = {
        path.relative_to(tmp_path / "out").as_posix(): path.read_bytes()
        for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    }
    assert written == expected
    assert calls[-1] == (len(expected), len(expected))


@pytest.mark.parametrize("place", [".", "train"])
def test_from_a_folder_or_the_folder_above(tiny_layout, tmp_path, place):
    write_tiny(tmp_path / "in" / place)
    make_small(tmp_path / "in", tmp_path / "out", "tiny")
    found = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.jpg"))
    assert found == [
        "test/cats/cat.2.jpg",
        "test/dogs/dog.2.jpg",
        "train/cats/cat.0.jpg",
        "train/cats/cat.1.jpg",
        "train/dogs/dog.0.jpg",
        "train/dogs/dog.1.jpg",
    ]


def test_missing_pictures_are_named_and_nothing_is_written(tiny_layout, tmp_path):
    write_tiny(tmp_path / "in", ["cat.0", "cat.1", "dog.0", "dog.1", "dog.2"])
    with pytest.raises(DatasetError, match=r"needs cat\.0\.jpg to cat\.2\.jpg and .*; in lacks cat\.2\.jpg\.$"):
        make_small(tmp_path / "in", tmp_path / "out", "tiny")
    (tmp_path / "in" / "dog.0.jpg").unlink()
    with pytest.raises(DatasetError, match=r"in lacks dog\.0\.jpg and 1 more"):
        make_small(tmp_path / "in", tmp_path / "out", "tiny")
    assert not (tmp_path / "out").exists()


def test_an_existing_destination_is_refused_and_kept(tiny_layout, tmp_path):
    write_tiny(tmp_path / "in")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(DatasetError, match="exists already; name a new folder"):
        make_small(tmp_path / "in", tmp_path / "out", "tiny")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_old_folders_of_the_user_beside_the_destination_stay(tiny_layout, tmp_path):
    write_tiny(tmp_path / "in")
    for name in (".out-mine", ".make-small-mine", ".making-mine"):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (0, 0))
    make_small(tmp_path / "in", tmp_path / "out", "tiny")
    assert len(list(tmp_path.glob(".*-mine"))) == 3


def test_unknown_layout(tmp_path):
    with pytest.raises(
        DatasetError, match="Unknown layout 'big'; known: cats_vs_dogs_small, cats_and_dogs_small, dogs_vs_cats_tiny"
    ):
        make_small(tmp_path, tmp_path / "out", "big")


@pytest.mark.parametrize("content", [None, b"words", b""])
def test_a_source_that_is_nothing(tmp_path, content):
    if content is not None:
        (tmp_path / "train.zip").write_bytes(content)
    with pytest.raises(DatasetError, match=r"No folder or zip named|neither a folder nor a readable zip"):
        make_small(tmp_path / "train.zip", tmp_path / "out", "cats_vs_dogs_small")


def test_damaged_zip_leaves_nothing(tiny_layout, tmp_path):
    path = tmp_path / "train.zip"
    with zipfile.ZipFile(path, "w") as zipped:
        for kind in ("cat", "dog"):
            for n in range(3):
                zipped.writestr(f"train/{kind}.{n}.jpg", b"0123456789")
    path.write_bytes(path.read_bytes().replace(b"0123456789", b"X123456789", 1))
    with pytest.raises(DatasetError, match=r"train\.zip is damaged"):
        make_small(path, tmp_path / "out", "tiny")
    assert [item.name for item in tmp_path.iterdir()] == ["train.zip"]


def test_disk_full_leaves_nothing(tiny_layout, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    write_tiny(tmp_path / "in")
    monkeypatch.setattr(small.Path, "write_bytes", full)
    with pytest.raises(DatasetError, match=r"could not be written \(no space left on device\)"):
        make_small(tmp_path / "in", tmp_path / "out", "tiny")
    assert [item.name for item in tmp_path.iterdir()] == ["in"]


# by order, from any two classes


@pytest.fixture
def few(monkeypatch):
    """A layout like the tiny one with odd numbers throughout: first class 2 + 1 + 2, second class 1 + 0 + 1."""
    monkeypatch.setitem(small.LAYOUTS, "few", OrderedLayout({"train": 3, "valid": 1, "test": 3}))


def picture(number):
    return encoded(gradient(seed=number))


def zip_of(path, members):
    with zipfile.ZipFile(path, "w") as zipped:
        for name, data in members.items():
            zipped.writestr(name, data)
    return path


def folder_of(path, members):
    for name, data in members.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


SOURCES = {
    "competition": [f"train/{kind}.{n}.jpg" for kind in ("cat", "dog") for n in (0, 2, 9, 10, 11)],
    "classes": [f"{kind}/{n}.jpg" for kind in ("cat", "dog") for n in (0, 2, 9, 10, 11)],
    "splits": [f"pets/{split}/{kind}/{n}.jpg" for kind in ("cat", "dog")
               for n, split in ((0, "test"), (2, "train"), (9, "validation"), (10, "train"), (11, "train"))],
}  # fmt: skip


@pytest.mark.parametrize("make", [zip_of, folder_of])
@pytest.mark.parametrize("kind", SOURCES)
def test_pictures_in_natural_order_from_any_source(few, tmp_path, monkeypatch, make, kind):
    monkeypatch.setenv("CVCORE_CACHE", str(tmp_path / "cache"))
    members = {name: picture(number) for number, name in enumerate(SOURCES[kind])}
    calls = []
    counts = make_small(make(tmp_path / "in.zip", members), tmp_path / "out", "few", lambda *call: calls.append(call))
    assert counts == {"train": {"cat": 2, "dog": 1}, "valid": {"cat": 1}, "test": {"cat": 2, "dog": 1}}
    assert calls == [(done, 7) for done in range(1, 8)]
    prefix = {"competition": ("cat.", "dog.")}.get(kind, ("", ""))
    expected = {
        "train/cat": (0, 2), "valid/cat": (9,), "test/cat": (10, 11), "train/dog": (0,), "test/dog": (2,),
    }  # fmt: skip
    written = {path.relative_to(tmp_path / "out").as_posix(): path.read_bytes()
               for path in (tmp_path / "out").rglob("*.jpg")}  # fmt: skip
    by_class = {name.replace("/", "."): data for name, data in members.items()}
    assert written == {
        f"{folder}/{prefix['dog' in folder]}{n}.jpg": next(
            data for name, data in by_class.items() if name.endswith(f"{folder[-3:]}.{n}.jpg")
        )
        for folder, numbers in expected.items()
        for n in numbers
    }


def test_the_tiny_layout_has_the_notes_numbers(tmp_path, monkeypatch):
    monkeypatch.setenv("CVCORE_CACHE", str(tmp_path / "cache"))
    names = [f"{kind}.{n}.jpg" for kind in ("cat", "dog") for n in range(380)]
    rows = {name: number for number, name in enumerate(names)}
    source = folder_of(tmp_path / "in", {name: small_picture(number) for name, number in rows.items()})
    counts = make_small(source, tmp_path / "dogs_vs_cats_tiny", "dogs_vs_cats_tiny")
    assert counts == {
        "train": {"cat": 101, "dog": 101}, "valid": {"cat": 52, "dog": 51}, "test": {"cat": 226, "dog": 225},
    }  # fmt: skip
    dataset = open_dataset(tmp_path / "dogs_vs_cats_tiny")
    assert dataset.id == get_recipe("note-features").dataset
    assert {split: sum(of_class.values()) for split, of_class in dataset.counts.items()} == {
        "train": 202, "validation": 103, "test": 451,
    }  # fmt: skip
    assert dataset.notes == ()
    used = sorted(int(picture.path.split(".")[1]) for picture in dataset.pictures if "/dog." in picture.path)
    assert used == list(range(377))


def small_picture(number):
    """A picture of its own for each number: `gradient` repeats after 256."""
    return encoded(Image.new("RGB", (4, 4), (number % 256, number // 256 * 40, 9)), "PNG")


def test_copies_and_unusable_files_are_passed_over(few, tmp_path):
    names = {"cat": range(7), "dog": range(4)}
    members = {f"{kind}/{n}.jpg": picture(n + 50 * (kind == "dog")) for kind in names for n in names[kind]}
    members |= {"cat/1.jpg": members["cat/0.jpg"], "cat/2.jpg": b"", "dog/0.jpg": members["cat/0.jpg"]}
    members["dog/1.jpg"] = members["dog/1.jpg"][:300]
    make_small(folder_of(tmp_path / "in", members), tmp_path / "out", "few")
    found = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.jpg"))
    assert found == [
        "test/cat/5.jpg", "test/cat/6.jpg", "test/dog/3.jpg", "train/cat/0.jpg", "train/cat/3.jpg", "train/dog/2.jpg",
        "valid/cat/4.jpg",
    ]  # fmt: skip


def test_two_files_of_one_name_keep_apart(few, tmp_path):
    names = ["train/a/1.jpg", "validation/a/1.jpg", "test/a/1.JPG", "train/a/0.jpg", "train/a/2.jpg",
             "train/b/1.jpg", "test/b/1.jpg"]  # fmt: skip
    source = folder_of(tmp_path / "in", {name: picture(number) for number, name in enumerate(names)})
    make_small(source, tmp_path / "out", "few")
    of_a = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("a/*")}
    assert of_a == {"train/a/0.jpg", "train/a/1.JPG", "valid/a/1-2.jpg", "test/a/1-3.jpg", "test/a/2.jpg"}


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"a": 4, "b": 9}, "few needs 5 different usable pictures of 'a'; in has 4"),
        ({"a": 9, "b": 1}, "few needs 2 different usable pictures of 'b'; in has 1"),
        ({"a": 9, "b": 9, "c": 9}, "few takes two classes; in has 3"),
        ({"a": 9}, "at least 2 classes"),
    ],
)
def test_too_few_pictures_or_other_classes(few, tmp_path, counts, message):
    write_classes(tmp_path / "in", counts)
    with pytest.raises(DatasetError, match=message):
        make_small(tmp_path / "in", tmp_path / "out", "few")
    assert [item.name for item in tmp_path.iterdir()] == ["in"]


def test_a_competition_folder_with_too_few(few, tmp_path):
    write_tiny(tmp_path / "in" / "train")
    with pytest.raises(DatasetError, match=r"few needs 5 different usable pictures of 'cat'; in has 1"):
        make_small(tmp_path / "in", tmp_path / "out", "few")


def test_a_damaged_zip_of_the_competition_leaves_nothing(few, tmp_path):
    path = zip_of(
        tmp_path / "train.zip", {f"train/{kind}.{n}.jpg": picture(n) for kind in ("cat", "dog") for n in (1, 2)}
    )
    data = path.read_bytes()
    at = data.find(picture(1))
    path.write_bytes(data[: at + 50] + b"XX" + data[at + 52 :])
    with pytest.raises(DatasetError, match=r"train\.zip is damaged"):
        make_small(path, tmp_path / "out", "few")
    assert [item.name for item in tmp_path.iterdir()] == ["train.zip"]
