from __future__ import annotations

from pathlib import Path

import pytest

from lookalike_runtime.errors import InvalidArgument
from lookalike_runtime.settings import ServerSettings, load_settings


class Settings(ServerSettings):
    depth: int = 3


def test_flags_win_over_environment_over_file_over_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "lookalike.toml"
    file.write_text("[indexer]\nport = 1\ndepth = 1\nhost = '127.0.0.9'\n[trainer]\nport = 9\n")
    monkeypatch.setenv("LOOKALIKE_INDEXER_PORT", "2")
    monkeypatch.setenv("LOOKALIKE_INDEXER_DEPTH", "2")
    settings = load_settings(Settings, "indexer", ["--config", str(file), "--port", "3"])
    assert (settings.port, settings.depth, settings.host, settings.log_level) == (3, 2, "127.0.0.9", "info")


def test_the_file_can_be_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "lookalike.toml"
    file.write_text("[indexer]\ndepth = 7\n")
    monkeypatch.setenv("LOOKALIKE_CONFIG", str(file))
    assert load_settings(Settings, "indexer", []).depth == 7


@pytest.mark.parametrize(
    ("toml", "argv", "words"),
    [
        ("", ["--port", "99999"], "port.*99999"),
        ("", ["--depth", "deep"], "depth.*deep"),
        ("[indexer]\ndept = 1\n", [], "dept"),
        ("[indexer\n", [], "lookalike.toml"),
    ],
)
def test_a_wrong_setting_is_named_with_its_value(tmp_path: Path, toml: str, argv: list[str], words: str) -> None:
    file = tmp_path / "lookalike.toml"
    file.write_text(toml)
    with pytest.raises(InvalidArgument, match=words):
        load_settings(Settings, "indexer", ["--config", str(file), *argv])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"absent\.toml"):
        load_settings(Settings, "indexer", ["--config", str(tmp_path / "absent.toml")])
