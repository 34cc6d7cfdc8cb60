"""Ray's jobs: its client, whose errors become sentences, and the code that travels with each. Only here is Ray named.

A job is named after its run and attempt, so that Ray itself refuses a second one.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

from cvcore import settings
from cvcore.backends.job import NOT_WRITTEN
from cvcore.backends.ray_cluster import Cluster, Unreachable
from cvcore.backends.store import check_url
from cvcore.errors import CvcoreError
from cvcore.run_directory import Run

T = TypeVar("T")
NOT_INSTALLED = ("Ray is not installed here; run `pip install -r requirements-ray.txt`, or unset CVCORE_RAY_ADDRESS to "
                 "train on this computer")  # fmt: skip
NEVER_PLACED = (
    "JOB_SUPERVISOR_ACTOR_START_TIMEOUT"  # no node had room for RAY_JOB_START_TIMEOUT_SECONDS, 900 by default
)
ANSWERS_WITHIN = 15.0  # seconds for one request to the cluster


def check_installed() -> None:
    """Check that Ray is installed, without loading it.

    Raises:
        CvcoreError: it is not, and what to do.
    """
    if find_spec("ray") is None:
        raise CvcoreError(NOT_INSTALLED)


class RayJobs:
    """The jobs of one cluster and one runs folder."""

    def __init__(self, address: str, folder: Path) -> None:
        self.address, self.folder = address, folder
        self._client: Any = None
        self._lock = threading.Lock()

    def submit(self, id: str, run: Run, cluster: Cluster) -> None:
        """Submit a job; one that is there already is left as it is.

        Raises:
            Unreachable: the cluster does not answer.
            CvcoreError: it refuses the job, and what it says.
        """
        cpus, gpus = cluster.share()
        memory = (run.estimate or {}).get("memory_mb")
        reserved = cluster.memory_mb() if memory else None
        words: dict[str, Any] = {
            "entrypoint": f"python -m cvcore.backends.job {run.id} {run.attempt}",
            "submission_id": id,
            "runtime_env": {"env_vars": self._environment()},
            "metadata": {"run": run.id, "attempt": str(run.attempt)},
            "entrypoint_num_cpus": cpus,
            "entrypoint_num_gpus": gpus,
            **({"entrypoint_memory": int(memory * 1e6)} if memory and reserved and memory <= reserved else {}),
        }
        try:
            with _code() as folder:
                words["runtime_env"]["working_dir"] = str(folder)
                self._asked(lambda client: client.submit_job(**words))
        except _Refused as error:
            if self.details(id) is not None:
                return
            if error.fault_is_ours:
                raise CvcoreError(f"Ray does not take its job: {error}") from error
            raise Unreachable(f"The Ray cluster takes no job now ({error}); runs wait until it does") from error

    def details(self, id: str) -> Any:
        """Return Ray's JobDetails of a job, None where it knows none of this name."""
        try:
            return self._asked(lambda client: client.get_job_info(id))
        except _Refused as error:
            if "does not exist" in str(error):
                return None
            raise Unreachable(f"The Ray cluster does not tell how its job is ({error})") from error

    def stop(self, id: str) -> None:
        """Have Ray end a job: SIGTERM, and after three seconds SIGKILL."""
        with suppress(_Refused):
            self._asked(lambda client: client.stop_job(id))

    def remove(self, id: str) -> None:
        """Have Ray forget a job that is over, so that one of this name can be submitted again."""
        with suppress(_Refused):
            self._asked(lambda client: client.delete_job(id))

    def output(self, id: str) -> str:
        """Return what a job has printed."""
        return str(self._asked(lambda client: client.get_job_logs(id)))

    def _asked(self, request: Callable[[Any], T]) -> T:
        try:
            with self._lock:
                self._client = self._client or _new_client(self.address)
            return request(self._client)
        except RuntimeError as error:  # what its client makes of any answer but success
            raise _Refused(without_address(str(error), self.address)) from None
        except Exception as error:  # noqa: BLE001  (its cause would show the address in logs)
            said = _last_line(without_address(str(error), self.address)) if str(error) else type(error).__name__
            raise Unreachable(f"The Ray cluster does not answer ({said}); runs stay where they are until it "
                              "does") from None  # fmt: skip

    def _environment(self) -> dict[str, str]:
        names = ("KERAS_BACKEND", "CVCORE_DATA", "CVCORE_WEIGHTS", "CVCORE_CACHE_LIMIT")
        if url := settings.store_url():
            check_url(url)
            url = url if "://" in url else str(Path(url).resolve())
            there = {"CVCORE_STORE": url, "CVCORE_STORE_OPTIONS": "@store-options.json"}
            return there | {name: os.environ[name] for name in names[:1] if name in os.environ}
        shared = {"CVCORE_RUNS": str(self.folder), "CVCORE_CACHE": str(settings.cache_folder())}
        return shared | {name: os.environ[name] for name in names if os.environ.get(name)}


@contextmanager
def _code() -> Iterator[Path]:
    """Yield a folder for a job to work in: this package, and the store's options; Ray sends what it does not have.

    The options are in a file because Ray shows a job's environment to whoever sees its dashboard, and logs it.
    """
    with tempfile.TemporaryDirectory(prefix="fourways-code-") as name:
        folder = Path(name)
        shutil.copytree(settings.PROJECT / "cvcore", folder / "cvcore",
                        ignore=shutil.ignore_patterns("__pycache__", "*.tmp"))  # fmt: skip
        if settings.store_url():
            (folder / "store-options.json").write_text(json.dumps(settings.store_options()))
        yield folder


class _Refused(CvcoreError):
    """The cluster answered, and not with what was asked for."""

    def __init__(self, answer: str) -> None:
        super().__init__(_last_line(answer))
        code = re.search(r"status code (\d{3})", answer)
        self.fault_is_ours = code is not None and code[1].startswith("4")


def without_address(text: str, address: str) -> str:
    """Return what Ray said without what visitors need not know: the address, a password in it or in another, the token.

    Args:
        text: what it said.
        address: of the cluster, perhaps http://user:password@head:8265.
    """
    bare = address.rstrip("/")
    place = bare.partition("://")[2] or bare
    user = place.rpartition("@")[0]
    password = user.partition(":")[2]
    secrets = (bare, place, place.rpartition("@")[2], user, unquote(user), password, unquote(password),
               os.environ.get("RAY_AUTH_TOKEN", ""))  # fmt: skip
    for secret in sorted({secret for secret in secrets if len(secret) >= 4}, key=len, reverse=True):
        text = text.replace(secret, "…")
    return re.sub(r"://[^\s/@]+@", "://…@", text)


def kind_of(details: Any) -> str | None:
    """Return Ray's name for the way in which a job failed, None for any other."""
    return None if details is None else getattr(details.error_type, "value", details.error_type)


def why(details: Any) -> tuple[str | None, bool]:
    """Say why a job is over whose run may not say so itself, and whether queueing that again may help.

    Args:
        details: Ray's JobDetails, or None for a job that the cluster does not know.
    """
    if details is None:
        return "The Ray cluster does not know its job any more, as after a new start of its head.", True
    status, message = details.status.value, (details.message or "").strip()
    kind, code = kind_of(details), details.driver_exit_code
    if status == "SUCCEEDED":
        return None, True
    if status == "STOPPED":
        return "Its job was stopped by Ray's own means.", False
    if "low on memory" in message or "OutOfMemory" in message:
        used = re.search(r"([\d.]+ ?[KMGT]?B) used / ([\d.]+ ?[KMGT]?B)", message)
        there = f": {used[1]} of {used[2]} were taken on its node" if used else ""
        return (f"Ray ended its training process for want of memory{there}; a smaller batch_size or image_size takes "
                "less."), False  # fmt: skip
    if kind == "JOB_SUPERVISOR_ACTOR_DIED":
        return f"Its Ray node is gone: {_last_line(message)}.", True
    if code in (137, -9):
        return "Its training process was ended by SIGKILL, as systems do for want of memory.", True
    if code is not None:
        return f"Its training process ended with exit code {code}: {_last_line(message)}", code == NOT_WRITTEN
    return f"Ray says: {message.splitlines()[0][:300] if message else 'nothing'}", kind not in (
        "RUNTIME_ENV_SETUP_FAILURE", "JOB_ENTRYPOINT_COMMAND_START_ERROR",
    )  # fmt: skip


def _new_client(address: str) -> Any:
    # Ray lets these overrule what it is told.
    os.environ["RAY_API_SERVER_ADDRESS"] = address
    from ray.job_submission import JobSubmissionClient

    for name in list(logging.root.manager.loggerDict):  # some of its modules set their own level
        if name.partition(".")[0] == "ray":
            logging.getLogger(name).setLevel(logging.WARNING)

    class Client(JobSubmissionClient):
        def _do_request(self, *arguments: Any, **words: Any) -> Any:  # without it Ray waits for ever
            return super()._do_request(*arguments, **{"timeout": ANSWERS_WITHIN, **words})

    return Client(address)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if len(line.strip()) > 1]
    return lines[-1][:300].rstrip(".") if lines else "nothing was said"
