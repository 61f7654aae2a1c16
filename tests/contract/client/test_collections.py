"""Collections made as they are asked for, and the names that stand for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lookalike import AlreadyExists, Client, DType, Engine, InputError, workflows

Run = Callable[..., Any]
Draw = Callable[[Path, int, int], Path]


def test_a_folder_is_indexed_with_the_engine_recall_and_precision_asked_for(
    run: Run, draw: Draw, tmp_path: Path, client: Client, tiny_model: str
) -> None:
    for kind in range(5):
        draw(tmp_path / f"{kind}.png", kind, 0)
    words = ("index", tmp_path, "--collection", "asked")
    done = run(*words, "--model", tiny_model, "--engine", "hnsw", "--recall", 0.5, "--dtype", "float16", "--json")
    assert done.status == 0, done.err
    build = done.document["build"]
    assert (build["spec"]["force_engine"], build["report"]["engine"]) == (True, "HNSW")
    assert {each["source"] for each in build["report"]["plan"]} == {"HNSW"}
    before = client.indexer.get_collection("collections/asked")
    assert (before.engine, before.recall_target, before.dtype) == (Engine.HNSW, 0.5, DType.FLOAT16)
    assert run(*words, "--engine", "hnsw", "--recall", 0.5, "--dtype", "float16").status == 0
    for option, value, reason, has in (
        ("--engine", "annoy", "ENGINE_FIXED", "hnsw"),
        ("--recall", 0.6, "RECALL_TARGET_FIXED", "0.5"),
        ("--dtype", "float32", "DTYPE_FIXED", "float16"),
    ):
        refused = run(*words, option, value, "--json")
        assert (refused.status, refused.document["error"]["reason"]) == (1, reason)
        assert f"{has}, not {value}: leave {option} out" in refused.err
    assert client.indexer.get_collection("collections/asked") == before
    hits = run("search", tmp_path / "3.png", "--collection", "asked", "--json").document
    assert (hits["source"], hits["hits"][0]["item"]["id"]) == ("HNSW", "3.png")


def test_an_empty_collection_is_made_and_then_filled(run: Run, draw: Draw, tmp_path: Path, client: Client, tiny_model: str) -> None:
    words = ("collections", "create", "prepared")
    made = run(*words, "--model", tiny_model, "--engine", "exact", "--recall", 0.99, "--dtype", "float16", "--dba", 1, "--json")
    assert made.status == 0, made.err
    assert (made.document["model_why"], made.document["dba_source"]) == ("as asked for", "given")
    there = client.indexer.get_collection("collections/prepared")
    assert (there.engine, there.recall_target, there.dtype, there.item_count) == (Engine.EXACT, 0.99, DType.FLOAT16, 0)
    assert there.dba is not None
    assert there.dba.k == 1
    assert "engine exact, recall target 0.99, vectors stored as float16" in run("collections", "show", "prepared").out
    taken = run(*words, "--model", tiny_model, "--json")
    assert (taken.status, taken.document["error"]["reason"]) == (1, "NAME_TAKEN")
    draw(tmp_path / "1.png", 0, 0)
    draw(tmp_path / "2.png", 1, 0)
    filled = run("index", tmp_path, "--collection", "prepared", "--json").document
    assert (filled["created"], filled["dba_source"], filled["build"]["report"]["dba"]["k"]) == (False, "collection", 1)


def test_a_program_makes_a_collection(client: Client, tiny_model: str) -> None:
    created = client.run(workflows.create_collection(client.asynchronous, "made", model=tiny_model, engine=Engine.EXACT))
    assert created.collection == client.indexer.get_collection("collections/made")
    with pytest.raises(AlreadyExists, match="called 'made' already"):
        client.run(workflows.create_collection(client.asynchronous, "made", model=tiny_model))
    for wrong in (-0.1, 0.0, 1.01, float("nan")):
        with pytest.raises(InputError, match="the recall target"):
            client.run(workflows.create_collection(client.asynchronous, "never", model=tiny_model, recall_target=wrong))


def test_an_alias_stands_for_a_collection_in_every_command_and_moves_at_once(run: Run, draw: Draw, tmp_path: Path, tiny_model: str) -> None:
    for name, kind in (("first", 1), ("second", 2)):
        draw(tmp_path / name / f"{name}.png", kind, 0)
        assert run("index", tmp_path / name, "--collection", f"{name}-of-two", "--model", tiny_model).status == 0
    assert run("collections", "alias", "either", "first-of-two").out.startswith("either stands for collections/first-of-two (etag ")

    def found() -> str:
        document = run("search", tmp_path / "first" / "first.png", "--collection", "either", "--json").document
        return f"{document['collection']}: {document['hits'][0]['item']['id']}"

    assert found() == "collections/first-of-two: first.png"
    etag = run("collections", "alias", "either", "second-of-two", "--json").document["etag"]
    assert found() == "collections/second-of-two: second.png"
    stale = run("collections", "alias", "either", "first-of-two", "--etag", "stale", "--json")
    assert (stale.status, stale.document["error"]["reason"]) == (1, "ETAG_MISMATCH")
    # An alias of an alias is one of its collection.
    assert run("collections", "alias", "third", "either", "--json").document["collection"] == "collections/second-of-two"
    again = run("index", tmp_path / "first", "--collection", "either", "--json").document
    assert (again["created"], again["collection"]["name"]) == (False, "collections/second-of-two")
    assert run("items", "count", "either").out == "2 items\n"
    assert "aliases: either, third" in run("collections", "show", "either").out
    listed = run("collections", "list")
    assert "either, third" in next(line for line in listed.out.splitlines() if line.startswith("second-of-two"))
    aliases = run("collections", "list", "--json").document["aliases"]
    assert {"name": "aliases/either", "collection": "collections/second-of-two", "etag": etag} in aliases
    assert "collections/second-of-two/builds/1" in run("builds", "show", "either/1").out
    refused = run("collections", "delete", "either", "--yes")
    assert (refused.status, "is an alias of collections/second-of-two" in refused.err) == (1, True)
    for name in ("either", "third"):
        assert run("collections", "unalias", name).out == f"aliases/{name} was deleted\n"
    assert run("collections", "unalias", "either").status == 1
    assert run("collections", "show", "second-of-two").status == 0


def test_names_that_cannot_be_aliases_are_sentences(run: Run, tmp_path: Path, draw: Draw, tiny_model: str) -> None:
    draw(tmp_path / "1.png", 0, 0)
    assert run("index", tmp_path, "--collection", "named", "--model", tiny_model).status == 0
    for words, sentence in (
        (("named", "named"), "a collection or alias is called 'named' already"),
        (("new", "nowhere"), "no such collection or alias: 'nowhere'"),
        (("new", "named", "--etag", "x"), "no such alias: 'new'"),
    ):
        done = run("collections", "alias", *words)
        assert (done.status, done.out) == (1, "")
        assert sentence in done.err
