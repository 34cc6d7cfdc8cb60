"""The Dataset page, drawn without a browser: what it shows, refuses, downloads, and that it loads no TensorFlow."""

import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from handmade_pictures import SPLIT_COUNTS, digits_npz, encoded, gradient, write_classes
from streamlit.testing.v1 import AppTest
from two_students import ANNA, TEACHER, Classroom

import cvcore.datasets.downloads as downloads
import shell
from cvcore.datasets import doodles, known_datasets, open_dataset
from cvcore.errors import DatasetError, NotAllowed
from panels import dataset_panels

PAGE = str(Path(__file__).resolve().parent.parent / "pages" / "dataset.py")


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    """A data folder with two sets, and drawings that take no time."""

    def write(folder, seed=doodles.DEFAULT_SEED, progress=None):
        write_classes(folder, {f"{split}/{kind}": 2 for split in doodles.COUNTS for kind in ("cat", "dog")}, start=seed)

    for name in ("data", "cache", "runs"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(f"CVCORE_{name.upper()}", str(tmp_path / name))
    monkeypatch.setattr(doodles, "write_doodle_pets", write)
    write_classes(tmp_path / "data" / "pets", SPLIT_COUNTS)
    write_classes(tmp_path / "data" / "many", {"train/a": 30, "train/b": 5, "validation/a": 1, "validation/b": 1})
    (tmp_path / "data" / "many" / "train" / "a" / "words.jpg").write_text("no picture")
    shell.dataset.clear()
    yield tmp_path / "data"
    shell.dataset.clear()  # these drawings are no other test's


def page(**params: str) -> AppTest:
    app = AppTest.from_file(PAGE, default_timeout=300)
    for name, value in params.items():
        app.query_params[f"dataset_{name}"] = value
    return app.run()


def captions(app: AppTest) -> str:
    return "\n".join(caption.value for caption in app.caption)


def images(app: AppTest) -> int:
    return len(app.get("image"))


def words(app: AppTest) -> str:
    return "\n".join(markdown.value for markdown in app.markdown)


def sound(app: AppTest) -> AppTest:
    assert not app.exception
    assert not app.error, app.error[0].value
    return app


def zip_bytes(kinds: tuple[str, ...]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for kind in kinds:
            for n in range(4):
                archive.writestr(f"{kind}/{n}.png", encoded(gradient(seed=n), "PNG"))
    return stream.getvalue()


def test_first_look_is_at_the_drawings_and_says_so():
    app = sound(page())
    assert app.selectbox(key="dataset_name").value == "doodle-pets"
    assert "drawn by this program, not photographs" in words(app)
    assert {metric.label: metric.value for metric in app.metric} == {
        "Pictures": "12",
        "Classes": "2",
        "Median size": "24 × 16",
        "Skipped files": "0",
    }
    assert images(app) == 4  # those of train


def test_all_known_sets_can_be_chosen():
    options = page().selectbox(key="dataset_name").options
    assert options == ["doodle-pets", "cats-and-dogs-filtered", "dogs-vs-cats-full", "mnist", "many", "pets"]


def test_a_view_is_a_url():
    app = sound(page(name="many", split="train", **{"class": "a"}, page="2"))
    assert app.selectbox(key="dataset_name").value == "many"
    assert images(app) == 30 - dataset_panels.PAGE
    assert "No test split: test accuracy will be missing" in captions(app).replace("\\", "")
    assert "drawn by this program" not in words(app)
    counts = app.dataframe[0].value
    assert counts.to_dict("list") == {"class": ["a", "b"], "train": [30, 5], "validation": [1, 1]}


def test_a_page_beyond_the_last_of_a_smaller_class():
    app = sound(page(name="many", **{"class": "a"}, page="2"))
    app.selectbox(key="dataset_class").set_value("b").run()
    sound(app)
    assert images(app) == 5


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "nothing"},
        {"split": "x"},
        {"page": "999"},
        {"view": "x"},
        {"class": "x"},
        {"view": "Resizing", "picture": "0"},
        {"view": "Resizing", "picture": "99", "size": "17"},
    ],
)
def test_a_url_that_is_wrong_shows_the_default(wrong):
    assert images(sound(page(**wrong))) == 4


def test_skipped_files_with_their_reasons():
    app = sound(page(name="many", view="Skipped files"))
    assert "1 × not a picture in a known format" in app.markdown[-1].value
    assert app.dataframe[-1].value.to_dict("records") == [
        {"path": "train/a/words.jpg", "reason": "not a picture in a known format"}
    ]
    assert "Nothing was skipped" in words(sound(page(name="pets", view="Skipped files")))


def test_resizing_shows_the_picture_and_three_ways():
    app = sound(page(name="pets", view="Resizing", split="test", picture="3", size="32"))
    assert images(app) == 4
    assert "**Nearest.**" in captions(app)
    assert "**Bilinear, antialiased.**" in captions(app)
    assert "**As it is**, 24 × 16" in captions(app)


def test_a_picture_number_beyond_a_smaller_class():
    app = sound(page(name="many", view="Resizing", picture="33"))
    app.selectbox(key="dataset_class").set_value("b").run()
    assert images(sound(app)) == 4


def test_a_download_that_is_not_here_says_so_and_is_offered(monkeypatch):
    app = sound(page(name="cats-and-dogs-filtered"))
    assert "Not downloaded yet: 68.6 MB" in words(app)
    assert images(app) == 0

    def offline(item, folder, progress):
        raise DatasetError("No way out.")

    monkeypatch.setattr(downloads, "fetch", offline)
    app.button(key="dataset_download").click().run()
    assert app.error[0].value.replace("\\", "") == "No way out."


def test_a_download_is_shown_once_it_is_here(monkeypatch, data):
    def fetch(item, folder, progress):
        folder.mkdir(parents=True)
        (folder / item.file_name).write_bytes(zip_bytes(("cats", "dogs")))
        progress(1, 2)
        return folder / item.file_name

    monkeypatch.setattr(downloads, "fetch", fetch)
    app = page(name="cats-and-dogs-filtered")
    app.button(key="dataset_download").click().run()
    assert "No split folders" in captions(sound(app))


def test_ten_classes_of_digits(data):
    (data / "mnist.npz").write_bytes(digits_npz())
    app = sound(page(name="mnist"))
    assert {metric.label: metric.value for metric in app.metric} == {
        "Pictures": "120",
        "Classes": "10",
        "Median size": "28 × 28",
        "Skipped files": "0",
    }
    assert app.subheader[0].value == "MNIST, handwritten digits"
    assert app.dataframe[0].value.to_dict("list") == {
        "class": list("0123456789"), "train": [9] * 10, "validation": [1] * 10, "test": [2] * 10,
    }  # fmt: skip
    assert images(app) == dataset_panels.PAGE
    assert app.selectbox(key="dataset_class").options == ["all classes", *"0123456789"]
    app.selectbox(key="dataset_class").set_value("7").run()
    assert images(sound(app)) == 9
    assert {one.caption for image in app.get("image") for one in image.proto.imgs} == {"7, 28 × 28"}
    assert "**As it is**, 28 × 28" in captions(sound(page(name="mnist", view="Resizing", split="test", size="32")))


def test_an_upload_with_ten_classes():
    app = upload(page(), "Ten.zip", tuple(f"kind {n}" for n in range(10)))
    assert {metric.label: metric.value for metric in sound(app).metric}["Classes"] == "10"
    assert len(app.dataframe[0].value) == 10


def test_a_first_opening_shows_its_progress_and_later_ones_do_not(monkeypatch):
    steps = []
    bar = dataset_panels.progress_bar
    monkeypatch.setattr(dataset_panels, "progress_bar", lambda text: steps.append(text) or bar(text))
    sound(page(name="pets"))
    assert steps == ["Reading the pictures for the first time"]
    app = sound(page(name="pets"))
    assert len(steps) == 1
    assert not app.get("progress")


def test_progress_starts_anew_for_a_second_pass(monkeypatch):
    shown = []

    class Bar:
        def progress(self, share, text):
            shown.append(text)

    monkeypatch.setattr(dataset_panels.st, "progress", lambda *_: Bar())
    step = dataset_panels.progress_bar("Reading")
    for _ in ("unpacking", "checking"):
        for done in range(1, 1001):
            step(done, 1000)
    assert shown[:101].count("Reading: 100 %") == shown[101:].count("Reading: 100 %") == 1
    assert len(shown) == 201  # 1 to 100 %, then 0 to 100 %


def test_a_folder_that_has_gone(tmp_path, data):
    write_classes(data / "elsewhere", SPLIT_COUNTS)
    open_dataset(data / "elsewhere")
    (data / "elsewhere").rename(tmp_path / "away")
    assert "not where they were" in words(sound(page(name="elsewhere")))


def test_a_folder_with_one_class_is_one_sentence(data):
    write_classes(data / "single", {"cats": 5})
    app = page(name="single")
    assert "at least 2 classes" in app.error[0].value
    assert not app.exception
    assert app.selectbox(key="dataset_name").value == "single"  # another can be chosen


def upload(app: AppTest, name: str, kinds: tuple[str, ...]) -> AppTest:
    return app.get("file_uploader")[0].upload(name, zip_bytes(kinds), "application/zip").run()


def test_an_upload_is_opened_and_chosen():
    app = upload(page(), "My pets.zip", ("cat", "dog"))
    assert app.selectbox(key="dataset_name").value == "my-pets"
    assert {metric.label: metric.value for metric in sound(app).metric}["Pictures"] == "8"
    app.selectbox(key="dataset_name").set_value("pets").run()  # the upload is not taken again
    assert app.selectbox(key="dataset_name").value == "pets"


@pytest.mark.parametrize("kinds", [("cat", "dog"), ("cat",)])
def test_uploaded_bytes_do_not_stay_in_the_servers_memory(kinds, monkeypatch):
    removed = []
    monkeypatch.setattr(shell.MemoryUploadedFileManager, "remove_file", lambda _, session, file: removed.append(file))
    app = upload(page(), "set.zip", kinds)
    assert len(removed) == 1
    assert app.get("file_uploader")[0].value is None


def test_an_upload_can_be_removed_and_nothing_else():
    app = upload(page(), "My pets.zip", ("cat", "dog"))
    assert "**My pets**" in words(app)
    app.button(key="dataset_remove").click().run()
    sound(app)
    names = app.selectbox(key="dataset_name").options
    assert names == ["doodle-pets", "cats-and-dogs-filtered", "dogs-vs-cats-full", "mnist", "many", "pets"]
    for name in names[:1] + names[4:]:
        app.selectbox(key="dataset_name").set_value(name).run()
        assert "dataset_remove" not in [button.key for button in app.button]


def test_only_the_teacher_removes_an_upload(monkeypatch):
    room = Classroom(monkeypatch)
    room.sits(ANNA)
    app = sound(upload(page(), "My pets.zip", ("cat", "dog")))
    assert "dataset_remove" not in [button.key for button in app.button] and "Only the teacher may" in captions(app)
    row = next(row for row in known_datasets() if row["upload"])
    with pytest.raises(NotAllowed, match=r"^only the teacher may remove an upload: runs of the whole class use it$"):
        dataset_panels.remove(row)
    room.sits(TEACHER)
    app = sound(page(name="my-pets"))
    room.sits(ANNA)  # the page of before in another hand
    app.button(key="dataset_remove").click().run()
    assert any(row["upload"] for row in known_datasets())
    room.sits(TEACHER)
    sound(page(name="my-pets")).button(key="dataset_remove").click().run()
    assert not any(row["upload"] for row in known_datasets())


def test_a_bad_upload_is_one_sentence_and_the_rest_still_works():
    app = page(name="pets")
    upload(app, "bad.zip", ("cat",))
    assert "at least 2 classes" in app.error[0].value.replace("\\", "")
    assert len(app.error) == 1
    assert images(app) == 8
    assert not app.exception


def test_names_chosen_by_others_are_not_markdown(data):
    write_classes(data / "![x](evil)", {"train/**a**": 3, "train/:smile:": 3})
    app = sound(page(name="x-evil"))
    assert app.subheader[0].value.replace("\\", "") == "![x](evil)"
    for text in ("![x](", "**a**", ":smile:"):
        assert text not in app.subheader[0].value
        assert not any(text in one.caption for image in app.get("image") for one in image.proto.imgs)


def test_the_page_loads_no_tensorflow(tmp_path):
    """In a process of its own, for other tests import Keras into this one."""
    script = (
        "import sys; from streamlit.testing.v1 import AppTest;"
        f"app = AppTest.from_file({PAGE!r}, default_timeout=300); app.query_params['dataset_name'] = 'pets';"
        "app.run(); assert not app.exception and not app.error;"
        "print([name for name in ('tensorflow', 'keras') if name in sys.modules])"
    )
    root = Path(PAGE).parent.parent
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=root, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("[]")
