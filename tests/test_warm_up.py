"""What is made ready while the server starts."""

import os
import subprocess
import sys

from handmade_runs import write_damaged_run, write_reference_runs

from cvcore.settings import PROJECT
from panels import compare_panels
from warm_up import warm_up

LOADED = """
import sys
import warm_up
warm_up.warm_up()
print(*sys.modules)
"""


def test_the_server_starts_with_what_its_pages_draw_with_and_without_keras(runs):
    write_reference_runs(runs)
    write_damaged_run(runs)
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    done = subprocess.run([sys.executable, "-c", LOADED], cwd=PROJECT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    loaded = set(done.stdout.split())
    assert {"pandas", "plotly.graph_objs", "panels.compare_panels", "panels.run_panel"} <= loaded
    assert not loaded & {"tensorflow", "keras", "jax", "torch"}


def test_a_server_starts_all_the_same_when_something_cannot_be_made_ready(runs, monkeypatch, caplog):
    def broken(saved):
        raise OSError("no such device")

    monkeypatch.setattr(compare_panels, "warm_up", broken)
    warm_up()
    assert "not everything could be made ready" in caplog.text
