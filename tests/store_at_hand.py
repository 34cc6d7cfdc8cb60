"""What the tests of the store share: a new store of each kind, and runs that wait."""

import json
import secrets
import time

from s3_server import make_bucket, options
from tiny_lessons import tiny_scratch

from cvcore.backends.store import attempt_folder, entry, open_store
from cvcore.run_writer import create_run

PATIENCE = 300.0  # seconds; a child that trains shares two cores with whatever else runs
SUMMARY = {"id": "two", "fingerprint": "f" * 64, "counts": {}, "class_names": ["a", "b"], "drawn": True}


def new_store(kind, server, tmp_path, monkeypatch):
    """Make a store, `s3` or `folder`, that the settings name from now on."""
    if kind == "s3":
        bucket = f"lessons-{secrets.token_hex(4)}"
        monkeypatch.setenv("CVCORE_STORE", make_bucket(server, bucket))
        monkeypatch.setenv("CVCORE_STORE_OPTIONS", json.dumps(options(server)))
    else:
        monkeypatch.setenv("CVCORE_STORE", str(tmp_path / "store"))
        monkeypatch.delenv("CVCORE_STORE_OPTIONS", raising=False)
    return open_store()


def queued(runs, recipe=tiny_scratch, **more):
    return create_run(recipe, SUMMARY, 0, folder=runs, backend="ray", **more)


def wait_until(condition, what):
    began = time.monotonic()
    while not (found := condition()):
        assert time.monotonic() - began < PATIENCE, f"waited in vain until {what}"
        time.sleep(0.05)
    return found


def send_run_json(store, run, said):
    data = json.dumps({**run.info, **said}).encode()
    store.write(f"{attempt_folder(run.id, run.attempt)}/run.json", data)
    store.write_index(attempt_folder(run.id, run.attempt), {"run.json": entry(data, "run.json")})
