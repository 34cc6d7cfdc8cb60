"""Runs exported scripts in one Python outside the project, which cannot see the app, while the tests train on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cvcore.code_export import standalone_script
from cvcore.run_directory import Run

DRIVER = """
import contextlib, json, os, runpy, sys, traceback
import keras
for line in sys.stdin:
    sys.argv = json.loads(line)
    os.chdir(os.path.dirname(sys.argv[0]))
    with open("printed.txt", "w") as printed, contextlib.redirect_stdout(printed):
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
        except BaseException:
            traceback.print_exc(file=printed)
    keras.config.set_dtype_policy("float32")
    assert "cvcore" not in sys.modules
"""


class Outside:
    """A folder with one folder a script, and the Python that runs them one after the other.

    Args:
        folder: does not exist yet.
        save: whether scripts keep their networks, as code.keras.

    Attributes:
        done: name -> (the app's run, the folder with code.py, printed.txt and code.keras).
    """

    def __init__(self, folder: Path, save: bool = True) -> None:
        self.folder, self.save, self.done = folder, save, dict[str, tuple[Run, Path]]()
        folder.mkdir(parents=True)
        environment = {**os.environ, "PYTHONPATH": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
        with (folder / "errors.txt").open("w") as errors:
            self.driver = subprocess.Popen([sys.executable, "-c", DRIVER], stdin=subprocess.PIPE, stderr=errors,
                                           text=True, cwd=folder, env=environment)  # fmt: skip

    def repeat(self, name: str, run: Run, data: Path, argument: Path | None = None, replace: str = "") -> Run:
        """Ask for a run to be repeated by its script, on the folder `data`; `replace` is "old=>new" in the script."""
        home = self.folder / name
        home.mkdir()
        old, _, new = replace.partition("=>")
        code = standalone_script(run.info)
        assert old in code
        (home / "code.py").write_text(code.replace(old, new) if old else code)
        call = [str(home / "code.py"), str(data), *([str(argument)] if argument else [])]
        call += ["--save", "code.keras"] if self.save else []
        print(json.dumps(call), file=self.driver.stdin, flush=True)
        self.done[name] = run, home
        return run

    def finish(self) -> None:
        """Wait for the last script."""
        try:
            self.driver.communicate(timeout=900)
        finally:
            self.driver.kill()
            self.driver.wait()
        assert self.driver.returncode == 0, (self.folder / "errors.txt").read_text()[-3000:]


def figures(home: Path) -> tuple[list[dict[str, float]], dict[str, float]]:
    """Read what a script printed: a dict an epoch, and the final figures."""
    epochs, final = [], {}
    printed = (home / "printed.txt").read_text()
    assert "Traceback" not in printed, printed[-3000:]
    for line in printed.splitlines():
        words = line.split()
        if line.startswith("epoch "):
            epochs.append(dict(zip(words[::2], map(float, words[1::2]), strict=True)))
        elif line.startswith(("best_epoch ", "test_loss ")):
            final.update(zip(words[::2], map(float, words[1::2]), strict=True))
    return epochs, final


def check_equal(run: Run, home: Path) -> None:
    """Hold a script's figures of every epoch, and of the test split, against the run's."""
    assert run.status == "done", run.info.get("error")
    epochs, final = figures(home)
    history = run.history()
    assert len(epochs) == len(history) > 0
    for ours, theirs in zip(epochs, history.to_dict("records"), strict=True):
        for figure in ("loss", "val_loss", "accuracy", "val_accuracy"):
            assert ours[figure] == pytest.approx(theirs[figure], abs=1e-4, rel=1e-5), (figure, ours, theirs)
    assert final["best_epoch"] == run.metrics["best_epoch"]
    for figure in ("test_loss", "test_accuracy"):
        assert final.get(figure) == pytest.approx(run.metrics[figure], abs=1e-4)


def write_pictures(folder: Path, class_names: tuple[str, ...], counts: dict[str, int]) -> Path:
    """Noise pictures, brighter from class to class, of sizes that resizing must not round."""
    random = np.random.default_rng(7)
    for split, count in counts.items():
        for label, name in enumerate(class_names):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                shape = (33 + 5 * number, 47 - 2 * number, 3)
                pixels = random.integers(0, 130 + 60 * label, shape).astype("uint8")
                Image.fromarray(pixels).save(folder / split / name / f"{number}.png")
    return folder
