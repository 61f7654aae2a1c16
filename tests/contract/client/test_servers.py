"""`lookalike up`, `down` and `status`."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from lookalike import Client, Item, ResourceExhausted, Servers, SpaceMismatch, Target
from lookalike.cli import main

Run = Callable[..., Any]


def lookalike(*words: object) -> list[str]:
    return [sys.executable, "-m", "lookalike", *map(str, words)]


def record(data: Path) -> dict[str, Any]:
    servers: dict[str, Any] = json.loads((data / "run" / "servers.json").read_text())["servers"]
    return servers


def test_later_commands_find_the_servers_by_themselves(run: Run, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["data"] == str(data)
    assert [row["address"] for row in found["servers"]] == [server["address"] for server in record(data).values()]
    assert [row["pid"] for row in found["servers"]] == [server["pid"] for server in record(data).values()]


def test_second_up_on_one_folder_is_refused(run: Run, data: Path) -> None:
    before = record(data)
    refused = run("up", "--detach", "--json")
    assert refused.status == 1
    assert refused.document["error"]["reason"] == "ALREADY_UP"
    assert "are up already" in refused.err
    assert before["trainer"]["address"] in refused.err
    assert record(data) == before
    assert run("status").status == 0


@pytest.mark.parametrize("ending", ["Ctrl-C", "down"])
def test_up_takes_free_ports_prints_ready_and_ends(home: Path, tmp_path: Path, ending: str) -> None:
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")}
    data = tmp_path / "data"
    with (
        contextlib.closing(taken_port()),
        subprocess.Popen(lookalike("up", "--data", data), stdout=subprocess.PIPE, text=True, env=environment) as up,
    ):
        assert up.stdout is not None
        assert up.stdout.readline() == "READY\n"
        servers = record(data)
        assert servers["embedder"]["address"] != "127.0.0.1:50152"
        with Client(Servers(**{name: server["address"] for name, server in servers.items()}), token="") as client:
            assert all(client.health(service) for service in servers)
        if ending == "down":
            subprocess.run(lookalike("down"), check=True, capture_output=True, env=environment)
        else:
            up.send_signal(signal.SIGINT)
        assert up.wait(60) == 0
    assert not any(psutil.pid_exists(server["pid"]) for server in servers.values())
    assert not (data / "run" / "servers.json").exists()


def taken_port() -> socket.socket:
    """A socket that listens on the embedder's usual port, unless somebody does already."""
    blocker = socket.socket()
    blocker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    with contextlib.suppress(OSError):
        blocker.bind(("127.0.0.1", 50152))
        blocker.listen()
    return blocker


def test_up_that_is_stopped_while_it_starts_leaves_no_server(home: Path, tmp_path: Path) -> None:
    with subprocess.Popen(lookalike("up", "--data", tmp_path), stderr=subprocess.PIPE, text=True) as up:
        assert up.stderr is not None
        assert "starting the servers" in up.stderr.readline()
        while not (tmp_path / "run" / "indexer.log").exists():
            time.sleep(0.01)
        up.send_signal(signal.SIGINT)
        said = up.communicate(timeout=90)[1]
    assert up.returncode == 1
    assert "stopped by Ctrl-C: no server was left running" in said
    assert "Traceback" not in said
    assert servers_of(tmp_path) == []


def servers_of(data: Path) -> list[int]:
    """Processes that run on a data folder."""
    return [process.pid for process in psutil.process_iter(["cmdline"]) if str(data) in (process.info["cmdline"] or [])]


def test_server_that_cannot_start_shows_the_end_of_its_log_and_none_is_left(home: Path, tmp_path: Path) -> None:
    (tmp_path / "indexer").mkdir()
    (tmp_path / "indexer" / "FORMAT").write_text("99\n")
    done = subprocess.run(lookalike("up", "--detach", "--data", tmp_path, "--json"), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["reason"] == "SERVER_ENDED"
    assert "has format '99'" in done.stderr
    assert "Traceback" not in done.stderr
    assert servers_of(tmp_path) == []


def test_down_ends_only_the_processes_that_up_started(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as bystander:
        noted = {"address": "127.0.0.1:1", "pid": bystander.pid, "start_time": time.time() - 5000, "metrics_port": 1, "log": ""}
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "servers.json").write_text(json.dumps({"servers": {"trainer": noted, "embedder": noted, "indexer": noted}}))
        assert main(["down", "--data", str(tmp_path), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["stopped"] == {"trainer": False, "embedder": False, "indexer": False}
        assert bystander.poll() is None
        bystander.kill()


def test_status_and_commands_without_servers_say_what_to_do(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    addresses = [word for name in ("trainer", "embedder", "indexer") for word in (f"--{name}", "127.0.0.1:9")]
    assert main(["status", *addresses]) == 1
    assert "lookalike up" in capsys.readouterr().err
    assert main(["models", "list", *addresses]) == 1
    assert "no trainer answers at 127.0.0.1:9 (given by --trainer): start the servers with `lookalike up`" in capsys.readouterr().err
    assert main(["down", "--data", str(tmp_path)]) == 0


def test_message_over_the_limit_is_an_error_of_the_call(client: Client) -> None:
    with pytest.raises(ResourceExhausted):
        client.embedder.embed(Target("models/zero-shot"), [bytes(17 * 1024 * 1024)])


def test_vectors_of_another_space_are_refused(client: Client, tiny_model: str) -> None:
    space = client.trainer.get_model_version(f"models/{tiny_model}").profiles["plain"].space
    collection = client.indexer.create_collection("spaces", space)
    other = dataclasses.replace(space, fingerprint="ls1:" + "0" * 64)
    with pytest.raises(SpaceMismatch, match="ls1:0000"):
        client.indexer.upsert_items(collection.name, [Item("1")], np.ones((1, space.dim), np.float32), other)
    with pytest.raises(SpaceMismatch):
        client.indexer.search(collection.name, np.ones((1, space.dim), np.float32), other)
    client.indexer.delete_collection(collection.name)
