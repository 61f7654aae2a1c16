from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.faults import corruption
from benchmarks.faults.__main__ import MUST_BE_ZERO, broken, report
from benchmarks.faults.corruption import corrupt
from benchmarks.faults.disk import disk_full
from benchmarks.faults.kill import kill9, kill9_during_build
from benchmarks.faults.ledger import Ledger
from benchmarks.faults.server import Value

ONE, TWO = Value("a", b"1"), Value("b", b"2")


def ledger_of(**kept: Value | None) -> Ledger:
    ledger = Ledger()
    ledger.begin(kept)
    ledger.acknowledge()
    return ledger


def test_the_ledger_finds_what_was_lost_or_came_back() -> None:
    assert ledger_of(x=ONE).settle({}).lost == ["x"]
    assert ledger_of(x=ONE).settle({"x": TWO}).lost == ["x"]
    assert ledger_of(x=None).settle({"x": ONE}).resurrected == ["x"]
    assert ledger_of(x=ONE).settle({"x": ONE, "y": ONE}).strange == ["y"]


def test_a_write_under_way_may_have_happened_or_not_but_not_by_halves() -> None:
    for stored, clean in (({"x": ONE}, True), ({"x": TWO, "y": TWO}, True), ({"x": TWO}, False), ({"x": ONE, "y": TWO}, False)):
        ledger = ledger_of(x=ONE)
        ledger.begin({"x": TWO, "y": TWO})
        verdict = ledger.settle(stored)
        assert verdict.clean == clean, stored
        assert verdict.torn == ([] if clean else ["x", "y"])


def test_nothing_acknowledged_is_lost_to_kill_9(tmp_path: Path) -> None:
    found = kill9(tmp_path, 2, 3, lambda _: None)
    assert {name: found[name] for name in MUST_BE_ZERO} == dict.fromkeys(MUST_BE_ZERO, 0), found["details"]
    assert found["details"] == []
    assert found["acknowledged"] > 100


def test_a_build_that_is_killed_leaves_the_one_before_serving_and_no_debris(tmp_path: Path) -> None:
    found = kill9_during_build(tmp_path, 3, 3, lambda _: None)
    assert {name: found[name] for name in MUST_BE_ZERO} == dict.fromkeys(MUST_BE_ZERO, 0), found["details"]
    assert found["details"] == []


def test_a_full_disk_is_said_and_costs_nothing(tmp_path: Path) -> None:
    found = disk_full(tmp_path, 3, lambda _: None)
    if "skipped" in found:
        pytest.skip(found["skipped"])
    assert found["as_promised"], found


def test_each_damaged_file_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corruption, "_DAMAGES", {"one bit flipped": corruption._flip})
    found = corrupt(tmp_path, 3, lambda _: None)
    assert len(found["cases"]) == len(found["files"]) >= 5
    assert found["noticed"] == found["right_answers"] == found["built_anew"] == len(found["cases"]), found["cases"]


def test_the_report_names_what_was_broken(tmp_path: Path) -> None:
    run: dict[str, Any] = {**dict.fromkeys(MUST_BE_ZERO, 0), "rounds": 1, "acknowledged": 300, "in_flight_kills": 1, "details": []}
    case = {"file": "ids.json", "damage": "removed", "noticed": True, "right": True, "built_anew": True, "lost": 0}
    document: dict[str, Any] = {
        "kill9": run,
        "kill9_during_build": {**run, "stages": {"index": 1}},
        "disk_full": {"skipped": "no root"},
        "corrupt": {"files": ["ids.json"], "cases": [case], "noticed": 1, "right_answers": 1, "built_anew": 1, "lost": 0},
    }
    assert broken(document) == []
    report(tmp_path, document)
    assert "Nothing acknowledged was lost" in (tmp_path / "report.html").read_text()
    assert json.loads((tmp_path / "report.json").read_text())["kill9"]["rounds"] == 1
    document["kill9"] = {**run, "lost": 2}
    assert broken(document) == ["kill9: lost 2"]
    report(tmp_path, document)
    assert "A promise was broken" in (tmp_path / "report.html").read_text()
