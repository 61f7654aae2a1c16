"""A folder becomes searchable, and goes on being so."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lookalike import Client, Expansion, InputError, Item, ItemView, filters

Run = Callable[..., Any]
Draw = Callable[[Path, int, int], Path]


def test_unlabelled_folder_is_searchable_without_a_model(run: Run, draw: Draw, tmp_path: Path, client: Client) -> None:
    for kind in range(5):
        draw(tmp_path / "photos" / f"{kind}.png", kind, 0)
    (tmp_path / "photos" / ".DS_Store").touch()
    done = run("index", tmp_path / "photos", "--collection", "unlabelled")
    assert done.status == 0, done.err
    assert "models/zero-shot/versions/1" in done.out
    assert "built-in zero-shot model" in done.out or "newest trained model" in done.out
    assert "1 hidden files skipped" in done.out
    found = run("search", tmp_path / "photos" / "3.png", "--collection", "unlabelled", "-k", 2, "--json").document
    assert found["hits"][0]["item"]["id"] == "3.png"
    assert found["hits"][0]["score"] == pytest.approx(1, abs=1e-4)
    (item,) = client.indexer.get_items("collections/unlabelled", ["3.png"], view=ItemView.THUMBNAIL)
    assert item.uri == (tmp_path / "photos" / "3.png").as_uri()
    assert item.thumbnail[8:12] == b"WEBP"
    assert len(item.content_sha256) == 32


def test_second_run_embeds_only_what_is_new_or_changed(run: Run, draw: Draw, tmp_path: Path, client: Client) -> None:
    folder = tmp_path / "shoes"
    for name, kind in (("a/1.png", 0), ("a/2.png", 1), ("b/1.png", 2)):
        draw(folder / name, kind, 0)
    first = run("index", folder, "--collection", "twice", "--dba", 1, "--json").document
    assert (first["created"], first["embedded_count"], first["unchanged_count"], first["dba_source"]) == (True, 3, 0, "given")
    assert first["build"]["report"]["dba"]["k"] == 1
    draw(folder / "a/1.png", 3, 0)
    draw(folder / "c/1.png", 4, 0)
    shutil.rmtree(folder / "b")
    second = run("index", folder, "--collection", "twice", "--json").document
    assert (second["created"], second["embedded_count"], second["unchanged_count"]) == (False, 2, 1)
    assert second["gone"] == ["b/1.png"]
    assert second["dba_source"] == "collection"
    items = client.indexer.list_items("collections/twice")
    assert [(item.id, item.label) for item in items] == [("a/1.png", "a"), ("a/2.png", "a"), ("b/1.png", "b"), ("c/1.png", "c")]
    third = run("index", folder, "--collection", "twice", "--json").document
    assert (third["embedded_count"], third["unchanged_count"], third["build"]) == (0, 3, None)
    purged = run("index", folder, "--collection", "twice", "--purge", "--json").document["build"]
    assert (purged["spec"]["purge"], purged["kept"], len(client.indexer.list_builds("collections/twice"))) == (True, True, 3)


def test_bad_pictures_are_listed_and_the_rest_is_indexed(
    run: Run, draw: Draw, tmp_path: Path, bad_files: Callable[[Path], dict[str, str]]
) -> None:
    draw(tmp_path / "good.png", 1, 0)
    reasons = bad_files(tmp_path)
    done = run("index", tmp_path, "--collection", "mixed", "--json")
    assert done.status == 0, done.err
    assert {each["id"]: each["reason"] for each in done.document["left_out"]} == reasons
    assert done.document["collection"]["item_count"] == 1
    assert "huge.png: " in done.err
    refused = run("search", tmp_path / "cut.png", "--collection", "mixed")
    assert refused.status == 2
    assert "cut.png cannot be used: the PNG picture ends too early" in refused.err


def test_collection_of_another_space_or_engine_is_refused_and_unharmed(
    run: Run, draw: Draw, tmp_path: Path, client: Client, tiny_model: str
) -> None:
    draw(tmp_path / "1.png", 0, 0)
    assert run("index", tmp_path, "--collection", "pinned", "--model", "zero-shot").status == 0
    before = client.indexer.get_collection("collections/pinned")
    refused = run("index", tmp_path, "--collection", "pinned", "--model", tiny_model, "--json")
    assert refused.status == 1
    assert refused.document["error"]["reason"] == "SPACE_MISMATCH"
    assert "models/zero-shot/versions/1" in refused.err
    assert f"models/{tiny_model}/versions/1" in refused.err
    assert run("index", tmp_path, "--collection", "pinned", "--engine", "exact").status == 1
    assert client.indexer.get_collection("collections/pinned") == before


def test_unknown_names_and_wrong_numbers_are_sentences(run: Run, draw: Draw, tmp_path: Path) -> None:
    picture = draw(tmp_path / "1.png", 0, 0)
    for words, status, sentence in (
        (("search", picture, "--collection", "nowhere"), 1, "nowhere"),
        (("search", picture, "--collection", "../x"), 2, "no name for one of the collections"),
        (("search", picture, "--collection", "c", "-k", 0), 2, "-k"),
        (("search", picture, "--collection", "c", "-k", 1001), 2, "-k"),
        (("search", tmp_path / "none.png", "--collection", "c"), 2, "cannot be read"),
        (("index", tmp_path / "none", "--collection", "c"), 2, "there is no folder"),
        (("index", tmp_path, "--collection", "c", "--model", "nobody"), 1, "nobody"),
        (("index", tmp_path, "--collection", "c", "--dba", 101), 2, "--dba"),
        (("collections", "show", "nowhere"), 1, "nowhere"),
        (("collections", "delete", "nowhere"), 1, "nowhere"),
        (("models", "show", "nobody/versions/1"), 1, "nobody"),
        (("models", "delete", "nobody"), 1, "nobody"),
        (("models", "show", "x/../y"), 2, "no name"),
        (("jobs", "watch", "nothing"), 1, "nothing"),
        (("jobs", "cancel", "nothing"), 1, "nothing"),
    ):
        done = run(*words)
        assert (done.status, done.out) == (status, ""), words
        assert sentence in done.err, words
        assert "Traceback" not in done.err


def test_filters_narrow_searches_lists_counts_and_deletions(run: Run, draw: Draw, tmp_path: Path, client: Client) -> None:
    for kind, label in enumerate("abca"):
        draw(tmp_path / "things" / label / f"{kind}.png", kind, 0)
    assert run("index", tmp_path / "things", "--collection", "filtered").status == 0
    words = ("search", tmp_path / "things" / "c" / "2.png", "--collection", "filtered")
    found = run(*words, "--label", "a", "--label", "b", "--json").document
    assert sorted(hit["item"]["label"] for hit in found["hits"]) == ["a", "a", "b"]
    assert "no item that --label and --where let through is there" in run(*words, "--label", "nobody").out
    found = run(*words, "--where", "label!=c", "--where", "id^=a/0|b", "--json").document
    assert sorted(hit["item"]["id"] for hit in found["hits"]) == ["a/0.png", "b/1.png"]
    refused = run(*words, "--where", "colour=red", "--json")
    assert (refused.status, refused.document["error"]["reason"]) == (2, "BAD_CONDITION")
    name, wanted = "collections/filtered", filters.Equals("label", "a") & ~filters.Prefix("id", "a/0")
    assert [item.id for item in client.indexer.list_items(name, filter=wanted)] == ["a/3.png"]
    assert (client.indexer.count_items(name).count, client.indexer.count_items(name, filter=wanted).count) == (4, 1)
    assert client.indexer.delete_items(name, filter=wanted) == 1
    assert client.indexer.delete_items(name, ["b/1.png"]) == 1
    assert [item.id for item in client.indexer.list_items(name)] == ["a/0.png", "c/2.png"]


def test_searches_by_items_and_several_pictures_with_every_option(run: Run, draw: Draw, tmp_path: Path, client: Client) -> None:
    files = [draw(tmp_path / "many" / "abc"[kind % 3] / f"{kind}.png", kind, 0) for kind in range(6)]
    assert run("index", tmp_path / "many", "--collection", "many").status == 0
    where = ("--collection", "many", "--json")

    def hits(*words: object) -> list[tuple[str, float]]:
        done = run("search", *words, *where)
        assert done.status == 0, done.err
        return [(hit["item"]["id"], hit["score"]) for hit in done.document["hits"]]

    by_picture = hits(files[0])
    by_item = hits("--like", "a/0.png")
    assert by_picture[0][0] == "a/0.png"
    assert [each for each, _ in by_item] == [each for each, _ in by_picture[1:]]
    np.testing.assert_allclose([score for _, score in by_item], [score for _, score in by_picture[1:]], atol=1e-4)
    best = dict(hits(files[0], files[1], "--combine", "best"))
    alone = [dict(hits(file)) for file in files[:2]]
    for each, score in best.items():
        assert score == pytest.approx(max(scores[each] for scores in alone), abs=1e-4)
    # The two are equally far from their mean: which comes first is noise.
    assert dict(hits(files[0], files[1])) == pytest.approx(dict(hits(files[0], files[1], "--combine", "mean")), abs=1e-4)
    assert set(dict(hits("--like", "a/0.png", "--like", "b/1.png"))) == {"c/2.png", "a/3.png", "b/4.png", "c/5.png"}
    least = by_picture[2][1]
    assert hits(files[0], "--min-score", least - 1e-4) == by_picture[:3]
    assert "no other item has a score of 1 or more" in run("search", "--like", "a/0.png", "--min-score", 1, "--collection", "many").out
    labels = [each[0] for each, _ in hits(files[0], "--group-by-label")]
    assert sorted(labels) == ["a", "b", "c"]
    # With itself alone the query stays; with others it turns.
    np.testing.assert_allclose([score for _, score in hits(files[0], "--expand", 1)], [score for _, score in by_picture], atol=1e-4)
    assert hits(files[0], "--expand", "3,2")[0][1] < by_picture[0][1]
    assert hits(files[0], "--exact") == hits(files[0], "--recall", 0.9) == by_picture
    refused = run("search", "--like", "nobody", *where)
    assert (refused.status, refused.document["error"]["reason"]) == (1, "ITEM_NOT_FOUND")
    name = "collections/many"
    found = client.indexer.search(name, item_ids=["a/0.png", "b/1.png"], k=2, expansion=Expansion(2, 3.0), min_score=-1)
    assert [len(each) for each in found.hits] == [2, 2]
    bare = client.indexer.search(name, item_ids=["a/0.png", "b/1.png"], k=2, expansion=Expansion(2, 3.0), view=ItemView.ID)
    assert bare.hits == tuple(tuple(replace(hit, item=Item(hit.item.id)) for hit in each) for each in found.hits)
    for wrong in ({}, {"item_ids": ["a/0.png"], "queries": np.ones((1, 8))}, {"queries": np.ones((1, 8))}):
        with pytest.raises(InputError, match=r"queries"):
            client.indexer.search(name, **wrong)
    with pytest.raises(InputError, match="exact and recall"):
        client.indexer.search(name, item_ids=["a/0.png"], exact=True, recall=0.5)


def test_why_a_hit_is_one_is_told_in_a_line_each(run: Run, draw: Draw, tmp_path: Path) -> None:
    for kind in range(5):
        draw(tmp_path / "things" / f"{kind}.png", kind, 0)
    assert run("index", tmp_path / "things", "--collection", "explained", "--dba", 1).status == 0
    words = ("search", tmp_path / "things" / "2.png", "--collection", "explained", "-k", 3)
    told = run(*words, "--explain", "--json").document["hits"][0]
    assert (told["augmented"], told["explanation"]["raw_rank"]) == (True, 1)
    (neighbour,) = told["explanation"]["neighbours"]
    lines = [line for line in run(*words, "--explain").out.splitlines() if "→ served" in line]
    assert [line[:7] for line in lines] == ["#1 raw ", "#2 raw ", "#3 raw "]
    assert f"from the build, augmented with {neighbour['id']} × 0.50" in run(*words, "--explain").out
    assert "→ served" not in run(*words).out
    assert run(*words[:-1], 101, "--explain").status == 2


def test_empty_folder_makes_no_collection(run: Run, tmp_path: Path) -> None:
    done = run("index", tmp_path, "--collection", "empty")
    assert done.status == 2
    assert "holds no picture" in done.err
    assert run("collections", "show", "empty").status == 1


def test_collections_are_listed_shown_and_deleted(run: Run, draw: Draw, tmp_path: Path) -> None:
    draw(tmp_path / "1.png", 0, 0)
    run("index", tmp_path, "--collection", "shown")
    assert "shown" in [each["name"].removeprefix("collections/") for each in run("collections", "list", "--json").document["collections"]]
    assert "1 items" in run("collections", "show", "shown").out
    assert run("collections", "delete", "shown", "--yes").status == 0
    assert run("collections", "show", "shown").status == 1
    assert (tmp_path / "1.png").exists()
