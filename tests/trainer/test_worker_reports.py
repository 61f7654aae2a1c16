from __future__ import annotations

import json
import math
from pathlib import Path

from lookalike_trainer.job_records import Progress, Report
from lookalike_trainer.worker_reports import ReportTail

LINE = {
    "sequence": 7,
    "milestone": 2,
    "time": 1.5,
    "stage": "train",
    "done": 1,
    "total": 2,
    "unit": "steps",
    "message": "m",
    "metrics": {"loss": 2},
}


def test_each_report_is_read_once_and_only_when_whole(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    tail = ReportTail(path)
    assert tail.read() == []
    line = json.dumps(LINE)
    with path.open("a", buffering=1) as file:
        file.write(line[:10])
        file.flush()
        assert tail.read() == []
        file.write(line[10:] + "\n" + line[:5])
        file.flush()
        assert tail.read() == [(7, Report(1.5, Progress("train", 1, 2, "steps"), "m", {"loss": 2}))]
        assert tail.read() == []


def test_what_is_no_report_is_passed_over(tmp_path: Path) -> None:
    wrong = ["", "{", "[]", json.dumps(LINE | {"done": -1}), json.dumps(LINE | {"more": 1}), json.dumps(LINE | {"sequence": 0})]
    (tmp_path / "e").write_text("".join(f"{line}\n" for line in [*wrong, json.dumps(LINE)]))
    assert len(ReportTail(tmp_path / "e").read()) == 1


def test_a_loss_that_is_no_number_is_told(tmp_path: Path) -> None:
    (tmp_path / "e").write_text(json.dumps(LINE | {"metrics": {"loss": float("nan")}}) + "\n")
    assert math.isnan(ReportTail(tmp_path / "e").read()[0][1].metrics["loss"])
