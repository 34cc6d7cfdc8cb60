"""The catalogue: ids, finding datasets again, what a browser may name, and the bundled drawings."""

import json
import shutil

import pytest
from handmade_pictures import SPLIT_COUNTS, gradient, write_classes

from cvcore.datasets import LAYOUTS, catalogue, data_choices, doodles, find_dataset, known_datasets, open_dataset
from cvcore.errors import DatasetError


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("CVCORE_CACHE", str(folder))
    monkeypatch.delenv("CVCORE_DATA", raising=False)
    return folder


@pytest.fixture
def data(tmp_path, monkeypatch):
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("CVCORE_DATA", str(folder))
    return folder


@pytest.fixture
def few_doodles(monkeypatch):
    """The generator's layout with few and tiny pictures, so that no test waits for 1,600 drawings."""
    drawn = []

    def write(folder, seed=doodles.DEFAULT_SEED, progress=None):
        drawn.append(seed)
        write_classes(folder, {f"{split}/{kind}": 2 for split in doodles.COUNTS for kind in ("cat", "dog")}, start=seed)
        if progress is not None:
            progress(12, 12)

    monkeypatch.setattr(doodles, "write_doodle_pets", write)
    return drawn


def test_find_dataset_opens_the_same_one(tmp_path):
    first = open_dataset(write_classes(tmp_path / "pets", {"a": 10, "b": 10}), seed=5)
    assert find_dataset("pets", first.fingerprint) == first


def test_find_tells_two_folders_of_one_name_apart(tmp_path):
    one = open_dataset(write_classes(tmp_path / "one" / "pets", SPLIT_COUNTS))
    two = open_dataset(write_classes(tmp_path / "two" / "pets", SPLIT_COUNTS, start=50))
    assert one.id == two.id == "pets"
    assert find_dataset("pets", one.fingerprint).root == one.root
    assert find_dataset("pets", two.fingerprint).root == two.root


def test_known_datasets_of_one_id_have_different_names(tmp_path, data):
    one = open_dataset(write_classes(tmp_path / "one" / "pets", SPLIT_COUNTS))
    two = open_dataset(write_classes(tmp_path / "two" / "pets", SPLIT_COUNTS, start=50))
    doodles_by_another = open_dataset(write_classes(tmp_path / "doodle-pets", SPLIT_COUNTS, start=90))
    (data / "pets.zip").write_bytes(b"")
    names = [row["name"] for row in known_datasets(everything=True)]
    assert names[:4] == ["doodle-pets", "cats-and-dogs-filtered", "dogs-vs-cats-full", "mnist"]
    assert sorted(names[4:]) == sorted(
        [
            f"doodle-pets {doodles_by_another.fingerprint[:8]}",
            f"pets {one.fingerprint[:8]}",
            f"pets {two.fingerprint[:8]}",
            "pets zip",
        ]
    )


def test_find_says_that_the_pictures_have_changed(tmp_path):
    first = open_dataset(write_classes(tmp_path / "pets", SPLIT_COUNTS))
    gradient(seed=90).save(first.root / "train/cats/0.jpg")
    with pytest.raises(DatasetError, match=f"'pets' are not those of fingerprint {first.fingerprint[:12]} any more"):
        find_dataset("pets", first.fingerprint)


def test_find_says_that_the_folder_is_gone(tmp_path):
    first = open_dataset(write_classes(tmp_path / "pets", SPLIT_COUNTS))
    shutil.rmtree(tmp_path / "pets")
    with pytest.raises(DatasetError, match="'pets' cannot be opened again: its folder or zip is no longer where") as it:
        find_dataset("pets", first.fingerprint)
    assert str(tmp_path) not in str(it.value)
    with pytest.raises(DatasetError, match=r"cannot be opened again: .* not downloaded yet"):
        find_dataset("cats-and-dogs-filtered", "abcdef")


def test_no_path_of_this_machine_in_what_find_says(tmp_path):
    """The sentence goes into run.json and onto a page."""
    first = open_dataset(write_classes(tmp_path / "pets", SPLIT_COUNTS))
    shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path / "pets")
    packed = open_dataset(tmp_path / "packed.zip")
    (tmp_path / "packed.zip").write_bytes(b"no zip any more")
    shutil.rmtree(tmp_path / "pets" / "train" / "dogs")
    for dataset in (first, packed):
        with pytest.raises(DatasetError) as it:
            find_dataset(dataset.id, dataset.fingerprint)
        assert str(tmp_path) not in str(it.value)
        assert "/" not in str(it.value).replace("pets/train", "").replace("train/", "").replace("validation/", "")


def test_what_was_opened_from_elsewhere_is_not_listed_to_browsers(tmp_path, data):
    private = open_dataset(write_classes(tmp_path / "private", SPLIT_COUNTS))
    shared = open_dataset(write_classes(data / "lesson" / "shared", SPLIT_COUNTS, start=50))
    listed = {row["id"]: row for row in known_datasets()}
    assert shared.id in listed
    assert not listed[shared.id]["upload"]
    assert private.id not in listed
    assert str(tmp_path / "private") not in str(listed)
    assert private.id in [row["id"] for row in known_datasets(everything=True)]
    assert find_dataset(private.id, private.fingerprint) == private


def test_find_says_that_it_never_knew(cache):
    with pytest.raises(DatasetError, match="No dataset 'birds' with fingerprint abcdef here"):
        find_dataset("birds", "abcdef")


def test_find_looks_in_the_data_folder_too(data, cache):
    """As on another machine that has the same folder but never opened it."""
    first = open_dataset(write_classes(data / "Pets", SPLIT_COUNTS))
    shutil.rmtree(cache)
    assert find_dataset("pets", first.fingerprint).fingerprint == first.fingerprint


def test_damaged_index_entries_are_passed_over(tmp_path, cache):
    first = open_dataset(write_classes(tmp_path / "pets", SPLIT_COUNTS))
    index = cache / "datasets" / "index"
    (index / "half.json").write_text('{"id": "pe')
    (index / "list.json").write_text("[]")
    (index / "other.json").write_text(json.dumps({"id": 3}))
    assert find_dataset("pets", first.fingerprint) == first
    assert [entry["id"] for entry in known_datasets(everything=True)].count("pets") == 1


def test_known_datasets_before_anything_was_opened(cache):
    rows = {row["id"]: row for row in known_datasets()}
    assert list(rows) == ["doodle-pets", "cats-and-dogs-filtered", "dogs-vs-cats-full", "mnist"]
    assert rows["doodle-pets"]["kind"] == "drawn"
    assert rows["doodle-pets"]["available"]
    assert rows["cats-and-dogs-filtered"]["kind"] == "download"
    assert not rows["cats-and-dogs-filtered"]["available"]
    assert rows["cats-and-dogs-filtered"]["bytes"] == 68_606_236
    assert rows["dogs-vs-cats-full"]["bytes"] is None
    assert rows["doodle-pets"]["fingerprint"] is None
    assert not any(cache.iterdir())  # listing writes nothing


def test_known_datasets_shows_a_changed_folder_once(tmp_path):
    root = write_classes(tmp_path / "pets", SPLIT_COUNTS)
    open_dataset(root)
    gradient(seed=90).save(root / "train/cats/0.jpg")
    latest = open_dataset(root)
    rows = [row for row in known_datasets(everything=True) if row["id"] == "pets"]
    assert [(row["kind"], row["available"], row["fingerprint"]) for row in rows] == [
        ("folder", True, latest.fingerprint)
    ]
    shutil.rmtree(root)
    assert [row["available"] for row in known_datasets(everything=True) if row["id"] == "pets"] == [False]


def test_download_that_is_not_here_says_where_to_put_it():
    with pytest.raises(
        DatasetError, match=r"not downloaded yet \(68\.6 MB\).*cats_and_dogs_filtered\.zip .*CVCORE_DATA"
    ):
        open_dataset("cats-and-dogs-filtered")
    with pytest.raises(DatasetError, match="size not published"):
        open_dataset("dogs-vs-cats-full")
    with pytest.raises(DatasetError, match=r"not downloaded yet \(11\.5 MB\).*mnist\.npz from https.*CVCORE_DATA"):
        open_dataset("mnist")


def test_download_is_taken_from_the_data_folder_first(data, tmp_path):
    source = write_classes(tmp_path / "source" / "cats_and_dogs_filtered", {"train/cats": 5, "train/dogs": 5})
    shutil.make_archive(str(data / "cats_and_dogs_filtered"), "zip", source.parent)
    dataset = open_dataset("cats-and-dogs-filtered")
    assert (dataset.id, dataset.title) == ("cats-and-dogs-filtered", "Cats and dogs, filtered")
    row = next(row for row in known_datasets() if row["id"] == "cats-and-dogs-filtered")
    assert row["available"]
    assert row["fingerprint"] == dataset.fingerprint
    by_path = open_dataset(data / "cats_and_dogs_filtered.zip")
    assert (by_path.id, by_path.fingerprint) == (dataset.id, dataset.fingerprint)
    assert [row["id"] for row in known_datasets()].count("cats-and-dogs-filtered") == 1


@pytest.mark.parametrize("id", ["cats-and-dogs-filtered", "mnist"])
def test_download_that_lies_there_unpacked_is_opened_by_its_id(id, data, tmp_path):
    elsewhere = write_classes(tmp_path / id, SPLIT_COUNTS)
    with pytest.raises(DatasetError, match="not downloaded yet"):
        open_dataset(id)
    first = open_dataset(elsewhere)
    assert open_dataset(id) == first
    shutil.move(elsewhere, data / id.replace("-", "_"))
    found = open_dataset(id)
    assert (found.id, found.fingerprint) == (id, first.fingerprint)
    assert found.root == data / id.replace("-", "_") and find_dataset(id, first.fingerprint).root == found.root


# by id


def test_what_was_opened_before_can_be_named_by_its_id(tmp_path):
    first = open_dataset(write_classes(tmp_path / "My pets", SPLIT_COUNTS))
    assert open_dataset("my-pets") == first
    shutil.rmtree(tmp_path / "My pets")
    with pytest.raises(DatasetError, match="No dataset, folder or zip named 'my-pets'"):
        open_dataset("my-pets")


def test_what_lies_in_the_data_folder_can_be_named_by_its_id(data):
    write_classes(data / "Dogs_vs_cats_tiny", SPLIT_COUNTS)
    assert open_dataset("dogs-vs-cats-tiny").id == "dogs-vs-cats-tiny"


def test_an_id_of_two_datasets_names_neither(tmp_path):
    for name in ("one", "two"):
        open_dataset(write_classes(tmp_path / name / "Pets!", SPLIT_COUNTS))
    with pytest.raises(DatasetError, match="2 datasets are called 'pets'; name the folder or file"):
        open_dataset("pets")


def test_a_folder_of_that_name_comes_before_what_was_opened(tmp_path, monkeypatch):
    open_dataset(write_classes(tmp_path / "one" / "pets", SPLIT_COUNTS))
    here = write_classes(tmp_path / "two" / "pets", SPLIT_COUNTS, start=50)
    monkeypatch.chdir(here.parent)
    assert open_dataset("pets").root == here


def test_a_browser_names_nothing_by_id(data, tmp_path):
    open_dataset(write_classes(tmp_path / "private", SPLIT_COUNTS))
    with pytest.raises(DatasetError, match="No dataset, folder or zip named 'private'"):
        open_dataset("private", within=data)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_subset_that_is_not_here_says_how_to_make_it(layout):
    id = layout.replace("_", "-")
    with pytest.raises(DatasetError, match=rf"No dataset '{id}' here; .* make-small SOURCE FOLDER/{layout} --layout"):
        open_dataset(id)


# what a browser may name


def test_folders_below_the_data_folder_may_be_named(data):
    write_classes(data / "lesson" / "pets", SPLIT_COUNTS)
    assert open_dataset("lesson/pets", within=data).id == "pets"
    assert open_dataset(str(data / "lesson" / "pets"), within=data).id == "pets"


@pytest.mark.parametrize("name", ["../outside", "/etc", "", ".", "link", "lesson/../../outside", "~", "nul\0"])
def test_nothing_else_may_be_named(data, tmp_path, name):
    write_classes(tmp_path / "outside", SPLIT_COUNTS)
    (data / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(DatasetError, match=r"Only folders below CVCORE_DATA|No dataset, folder or zip"):
        open_dataset(name, within=data)


def test_links_out_of_the_data_folder_are_skipped(data, tmp_path):
    outside = write_classes(tmp_path / "outside", {"secret": 4})
    root = write_classes(data / "pets", {"a": 5, "b": 5})
    (root / "a" / "secret.jpg").symlink_to(outside / "secret" / "0.jpg")
    (root / "c").symlink_to(outside / "secret")
    (root / "b" / "own.jpg").symlink_to(root / "a" / "0.jpg")
    dataset = open_dataset("pets", within=data)
    assert dataset.class_names == ("a", "b")
    assert dict(dataset.skipped) == {
        "a/secret.jpg": "link that leads out of the data folder",
        "c": "link that leads out of the data folder",
    }
    assert open_dataset(root) == dataset  # the same on the command line, so that the fingerprint is one
    shutil.copytree(root, tmp_path / "elsewhere", symlinks=True)
    assert open_dataset(tmp_path / "elsewhere").class_names == ("a", "b", "c")


def test_known_datasets_lists_what_lies_in_the_data_folder(data):
    write_classes(data / "My Pets", SPLIT_COUNTS)
    (data / "cats_and_dogs_filtered.zip").write_bytes(b"listed as the download that it is")

    def rows():
        return [(row["id"], row["kind"], row["available"]) for row in known_datasets()]

    expected = [
        ("doodle-pets", "drawn", True),
        ("cats-and-dogs-filtered", "download", True),
        ("dogs-vs-cats-full", "download", False),
        ("mnist", "download", False),
        ("my-pets", "folder", True),
    ]
    assert rows() == expected
    open_dataset(next(row["source"] for row in known_datasets() if row["id"] == "my-pets"))
    assert rows() == expected


def test_choices_are_folders_and_zips_inside(data, tmp_path):
    assert data_choices() == []
    (data / "pets").mkdir()
    (data / "b.zip").write_bytes(b"")
    (data / "notes.txt").write_text("")
    (data / ".hidden").mkdir()
    (tmp_path / "outside").mkdir()
    (data / "link").symlink_to(tmp_path / "outside")
    assert [path.name for path in data_choices()] == ["b.zip", "pets"]


def test_choices_without_a_data_folder(monkeypatch, tmp_path):
    assert data_choices() == []
    monkeypatch.setenv("CVCORE_DATA", str(tmp_path / "nothing"))
    assert data_choices() == []


# drawings


def test_doodles_are_drawn_once_and_found(few_doodles):
    calls = []
    dataset = open_dataset("doodle-pets", progress=lambda *call: calls.append(call))
    assert calls[0] == (12, 12)
    assert (dataset.id, dataset.drawn, dataset.class_names) == ("doodle-pets", True, ("cat", "dog"))
    assert "drawings" in dataset.title
    assert open_dataset("doodle-pets") == dataset
    assert find_dataset("doodle-pets", dataset.fingerprint) == dataset
    assert few_doodles == [doodles.DEFAULT_SEED]


def test_fresh_drawings_of_another_generator_seed(few_doodles):
    default, fresh = open_dataset("doodle-pets"), open_dataset("doodle-pets-7")
    assert fresh.id == "doodle-pets-7"
    assert fresh.fingerprint != default.fingerprint
    assert find_dataset("doodle-pets-7", fresh.fingerprint) == fresh
    assert open_dataset(f"doodle-pets-{doodles.DEFAULT_SEED}").id == "doodle-pets"
    assert few_doodles == [doodles.DEFAULT_SEED, 7]
    assert [row["id"] for row in known_datasets() if row["kind"] == "drawn"] == ["doodle-pets", "doodle-pets-7"]


def test_doodles_are_found_on_a_machine_that_never_drew_them(few_doodles, cache):
    fingerprint = open_dataset("doodle-pets-7").fingerprint
    shutil.rmtree(cache)
    assert find_dataset("doodle-pets-7", fingerprint).fingerprint == fingerprint


def test_drawings_of_an_older_generator_are_not_used(few_doodles, cache, monkeypatch, tmp_path):
    open_dataset("doodle-pets")
    newer = tmp_path / "doodles.py"
    newer.write_text("another generator")
    monkeypatch.setattr(doodles, "__file__", str(newer))
    open_dataset("doodle-pets")
    assert len(few_doodles) == 2


def test_disk_full_while_drawing_leaves_nothing(cache, monkeypatch):
    def write(folder, seed, progress):
        (folder / "train").mkdir()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(doodles, "write_doodle_pets", write)
    with pytest.raises(DatasetError, match="The drawings could not be written"):
        open_dataset("doodle-pets")
    assert list((cache / "datasets").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [("Pets", "pets"), ("cats_and_dogs_filtered", "cats-and-dogs-filtered"), ("É!", "dataset"), ("x" * 60, "x" * 40)],
)
def test_slug(name, expected):
    assert catalogue.slug(name) == expected
