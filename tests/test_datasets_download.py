"""Downloads from a server on this machine that resumes, breaks, lies about sizes or is not there."""

import functools
import hashlib
import http.server
import importlib
import inspect
import json
import re
import threading
from dataclasses import replace

import pytest
from handmade_pictures import digits_npz

from cvcore.datasets import download as download_by_id
from cvcore.datasets import open_dataset
from cvcore.datasets.downloads import DOWNLOADS, Download, fetch
from cvcore.errors import DatasetError

CONTENT = bytes(range(256)) * 4_000  # 1,024,000 bytes


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.content`; `server.cut` bytes into a first answer it hangs up; `server.ranges`: does it resume?"""

    def do_GET(self):
        self.server.asked.append(self.headers.get("Range"))
        if self.server.status != 200:
            self.send_error(self.server.status)
            return
        content, start = self.server.content, 0
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if wanted and self.server.ranges:
            start = int(wanted[1])
            if start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        body = content[start:]
        if self.server.length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.server.cut:
            body, self.server.cut = body[: self.server.cut.pop(0)], self.server.cut
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(autouse=True)
def direct(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked, server.cut, server.ranges, server.length, server.status = [], [], True, True, 200
    server.content = CONTENT
    thread = threading.Thread(target=functools.partial(server.serve_forever, poll_interval=0.01))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def item(server):
    url = f"http://127.0.0.1:{server.server_port}/set.zip"
    return Download("set", "A set", url, "set.zip", len(CONTENT), "made for this test")


def names(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def test_whole_download_with_progress_and_record(item, tmp_path):
    calls = []
    path = fetch(item, tmp_path / "to", lambda *call: calls.append(call))
    assert path.read_bytes() == CONTENT
    assert calls[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert json.loads((tmp_path / "to" / "set.zip.json").read_text()) == {
        "url": item.url,
        "bytes": len(CONTENT),
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
    }
    assert names(tmp_path / "to") == ["set.zip", "set.zip.json"]


def test_a_cut_connection_is_continued_where_it_stopped(server, item, tmp_path):
    server.cut = [300_000, 200_000]
    assert fetch(item, tmp_path).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-", "bytes=500000-"]


def test_what_arrived_is_kept_for_the_next_call(server, item, tmp_path):
    server.cut = [300_000, 100_000, 1]
    with pytest.raises(DatasetError, match=r"A set could not be downloaded \(the connection ended early\)"):
        fetch(item, tmp_path)
    assert (tmp_path / "set.zip.part").stat().st_size == 400_001
    assert fetch(item, tmp_path).read_bytes() == CONTENT
    assert server.asked[-1] == "bytes=400001-"


def test_two_downloads_at_once_do_not_destroy_each_other(item, tmp_path):
    sentences = []

    def second(done, total):
        if not sentences:
            with pytest.raises(DatasetError, match="A set is being downloaded already, by another page") as error:
                fetch(item, tmp_path)
            sentences.append(str(error.value))

    assert fetch(item, tmp_path, second).read_bytes() == CONTENT
    assert len(sentences) == 1
    assert names(tmp_path) == ["set.zip", "set.zip.json"]


def test_a_download_that_another_finished_meanwhile_is_taken(server, item, tmp_path):
    fetch(item, tmp_path)
    assert fetch(item, tmp_path) == tmp_path / "set.zip"
    assert server.asked == [None]
    assert names(tmp_path) == ["set.zip", "set.zip.json"]


def test_a_download_that_was_left_can_be_continued_at_once(server, item, tmp_path):
    class Left(BaseException):
        """As Streamlit ends a script whose browser has left."""

    def leave(done, total):
        raise Left

    with pytest.raises(Left):
        fetch(item, tmp_path, leave)
    assert fetch(item, tmp_path).read_bytes() == CONTENT
    assert server.asked[1].startswith("bytes=")


def test_a_server_without_ranges_starts_anew(server, item, tmp_path):
    server.ranges = False
    (tmp_path / "set.zip.part").write_bytes(b"y" * 500)
    assert fetch(item, tmp_path).read_bytes() == CONTENT


def test_a_complete_part_is_accepted(server, item, tmp_path):
    (tmp_path / "set.zip.part").write_bytes(CONTENT)
    assert fetch(item, tmp_path).read_bytes() == CONTENT


def test_a_part_larger_than_the_file_is_thrown_away(server, item, tmp_path):
    (tmp_path / "set.zip.part").write_bytes(CONTENT + b"more")
    assert fetch(item, tmp_path).read_bytes() == CONTENT


def test_another_size_than_published_is_refused_before_it_arrives(server, item, tmp_path):
    with pytest.raises(DatasetError, match=r"should have 999 bytes as published; the server sends 1,024,000") as error:
        fetch(replace(item, bytes=999), tmp_path)
    assert "\n" not in str(error.value)
    assert names(tmp_path) == []
    assert server.asked == [None]


@pytest.mark.parametrize("published", [999, 2_000_000])
def test_another_size_without_a_declared_length(server, item, tmp_path, published):
    server.length = False
    with pytest.raises(DatasetError, match="as published"):
        fetch(replace(item, bytes=published), tmp_path)
    assert names(tmp_path) == []


def test_without_a_published_size_what_arrives_is_recorded(item, tmp_path):
    assert fetch(replace(item, bytes=None), tmp_path).read_bytes() == CONTENT
    assert json.loads((tmp_path / "set.zip.json").read_text())["bytes"] == len(CONTENT)


@pytest.mark.parametrize("status", [404, 503])
def test_an_error_page_is_a_sentence(server, item, tmp_path, status):
    server.status = status
    with pytest.raises(DatasetError, match=rf"127\.0\.0\.1 answers {status}.*put set\.zip from http.*CVCORE_DATA"):
        fetch(item, tmp_path)
    assert names(tmp_path) == []


def test_offline_is_a_sentence(tmp_path):
    nobody = Download("set", "A set", "http://127.0.0.1:9/set.zip", "set.zip", 5, "")
    with pytest.raises(DatasetError, match=r"127\.0\.0\.1 cannot be reached\); try again when online, or put") as error:
        fetch(nobody, tmp_path)
    assert "\n" not in str(error.value)


def test_disk_full_is_a_sentence(item, tmp_path):
    (tmp_path / "set.zip.part").symlink_to("/dev/full")
    with pytest.raises(DatasetError, match=r"set\.zip could not be written .*no space left on device"):
        fetch(item, tmp_path)


def test_a_part_that_cannot_be_written_is_a_sentence(item, tmp_path):
    (tmp_path / "set.zip.part").mkdir()
    with pytest.raises(DatasetError, match=r"set\.zip could not be written"):
        fetch(item, tmp_path)


def test_a_file_in_the_data_folder_needs_no_network(tmp_path, monkeypatch):
    monkeypatch.setenv("CVCORE_DATA", str(tmp_path))
    (tmp_path / "cats_and_dogs_filtered.zip").write_bytes(b"here")
    assert download_by_id("cats-and-dogs-filtered") == tmp_path / "cats_and_dogs_filtered.zip"


def test_unknown_id():
    with pytest.raises(
        DatasetError, match="'birds' can be downloaded; known: cats-and-dogs-filtered, dogs-vs-cats-full, mnist"
    ):
        download_by_id("birds")


def test_a_published_hash_is_checked(item, tmp_path):
    published = hashlib.sha256(CONTENT).hexdigest()
    assert fetch(replace(item, sha256=published), tmp_path / "right").read_bytes() == CONTENT
    with pytest.raises(DatasetError, match=r"set\.zip should have the SHA-256 000000000000… as .* not kept") as error:
        fetch(replace(item, sha256="0" * 64), tmp_path / "wrong")
    assert published[:12] in str(error.value)
    assert "\n" not in str(error.value)
    assert names(tmp_path / "wrong") == []


def test_a_part_of_another_file_is_thrown_away_by_the_hash(item, tmp_path):
    """It has the right size, so that nothing else would show it."""
    other = replace(item, sha256=hashlib.sha256(CONTENT).hexdigest())
    (tmp_path / "set.zip.part").write_bytes(b"y" * 1_000)
    with pytest.raises(DatasetError, match="was not kept"):
        fetch(other, tmp_path)
    assert fetch(other, tmp_path).read_bytes() == CONTENT


def test_mnist_is_downloaded_and_opened(server, item, tmp_path, monkeypatch):
    monkeypatch.setenv("CVCORE_CACHE", str(tmp_path))
    monkeypatch.delenv("CVCORE_DATA", raising=False)
    server.content = digits_npz()
    facts = {"url": item.url, "bytes": len(server.content), "sha256": hashlib.sha256(server.content).hexdigest()}
    monkeypatch.setitem(DOWNLOADS, "mnist", replace(DOWNLOADS["mnist"], **facts))
    path = download_by_id("mnist")
    assert path.name == "mnist.npz"
    dataset = open_dataset("mnist")
    assert (dataset.id, dataset.title) == ("mnist", "MNIST, handwritten digits")
    assert not any("not the file that Keras publishes" in note for note in dataset.notes)
    assert server.asked == [None]


def test_published_facts():
    assert DOWNLOADS["cats-and-dogs-filtered"].bytes == 68_606_236
    assert DOWNLOADS["dogs-vs-cats-full"].bytes is None  # no size is published: none is invented
    assert DOWNLOADS["mnist"].bytes == 11_490_434


def test_keras_states_the_address_and_the_hash_of_mnist():
    source = inspect.getsource(importlib.import_module("keras.src.datasets.mnist"))
    folder, _, name = DOWNLOADS["mnist"].url.rpartition("/")
    assert f'"{folder}/"' in source
    assert name == DOWNLOADS["mnist"].file_name
    assert f'"{DOWNLOADS["mnist"].sha256}"' in source
