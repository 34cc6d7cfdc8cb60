"""Uploads and crafted zips: what they may take of memory and disk, how they are removed, what a clean leaves."""

import io
import os
import shutil
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from handmade_pictures import encoded, gradient

from cvcore import activations
from cvcore.datasets import add_upload, find_dataset, known_datasets, open_dataset, pixels, remove_upload, uploads
from cvcore.datasets.archives import Limits, unpack
from cvcore.errors import DatasetError

ROOT = Path(__file__).resolve().parent.parent
FIVE = Limits(archive_bytes=10**9, total_bytes=10**9, members=5)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("CVCORE_CACHE", str(folder))
    monkeypatch.delenv("CVCORE_DATA", raising=False)
    return folder


def zip_bytes(start: int = 0) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for kind in ("cat", "dog"):
            for n in range(5):
                archive.writestr(f"{kind}/{n}.png", encoded(gradient(seed=start + n), "PNG"))
    return stream.getvalue()


def uploaded(data: bytes, name: str = "set.zip"):
    """Upload a zip; returns its row in the list."""
    dataset = add_upload(name, io.BytesIO(data))
    return next(row for row in known_datasets() if row["fingerprint"] == dataset.fingerprint)


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


# directories that lie


def crafted(path: Path, place: int | None) -> Path:
    """Ten entries and zip64 end records; the locator names `place`, where a decoy tells of one entry (None: honest)."""
    data = zip_bytes()
    decoy = struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, 60, 0)
    body, end = data[:-22], bytearray(data[-22:])
    size, offset = struct.unpack("<II", end[12:20])
    record = struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, 10, 10, size, offset)
    at = len(body) if place is None else place
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, at, 1)
    end[8:20] = struct.pack("<HHII", 1, 1, 60, 0)
    path.write_bytes((b"" if place is None else decoy) + body + record + locator + end)
    return path


def test_zip64_locator_that_names_a_decoy_hides_no_entries(tmp_path):
    path = crafted(tmp_path / "set.zip", 0)
    assert len(zipfile.ZipFile(path).infolist()) == 10  # `zipfile` does not look where the locator points
    with pytest.raises(DatasetError, match="its end records disagree"):
        unpack(path, FIVE)


def test_honest_zip64_is_counted_and_opened(tmp_path):
    path = crafted(tmp_path / "set.zip", None)
    with pytest.raises(DatasetError, match=r"at most 5 files; set\.zip has more"):
        unpack(path, FIVE)
    assert len(open_dataset(path).pictures) == 10


def test_end_record_that_declares_one_entry_hides_no_others(tmp_path):
    data = bytearray(zip_bytes())
    data[-14:-10] = struct.pack("<HH", 1, 1)
    (tmp_path / "set.zip").write_bytes(data)
    with pytest.raises(DatasetError, match=r"at most 5 files; set\.zip has more"):
        unpack(tmp_path / "set.zip", FIVE)


# memory


def big_png(side: int, level: int) -> bytes:
    """A transparent RGBA picture: a few kilobytes that decode to four bytes a pixel."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    packer = zlib.compressobj(level)
    row = b"\0" * (4 * side + 1)
    body = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_zip_of_large_rgba_pictures_does_not_fill_the_memory(tmp_path):
    """Eight of 49 megapixels took 1.5 GB; the largest that are still allowed are decoded one at a time."""
    with zipfile.ZipFile(tmp_path / "large.zip", "w") as archive:
        for number, kind in enumerate(["cat", "dog"] * 4):
            archive.writestr(f"{kind}/{number}.png", big_png(3_500, 1 + number))
    script = (
        "import sys; from cvcore.datasets import add_upload, pixels\n"
        "def now(key): return next(int(l.split()[1]) for l in open('/proc/self/status') if l.startswith(key))\n"
        "before = now('VmRSS'); dataset = add_upload('large.zip', open(sys.argv[1], 'rb'))\n"
        "pixels(dataset, 'train', 64, 'bilinear', False)\n"
        "print((now('VmHWM') - before) // 1024)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "large.zip")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 150  # MB; one such picture is 47, and 47 more while it is laid on white


# disk


def test_uploads_limit_counts_what_was_unpacked_too(cache, monkeypatch):
    row = uploaded(zip_bytes())
    archive = Path(row["source"]).stat().st_size
    unpacked = sum(path.stat().st_size for path in (cache / "datasets").glob("zip-*/files/*/*"))
    assert uploads.kept_bytes() >= archive + unpacked
    monkeypatch.setattr(uploads, "MAX_UPLOADS_BYTES", archive + unpacked // 2)
    with pytest.raises(DatasetError, match=r"The uploads kept here take .* remove some on the Dataset page"):
        uploaded(zip_bytes(9))


def test_removed_upload_leaves_nothing_and_nothing_else_goes(cache):
    other = uploaded(zip_bytes(50), "other.zip")
    kept = set(files(cache))
    row = uploaded(zip_bytes())
    pixels(find_dataset(row["id"], row["fingerprint"]), "train", 8, "nearest", False)
    activations.fill({"fingerprint": row["fingerprint"]}, 2, (3,), "float32", lambda start, stop: np.ones((2, 3)))
    remove_upload(row["source"])
    left = {path for path in files(cache) if not path.endswith(".lock")}
    assert kept <= left
    assert {Path(path).parent.name for path in left - kept} <= {"zips", "health"}  # hashes, no pictures
    assert [one["source"] for one in known_datasets() if one["upload"]] == [other["source"]]
    with pytest.raises(DatasetError, match="not any more"):
        remove_upload(row["source"])


def test_removed_upload_keeps_the_pictures_of_an_equal_zip_elsewhere(tmp_path):
    (tmp_path / "same.zip").write_bytes(zip_bytes())
    local = open_dataset(tmp_path / "same.zip")
    whole = pixels(local, "train", 8, "nearest", False).copy()
    remove_upload(uploaded(zip_bytes())["source"])
    assert all((local.root / picture.path).is_file() for picture in local.pictures)
    assert list(Path(os.environ["CVCORE_CACHE"]).glob("pixels/*/*.npy"))
    assert (pixels(local, "train", 8, "nearest", False) == whole).all()


def test_nothing_but_an_upload_can_be_removed(tmp_path, cache):
    (tmp_path / "mine.zip").write_bytes(zip_bytes())
    open_dataset(tmp_path / "mine.zip")
    row = uploaded(zip_bytes(9))
    for source in (tmp_path / "mine.zip", "doodle-pets", "", cache / "uploads", Path(row["source"]).parent, "/"):
        with pytest.raises(DatasetError, match="Only an upload that is kept here"):
            remove_upload(str(source))
    assert (tmp_path / "mine.zip").is_file()
    assert Path(row["source"]).is_file()


class Left(BaseException):
    """As Streamlit ends a script whose browser has left."""


def test_upload_left_halfway_is_not_kept_unseen(cache):
    def leave(done, total):
        raise Left

    with pytest.raises(Left):
        add_upload("set.zip", io.BytesIO(zip_bytes()), leave)
    assert [path for path in files(cache) if not path.endswith(".json")] == []
    assert [row for row in known_datasets() if row["upload"]] == []


def test_uploads_outlive_a_cleaned_cache(cache):
    row = uploaded(zip_bytes(), "My pets.zip")
    shutil.rmtree(cache / "datasets")  # as `make clean` does
    again = [one for one in known_datasets() if one["upload"]]
    assert [(one["id"], one["source"], one["available"]) for one in again] == [("my-pets", row["source"], True)]
    assert find_dataset("my-pets", row["fingerprint"]).fingerprint == row["fingerprint"]


def test_find_dataset_reports_and_leaves_nothing_half_made_when_stopped(cache):
    row = uploaded(zip_bytes())
    shutil.rmtree(cache / "datasets")
    calls = []

    def stop(done, total):
        calls.append((done, total))
        if len(calls) == 14:  # ten are unpacked, the fourth is being checked
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        find_dataset(row["id"], row["fingerprint"], stop)
    assert calls[:10] == [(n, 10) for n in range(1, 11)]
    assert not list(cache.rglob(".making-*"))
    assert find_dataset(row["id"], row["fingerprint"]).fingerprint == row["fingerprint"]
