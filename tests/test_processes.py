"""Which process trains a run: told from a later one with its number, whatever the clock does."""

import os
import platform
import subprocess
import sys

import psutil
import pytest

from cvcore import processes
from cvcore.processes import described, on_this_computer, process_alive, this_process


@pytest.fixture
def other():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def test_a_process_lives_until_it_has_ended(other):
    process = described(other.pid)
    assert process_alive(process) and process_alive(this_process())
    other.kill()
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # dead, and nobody has asked how it ended
    assert not process_alive(process)
    other.wait()
    assert not process_alive(process)


def test_a_later_process_with_the_same_number_is_another_one(other):
    process = described(other.pid)
    assert process != this_process()
    assert not process_alive({**this_process(), "started": process["started"]})
    assert not process_alive({**process, "started": process["started"] + "0"})
    assert not process_alive({**process, "started": "another-boot " + process["started"].split()[1]})


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the start is a time of the clock")
def test_clock_set_by_a_year_changes_nothing(monkeypatch):
    process = this_process()
    # psutil adds the time of the boot, which moves with the clock.
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: pytest.fail("asked the clock"))
    assert process_alive(process) and this_process() == process


def test_where_there_is_no_proc_the_time_of_the_start_decides(tmp_path, monkeypatch, other):
    monkeypatch.setattr(processes, "_PROC", tmp_path)
    process = described(other.pid)
    assert process["started"] == pytest.approx(psutil.Process(other.pid).create_time())
    assert process_alive(process) and not process_alive({**process, "started": process["started"] - 5})
    other.kill()
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
    assert not process_alive(process)


def test_a_process_noted_by_an_older_version_is_known_by_the_time_of_its_start(other):
    process = {"pid": other.pid, "started": psutil.Process(other.pid).create_time(), "host": platform.node()}
    assert process_alive(process) and not process_alive({**process, "started": 1.0})


@pytest.mark.parametrize(
    "process",
    [None, {}, {"pid": "x", "started": "1"}, {"pid": 1}, {"pid": None, "started": 1.0}, {"pid": os.getpid()}, [],
     {"pid": os.getpid(), "started": None}, {"pid": -1, "started": 1.0}, {"pid": 10**12, "started": "1"},
     {"pid": 10**30, "started": 1.0}, {"pid": os.getpid(), "started": True}],
)  # fmt: skip
def test_what_describes_no_process_does_not_live(process):
    assert not process_alive(process)


def test_name_of_a_program_may_hold_brackets_and_blanks(tmp_path, monkeypatch):
    (tmp_path / "sys/kernel/random").mkdir(parents=True)
    (tmp_path / "sys/kernel/random/boot_id").write_text("b\n")
    (tmp_path / "7").mkdir()
    rest = " ".join(str(number) for number in range(4, 53))
    (tmp_path / "7" / "stat").write_text(f"7 (a) S (b)) S {rest}\n")
    monkeypatch.setattr(processes, "_PROC", tmp_path)
    assert described(7)["started"] == "b 22"  # the 22nd field of proc(5) is the start
    (tmp_path / "7" / "stat").write_text(f"7 (a) S (b)) Z {rest}\n")
    assert described(7)["started"] is None


def test_a_process_of_another_computer_is_not_looked_for_here():
    assert on_this_computer(this_process()) and not on_this_computer({**this_process(), "host": "another"})
    assert not on_this_computer({"pid": 1})
