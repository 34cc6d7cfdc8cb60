"""Locks between processes: waited for as long as was said, and not for as long as a machine stood still."""

import pytest

from cvcore import locks
from cvcore.errors import CvcoreError
from cvcore.locks import LONGEST_LOOK, locked, waiting_at_most


@pytest.fixture
def clock(monkeypatch):
    """The clock that locks are waited for by, which moves on by `step` seconds with each look."""

    class Clock:
        now, step, looks = 0.0, 0.1, 0

        def monotonic(self):
            self.now += self.step
            self.looks += 1
            return self.now

        def sleep(self, seconds):
            pass

    monkeypatch.setattr(locks, "time", clock := Clock())
    return clock


def test_somebody_who_keeps_a_lock_is_waited_for_and_named(tmp_path, clock):
    with locked(tmp_path / "a.lock"), pytest.raises(CvcoreError, match=r"kept a\.lock locked for 60 seconds"):
        locked(tmp_path / "a.lock").__enter__()
    assert 59 < clock.now < 62


def test_machine_that_stands_still_has_not_waited(tmp_path, clock, monkeypatch):
    """Who has the lock stood still with it, and needs another moment to let go."""
    lock = locked(tmp_path / "a.lock")
    lock.__enter__()
    real = locks.try_lock

    def looks(descriptor):
        clock.step = 80.0 if clock.looks == 3 else 0.1
        if clock.looks == 10:
            lock.__exit__(None, None, None)
        return real(descriptor)

    monkeypatch.setattr(locks, "try_lock", looks)
    with locked(tmp_path / "a.lock"):
        assert clock.looks >= 10 and clock.now > 80


def test_who_has_other_things_to_do_waits_no_longer(tmp_path, clock):
    with locked(tmp_path / "a.lock"), waiting_at_most(0.0), pytest.raises(CvcoreError, match="for 0 seconds"):
        locked(tmp_path / "a.lock").__enter__()
    assert clock.now <= LONGEST_LOOK
