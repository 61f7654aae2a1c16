"""Where servers are: flags, environment, configuration file, the data folder's servers, defaults."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lookalike import InputError, Timeouts
from lookalike._config import data_folder_for_up, last_up_file, load_config


def note_servers(data: Path, port: int) -> None:
    (data / "run").mkdir(parents=True, exist_ok=True)
    servers = {name: {"address": f"127.0.0.1:{port}"} for name in ("trainer", "embedder", "indexer")}
    (data / "run" / "servers.json").write_text(json.dumps({"servers": servers}))


def test_each_source_gives_way_to_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_config().servers.trainer == "127.0.0.1:50151"
    data = tmp_path / "data"
    note_servers(data, 1)
    last_up_file().parent.mkdir(parents=True)
    last_up_file().write_text(f"{data}\n")
    assert load_config().servers.trainer == "127.0.0.1:1"
    config = tmp_path / "config.toml"
    config.write_text('[client]\ntrainer = "file:2"\ntoken = "secret"\n')
    monkeypatch.setenv("LOOKALIKE_CONFIG", str(config))
    assert (load_config().servers.trainer, load_config().servers.indexer) == ("file:2", "127.0.0.1:1")
    assert load_config().token == "secret"
    monkeypatch.setenv("LOOKALIKE_TRAINER", "environment:3")
    assert load_config().servers.trainer == "environment:3"
    found = load_config(trainer="flag:4").servers
    assert (found.trainer, found.found["trainer"]) == ("flag:4", "given by --trainer")


def test_data_folder_that_is_given_comes_before_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note_servers(tmp_path, 9)
    monkeypatch.setenv("LOOKALIKE_TRAINER", "environment:3")
    assert load_config(data=tmp_path).servers.trainer == "127.0.0.1:9"


def test_up_uses_its_own_folder_and_not_that_of_the_last_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    last_up_file().parent.mkdir(parents=True)
    last_up_file().write_text("/somewhere/else\n")
    assert load_config().data == Path("/somewhere/else")
    assert data_folder_for_up(None) == tmp_path / "home" / "data" / "lookalike"
    monkeypatch.setenv("LOOKALIKE_DATA", str(tmp_path / "mine"))
    assert data_folder_for_up(None) == tmp_path / "mine"
    assert data_folder_for_up(tmp_path / "given") == tmp_path / "given"


def test_unreadable_configuration_is_an_error_that_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config.toml"
    config.write_text("[client\n")
    monkeypatch.setenv("LOOKALIKE_CONFIG", str(config))
    with pytest.raises(InputError, match=r"config\.toml"):
        load_config()


def test_timeouts_show_themselves_as_they_are_made() -> None:
    shown = repr(Timeouts(call=5.0))
    assert shown.startswith("Timeouts(call=5.0, ")
    assert eval(shown) == Timeouts(call=5.0)
