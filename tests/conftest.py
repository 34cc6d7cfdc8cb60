"""What the training tests share: tiny pictures, one cache, one runs folder; a run asked for twice is trained once."""

import os
from pathlib import Path

import pytest
from tiny_lessons import SPLITS, write_lesson

from cvcore import api
from cvcore.datasets import Dataset, open_dataset
from cvcore.recipe import Recipe
from cvcore.run_directory import Run

# Training steps back for nobody here: beside other tests, and not pages, it would starve.
os.environ["CVCORE_NICENESS"] = "0"
# Two processes of tests on two cores: threads of one operation would wait for each other's turn, longer than it takes.
for threads in ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(threads, "1")
for cluster in ("CVCORE_RAY_ADDRESS", "CVCORE_STORE", "CVCORE_STORE_OPTIONS"):
    os.environ.pop(cluster, None)

# The files that take longest, begun first: one of them begun last would keep one of two processes waiting.
LONG = ("test_published_runs", "test_code_recipes", "test_code_export", "test_browser", "test_owners", "test_pickers",
        "test_backends", "test_other_backends", "test_ray", "test_code_features", "test_store", "test_resume",
        "test_faults", "test_training", "test_page_train", "test_classroom", "test_readme")  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONG)))


LESSONS = {
    "two": {},
    "three": {"classes": ("bars", "discs", "strokes")},
    "no-test": {"splits": {"train": SPLITS["train"], "validation": SPLITS["validation"]}},
}


class Lessons:
    """Datasets and trained runs of one test session."""

    def __init__(self, folder: Path) -> None:
        self.cache, self.runs, self._folder = folder / "cache", folder / "runs", folder
        self._trained: dict[tuple[object, ...], Run] = {}

    def folder(self, name: str = "two") -> Path:
        """Return the folder of a lesson's pictures, written on first use."""
        path = self._folder / "lessons" / name
        return path if path.is_dir() else write_lesson(path, **LESSONS[name])

    def dataset(self, name: str = "two") -> Dataset:
        return open_dataset(self.folder(name))

    def trained(self, recipe: Recipe, data: str = "two", seed: int = 0, from_run: str | None = None) -> Run:
        """Train once a session; tests only read what they get."""
        key = (recipe, data, seed, from_run)
        if key not in self._trained:
            self._trained[key] = api.train(recipe, self.dataset(data), seed=seed, from_run=from_run, runs=self.runs)
        return self._trained[key]


@pytest.fixture(scope="session")
def all_lessons(tmp_path_factory: pytest.TempPathFactory) -> Lessons:
    return Lessons(tmp_path_factory.mktemp("lessons"))


@pytest.fixture
def lessons(all_lessons: Lessons, monkeypatch: pytest.MonkeyPatch) -> Lessons:
    """The session's lessons, with every CVCORE_ folder pointing into them."""
    monkeypatch.setenv("CVCORE_CACHE", str(all_lessons.cache))
    monkeypatch.setenv("CVCORE_RUNS", str(all_lessons.runs))
    for name in ("CVCORE_DATA", "CVCORE_WEIGHTS"):
        monkeypatch.delenv(name, raising=False)
    return all_lessons


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def drawings(cache):
    """The doodle pets, drawn before a page is drawn: on a busy machine they take longer than a page may."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CVCORE_CACHE", str(cache))
        open_dataset("doodle-pets")


@pytest.fixture
def runs(tmp_path, monkeypatch, cache):
    folder = tmp_path / "runs"
    folder.mkdir()
    monkeypatch.setenv("CVCORE_RUNS", str(folder))
    monkeypatch.setenv("CVCORE_CACHE", str(cache))
    import shell

    shell.forget_runs()
    return folder
