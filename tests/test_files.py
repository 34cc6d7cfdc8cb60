"""Files replaced whole."""

import json
import stat

import pytest

from cvcore.files import replace_file, replace_json, replace_text


def test_text_is_replaced_in_utf_8(tmp_path):
    path = tmp_path / "a.txt"
    replace_text(path, "first")
    replace_text(path, "größer ✓\n")
    assert path.read_bytes() == "größer ✓\n".encode()
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_json_keeps_its_order_and_ends_in_a_newline(tmp_path):
    replace_json(tmp_path / "a.json", {"b": 1, "a": [1.5, None, "é"]})
    text = (tmp_path / "a.json").read_text()
    assert text.endswith("}\n") and text.index('"b"') < text.index('"a"') and "é" in text
    assert json.loads(text) == {"b": 1, "a": [1.5, None, "é"]}


@pytest.mark.parametrize("document", [{"loss": float("nan")}, {"x": object()}])
def test_what_is_no_json_leaves_the_old_file(tmp_path, document):
    path = tmp_path / "a.json"
    replace_json(path, {"old": True})
    with pytest.raises((ValueError, TypeError)):
        replace_json(path, document)
    assert json.loads(path.read_text()) == {"old": True}
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_write_that_fails_half_way_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "a.bin"
    replace_file(path, lambda stream: stream.write(b"old"))

    def half(stream):
        stream.write(b"ne")
        raise error

    with pytest.raises(type(error)):
        replace_file(path, half)
    assert path.read_bytes() == b"old" and [entry.name for entry in tmp_path.iterdir()] == ["a.bin"]


def test_readers_see_the_old_file_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "a.bin"
    replace_file(path, lambda stream: stream.write(b"old"))

    def write(stream):
        stream.write(b"new")
        stream.flush()
        assert path.read_bytes() == b"old"

    replace_file(path, write)
    assert path.read_bytes() == b"new"


def test_others_may_read_a_replaced_file(tmp_path):
    replace_text(tmp_path / "a", "x")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o644


def test_missing_folder_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        replace_text(tmp_path / "no" / "a", "x")
    assert list(tmp_path.iterdir()) == []
