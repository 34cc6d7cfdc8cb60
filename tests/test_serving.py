"""What the server does beside answering browsers."""

import json
import logging
import os
import socket
import threading
from pathlib import Path

import pytest

import serving

NAMES = ("CVCORE_RAY_ADDRESS", "CVCORE_STORE", "CVCORE_STORE_OPTIONS", "CVCORE_RAY_GPUS", "CVCORE_RAY_CPUS",
         "RAY_AUTH_TOKEN", "RAY_AUTH_MODE", "CVCORE_WAITING_LIMIT")  # fmt: skip


@pytest.fixture
def environment(monkeypatch):
    for name in NAMES:
        monkeypatch.setenv(name, "")  # so that whatever the test sets is undone
        monkeypatch.delenv(name)
    return monkeypatch


def test_settings_among_the_secrets_reach_the_environment(environment):
    cluster = {"address": "http://head:8265", "store": "s3://bucket/fourways", "gpus": 0.5, "cpus": 2, "token": "t",
               "store_options": {"key": "k", "client_kwargs": {"region_name": "r"}}}  # fmt: skip
    secrets = {"CVCORE_WAITING_LIMIT": 5, "cluster": cluster, "teacher": {"password": "chalk"}, "password": "cheese"}
    before = set(os.environ)
    serving.secrets_to_environment(secrets)
    assert set(os.environ) - before == set(NAMES)
    assert os.environ["CVCORE_RAY_ADDRESS"] == "http://head:8265" and os.environ["CVCORE_WAITING_LIMIT"] == "5"
    assert os.environ["CVCORE_RAY_GPUS"] == "0.5" and os.environ["RAY_AUTH_MODE"] == "token"
    assert json.loads(os.environ["CVCORE_STORE_OPTIONS"]) == cluster["store_options"]
    assert not {"chalk", "cheese"} & set(os.environ.values())


def test_what_the_environment_says_already_stays(environment):
    environment.setenv("CVCORE_STORE", "/folder")
    serving.secrets_to_environment({"cluster": {"store": "s3://bucket"}})
    assert os.environ["CVCORE_STORE"] == "/folder"


@pytest.mark.parametrize("cluster", [None, "http://head:8265", {}, {"unknown": 1}])
def test_secrets_without_a_cluster_change_nothing(environment, cluster):
    before = dict(os.environ)
    serving.secrets_to_environment({"cluster": cluster} if cluster is not None else {})
    assert dict(os.environ) == before


def test_the_queue_is_looked_after_until_the_server_ends_and_what_fails_is_logged_once(monkeypatch, caplog):
    ended, looks = threading.Event(), []
    answers = [None, OSError("full"), OSError("full"), None, OSError("full"), "no room", "no room", None]

    def look_after():
        looks.append(1)
        answer = answers[len(looks) - 1]
        if len(looks) == len(answers):
            ended.set()
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(serving.backends, "look_after", look_after)
    with caplog.at_level(logging.WARNING, logger="fourways"):
        serving.look_after(ended, every=0.01)
    assert len(looks) == len(answers)
    said = [record.getMessage() for record in caplog.records]
    assert [bool(record.exc_info) for record in caplog.records] == [True, True, False]
    assert "could not be looked after" in said[0] and said[2] == "no room"


def test_a_server_starts_where_it_may_not_see_what_is_open(monkeypatch):
    def refused(path):
        raise PermissionError(path)

    monkeypatch.setattr(Path, "iterdir", refused)
    assert serving.send_at_once() == 0


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_small_packets_to_browsers_wait_for_no_acknowledgement(family):
    if not Path("/dev/fd").is_dir():
        pytest.skip("this system does not list what is open")
    host = "127.0.0.1" if family == socket.AF_INET else "::1"
    with socket.socket(family) as listening:  # as Streamlit opens it
        try:
            listening.bind((host, 0))
        except OSError:
            pytest.skip("this system has no such addresses")
        listening.listen()
        assert serving.send_at_once() >= 1
        with socket.create_connection(listening.getsockname()[:2]), listening.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
