"""Decoded pixels: right rows, decoded once, safe against a full disk, changed files and two processes."""

import contextlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from handmade_pictures import SPLIT_COUNTS, gradient, write_classes
from PIL import Image

from cvcore import cache_entries, filling
from cvcore.datasets import load_picture, open_dataset, pictures, pixel_cache, pixels, resize
from cvcore.datasets.pixel_cache import pixels_path
from cvcore.errors import DatasetError


@pytest.fixture
def dataset(tmp_path_factory, tmp_path, monkeypatch):
    monkeypatch.setenv("CVCORE_CACHE", str(tmp_path_factory.mktemp("cache")))
    return open_dataset(write_classes(tmp_path / "set", SPLIT_COUNTS))


def test_rows_are_the_pictures_in_order(dataset):
    for interpolation, antialias in [("nearest", False), ("bilinear", False), ("bilinear", True)]:
        array = pixels(dataset, "train", 12, interpolation, antialias)
        assert isinstance(array, np.memmap)
        assert array.shape == (8, 12, 12, 3)
        assert array.dtype == np.uint8
        for row, picture in zip(array, dataset.split("train"), strict=True):
            image = load_picture(dataset.root / picture.path)
            assert np.array_equal(row, resize(image, 12, interpolation, antialias))


def test_greys_are_those_of_pillow_taken_before_the_resize(dataset, monkeypatch):
    monkeypatch.setattr(pictures, "BAND_PIXELS", 24 * 5)  # so that a picture of 24 x 16 is turned grey in four bands
    array = pixels(dataset, "train", 12, "nearest", False, color_mode="grayscale")
    assert array.shape == (8, 12, 12, 1)
    assert array.dtype == np.uint8
    averaged = pixels(dataset, "train", 12, "bilinear", True, color_mode="grayscale")
    mixed = pixels(dataset, "train", 12, "bilinear", False, color_mode="grayscale")
    for row, picture in enumerate(dataset.split("train")):
        image = load_picture(dataset.root / picture.path).convert("L")
        assert np.array_equal(array[row, ..., 0], np.asarray(image.resize((12, 12), Image.Resampling.NEAREST)))
        assert np.array_equal(averaged[row, ..., 0], np.asarray(image.resize((12, 12), Image.Resampling.BILINEAR)))
        assert np.array_equal(mixed[row], resize(image.convert("RGB"), 12, "bilinear", False)[..., :1])


def test_greys_have_a_file_of_their_own_and_colours_keep_theirs(dataset):
    in_colour = pixels(dataset, "test", 12, "nearest", False)
    assert pixels(dataset, "test", 12, "nearest", False, color_mode="grayscale").shape[-1] == 1
    assert pixels(dataset, "test", 12, "nearest", False, color_mode="rgb").filename == in_colour.filename
    names = {pixels_path(dataset, "test", 12, "nearest", False, mode).name for mode in ("rgb", "grayscale")}
    assert names == {"test-12-nearest-v1.npy", "test-12-nearest-grayscale-v1.npy"}


def test_an_unknown_color_mode(dataset):
    with pytest.raises(DatasetError, match="color_mode must be rgb or grayscale; received 'rgba'"):
        pixels(dataset, "train", 12, "nearest", False, color_mode="rgba")


@pytest.mark.parametrize(("color_mode", "mode"), [("rgb", "RGB"), ("grayscale", "RGB"), ("grayscale", "L")])
def test_nearest_of_jpeg_files_equals_keras_load_img(dataset, tmp_path, color_mode, mode):
    """As the first edition's ImageDataGenerator read them, colour and grey files alike."""
    keras_utils = pytest.importorskip("keras").utils
    for kind in ("a", "b"):
        (tmp_path / "jpegs" / kind).mkdir(parents=True)
        for n in range(7):
            gradient(61, 47, seed=n).convert(mode).save(tmp_path / "jpegs" / kind / f"{n}.jpg")
    jpegs = open_dataset(tmp_path / "jpegs")
    options = {"interpolation": "nearest", "color_mode": color_mode}
    for row, picture in zip(pixels(jpegs, "train", 28, antialias=False, **options), jpegs.split("train"), strict=True):
        loaded = keras_utils.load_img(jpegs.root / picture.path, target_size=(28, 28), **options)
        assert np.array_equal(row, keras_utils.img_to_array(loaded, dtype="uint8"))


def test_bilinear_of_a_folder_equals_keras_directory_loader(dataset, tmp_path):
    """As the second edition read them. PNGs: TensorFlow decodes a JPEG by a faster transform, up to 4 levels off."""
    keras_utils = pytest.importorskip("keras").utils
    for kind in ("a", "b"):
        (tmp_path / "pngs" / "train" / kind).mkdir(parents=True)
        (tmp_path / "pngs" / "validation" / kind).mkdir(parents=True)
        for n in range(4):
            split = "train" if n else "validation"
            gradient(61, 47, seed=n).save(tmp_path / "pngs" / split / kind / f"{kind}{n}.png")
    pngs = open_dataset(tmp_path / "pngs")
    theirs = keras_utils.image_dataset_from_directory(
        tmp_path / "pngs" / "train", image_size=(36, 36), batch_size=None, shuffle=False, verbose=False
    )
    rows = pixels(pngs, "train", 36, "bilinear", False)
    found = [(image.numpy(), int(label)) for image, label in theirs]
    assert [label for _, label in found] == pngs.labels("train").tolist()
    for row, (image, _) in zip(rows, found, strict=True):
        assert np.abs(row - image).max() <= 0.501  # rounding to integers


def test_map_cannot_be_written(dataset):
    with pytest.raises(ValueError, match="read-only"):
        pixels(dataset, "train", 12, "bilinear", False)[0] = 0


def test_second_call_decodes_nothing(dataset, monkeypatch):
    first = pixels(dataset, "train", 12, "bilinear", False)
    monkeypatch.setattr(pixel_cache, "checked_picture", None)
    calls = []
    again = pixels(dataset, "train", 12, "bilinear", False, progress=lambda *call: calls.append(call))
    assert np.array_equal(first, again)
    assert calls == []


def test_each_choice_has_its_own_file(dataset):
    paths = {
        pixels_path(dataset, *choice)
        for choice in [
            ("train", 12, "bilinear", False),
            ("train", 12, "bilinear", True),
            ("train", 12, "nearest", False),
            ("train", 13, "bilinear", False),
            ("test", 12, "bilinear", False),
        ]
    }
    assert len(paths) == 5


def test_progress_counts_every_picture(dataset):
    calls = []
    pixels(dataset, "validation", 8, "nearest", False, progress=lambda *call: calls.append(call))
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_missing_split(dataset, tmp_path):
    other = open_dataset(write_classes(tmp_path / "other", {"train/a": 5, "train/b": 5}))
    with pytest.raises(DatasetError, match="other has no test split"):
        pixels(other, "test", 8, "nearest", False)


@pytest.mark.parametrize(("size", "interpolation", "antialias"), [(0, "nearest", False), (8, "cubic", False)])
def test_impossible_choices(dataset, size, interpolation, antialias):
    with pytest.raises(DatasetError):
        pixels(dataset, "train", size, interpolation, antialias)


def files_below(dataset):
    folder = pixels_path(dataset, "train", 8, "nearest", False).parent
    return list(folder.iterdir()) if folder.is_dir() else []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.unlink(), "train/dogs/5.jpg of set could be read .* now cannot .cannot be read"),
        (lambda path: path.write_bytes(path.read_bytes()[:400]), "now cannot .not a picture"),
        (lambda path: gradient(seed=200).save(path), "train/dogs/5.jpg of set has changed since"),
    ],
)
def test_a_file_changed_after_opening_is_one_sentence_and_no_half_file(dataset, change, message):
    change(dataset.root / "train/dogs/5.jpg")
    with pytest.raises(DatasetError, match=message) as error:
        pixels(dataset, "train", 8, "nearest", False)
    assert "\n" not in str(error.value)
    assert files_below(dataset) == []


def test_disk_full_is_one_sentence_and_no_half_file(dataset, monkeypatch):
    write, written = filling._write, []

    def full(stream, data):
        written.append(len(data))
        if sum(written) > 500:
            raise OSError(28, "No space left on device")
        write(stream, data)

    monkeypatch.setattr(filling, "_write", full)
    with pytest.raises(DatasetError, match=r"decoded pictures could not be written .*no space left on device"):
        pixels(dataset, "train", 8, "nearest", False)
    assert files_below(dataset) == []


def test_no_room_is_said_before_decoding(dataset, monkeypatch):
    usage = shutil.disk_usage("/")
    monkeypatch.setenv("CVCORE_CACHE_LIMIT", "1")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000))
    with pytest.raises(DatasetError, match=r"need 0.1 MB and the disk of the cache folder has 0.0 MB free"):
        pixels(dataset, "train", 64, "nearest", False)


def test_what_was_decoded_before_an_interruption_is_not_decoded_again(dataset):
    def stop(done, total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pixels(dataset, "train", 8, "nearest", False, progress=stop)
    assert sorted(path.suffix for path in files_below(dataset)) == [".json", ".part"]
    (entry,) = cache_entries.entries()
    assert not entry.whole and entry.words.endswith("unfinished")
    decoded = []
    array = pixels(dataset, "train", 8, "nearest", False, on_decoded=decoded.append)
    assert sum(decoded) == 5 and sorted(path.suffix for path in files_below(dataset)) == [".json", ".npy"]
    for row, picture in zip(array, dataset.split("train"), strict=True):
        assert np.array_equal(row, resize(load_picture(dataset.root / picture.path), 8, "nearest", False))


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY\x01\x00", b"words"])
def test_a_damaged_map_is_made_again(dataset, damage):
    path = pixels_path(dataset, "train", 8, "nearest", False)
    whole = np.array(pixels(dataset, "train", 8, "nearest", False))
    path.write_bytes(damage)
    assert np.array_equal(pixels(dataset, "train", 8, "nearest", False), whole)


def test_a_map_cut_short_is_made_again(dataset):
    path = pixels_path(dataset, "train", 8, "nearest", False)
    whole = np.array(pixels(dataset, "train", 8, "nearest", False))
    path.write_bytes(path.read_bytes()[:-10])
    assert np.array_equal(pixels(dataset, "train", 8, "nearest", False), whole)


DECODE_SLOWLY = """
import sys
from cvcore import filling
from cvcore.datasets import open_dataset, pixels
filling.RECORD_EVERY = 0.0
def progress(done, pictures):
    print(done, flush=True)
    sys.stdin.readline()
pixels(open_dataset(sys.argv[1]), "train", 8, "nearest", False, progress=progress)
print("done", flush=True)
"""


@contextlib.contextmanager
def another_process(dataset):
    """A process that decodes the same, a picture for each line it is sent, and has decoded the first."""
    child = subprocess.Popen([sys.executable, "-c", DECODE_SLOWLY, str(dataset.root)], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True)  # fmt: skip
    try:
        assert child.stdout.readline() == "1\n"
        yield child
    finally:
        child.kill()
        child.communicate()


def test_who_wants_the_same_waits_with_its_progress_and_decodes_the_rest_when_the_other_is_killed(dataset):
    seen, decoded = [], []

    def progress(done, pictures):
        seen.append((done, pictures))
        if len(seen) == 2:
            child.kill()

    with another_process(dataset) as child:
        array = pixels(dataset, "train", 8, "nearest", False, progress=progress, on_decoded=decoded.append)
    assert seen[:2] == [(1, 8), (1, 8)] and seen[-1] == (8, 8) and sum(decoded) == 7
    for row, picture in zip(array, dataset.split("train"), strict=True):
        assert np.array_equal(row, resize(load_picture(dataset.root / picture.path), 8, "nearest", False))


def test_who_waits_takes_what_the_other_has_decoded(dataset):
    seen, decoded = [], []

    def progress(done, pictures):
        seen.append(done)
        if len(seen) == 1:
            child.stdin.write("\n" * 8)
            child.stdin.flush()
            assert child.stdout.readlines()[-1] == "done\n"

    with another_process(dataset) as child:
        pixels(dataset, "train", 8, "nearest", False, progress=progress, on_decoded=decoded.append)
    assert seen[0] == 1 and decoded == []
    assert sorted(path.suffix for path in files_below(dataset)) == [".json", ".npy"]


def test_importing_datasets_loads_nothing_heavy():
    heavy = ("pandas", "streamlit", "tensorflow", "keras", "scipy")
    script = f"import sys, cvcore.datasets; print([name for name in {heavy} if name in sys.modules])"
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"
