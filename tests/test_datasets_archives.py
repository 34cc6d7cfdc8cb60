"""Zips, most of them hostile: what is unpacked, what is skipped, what is refused, and what stays behind (nothing)."""

import io
import os
import stat
import struct
import time
import warnings
import zipfile
from pathlib import Path

import pytest
from handmade_pictures import SPLIT_COUNTS, encoded, gradient, write_classes

from cvcore.datasets import add_upload, archives, catalogue, open_dataset, uploads
from cvcore.datasets.archives import LOCAL, Limits, unpack
from cvcore.errors import DatasetError


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("CVCORE_CACHE", str(folder))
    monkeypatch.delenv("CVCORE_DATA", raising=False)
    return folder


def pictures(root: str = "") -> dict[str, bytes]:
    return {f"{root}{kind}/{n}.png": encoded(gradient(seed=n), "PNG") for kind in ("cat", "dog") for n in range(5)}


def zip_of(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def patched(path: Path, member: str, offset: int, value: bytes) -> Path:
    """Overwrite bytes of a member's entry in the zip's directory, `offset` from the start of the entry."""
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\x01\x02", 0, data.rindex(member.encode()))
    data[at + offset : at + offset + len(value)] = value
    path.write_bytes(data)
    return path


def left_in(cache: Path) -> list[str]:
    """What is in the cache apart from small memory files."""
    return sorted(path.name for path in cache.rglob("*") if path.suffix != ".json" and path.is_file())


def assert_refused(path: Path, cache: Path, message: str) -> None:
    with pytest.raises(DatasetError, match=message) as error:
        open_dataset(path)
    assert "\n" not in str(error.value)
    assert str(error.value).endswith(".")
    assert left_in(cache) == []
    assert not any(folder.name.startswith(".making-") for folder in cache.rglob("*"))
    with path.open("rb") as stream, pytest.raises(DatasetError):
        add_upload(path.name, stream)
    assert left_in(cache) == []


def test_zip_of_splits_with_a_wrapping_folder(tmp_path):
    source = write_classes(tmp_path / "source", SPLIT_COUNTS)
    members = {
        f"cats_and_dogs_filtered/{file.relative_to(source).as_posix()}": file.read_bytes()
        for file in source.rglob("*.jpg")
    }
    members |= {
        "__MACOSX/cats_and_dogs_filtered/train/cats/._0.jpg": b"junk",
        "cats_and_dogs_filtered/.DS_Store": b"junk",
        "cats_and_dogs_filtered/train/cats/Thumbs.db": b"junk",
        "cats_and_dogs_filtered/vectorize.py": b"print()",
    }
    dataset = open_dataset(zip_of(tmp_path / "cats_and_dogs_filtered.zip", members))
    assert dataset.id == "cats-and-dogs-filtered"
    assert dataset.counts == open_dataset(source).counts
    assert dataset.fingerprint == open_dataset(source).fingerprint
    assert dict(dataset.skipped) == {"cats_and_dogs_filtered/vectorize.py": "not a picture by its name (.py)"}


def test_zip_with_backslashes_as_some_windows_tools_write_them(tmp_path):
    path = zip_of(tmp_path / "set.zip", {name.replace("/", "\\"): data for name, data in pictures("set/").items()})
    assert open_dataset(path).class_names == ("cat", "dog")


def test_one_damaged_member_is_skipped_with_its_reason(tmp_path):
    path = zip_of(tmp_path / "set.zip", {**pictures(), "cat/bad.png": b"0123456789" * 9}, zipfile.ZIP_STORED)
    path.write_bytes(path.read_bytes().replace(b"0123456789", b"X123456789", 1))
    dataset = open_dataset(path)
    assert dict(dataset.skipped) == {"cat/bad.png": "damaged in the zip"}
    assert len(dataset.pictures) == 10


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_odd_members_are_skipped_with_their_reasons(tmp_path):
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in pictures().items():
            archive.writestr(name, data)
        archive.writestr("cat/0.png", b"again")
        archive.writestr("cat/inner.zip", b"PK\x03\x04")
        archive.writestr(f"cat/{'x' * 300}.png", b"long")
        archive.writestr("cat/1.png/under-a-file.png", b"x")
        archive.writestr("cat/packed.png", encoded(gradient(), "PNG"), zipfile.ZIP_BZIP2)
    reasons = {Path(name).name[:12]: reason for name, reason in open_dataset(path).skipped}
    assert reasons == {
        "0.png": "twice in the zip",
        "inner.zip": "not a picture by its name (.zip)",
        "x" * 12: "name too long",
        "under-a-file": "its folder is also a file in the zip",
        "packed.png": "packed with a method other than deflate",
    }


def test_a_file_over_an_existing_folder_is_skipped(tmp_path):
    members = {**pictures(), "dog/9.png/deep.png": encoded(gradient(), "PNG"), "dog/9.png": b"x"}
    path = zip_of(tmp_path / "set.zip", members)
    assert dict(open_dataset(path).skipped) == {"dog/9.png": "is also a folder in the zip"}


@pytest.mark.parametrize(
    "name", ["../evil.png", "cat/../../evil.png", "/etc/evil.png", "C:\\evil.png", "..\\evil.png", "\\\\host\\x.png"]
)
def test_names_that_lead_out_refuse_the_archive(tmp_path, cache, name):
    path = zip_of(tmp_path / "set.zip", {**pictures(), name: b"x"})
    assert_refused(path, cache, "only hold names inside itself")
    assert not list(tmp_path.rglob("evil.png"))


def test_links_refuse_the_archive(tmp_path, cache):
    path = zip_of(tmp_path / "set.zip", pictures())
    with zipfile.ZipFile(path, "a") as archive:
        info = zipfile.ZipInfo("cat/link.png")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    assert_refused(path, cache, "has a link: 'cat/link.png'")


def test_encrypted_archive(tmp_path, cache):
    path = patched(zip_of(tmp_path / "set.zip", pictures()), "cat/3.png", 8, b"\x01\x00")
    assert_refused(path, cache, "is encrypted")


@pytest.mark.parametrize("content", [b"", b"words", b"PK\x03\x04 and then nothing", b"PK\x05\x06" + b"\xff" * 18])
def test_not_a_zip(tmp_path, cache, content):
    (tmp_path / "set.zip").write_bytes(content)
    assert_refused(tmp_path / "set.zip", cache, "not a (readable )?zip archive|may hold at most")


def test_cut_zip(tmp_path, cache):
    path = zip_of(tmp_path / "set.zip", pictures())
    path.write_bytes(path.read_bytes()[:-60])
    assert_refused(path, cache, "not a zip archive")


def test_five_gigabytes_of_zeros_declared_honestly(tmp_path, cache):
    """The 5 MB zip that unpacks to 5 GB, shortened: only its directory is read before it is refused."""
    path = zip_of(tmp_path / "set.zip", {**pictures(), "cat/zeros.png": b"\0" * 1000})
    patched(path, "cat/zeros.png", 24, struct.pack("<I", 4_294_967_294))
    patched(path, "cat/4.png", 24, struct.pack("<I", 900_000_000))
    assert_refused(path, cache, r"at most 4 GB unpacked; set\.zip declares 5\.2 GB")


def test_many_zeros_within_the_total_are_refused_by_their_ratio(tmp_path, cache):
    zeros = b"\0" * 30_000_000
    path = zip_of(tmp_path / "set.zip", {**pictures(), "cat/a.png": zeros, "dog/b.png": zeros})
    assert_refused(path, cache, "times its size; pictures never do")


def test_one_huge_member_is_skipped_not_unpacked(tmp_path, cache):
    path = zip_of(tmp_path / "set.zip", {**pictures(), "cat/huge.png": b"\0" * 1000})
    patched(path, "cat/huge.png", 24, struct.pack("<I", 60_000_000))
    limits = Limits(archive_bytes=10**9, total_bytes=10**9, members=100)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archives, "MAX_RATIO", 10**9)
        unpacked = unpack(path, limits)
    assert unpacked.problems == (("cat/huge.png", "file too large (60 MB, limit 50 MB)"),)


def test_lying_directory_yields_no_more_than_it_declares(tmp_path, cache):
    """The entry says 40 bytes, the data is a megabyte: at most 40 bytes are unpacked, and their checksum fails."""
    path = zip_of(tmp_path / "set.zip", {**pictures(), "cat/liar.png": b"\0" * 1_000_000})
    patched(path, "cat/liar.png", 24, struct.pack("<I", 40))
    dataset = open_dataset(path)
    assert dict(dataset.skipped) == {"cat/liar.png": "damaged in the zip"}
    assert max(file.stat().st_size for file in cache.rglob("*.png")) < 10_000


def test_limit_while_unpacking_holds_whatever_the_directory_said(tmp_path, cache):
    """Should `zipfile` ever hand out more than an entry declares, unpacking stops."""

    class Endless(zipfile.ZipFile):
        def open(self, name, *rest, **options):
            return io.BytesIO(b"x" * 10_000_000)

    path = zip_of(tmp_path / "set.zip", pictures())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archives.zipfile, "ZipFile", Endless)
        with pytest.raises(DatasetError, match="more than its directory declares"):
            open_dataset(path)
    assert left_in(cache) == []


def test_too_many_members_are_refused_from_the_end_record(tmp_path, cache):
    path = zip_of(tmp_path / "set.zip", pictures())
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\x05\x06")
    data[at + 12 : at + 16] = struct.pack("<I", 4_000_000_000)  # size of the directory
    path.write_bytes(data)
    assert_refused(path, cache, "may hold at most 200,000 files")


def test_too_many_members(tmp_path):
    path = zip_of(tmp_path / "set.zip", pictures())
    with pytest.raises(DatasetError, match=r"at most 5 files; set\.zip has more"):
        unpack(path, Limits(10**9, 10**9, members=5))


def test_archive_too_large(tmp_path):
    path = zip_of(tmp_path / "set.zip", pictures())
    with pytest.raises(DatasetError, match=r"at most 0 MB; set\.zip is 0 MB"):
        unpack(path, Limits(10, 10**9, 100))


def test_disk_full_while_unpacking(tmp_path, cache, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    path = zip_of(tmp_path / "set.zip", pictures())
    monkeypatch.setattr(archives, "_write_member", full)
    assert_refused(path, cache, r"could not be written to the cache folder \(no space left on device\)")


def test_no_room_is_said_before_unpacking(tmp_path, cache, monkeypatch):
    path = zip_of(tmp_path / "set.zip", pictures())
    usage = archives.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: usage._replace(free=10))
    assert_refused(path, cache, "needs 0 MB unpacked and the cache folder has 0 MB free")


def test_second_open_neither_hashes_nor_unpacks(tmp_path, monkeypatch):
    path = zip_of(tmp_path / "set.zip", pictures())
    first = open_dataset(path)

    def never(*_):
        raise AssertionError("read again")

    monkeypatch.setattr(archives, "file_sha256", never)
    monkeypatch.setattr(archives, "_extract", never)
    assert open_dataset(path) == first


def test_changed_zip_is_unpacked_again(tmp_path):
    path = zip_of(tmp_path / "set.zip", pictures())
    first = open_dataset(path)
    zip_of(path, {**pictures(), "cat/new.png": encoded(gradient(seed=70), "PNG")})
    assert len(open_dataset(path).pictures) == len(first.pictures) + 1


def test_same_zip_elsewhere_is_not_unpacked_again(tmp_path, monkeypatch):
    path = zip_of(tmp_path / "set.zip", pictures())
    first = open_dataset(path)
    copy = tmp_path / "copy.zip"
    copy.write_bytes(path.read_bytes())
    monkeypatch.setattr(archives, "_extract", None)
    assert open_dataset(copy).root == first.root
    assert open_dataset(copy).id == "copy"


def test_another_process_that_was_faster_wins(tmp_path, cache, monkeypatch):
    path = zip_of(tmp_path / "set.zip", pictures())
    extract = archives._extract

    def slower(*arguments):
        problems = extract(*arguments)
        monkeypatch.setattr(archives, "_extract", extract)
        unpack(path, LOCAL)  # the other process, start to end
        return problems

    monkeypatch.setattr(archives, "_extract", slower)
    assert len(open_dataset(path).pictures) == 10
    assert len([folder for folder in (cache / "datasets").iterdir() if "zip-" in folder.name]) == 1
    assert not list((cache / "datasets").glob(".making-*"))


# uploads


def test_upload_is_kept_and_found_again(tmp_path, cache):
    path = zip_of(tmp_path / "set.zip", pictures("pets/"))
    with path.open("rb") as stream:
        dataset = add_upload("C:\\Users\\me\\My <b>pets</b>.zip", stream)
    assert "<" not in dataset.title
    assert len(dataset.pictures) == 10
    path.unlink()
    assert catalogue.find_dataset(dataset.id, dataset.fingerprint) == dataset
    assert dataset.id in [entry["id"] for entry in catalogue.known_datasets()]
    assert len(list((cache / "uploads").glob("*/*.zip"))) == 1


def test_same_upload_twice_is_kept_once(tmp_path, cache):
    data = zip_of(tmp_path / "set.zip", pictures()).read_bytes()
    first = add_upload("one.zip", io.BytesIO(data))
    assert add_upload("two.zip", io.BytesIO(data)) == first
    assert len(list((cache / "uploads").glob("*/*.zip"))) == 1


@pytest.mark.parametrize("name", ["", "../../../evil.zip", "....zip", "a/b\\c.zip", "\0.zip", "x" * 500 + ".zip"])
def test_upload_names_lead_nowhere(tmp_path, cache, name):
    dataset = add_upload(name, io.BytesIO(zip_of(tmp_path / "set.zip", pictures()).read_bytes()))
    kept = list((cache / "uploads").glob("*/*.zip"))
    assert len(kept) == 1
    assert 1 <= len(dataset.id) <= 40
    assert not [file for file in tmp_path.rglob("*evil*") if cache not in file.parents]


def test_upload_over_the_limit_is_refused_while_it_arrives(cache, monkeypatch):
    monkeypatch.setattr(uploads, "UPLOAD", Limits(3_000_000, 10**9, 100))
    read = []

    class Endless:
        def read(self, size):
            read.append(size)
            return b"\0" * size

    with pytest.raises(DatasetError, match="at most 3 MB"):
        add_upload("big.zip", Endless())
    assert len(read) == 3
    assert left_in(cache) == []


def test_upload_of_something_else(cache):
    with pytest.raises(DatasetError, match="must be a zip archive; 'cat' is not one"):
        add_upload("cat.jpg", io.BytesIO(encoded(gradient())))
    assert left_in(cache) == []


def test_upload_that_is_no_dataset_leaves_no_unpacked_pictures(tmp_path, cache):
    path = zip_of(tmp_path / "set.zip", {f"cat/{n}.png": encoded(gradient(seed=n), "PNG") for n in range(9)})
    with path.open("rb") as stream, pytest.raises(DatasetError, match="at least 2 classes"):
        add_upload("set.zip", stream)
    assert left_in(cache) == []


def test_what_a_killed_process_left_is_removed_from_the_cache_after_a_day(tmp_path, cache):
    for name, age in ((".making-old", 2 * 86_400), (".making-new", 60)):
        (cache / "datasets" / name).mkdir(parents=True)
        os.utime(cache / "datasets" / name, (time.time() - age, time.time() - age))
    open_dataset(zip_of(tmp_path / "set.zip", pictures()))
    assert [folder.name for folder in (cache / "datasets").glob(".making-*")] == [".making-new"]


def test_uploads_together_have_a_limit(tmp_path, cache, monkeypatch):
    data = zip_of(tmp_path / "set.zip", pictures()).read_bytes()
    add_upload("one.zip", io.BytesIO(data))
    monkeypatch.setattr(uploads, "MAX_UPLOADS_BYTES", 10)
    with pytest.raises(DatasetError, match="The uploads kept here take"):
        add_upload("two.zip", io.BytesIO(data))


def test_no_warning_escapes_for_a_decompression_bomb_in_a_zip(tmp_path):
    from test_datasets_pictures import png_claiming

    path = zip_of(tmp_path / "set.zip", {**pictures(), "cat/bomb.png": png_claiming(12_000, 9_000)})
    with warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("ignore", category=Warning, module=r"PIL\.")
        dataset = open_dataset(path)
    assert dataset.skipped[0][1].startswith("too many pixels (12000 x 9000")
    assert [warning for warning in caught if "PIL" not in str(warning.filename)] == []
