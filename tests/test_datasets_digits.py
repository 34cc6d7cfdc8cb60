"""MNIST's npz: which digit lands where, the same bytes on every machine, and what is refused before it is read."""

import io
import pickle
import struct
import zipfile

import numpy as np
import pytest
from handmade_pictures import digits_npz
from PIL import Image

from cvcore.datasets import digits, find_dataset, known_datasets, open_dataset, pixels, report
from cvcore.datasets.digits import png, read_digits
from cvcore.errors import DatasetError


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("CVCORE_CACHE", str(folder))
    monkeypatch.delenv("CVCORE_DATA", raising=False)
    return folder


@pytest.fixture
def npz(tmp_path):
    path = tmp_path / "mnist.npz"
    path.write_bytes(digits_npz())
    return path


def digits_in(cache):
    return [path.name for path in (cache / "datasets").glob("*digits*")] if (cache / "datasets").is_dir() else []


def test_every_digit_becomes_the_picture_of_its_index(npz):
    dataset = open_dataset(npz)
    assert dataset.id == "mnist"
    assert dataset.class_names == tuple("0123456789")
    assert {split: sum(of_class.values()) for split, of_class in dataset.counts.items()} == {
        "train": 90, "validation": 10, "test": 20,
    }  # fmt: skip
    with np.load(npz) as arrays:
        for picture in dataset.pictures:
            part = "test" if picture.split == "test" else "train"
            index = int(picture.path.rpartition("/")[2].removesuffix(".png"))
            assert picture.path == f"{picture.split}/{arrays[f'y_{part}'][index]}/{index:05}.png"
            assert (index >= 90) == (picture.split == "validation") or part == "test"
            with Image.open(dataset.root / picture.path) as image:
                assert (image.mode, image.size) == ("L", (28, 28))
                assert np.array_equal(np.asarray(image), arrays[f"x_{part}"][index])


def test_validation_is_the_part_that_keras_holds_out():
    """60,000 digits: `Model.fit(validation_split=0.1)` trains on the first 54,000."""
    names = digits._files({"x_train": np.zeros(60_000), "y_train": np.zeros(60_000, int),
                           "x_test": np.zeros(1), "y_test": np.zeros(1, int)})  # fmt: skip
    splits = [name.partition("/")[0] for name, _ in names]
    assert splits == ["train"] * 54_000 + ["validation"] * 6_000 + ["test"]


def test_greys_come_back_as_they_were(npz):
    dataset = open_dataset(npz)
    array = pixels(dataset, "test", 28, "nearest", False, color_mode="grayscale")
    with np.load(npz) as arrays:
        for row, picture in zip(array, dataset.split("test"), strict=True):
            assert np.array_equal(row[..., 0], arrays["x_test"][int(picture.path[-9:-4])])


def test_written_once_with_progress(npz, monkeypatch):
    calls = []
    first = open_dataset(npz, progress=lambda *call: calls.append(call))
    assert calls[:120] == [(done, 120) for done in range(1, 121)]
    monkeypatch.setattr(digits, "read_digits", None)
    again = open_dataset(npz, progress=lambda *call: calls.append(call))
    assert again == first
    assert len(calls) == 240  # 120 pictures written, 120 checked; nothing of either the second time


def test_fingerprint_does_not_depend_on_the_machine(npz):
    """Known bytes: no compression library has a say in them, so that a run recorded elsewhere finds its digits."""
    known = (
        "89504e470d0a1a0a 0000000d 49484452 00000002 00000001 08 00 00 00 00 d1492056"
        "0000000e 49444154 7801 01 0300 fcff 00 00ff 01020100 b7012ef7 00000000 49454e44 ae426082"
    )
    assert png(np.array([[0, 255]], np.uint8)) == bytes.fromhex(known)
    one = open_dataset(npz)
    packed_otherwise = npz.with_name("other.npz")
    with np.load(npz) as arrays:
        np.savez(packed_otherwise, **arrays)
    other = open_dataset(packed_otherwise)
    assert (other.id, other.fingerprint) == ("other", one.fingerprint)
    assert other.root != one.root


def test_by_id_from_the_data_folder_and_found_again(npz, monkeypatch, cache):
    by_path = open_dataset(npz)
    monkeypatch.setenv("CVCORE_DATA", str(npz.parent))
    dataset = open_dataset("mnist")
    assert (dataset.id, dataset.title) == ("mnist", "MNIST, handwritten digits")
    assert dataset.fingerprint == by_path.fingerprint
    assert find_dataset("mnist", dataset.fingerprint) == dataset
    rows = [row for row in known_datasets() if row["id"] == "mnist"]
    assert [(row["kind"], row["available"], row["bytes"]) for row in rows] == [("download", True, 11_490_434)]


def test_another_npz_in_the_data_folder_is_listed_and_found(npz, monkeypatch):
    npz.rename(npz.with_name("Fashion.npz"))
    monkeypatch.setenv("CVCORE_DATA", str(npz.parent))
    row = next(row for row in known_datasets() if row["id"] == "fashion")
    assert (row["kind"], row["title"], row["available"]) == ("npz", "Fashion", True)
    dataset = open_dataset(row["source"])
    assert find_dataset("fashion", dataset.fingerprint) == dataset
    assert [row["kind"] for row in known_datasets() if row["id"] == "fashion"] == ["npz"]


def test_notes_say_how_it_was_split_and_that_it_is_another_file(npz):
    notes = report(open_dataset(npz))["notes"]
    assert notes == [
        "The last 10 % of the training digits are the validation split, as Keras' validation_split=0.1 takes it.",
        "This is not the file that Keras publishes: its SHA-256 is another.",
    ]


def test_a_file_changed_in_place_is_read_anew(npz):
    first = open_dataset(npz)
    npz.write_bytes(digits_npz(train=200))
    assert len(open_dataset(npz).pictures) == len(first.pictures) + 100


# refused


def member(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def header(descr: str, shape: str, version: bytes = b"\x01\x00") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    length = struct.pack("<H" if version == b"\x01\x00" else "<I", len(text))
    return b"\x93NUMPY" + version + length + text


def npz_with(**members: bytes) -> bytes:
    """A sound npz in which some members are other bytes, or left out where they are empty."""
    with zipfile.ZipFile(io.BytesIO(digits_npz())) as sound:
        found = {info.filename: sound.read(info) for info in sound.infolist()}
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in (found | {f"{name}.npy": data for name, data in members.items()}).items():
            if data:
                archive.writestr(name, data)
    return stream.getvalue()


class Harmful:
    def __reduce__(self):
        return open, ("unpickled.txt", "w")


HUGE = header("'|u1'", "(1000000000000, 28, 28)")
REFUSED = {
    "no zip": (b"words", "is not an .npz file of numpy"),
    "empty": (b"", "is not an .npz file of numpy"),
    "one array": (member(np.zeros((5, 28, 28), np.uint8)), "is not an .npz file of numpy"),
    "cut short": (digits_npz()[:-100], "is not an .npz file of numpy"),
    "array missing": (npz_with(y_test=b""), "must hold the arrays x_train, y_train, x_test, y_test; .* has no y_test"),
    "colours": (digits_npz(x_test=np.zeros((20, 28, 28, 3), np.uint8)), r"x_test must be uint8 of shape \(n, 28, 28\)"),
    "other size": (digits_npz(x_train=np.zeros((100, 32, 32), np.uint8)), r"x_train must be .* \(100, 32, 32\)"),
    "floats": (digits_npz(x_train=np.zeros((100, 28, 28), np.float32)), "x_train must be uint8 .* is float32"),
    "one-hot labels": (digits_npz(y_train=np.zeros((100, 10), np.uint8)), r"y_train must be whole numbers of shape"),
    "labels in words": (digits_npz(y_test=np.array(["seven"] * 20)), "y_test must be whole numbers"),
    "labels too high": (digits_npz(y_test=np.full(20, 10)), "y_test must hold whole numbers 0 to 9; .* 10 to 10"),
    "labels below": (digits_npz(y_train=np.full(100, -1)), "y_train must hold whole numbers 0 to 9; .* -1 to -1"),
    "fewer labels": (digits_npz(y_train=np.zeros(99, int)), "one label; .* has 100 train digits and 99 labels"),
    "no digits": (digits_npz(x_test=np.zeros((0, 28, 28), np.uint8)), "x_test must be .*, n from 1 to 100,000"),
    "a number": (npz_with(y_test=member(np.array(3))), r"y_test must be .* of shape \(\)"),
    "declares terabytes": (npz_with(x_train=HUGE), "x_train must be .*, n from 1 to 100,000"),
    "negative": (npz_with(x_train=header("'|u1'", "(-1, 28, 28)")), "x_train must be"),
    "too little inside": (npz_with(x_train=header("'|u1'", "(100, 28, 28)") + b"few"), "is damaged"),
    "objects": (npz_with(y_test=header("'|O'", "(20,)") + pickle.dumps(Harmful())), "y_test must be .* is object"),
    "nested header": (npz_with(x_test=header("'|u1'", "(" * 3000 + ")" * 3000)), "is damaged"),
    "header of megabytes": (npz_with(x_test=header(f"'{'x' * 10**6}'", "()", b"\x02\x00")), "is damaged"),
    "no header": (npz_with(x_test=b"words"), "is damaged"),
    "format of the future": (npz_with(x_test=header("'|u1'", "(20, 28, 28)", b"\x09\x00")), "is damaged"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_sentence_and_nothing_is_kept(name, tmp_path, cache, monkeypatch):
    data, message = REFUSED[name]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "set.npz").write_bytes(data)
    with pytest.raises(DatasetError, match=message) as error:
        open_dataset(tmp_path / "set.npz")
    assert "\n" not in str(error.value)
    assert str(tmp_path) not in str(error.value)
    assert len(str(error.value)) < 300
    assert digits_in(cache) == []
    assert not (tmp_path / "unpickled.txt").exists()


def test_an_array_hidden_behind_anothers_name_is_not_read(tmp_path):
    """`np.load` takes both members for x_train and reads the last one, whose header nobody has checked."""
    data = io.BytesIO(digits_npz())
    with zipfile.ZipFile(data, "a") as archive:
        archive.writestr("x_train", HUGE)
    (tmp_path / "set.npz").write_bytes(data.getvalue())
    assert read_digits(tmp_path / "set.npz")["x_train"].shape == (100, 28, 28)


def test_packed_with_a_method_that_unpacks_without_bounds(tmp_path):
    with zipfile.ZipFile(io.BytesIO(digits_npz())) as sound, zipfile.ZipFile(tmp_path / "set.npz", "w") as archive:
        for info in sound.infolist():
            archive.writestr(info.filename, sound.read(info), zipfile.ZIP_LZMA)
    with pytest.raises(DatasetError, match=r"set\.npz is encrypted or packed otherwise than numpy does"):
        open_dataset(tmp_path / "set.npz")


def test_too_many_members(tmp_path):
    with zipfile.ZipFile(tmp_path / "set.npz", "w") as archive:
        for number in range(101):
            archive.writestr(f"{number}.npy", b"")
    with pytest.raises(DatasetError, match=r"at most 100 files; set\.npz has more"):
        open_dataset(tmp_path / "set.npz")


def test_too_large_a_file_is_refused_before_it_is_read(tmp_path):
    with (tmp_path / "set.npz").open("wb") as stream:
        stream.truncate(200_000_001)
    with pytest.raises(DatasetError, match=r"at most 200 MB; set\.npz is 200 MB"):
        open_dataset(tmp_path / "set.npz")


def test_a_class_that_validation_lacks(npz, cache):
    npz.write_bytes(digits_npz(train=40))
    with pytest.raises(DatasetError, match=r"Too few pictures: .* class '0' has 0 in validation"):
        open_dataset(npz)


def test_disk_full_leaves_nothing(npz, cache, monkeypatch):
    def full(stream, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(digits, "_write_whole", full)
    with pytest.raises(DatasetError, match=r"pictures of mnist\.npz could not be written .*no space left on device"):
        open_dataset(npz)
    assert list((cache / "datasets").iterdir()) == []


def test_no_room_is_said_before_writing(npz, cache, monkeypatch):
    usage = digits.shutil.disk_usage("/")
    monkeypatch.setattr(digits.shutil, "disk_usage", lambda _: usage._replace(free=10_000))
    with pytest.raises(DatasetError, match="needs 0 MB as pictures and the cache folder has 0 MB free"):
        open_dataset(npz)
    assert list((cache / "datasets").iterdir()) == []


def test_an_interruption_leaves_nothing(npz, cache):
    def stop(done, total):
        if done == 50:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_dataset(npz, progress=stop)
    assert list((cache / "datasets").iterdir()) == []
    assert len(open_dataset(npz).pictures) == 120
