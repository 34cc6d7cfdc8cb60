"""Child processes as the local engine starts them: priority, GPUs, memory, how they end. They train nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from tiny_lessons import tiny_scratch

from cvcore import devices
from cvcore.backends import local, memory_kills, priority
from cvcore.backends.local import LocalBackend, LocalEngine
from cvcore.errors import CvcoreError
from cvcore.memory import Memory
from cvcore.processes import this_process
from cvcore.run_directory import load_run
from cvcore.run_writer import create_run, start_attempt
from cvcore.settings import PROJECT

SUMMARY = {"id": "two", "fingerprint": "f" * 64, "counts": {}, "class_names": ["a", "b"]}
PATIENCE = 300.0
SLEEPS = "import time; time.sleep(1000)"
BURNS = "import time\nuntil = time.monotonic() + 400\nwhile time.monotonic() < until: pass"
AUTOGROUP = Path("/proc/sys/kernel/sched_autogroup_enabled")


class Engine(LocalEngine):
    """The local engine with Python code in the place of a training."""

    def __init__(self, folder, code=SLEEPS, gpus=()):
        super().__init__(folder, gpus)
        self.code = code

    def command(self, run):
        return [sys.executable, "-c", self.code]


@pytest.fixture
def engines(monkeypatch):
    """Make engines whose children are gone when the test ends; memory runs out for none, whatever the machine does."""
    monkeypatch.setattr(memory_kills, "kills", lambda: 0)
    made = []

    def make(*arguments, **words):
        made.append(Engine(*arguments, **words))
        return made[-1]

    yield make
    for engine in made:
        for child in engine._children.values():
            if child.process is not None:
                child.process.kill()
                child.process.wait()


def queued(folder, memory_mb=None):
    estimate = None if memory_mb is None else {"seconds": 1.0, "memory_mb": memory_mb, "basis": "a test"}
    return create_run(tiny_scratch, SUMMARY, 0, folder=folder, ticket=1, backend="local", estimate=estimate)


def wait_until(condition):
    began = time.monotonic()
    while not (found := condition()):
        assert time.monotonic() - began < PATIENCE
        time.sleep(0.02)
    return found


def the_end(engine):
    (gone,) = wait_until(engine.ended)
    assert engine.busy() == set() and engine.ended() == []
    return gone


def test_child_steps_back_by_its_niceness_in_a_session_of_its_own_and_dies_first(tmp_path, engines, monkeypatch):
    niceness = min(19, os.getpriority(os.PRIO_PROCESS, 0) + 7)  # nobody but root may raise the priority
    monkeypatch.setenv("CVCORE_NICENESS", str(niceness))
    own_group = Path("/proc/self/autogroup")  # empty where this session is in the root group
    before = own_group.read_text() if own_group.exists() else None
    engine, run = engines(tmp_path), queued(tmp_path)
    engine.start(run)
    pid = engine._children[run.id].pid
    assert os.getpriority(os.PRIO_PROCESS, pid) == niceness and os.getsid(pid) == pid != os.getsid(0)
    if before is not None:
        assert Path(f"/proc/{pid}/autogroup").read_text().split()[-1:] in ([str(niceness)], [])
        assert own_group.read_text() == before
    if (own_score := Path("/proc/self/oom_score_adj")).exists():
        score = int(Path(f"/proc/{pid}/oom_score_adj").read_text())
        assert score == max(priority.DIES_FIRST, int(own_score.read_text()))


@pytest.mark.parametrize("word", ["much", "-1"])
def test_niceness_that_is_none_is_a_sentence_and_starts_nothing(tmp_path, engines, monkeypatch, word):
    monkeypatch.setenv("CVCORE_NICENESS", word)
    engine, before = engines(tmp_path), set(psutil.Process().children())  # of other tests
    with pytest.raises(CvcoreError, match=f"CVCORE_NICENESS must be a number from 0; received '{word}'"):
        engine.start(queued(tmp_path))
    assert engine.busy() == set() and set(psutil.Process().children()) <= before


# A worker whose training takes all it gets, beside a server that does. Nothing else is in their session, where it would
# take from the server's share.
TWO_ON_A_CORE = """
import sys, time
from pathlib import Path
sys.path[:0] = sys.argv[3:]
import psutil
from test_local_engine import BURNS, Engine, queued
engine, run = Engine(Path(sys.argv[1]), BURNS), queued(Path(sys.argv[1]))
server = psutil.Popen([sys.executable, "-c", BURNS], start_new_session=sys.argv[2] == "elsewhere")
try:
    engine.start(run)
    child = psutil.Process(engine._children[run.id].pid)
    core = sorted(child.cpu_affinity())[-1]
    for process in (server, child):
        process.cpu_affinity([core])
    time.sleep(0.5)
    before = [sum(process.cpu_times()[:2]) for process in (server, child)]
    taken = [0, 0]
    while sum(taken) < 3:
        time.sleep(0.1)
        taken = [sum(process.cpu_times()[:2]) - was for process, was in zip((server, child), before)]
    print(taken[1] / sum(taken))
finally:
    for process in (server, *(child.process for child in engine._children.values())):
        process.kill()
"""


@pytest.mark.skipif(not AUTOGROUP.exists() or not hasattr(psutil.Process, "cpu_affinity"), reason="needs Linux")
@pytest.mark.parametrize("server", ["elsewhere", "in the session of the worker"])
def test_child_gets_a_small_part_of_a_core_that_a_server_wants_too(tmp_path, monkeypatch, server):
    own = os.getpriority(os.PRIO_PROCESS, 0)
    if own > 14:  # the last is 19; where sessions are groups it would do, but in some containers they only seem to be
        pytest.skip(f"these tests run at niceness {own}: a child cannot step back far enough from there")
    monkeypatch.setenv("CVCORE_NICENESS", str(min(19, own + 10)))
    words = [str(tmp_path), server, str(PROJECT), str(Path(__file__).parent)]
    done = subprocess.run([sys.executable, "-c", TWO_ON_A_CORE, *words], capture_output=True, text=True,
                          timeout=PATIENCE, start_new_session=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 0.3  # a tenth; half without stepping back


def test_each_child_sees_a_gpu_of_its_own(tmp_path, engines):
    engine = engines(tmp_path, "import os, sys; sys.exit(os.environ['CUDA_VISIBLE_DEVICES'])", gpus=("GPU-a", "GPU-b"))
    assert engine.slots() == 2
    engine.code = SLEEPS
    runs = [queued(tmp_path) for _ in range(3)]
    engine.start(runs[0])
    engine.start(runs[1])
    assert [visible(engine, run) for run in runs[:2]] == ["GPU-a", "GPU-b"]
    engine.kill(runs[0])
    assert the_first(engine).run_id == runs[0].id
    engine.start(runs[2])
    assert visible(engine, runs[2]) == "GPU-a"


def visible(engine, run):
    child = psutil.Process(engine._children[run.id].pid)
    return wait_until(lambda: child.environ().get("CUDA_VISIBLE_DEVICES"))  # none for a moment while it begins


def the_first(engine):
    return wait_until(engine.ended)[0]


def test_gpu_of_an_orphan_is_not_given_to_another_run(tmp_path, engines):
    first = engines(tmp_path, gpus=("GPU-a", "GPU-b"))
    orphan, run = queued(tmp_path), queued(tmp_path)
    first.start(orphan)
    pid = first._children[orphan.id].pid
    writer = start_attempt(orphan, attempt=1)
    identity = next(iter(identities([pid])))
    writer.update(process=identity)
    second = engines(tmp_path, gpus=("GPU-a", "GPU-b"))
    second.adopt(load_run(orphan.id, tmp_path))
    second.start(run)
    assert second._children[run.id].gpu == "GPU-b" and second.busy() == {orphan.id, run.id}
    os.kill(pid, signal.SIGKILL)
    first._children[orphan.id].process.wait()
    gone = the_first(second)
    assert (gone.run_id, gone.attempt, gone.again) == (orphan.id, 1, True)


def identities(pids):
    """Describe processes as they would describe themselves."""
    from cvcore import processes

    return [{**this_process(), "pid": pid, "started": processes._started(pid)} for pid in pids]


def test_processor_is_one_slot(tmp_path):
    assert LocalEngine(tmp_path, ()).slots() == 1


def test_run_waits_while_its_memory_is_not_free_beside_what_the_others_will_take(tmp_path, engines, monkeypatch):
    engine = engines(tmp_path, gpus=("a", "b", "c"))
    monkeypatch.setattr(local, "memory", lambda: Memory(8000.0, 4000.0))
    monkeypatch.setattr(local, "held", lambda pid: 500.0)
    assert engine.room_for(queued(tmp_path, 10**6))  # nothing trains: it was let in, and has all there is
    engine.start(queued(tmp_path, 2500.0))  # takes 500 now, 2000 to come
    assert engine.room_for(queued(tmp_path, 2000.0)) and engine.room_for(queued(tmp_path))
    assert not engine.room_for(queued(tmp_path, 2001.0))


@pytest.mark.parametrize(
    ("code", "reason", "again"),
    [
        ("pass", None, True),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "Its training process was ended by SIGKILL.", True),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "Its training process was ended by SIGSEGV.", True),
        ("import no_such_module", "Its training process ended with exit code 1: "
         "ModuleNotFoundError: No module named 'no_such_module'", False),
        ("raise SystemExit(3)", "Its training process ended with exit code 3.", False),
        ("import sys; print('no room', file=sys.stderr); sys.exit(74)",
         "Its training process ended with exit code 74: no room", True),
    ],
)  # fmt: skip
def test_what_is_known_of_the_end_is_said(tmp_path, engines, code, reason, again):
    engine, run = engines(tmp_path, code), queued(tmp_path)
    engine.start(run)
    gone = the_end(engine)
    assert (gone.run_id, gone.attempt, gone.reason, gone.again) == (run.id, 1, reason, again)
    assert "no_such_module" not in code or "Traceback" in load_run(run.id, tmp_path).log()


def test_kill_of_a_run_that_nobody_trains_does_nothing(tmp_path, engines):
    engines(tmp_path).kill(queued(tmp_path))


def test_kill_for_want_of_memory_is_told_by_the_kernels_count(tmp_path, engines, monkeypatch):
    counts = {"kills": 3}
    monkeypatch.setattr(memory_kills, "kills", lambda: counts["kills"])
    engine, run = engines(tmp_path, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"), queued(tmp_path, 1234)
    engine.start(run)
    counts["kills"] += 1
    gone = the_end(engine)
    assert (
        not gone.again and "for want of memory: it had taken" in gone.reason and "1,234 MB were expected" in gone.reason
    )


@pytest.mark.parametrize("dying", [0.2, 1000.0], ids=["of another process before", "of this one, which took its time"])
def test_kill_without_a_reason_is_not_put_down_to_an_earlier_want_of_memory(tmp_path, engines, monkeypatch, dying):
    counts = {"kills": 3}
    monkeypatch.setattr(memory_kills, "kills", lambda: counts["kills"])
    monkeypatch.setattr(local, "DYING", dying)
    engine, run = engines(tmp_path), queued(tmp_path)
    engine.start(run)
    assert engine.ended() == []
    counts["kills"] += 1
    for _ in range(3):
        time.sleep(0.3)
        assert engine.ended() == []
    engine.kill(run)
    gone = the_end(engine)
    assert gone.again == (dying < 1) and ("for want of memory" in gone.reason) == (dying > 1)


def test_orphan_whose_number_is_kept_as_text_is_watched(tmp_path, engines):
    run = queued(tmp_path)
    start_attempt(run, attempt=1).update(process={**this_process(), "pid": str(os.getpid())})
    engine = engines(tmp_path, gpus=("GPU-a",))
    engine.adopt(load_run(run.id, tmp_path))
    assert engine.busy() == {run.id} and engine.ended() == []


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("membership", "file"),
    [
        ("0::/box\n", "box/memory.events"),
        ("0::/outside/names\n", "memory.events"),
        ("5:cpu:/x\n4:memory:/box\n0::/\n", "memory/box/memory.oom_control"),
        ("4:memory:/outside\n", "memory/memory.oom_control"),
    ],
)
def test_count_of_kills_is_that_of_the_control_group_else_of_the_machine(tmp_path, monkeypatch, membership, file):
    monkeypatch.setattr(memory_kills, "PROC", tmp_path / "proc")
    monkeypatch.setattr(memory_kills, "CGROUPS", tmp_path / "groups")
    assert memory_kills.kills() is None
    write(tmp_path / "proc/self/cgroup", membership)
    write(tmp_path / "proc/vmstat", "pgfault 7\noom_kill 5\n")
    assert memory_kills.kills() == 5
    write(tmp_path / "groups" / file, "low 1\noom 9\noom_kill_disable 0\noom_kill 2\n")
    assert memory_kills.kills() == 2


# Runs in a control group of 120 MB: its child takes more.
IN_A_SMALL_GROUP = '''
import dataclasses, json, os, sys, time
from pathlib import Path
sys.path[:0] = sys.argv[3:]
Path(sys.argv[1], "cgroup.procs").write_text(str(os.getpid()))
from test_local_engine import Engine, queued
folder = Path(sys.argv[2])
# It takes nothing before the kernel has been told that it is to die first: this process has more until then.
engine = Engine(folder, """
import time
from pathlib import Path
while int(Path("/proc/self/oom_score_adj").read_text()) < 500:
    time.sleep(0.01)
taken = bytearray(10**9)
""")
engine.start(queued(folder, 50.0))
while not (gone := engine.ended()):
    time.sleep(0.05)
print(json.dumps(dataclasses.asdict(gone[0])))
'''


@pytest.fixture
def small_group():
    """A control group whose processes may take 120 MB together."""
    if os.geteuid() != 0:
        pytest.skip("making a control group needs root")
    first, second = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
    root, limit = (first, "memory.limit_in_bytes") if first.is_dir() else (second, "memory.max")
    group = root / f"fourways-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / limit).write_text("120000000")
        if (swap := group / "memory.swap.max").exists():
            swap.write_text("0")
    except OSError as error:
        if group.is_dir():
            group.rmdir()
        pytest.skip(f"no control group that limits memory can be made here: {error}")
    yield group
    wait_until(lambda: not (group / "cgroup.procs").read_text())
    group.rmdir()


def test_kernel_that_kills_a_child_for_want_of_memory_is_named_with_the_numbers(tmp_path, small_group):
    words = [str(small_group), str(tmp_path), str(PROJECT), str(Path(__file__).parent)]
    done = subprocess.run(
        [sys.executable, "-c", IN_A_SMALL_GROUP, *words], capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    gone = json.loads(done.stdout)
    assert gone["again"] is False and "want of memory: it had taken" in gone["reason"]
    assert "of the 120 MB that there are (50 MB were expected)" in gone["reason"]


def test_capacity_and_words_of_this_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(local, "_gpus", lambda: ())
    found = LocalBackend().capacity(tmp_path)
    assert (found.slots, found.free, found.kind) == (1, 1, "CPU") and found.memory_mb > 100
    writer = start_attempt(queued(tmp_path), attempt=1)
    assert LocalBackend().capacity(tmp_path).free == 0
    writer.finish("done")
    monkeypatch.setattr(local, "_gpus", lambda: ("GPU-a", "GPU-b"))
    assert LocalBackend().capacity(tmp_path).slots == LocalBackend().capacity(tmp_path).free == 2
    words = LocalBackend().status(tmp_path)
    assert "up to 2 at a time" in words.words and not words.worker_alive and words.problem is None


@pytest.mark.parametrize(
    ("allowed", "names"),
    [
        ("1,0", ["1", "0"]),
        ("GPU-x, GPU-x", ["GPU-x"]),
        ("", []),
        ("-1", []),
        ("0,-1,1", ["0"]),
        (None, ["GPU-1", "GPU-2"]),
    ],
)
def test_gpus_to_train_on_are_those_of_the_driver_within_what_the_worker_may_see(tmp_path, monkeypatch, allowed, names):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho GPU-1\necho GPU-2\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(devices, "_reaches_gpus", lambda: True)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if allowed is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", allowed)
    assert devices.training_gpus() == names
    monkeypatch.setattr(devices, "_reaches_gpus", lambda: False)
    assert devices.training_gpus() == []


def test_gpus_of_a_driver_that_does_not_answer_are_counted(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(devices, "DRIVER", tmp_path / "gpus")
    monkeypatch.setattr(devices, "_reaches_gpus", lambda: True)
    assert devices.training_gpus() == []
    for slot in ("0000:01:00.0", "0000:02:00.0"):
        write(tmp_path / "gpus" / slot / "information", "Model: A\n")
    assert devices.training_gpus() == ["0", "1"]
