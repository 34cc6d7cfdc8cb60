"""Low priority for a training process, so that the pages beside it stay quick, and so that it dies first.

`nice` compares processes of one session only where the kernel groups them by session (autogroup, on by default on
most Linux desktops and servers): between sessions the groups' own nice values count. A worker may have been started
from any session, by a server or a terminal, so each training process gets a session of its own, and its group the
low priority.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

DIES_FIRST = 500  # added to its score when the kernel must kill for memory, 0 to 1000


def lower(pid: int, niceness: int) -> None:
    """Lower the priority of a process that leads a session of its own; does nothing where the system has no such thing.

    Args:
        pid: the process, started with `start_new_session=True`.
        niceness: 0 to 19; on a busy core 10 leaves it a tenth of what a process of usual priority gets, 19 a sixtieth.
    """
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, niceness)
    with suppress(OSError, ValueError):
        score = Path(f"/proc/{pid}/oom_score_adj")
        if int(score.read_text()) < DIES_FIRST:  # in a container all processes may have more
            score.write_text(str(DIES_FIRST))
    for _ in range(5):
        try:
            Path(f"/proc/{pid}/autogroup").write_text(str(niceness))
            return
        except BlockingIOError:  # the kernel takes one such change in a tenth of a second from those who are not root
            time.sleep(0.11)
        except OSError:  # no autogroup in this kernel, or another system
            return
