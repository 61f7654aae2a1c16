"""The command's face: help with examples, --json everywhere, and sentences for wrong usage."""

from __future__ import annotations

import json

import pytest
import typer

from lookalike.cli import main
from lookalike.cli._app import app

COMMANDS = {
    ("up",), ("down",), ("status",), ("dataset", "push"), ("train",), ("recipes", "list"), ("recipes", "show"), ("models", "import"),
    ("models", "list"), ("models", "show"), ("models", "delete"), ("jobs", "list"), ("jobs", "watch"), ("jobs", "cancel"),
    ("collections", "list"), ("collections", "show"), ("collections", "delete"), ("collections", "purge"), ("collections", "export"),
    ("collections", "import"), ("items", "list"), ("items", "count"), ("items", "values"), ("items", "update"), ("items", "delete"),
    ("index",), ("search",), ("submit",), ("evaluate",),
    ("dataset", "list"), ("dataset", "show"), ("dataset", "check"), ("dataset", "delete"), ("models", "download"), ("models", "alias"),
    ("models", "unalias"), ("models", "ensemble"), ("models", "profile"), ("jobs", "report"),
    ("collections", "create"), ("collections", "alias"), ("collections", "unalias"), ("builds", "list"), ("builds", "show"),
    ("builds", "start"), ("builds", "watch"), ("builds", "activate"), ("builds", "cancel"),
}  # fmt: skip


def names_of(group: typer.Typer) -> set[tuple[str, ...]]:
    names: set[tuple[str, ...]] = {(str(command.name),) for command in group.registered_commands}
    for each in group.registered_groups:
        assert each.typer_instance is not None
        names |= {(str(each.name), *rest) for rest in names_of(each.typer_instance)}
    return names


def test_commands_are_those_that_are_promised() -> None:
    assert names_of(app) == COMMANDS


@pytest.mark.parametrize("words", sorted(COMMANDS))
def test_every_command_has_help_with_examples_and_shared_options(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--help"]) == 0
    text = capsys.readouterr().out
    assert "Examples" in text
    assert f"$ lookalike {' '.join(words)}" in text
    for option in ("--json", "--data", "--trainer", "--embedder", "--indexer"):
        assert option in text


@pytest.mark.parametrize(
    "words",
    [
        ("search", "x.png"),
        ("search", "x.png", "--collection", "c", "-k", "0"),
        ("search", "x.png", "--collection", "c", "-k", "1001"),
        ("search", "--collection", "c"),
        ("search", "x.png", "--like", "x", "--collection", "c"),
        ("search", *["--like", "x"] * 33, "--collection", "c"),
        ("search", "--like", "x", "--collection", "c", "--combine", "worst"),
        ("search", "--like", "x", "--collection", "c", "--min-score", "2"),
        ("search", "--like", "x", "--collection", "c", "--expand", "0"),
        ("search", "--like", "x", "--collection", "c", "--expand", "3,many"),
        ("search", "--like", "x", "--collection", "c", "--expand", "3,nan"),
        ("search", "--like", "x", "--collection", "c", "--recall", "1"),
        ("search", "--like", "x", "--collection", "c", "--recall", "0.9", "--exact"),
        ("index", ".", "--collection", "c", "--engine", "faiss"),
        ("index", ".", "--collection", "c", "--dba", "-1"),
        ("index", ".", "--collection", "c", "--recall", "0"),
        ("index", ".", "--collection", "c", "--recall", "95"),
        ("index", ".", "--collection", "c", "--dtype", "float64"),
        ("search", "--like", "x", "--collection", "c", "--where", "label==x"),
        ("collections", "create", "c", "--recall", "0"),
        ("collections", "create", "Not A Name"),
        ("collections", "alias", "Not A Name", "c"),
        ("collections", "unalias", "Not A Name"),
        ("builds", "list", "Not A Name"),
        ("builds", "show", "c/none"),
        ("builds", "activate", "c"),
        ("builds", "cancel", "c/0"),
        ("builds", "watch", "../1"),
        ("builds", "start", "c", "--dba-weights", "rank"),
        ("items", "list", "c", "--where", "price<100"),
        ("items", "count", "c", "--where", "payload.price<"),
        ("items", "values", "c", "--where", "label"),
        ("items", "delete", "c", "--where", "label?x"),
        ("items", "delete", "c", "a", "--where", "label=b"),
        ("submit", "--queries", ".", "--references", ".", "--model", "m", "-o", "f", "-k", "many"),
        ("nonsense",),
        ("models", "show", "Not A Name"),
        ("collections", "delete", "../x"),
        ("items", "delete", "c"),
        ("items", "delete", "c", "a", "--label", "b"),
        ("items", "update", "c", "a"),
        ("items", "update", "c", "a", "--set", "novalue"),
        ("items", "list", "c", "--limit", "0"),
        ("train", "d", "--model", "m", "--set", "novalue"),
        ("recipes", "show", "Not A Name"),
    ],
)
def test_wrong_usage_is_status_2_a_sentence_and_with_json_one_document(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--json"]) == 2
    captured = capsys.readouterr()
    assert json.loads(captured.out)["error"]["message"]
    assert captured.err
    assert "Traceback" not in captured.err
    assert main(list(words)) == 2
    assert capsys.readouterr().out == ""


def test_bad_configuration_file_is_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path_factory.mktemp("config") / "config.toml"
    config.write_text("[client")
    monkeypatch.setenv("LOOKALIKE_CONFIG", str(config))
    assert main(["models", "list"]) == 2
    assert str(config) in capsys.readouterr().err
