"""Submissions and evaluations: whole, true, and cheap to repeat."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lookalike import Client, Target
from lookalike_retrieval import augment, evaluate_ranking, exact_topk, normalise

Run = Callable[..., Any]
Draw = Callable[[Path, int, int], Path]


def ids_of(root: Path) -> list[str]:
    return sorted((path.relative_to(root).as_posix() for path in root.rglob("*.png")), key=str.encode)


def embedded(client: Client, root: Path, model: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    pictures = [(root / each).read_bytes() for each in ids_of(root)]
    return normalise(client.embedder.embed(Target(f"models/{model}"), pictures).vectors)


def test_submission_ranks_as_plain_arithmetic_does(run: Run, flat: Path, tiny_model: str, client: Client, tmp_path: Path) -> None:
    words = ("submit", "--queries", flat / "queries", "--references", flat / "references", "--model", tiny_model)
    done = run(*words, "--dba", 2, "--query-dba", 1, "-k", 5, "-o", tmp_path / "out" / "submission.csv", "--json")
    assert done.status == 0, done.err
    queries, references = (embedded(client, flat / side, tiny_model) for side in ("queries", "references"))
    expected = exact_topk(augment(queries, 1, "linear"), augment(references, 2, "linear"), 5).indices
    stems = [Path(each).stem for each in ids_of(flat / "references")]
    lines = [
        f"{Path(query).stem},{' '.join(stems[place] for place in row)}"
        for query, row in zip(ids_of(flat / "queries"), expected, strict=True)
    ]
    assert (tmp_path / "out" / "submission.csv").read_text().splitlines() == lines
    document = done.document
    assert (document["rows"], document["missing"], document["references"]) == (4, 0, 9)
    assert document["dba"] == {"k": 2, "weights": "linear", "power": None, "rounds": 1, "source": "given"}
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["submission.csv"]


def test_second_submission_finds_what_the_first_has_done(run: Run, flat: Path, tiny_model: str, client: Client, tmp_path: Path) -> None:
    words = ("submit", "--queries", flat / "queries", "--references", flat / "references", "--model", tiny_model, "-o", tmp_path / "s.csv")
    assert run(*words).status == 0
    revisions = {each.name: each.revision for each in client.indexer.list_collections() if "scratch-" in each.name}
    first = (tmp_path / "s.csv").read_bytes()
    assert run(*words).status == 0
    assert (tmp_path / "s.csv").read_bytes() == first
    again = {each.name: each.revision for each in client.indexer.list_collections() if "scratch-" in each.name}
    assert again == revisions, "nothing was embedded again"
    assert all(each.expire_time for each in client.indexer.list_collections() if "scratch-" in each.name)


def test_unreadable_query_keeps_its_row_and_is_listed(
    run: Run, flat: Path, tiny_model: str, tmp_path: Path, bad_files: Callable[[Path], dict[str, str]]
) -> None:
    shutil.copytree(flat / "queries", tmp_path / "queries")
    reasons = bad_files(tmp_path / "queries")
    words = ("submit", "--queries", tmp_path / "queries", "--references", flat / "references", "--model", tiny_model)
    done = run(*words, "-o", tmp_path / "s.csv", "--json")
    assert done.status == 0, done.err
    rows = dict(line.split(",") for line in (tmp_path / "s.csv").read_text().splitlines())
    assert sorted(rows) == ["cut", "extra", "huge", "kind0-0", "kind1-0", "kind2-0"]
    assert {name for name, references in rows.items() if not references} == {"cut", "huge"}
    assert done.document["missing"] == 2
    assert {each["id"]: each["reason"] for each in done.document["left_out_queries"]} == reasons
    assert "2 queries could not be read" in done.err


def test_folders_that_a_submission_cannot_carry_are_refused(run: Run, draw: Draw, flat: Path, tiny_model: str, tmp_path: Path) -> None:
    for name, message in (
        ("a.jpg", "holds a.jpg and a.png"),
        ("sub/b.png", "takes flat folders"),
        ("b c.png", "cannot carry spaces or commas"),
    ):
        queries = tmp_path / name.replace("/", "-")
        draw(queries / "a.png", 0, 0)
        draw(queries / name, 1, 0)
        words = ("submit", "--queries", queries, "--references", flat / "references", "--model", tiny_model)
        done = run(*words, "-o", tmp_path / "s.csv")
        assert done.status == 2
        assert message in done.err
    assert not (tmp_path / "s.csv").exists()


def test_evaluation_measures_as_plain_arithmetic_does(run: Run, classes: Path, tiny_model: str, client: Client, tmp_path: Path) -> None:
    words = ("evaluate", "--queries", classes / "queries", "--references", classes / "references", "--model", tiny_model)
    done = run(*words, "--dba", 2, "-k", 10, "-o", tmp_path / "report", "--json")
    assert done.status == 0, done.err
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert done.document == report
    queries, references = (embedded(client, classes / side, tiny_model) for side in ("queries", "references"))
    labels = [np.array([each.split("/")[0] for each in ids_of(classes / side)]) for side in ("queries", "references")]
    ranking = exact_topk(queries, augment(references, 2, "linear"), 10).indices
    scores = evaluate_ranking(ranking, *labels, k=10)
    assert (report["map"], report["r1"], report["r5"]) == pytest.approx((scores.mean_ap, scores.mean_r1, scores.mean_r5))
    assert report["map_ci95"][0] <= report["map"] <= report["map_ci95"][1]
    assert (report["queries"], report["references"], report["classes"]) == (12, 18, 6)
    assert report["map_definition"] == "mAP@10, denominator min(R, 10)"
    assert report["dba"] == {"k": 2, "weights": "linear", "power": None, "rounds": 1, "source": "given"}
    assert report["query_dba"] == {"k": 0, "weights": None, "power": None, "rounds": None, "source": "default"}
    assert report["transductive"] is False
    per_query = json.loads((tmp_path / "report" / "per_query.json").read_text())["queries"]
    assert [each["ap"] for each in per_query] == pytest.approx(scores.ap.tolist())
    assert all(hit["right"] == (hit["label"] == each["label"]) for each in per_query for hit in each["hits"])
    page = (tmp_path / "report" / "report.html").read_text()
    assert page.count("data:image/webp;base64,") == 2 * 12 * (1 + 10), "worst and best queries with ten hits each"
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page), "the page loads nothing"


def test_queries_without_a_relevant_reference_are_in_no_mean(run: Run, draw: Draw, classes: Path, tiny_model: str, tmp_path: Path) -> None:
    shutil.copytree(classes / "queries", tmp_path / "queries")
    draw(tmp_path / "queries" / "stranger" / "1.png", 9, 0)
    words = ("evaluate", "--queries", tmp_path / "queries", "--references", classes / "references", "--model", tiny_model)
    report = run(*words, "-o", tmp_path / "report", "--json").document
    assert report["unanswerable"] == ["stranger/1.png"]
    plain = run("evaluate", "--queries", classes / "queries", *words[3:], "-o", tmp_path / "plain", "--json").document
    assert report["map"] == pytest.approx(plain["map"])


def test_folder_against_itself_leaves_each_query_out(run: Run, classes: Path, tiny_model: str, tmp_path: Path) -> None:
    folder = classes / "references"
    report = run("evaluate", "--queries", folder, "--references", folder, "--model", tiny_model, "-o", tmp_path, "--json").document
    assert report["queries_are_references"] is True
    per_query = json.loads((tmp_path / "per_query.json").read_text())["queries"]
    assert all(each["id"] != hit["id"] for each in per_query for hit in each["hits"])


def test_folders_that_cannot_be_evaluated_are_refused(
    run: Run, draw: Draw, classes: Path, flat: Path, tiny_model: str, tmp_path: Path
) -> None:
    draw(tmp_path / "one" / "kind0" / "1.png", 0, 0)
    draw(tmp_path / "strange" / "x" / "1.png", 0, 0)
    draw(tmp_path / "strange" / "y" / "1.png", 0, 0)
    for queries, message in (
        (flat / "queries", "no class folders"),
        (tmp_path / "one", "one class only"),
        (tmp_path / "strange", "share 0 class(es)"),
    ):
        words = ("evaluate", "--queries", queries, "--references", classes / "references", "--model", tiny_model)
        done = run(*words, "-o", tmp_path / "report")
        assert (done.status, (tmp_path / "report").exists()) == (2, False)
        assert message in done.err
