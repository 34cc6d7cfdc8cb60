"""Each strategy on Keras' other backends: trained, tested, stopped and resumed, repeated by its script."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from train_on_backend import RECIPES, STOPPED

from cvcore.run_directory import load_run
from cvcore.settings import PROJECT


@pytest.fixture(scope="module", params=["jax", "torch"])
def trained(request, all_lessons, tmp_path_factory):
    """The backend, the folder of its runs, and their ids by name."""
    backend = request.param
    if backend == "torch" and importlib.util.find_spec("torch") is None:
        pytest.skip("PyTorch is not installed: its default build is several GB")
    runs, cache = tmp_path_factory.mktemp(backend), tmp_path_factory.mktemp("cache")
    environment = {
        **os.environ, "KERAS_BACKEND": backend, "CVCORE_CACHE": str(cache), "CVCORE_RUNS": str(runs),
        "PYTHONPATH": os.pathsep.join([str(PROJECT), str(Path(__file__).parent)]),
        # Runs of one recipe compile the same programs.
        "JAX_COMPILATION_CACHE_DIR": str(cache / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }  # fmt: skip
    command = [sys.executable, str(Path(__file__).parent / "train_on_backend.py"), str(runs)]
    done = subprocess.run(
        [*command, str(all_lessons.folder("two"))], env=environment, capture_output=True, text=True, timeout=550
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return backend, runs, json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", RECIPES)
def test_every_strategy_trains_and_says_on_what(name, trained):
    backend, runs, ids = trained
    run = load_run(ids[name], runs)
    assert run.status == "done"
    assert run.info["device"]["backend"] == backend
    assert run.info["device"]["precision"] == "float32"
    assert np.isfinite(run.history().to_numpy()).all()
    assert len(run.history()) == run.metrics["epochs"] >= 1
    assert run.predictions()["split"].value_counts().to_dict() == {"validation": 14, "test": 16}
    assert run.metrics["test_count"] == 16
    assert (run.path / "model.keras").is_file()


def test_runs_learn(trained):
    _, runs, ids = trained
    for name in ("scratch", "features", "finetune"):
        losses = load_run(ids[name], runs).history()["loss"]
        assert losses.iloc[-1] < losses.iloc[0], name


def test_callbacks_do_what_they_do_on_tensorflow(trained):
    _, runs, ids = trained
    run = load_run(ids["callbacks"], runs)
    assert len(run.history()) == 5  # nothing is better than epoch 1, and four more are waited for
    rates = run.history()["learning_rate"].to_numpy() / run.recipe["learning_rate"]
    np.testing.assert_allclose(rates, [1, 1, 1, 0.1, 0.1], rtol=1e-5)
    assert {"csv_log-head.csv", "checkpoint-head.keras"} <= {path.name for path in run.path.iterdir()}


@pytest.mark.parametrize("name", STOPPED)
def test_stopped_run_resumes_as_if_nothing_had_happened(name, trained):
    _, runs, ids = trained
    whole, resumed = load_run(ids[name], runs), load_run(ids[f"{name}, resumed"], runs)
    assert (resumed.status, resumed.info["attempt"]) == ("done", 2)
    whole_rows, rows = (run.history().drop(columns="seconds").to_numpy() for run in (whole, resumed))
    np.testing.assert_allclose(rows, whole_rows, rtol=0, atol=1e-6)
    figures = [run.predictions().iloc[:, 4:].to_numpy() for run in (whole, resumed)]
    np.testing.assert_allclose(*figures, rtol=0, atol=1e-5)


def test_script_of_a_run_has_its_losses(trained):
    _, runs, ids = trained
    printed = re.findall(r"^epoch \d+ +loss (\S+)", (runs / "script.txt").read_text(), re.MULTILINE)
    losses = load_run(ids["augmented"], runs).history()["loss"]
    np.testing.assert_allclose([float(loss) for loss in printed], losses, rtol=0, atol=1e-4)
