"""A submission that is not whole is never kept."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest

from lookalike import InputError, Listing, PictureFile, Ranking, WorkIncomplete
from lookalike._files import written_whole
from lookalike.workflows.submit import _check, _write


def listing(*names: str) -> Listing:
    return Listing(Path("x"), tuple(PictureFile(name, Path("x") / name, "", 1) for name in names))


QUERIES = listing("q1.png", "q2.png", "q3.png")
REFERENCES = listing("r1.png", "r2.png")


def ranking(*query_ids: str) -> Ranking:
    indices = np.array([[0, 1]] * len(query_ids), np.uint32)
    return Ranking(query_ids, ("r1.png", "r2.png"), indices, indices.astype(np.float32), "q", 1, "r", 1)


def test_rows_stand_in_the_order_of_the_queries_and_pass_the_check(tmp_path: Path) -> None:
    made = ranking("q3.png", "q1.png")
    with written_whole(tmp_path / "s.csv") as file:
        _write(file, QUERIES, {"q2.png"}, made)
    assert (tmp_path / "s.csv").read_text() == "q1,r1 r2\nq2,\nq3,r1 r2\n"
    _check(tmp_path / "s.csv", QUERIES, {"q2.png"}, REFERENCES, made)


def test_query_that_the_ranking_lacks_stops_the_submission(tmp_path: Path) -> None:
    with pytest.raises(WorkIncomplete, match=r"no row for the query q2\.png"), written_whole(tmp_path / "s.csv") as file:
        _write(file, QUERIES, set(), ranking("q1.png", "q3.png"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text",
    [
        "q1,r1 r2\nq3,r1 r2\n",
        "q1,r1 r2\nq2,r1 r2\nq3,r1\n",
        "q1,r1 r2\nq2,r1 r1\nq3,r1 r2\n",
        "q1,r1 r2\nq2,r1 r9\nq3,r1 r2\n",
        "q1,r1 r2\nq2,\nq3,r1 r2\n",
        "q2,r1 r2\nq1,r1 r2\nq3,r1 r2\n",
    ],
)
def test_file_that_is_not_whole_fails_its_check(tmp_path: Path, text: str) -> None:
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(WorkIncomplete):
        _check(tmp_path / "s.csv", QUERIES, set(), REFERENCES, ranking("q1.png", "q2.png", "q3.png"))


def test_old_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "s.csv"
    target.write_text("old")
    with contextlib.suppress(RuntimeError), written_whole(target) as file:
        file.write("half")
        raise RuntimeError
    assert target.read_text() == "old"
    with written_whole(target) as file:
        file.write("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_place_that_cannot_be_written_is_said_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for target in (tmp_path, tmp_path / "file" / "s.csv"):
        with pytest.raises(InputError), written_whole(target):
            pytest.fail("the work began")
