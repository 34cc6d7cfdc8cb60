"""What README says can be typed, can be typed."""

import os
import re
import signal
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

from tools.ports import free_port

PROJECT = Path(__file__).resolve().parent.parent
README = (PROJECT / "README.md").read_text()
PATIENCE = 300  # seconds
COMMANDS = [line for block in re.findall(r"^```\n(.*?)^```", README, re.M | re.S) for line in block.splitlines()]


@pytest.fixture
def environment(tmp_path):
    cache = os.environ.get("CVCORE_CACHE", str(tmp_path / "cache"))
    return {**os.environ, "CVCORE_RUNS": str(tmp_path / "runs"), "CVCORE_CACHE": cache}


def test_readme_has_the_commands_tested_here():
    assert COMMANDS == [
        "make run",
        "make test",
        ".venv/bin/python -m streamlit run app.py",
        ".venv/bin/python -m cvcore train doodle-features --data doodle-pets --seed 1",
        ".venv/bin/python -m cvcore runs",
    ]


@pytest.mark.parametrize("command", [COMMANDS[0], COMMANDS[2]])
def test_command_serves_the_dashboard(command, environment):
    port = free_port()
    if command == "make run":
        environment["PORT"] = str(port)
    environment |= {"STREAMLIT_SERVER_PORT": str(port), "STREAMLIT_SERVER_HEADLESS": "true"}
    server = subprocess.Popen(command.split(), cwd=PROJECT, env=environment, start_new_session=True)
    try:
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            time.sleep(0.2)
            assert server.poll() is None, f"{command} ended with {server.returncode}"
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=2) as answer:
                    assert answer.read() == b"ok"
                    break
            except OSError:
                continue
        else:
            pytest.fail(f"{command} did not serve within {PATIENCE} s")
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(PATIENCE)


def test_command_line_trains_and_lists(environment):
    for command in COMMANDS[3:]:
        done = subprocess.run(command.split(), cwd=PROJECT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "doodle-features" in done.stdout


def test_make_test_is_what_is_running_now():
    plan = subprocess.run(["make", "-n", "test"], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert "-m pytest" in plan.stdout


def test_every_relative_link_leads_somewhere():
    for page in (PROJECT / "README.md", *(PROJECT / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_docs_name_every_command_of_the_command_line():
    from cvcore.cli import main

    named = set(re.findall(r"^python -m cvcore ([a-z-]+)", (PROJECT / "docs" / "api.md").read_text(), re.M))
    assert named == set(main.commands)
