"""Each script of tools/ and benchmarks/ starts from the project's folder as its first lines say."""

import subprocess
import sys

import pytest

from cvcore.settings import PROJECT

MODULES = [
    f"{folder}.{path.stem}"
    for folder in ("tools", "benchmarks")
    for path in sorted((PROJECT / folder).glob("*.py"))
    if "argparse" in path.read_text()
]


def test_there_are_scripts_to_start():
    assert {"tools.train_doodle_base", "tools.make_reference_runs", "benchmarks.lesson"} <= set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_script_says_what_it_does(module):
    command = [sys.executable, "-m", module, "--help"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage:")
