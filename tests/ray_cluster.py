"""A Ray cluster of several nodes on this machine, for tests: its own ports and folders, all of it gone at the end."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import psutil

from tools.ports import free_port

PATIENCE = 300.0  # seconds that a node may take to start on a busy machine
MARK = "FOURWAYS_TEST_CLUSTER"  # every process of the cluster inherits it, and is found again by it


class RayCluster:
    """Nodes started by `ray start`, one a call; `close` ends every process that came of them, orphans included."""

    def __init__(self, **environment: str) -> None:
        # A short path: Ray keeps sockets in it, whose paths may have 107 characters.
        self.folder = Path(tempfile.mkdtemp(prefix="ray-"))
        self.name = secrets.token_hex(8)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "CVCORE_"))},
            MARK: self.name,
            # A job's `python` is the first of its node's PATH.
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "RAY_USAGE_STATS_ENABLED": "0",
            # A node that is gone is found out within 2 seconds, not 18.
            "RAY_health_check_initial_delay_ms": "0",
            "RAY_health_check_period_ms": "500",
            "RAY_health_check_timeout_ms": "1000",
            "RAY_health_check_failure_threshold": "4",
            **environment,
        }
        self.port, dashboard, client = (free_port() for _ in range(3))
        self.address = f"http://127.0.0.1:{dashboard}"
        self.nodes: list[Path] = []
        try:
            self._start(
                ["--head", f"--port={self.port}", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}",
                 f"--ray-client-server-port={client}"]
            )  # fmt: skip
        except BaseException:
            self.close()
            raise

    def add_node(self, *options: str) -> None:
        """Start a further node and wait until the cluster counts it."""
        self._start([f"--address=127.0.0.1:{self.port}", *options])

    def _start(self, options: list[str]) -> None:
        before = self.alive() if self.nodes else 0
        folder = self.folder / str(len(self.nodes))
        folder.mkdir()
        self.nodes.append(folder)
        defaults = {"--num-cpus": "1", "--num-gpus": "0"}
        given = {option.partition("=")[0] for option in options}
        command = [
            sys.executable, "-m", "ray.scripts.scripts", "start", *options,
            *(f"{name}={value}" for name, value in defaults.items() if name not in given),
            "--object-store-memory=80000000", f"--temp-dir={folder}", "--node-ip-address=127.0.0.1",
            "--dashboard-agent-listen-port=0", "--include-log-monitor=false", "--disable-usage-stats",
        ]  # fmt: skip
        with (folder / "start.txt").open("wb") as output:
            done = subprocess.run(command, env=self.environment, stdin=subprocess.DEVNULL, stdout=output,
                                  stderr=output, cwd=folder, timeout=PATIENCE, check=False)  # fmt: skip
        assert done.returncode == 0, (folder / "start.txt").read_text()
        began = time.monotonic()
        while self.alive() <= before:
            assert time.monotonic() - began < PATIENCE, "the node has started but the cluster does not count it"
            time.sleep(0.2)

    def alive(self) -> int:
        """Count the nodes that the cluster takes to be alive."""
        try:
            with urllib.request.urlopen(f"{self.address}/api/v0/nodes", timeout=10) as answer:
                rows = json.load(answer)["data"]["result"]["result"]
        except (OSError, ValueError, KeyError, TypeError):
            return 0
        return sum(row["state"] == "ALIVE" for row in rows)

    def processes(self) -> list[psutil.Process]:
        """Every living process of the cluster and of its jobs."""
        found = []
        for process in psutil.process_iter():
            # Ray's own renamed processes have lost their environment, but they are in one of the folders.
            with contextlib.suppress(psutil.Error, OSError):
                inside = process.cwd().startswith(str(self.folder)) or process.environ().get(MARK) == self.name
                if inside and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def raylet(self, index: int) -> psutil.Process:
        """The process that is node `index` (0: the head) as far as the cluster is concerned."""
        mark = f"--raylet_socket_name={self.nodes[index]}/"
        return next(process for process in self.processes() if mark in " ".join(process.cmdline()))

    def kill_node(self, index: int, leave_orphans: bool = False) -> None:
        """Kill a node as a power cut or, with orphans left alive, as a torn network cable does.

        Ray has a shell beside each job that kills it a second after its supervisor is gone; orphans are left by
        stopping those shells first.
        """
        raylet = self.raylet(index)
        below = raylet.children(recursive=True)
        if leave_orphans:
            for process in below:
                if "kill -9 -" in " ".join(process.cmdline()):
                    process.suspend()
            raylet.kill()
        else:
            for process in [raylet, *below]:
                with contextlib.suppress(psutil.Error):
                    process.kill()

    def close(self) -> None:
        """Kill what is left and remove the folders."""
        for _ in range(100):
            left = self.processes()
            if not left:
                break
            for process in left:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(left, timeout=1)
        shutil.rmtree(self.folder, ignore_errors=True)
