"""The textbook's subsets: index ranges, folder names, and what is refused before anything is written."""

import os
import zipfile

import pytest
from handmade_pictures import encoded, gradient

from cvcore.datasets import make_small, small
from cvcore.errors import DatasetError

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
    with pytest.raises(DatasetError, match="Unknown layout 'big'; known: cats_vs_dogs_small, cats_and_dogs_small"):
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
    monkeypatch.setattr(small.shutil, "copyfile", full)
    with pytest.raises(DatasetError, match=r"could not be written \(no space left on device\)"):
        make_small(tmp_path / "in", tmp_path / "out", "tiny")
    assert [item.name for item in tmp_path.iterdir()] == ["in"]
