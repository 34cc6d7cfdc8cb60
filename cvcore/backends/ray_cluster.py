"""What a Ray cluster has, asked of its dashboard over HTTP: light enough for the server, which never loads Ray."""

from __future__ import annotations

import hashlib
import http.client
import json
import math
import os
import time
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from cvcore import settings
from cvcore.errors import CvcoreError
from cvcore.files import replace_json

NO_DASHBOARD = "CVCORE_RAY_ADDRESS must be the address of a Ray dashboard, such as http://head:8265; what"
OLDEST = (2, 9)  # of Ray on the cluster: jobs that reserve memory
LARGEST_ANSWER = 5 * 10**6  # bytes


class Unreachable(CvcoreError):
    """The cluster did not answer; what was asked may be asked again."""


@dataclass(frozen=True)
class Node:
    """One living machine of a cluster: CPUs, GPUs and MB of memory that Ray may give away, and what its GPUs are."""

    cpus: float
    gpus: float
    memory_mb: float
    accelerator: str | None = None


@dataclass(frozen=True)
class Cluster:
    """The living nodes of a cluster."""

    nodes: tuple[Node, ...]

    @property
    def kind(self) -> Literal["CPU", "GPU"]:
        """What a run trains on."""
        return "GPU" if self.share()[1] > 0 else "CPU"

    def share(self) -> tuple[float, float]:
        """Return the CPUs and GPUs that one run takes.

        Unless CVCORE_RAY_GPUS and CVCORE_RAY_CPUS say otherwise: a GPU and a CPU where there are GPUs, else as many
        CPUs as the smallest node has, because a run would use them all.
        """
        cpus, gpus = settings.ray_cpus(), settings.ray_gpus()
        if gpus is None:
            gpus = 1.0 if any(node.gpus >= 1 for node in self.nodes) else 0.0
        if cpus is None:
            cpus = 1.0 if gpus else min((node.cpus for node in self.nodes if node.cpus >= 1), default=1.0)
        return cpus, gpus

    def slots(self) -> int:
        """Count the runs that fit in at a time."""
        return sum(map(self._slots_of, self.nodes))

    def memory_mb(self) -> float | None:
        """Return the memory that one run may take on a CPU node, in MB; None on GPUs, of which Ray does not tell."""
        if self.kind == "GPU":
            return None
        fits = [node.memory_mb / self._slots_of(node) for node in self.nodes if self._slots_of(node)]
        return max(fits, default=None)

    def words(self) -> str:
        """Say what it is: "a Ray cluster of 2 nodes, on CPUs"."""
        nodes = f"{len(self.nodes)} node" + ("" if len(self.nodes) == 1 else "s")
        names = sorted({node.accelerator for node in self.nodes if node.accelerator})
        what = ", ".join(names) if self.kind == "GPU" and names else f"{self.kind}s"
        return f"a Ray cluster of {nodes}, on {what}"

    def _slots_of(self, node: Node) -> int:
        cpus, gpus = self.share()
        fits = [math.floor(there / wanted + 1e-9) for there, wanted in ((node.cpus, cpus), (node.gpus, gpus)) if wanted]
        return min(fits, default=0)


def look(address: str, timeout: float = 3.0) -> Cluster:
    """Ask a cluster for its nodes.

    Args:
        address: of its dashboard, such as http://head:8265.
        timeout: seconds to wait for an answer.

    Raises:
        Unreachable: nobody answers there, or not as Ray does, or too old a Ray.
    """
    base = (address if "://" in address else f"http://{address}").rstrip("/")
    if not base.startswith(("http://", "https://")):
        raise Unreachable(f"{NO_DASHBOARD} is there is none")
    version = str(_asked(f"{base}/api/version", timeout).get("ray_version"))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if len(numbers) < 2 or numbers < OLDEST:
        raise Unreachable(f"The Ray cluster has version {version[:20]}; install {OLDEST[0]}.{OLDEST[1]} or newer on "
                          "its nodes: the runs that wait are trained then")  # fmt: skip
    answer = _asked(f"{base}/api/v0/nodes?detail=1&limit=1000", timeout)
    try:
        rows = answer["data"]["result"]["result"]
        living = [row["resources_total"] for row in rows if row["state"] == "ALIVE"]
        return Cluster(tuple(_node(resources) for resources in living))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise Unreachable(f"{NO_DASHBOARD} answers there does not tell its nodes") from None


class Board:
    """What is known of a cluster, in a file of the runs folder: the worker writes it, the server's pages read it."""

    EVERY = 5.0  # seconds between two writes
    FRESH = 20.0  # seconds after which nobody seems to write it any more

    def __init__(self, folder: Path, address: str) -> None:
        self.path = folder / ".ray.json"
        self._of = hashlib.sha256(os.fsencode(address)).hexdigest()[:16]

    def write(self, cluster: Cluster | None, problem: str | None) -> None:
        """Write what is known; a folder without room is left alone."""
        nodes = [asdict(node) for node in cluster.nodes] if cluster else None
        with suppress(OSError):
            replace_json(self.path, {"of": self._of, "nodes": nodes, "problem": problem})

    def read(self) -> tuple[Cluster | None, str | None, bool]:
        """Return the cluster as last seen, the problem that there was, and whether that is fresh."""
        try:
            age = time.time() - self.path.stat().st_mtime
            known = json.loads(self.path.read_text())
            if known["of"] != self._of:
                return None, None, False
            nodes = known["nodes"]
            cluster = None if nodes is None else Cluster(tuple(Node(**node) for node in nodes))
            return cluster, known["problem"], abs(age) < self.FRESH
        except (OSError, ValueError, KeyError, TypeError):
            return None, None, False


def _asked(url: str, timeout: float) -> dict[str, Any]:
    token = os.environ.get("RAY_AUTH_TOKEN")
    try:
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            found = json.loads(answer.read(LARGEST_ANSWER))
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            raise Unreachable("The Ray cluster asks for a token; set RAY_AUTH_TOKEN and RAY_AUTH_MODE=token as on its "
                              "nodes") from None  # fmt: skip
        raise Unreachable(f"{NO_DASHBOARD} answers there says {error.code}") from None
    except (OSError, http.client.IncompleteRead) as error:
        reason = getattr(error, "reason", error)
        raise Unreachable(f"The Ray cluster does not answer ({str(reason)[:120]}); runs stay where they are until it "
                          "does") from None  # fmt: skip
    except (ValueError, RecursionError, http.client.HTTPException):  # no HTTP address, no HTTP, no JSON
        raise Unreachable(f"{NO_DASHBOARD} is there is none") from None
    return found if isinstance(found, dict) else {}


def _node(resources: dict[str, Any]) -> Node:
    names = [name.partition(":")[2] for name in resources if name.startswith("accelerator_type:")]
    cpus, gpus, memory = (float(resources.get(name, 0)) for name in ("CPU", "GPU", "memory"))
    if not (math.isfinite(cpus) and math.isfinite(gpus) and math.isfinite(memory)):
        raise ValueError("no amounts")
    return Node(cpus, gpus, memory / 1e6, names[0] if names else None)
