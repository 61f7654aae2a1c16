from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from lookalike_model.profile import DbaAdvice
from lookalike_trainer.job_records import Failure
from lookalike_trainer.outcome import Death, Result, read_outcome, weights_kind

GOOD = {
    "metrics": {"heldout_map": 0.5},
    "profiles": {"plain": {"fingerprint": "ls1:" + "0" * 64, "dim": 8}},
    "default_profile": "plain",
    "notes": [],
}


def failure(folder: Path, exit_code: int) -> Failure:
    outcome = read_outcome(folder, exit_code)
    assert isinstance(outcome, Failure)
    return outcome


def death(folder: Path, exit_code: int) -> str:
    outcome = read_outcome(folder, exit_code)
    assert isinstance(outcome, Death)
    return outcome.message


def test_a_result_is_read(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(json.dumps(GOOD))
    outcome = read_outcome(tmp_path, 0)
    assert isinstance(outcome, Result)
    assert outcome.profiles["plain"].dim == 8


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot be read"),
        ("{", "JSON"),
        (json.dumps(GOOD | {"default_profile": "tuned"}), "tuned"),
        (json.dumps(GOOD | {"profiles": {}}), "profiles"),
        (json.dumps(GOOD | {"metrics": {"map": float("nan")}}), "metrics"),
        (json.dumps(GOOD | {"profiles": {"plain": {"fingerprint": "x", "dim": 8}}}), "fingerprint"),
    ],
)
def test_an_unusable_result_is_a_failure(tmp_path: Path, text: str | None, words: str) -> None:
    if text is not None:
        (tmp_path / "result.json").write_text(text)
    assert failure(tmp_path, 0).reason == "WORKER_DIED"
    assert words in failure(tmp_path, 0).message


def test_the_reason_that_a_worker_gives_is_the_reason(tmp_path: Path) -> None:
    (tmp_path / "error.json").write_text('{"reason": "COLLAPSED", "message": "take a lower rate"}')
    assert failure(tmp_path, 1) == Failure(code="FAILED_PRECONDITION", reason="COLLAPSED", message="take a lower rate")


@pytest.mark.parametrize(("reason", "code"), [("OUT_OF_MEMORY", "RESOURCE_EXHAUSTED"), ("INTERNAL", "INTERNAL")])
def test_a_reason_that_is_not_the_callers_has_a_code_of_its_own(tmp_path: Path, reason: str, code: str) -> None:
    (tmp_path / "error.json").write_text(json.dumps({"reason": reason, "message": "m"}))
    assert failure(tmp_path, 1).code == code


@pytest.mark.parametrize("text", ["{", '{"reason": "not stable", "message": ""}', '{"reason": "X"}'])
def test_a_worker_that_dies_while_it_says_why_has_died(tmp_path: Path, text: str) -> None:
    (tmp_path / "error.json").write_text(text)
    assert isinstance(read_outcome(tmp_path, 1), Death)


def test_a_disk_without_room_for_a_reason_is_told_by_the_exit_status(tmp_path: Path) -> None:
    assert (failure(tmp_path, 74).code, failure(tmp_path, 74).reason) == ("RESOURCE_EXHAUSTED", "DISK_FULL")


def test_a_worker_that_died_is_told_by_its_exit_and_its_last_line(tmp_path: Path) -> None:
    (tmp_path / "worker.log").write_text("x" * 20_000 + "\nMemoryError: out of it\n\n")
    assert death(tmp_path, 3).endswith("exit status 3; the last line of its log: MemoryError: out of it")
    assert "SIGKILL (the machine may be out of memory)" in death(tmp_path, -signal.SIGKILL)
    (tmp_path / "worker.log").unlink()
    assert death(tmp_path, 3).endswith("its log is empty")


@pytest.mark.parametrize(
    ("weights", "kind"),
    [((1.0, 0.75, 0.5, 0.25), "linear"), ((1.0, 1.0, 1.0, 1.0), "equal"), ((), "equal"), ((1.0, 0.5, 1 / 3, 0.25), "rank")],
)
def test_advice_is_told_by_the_name_of_its_weights(weights: tuple[float, ...], kind: str) -> None:
    assert weights_kind(DbaAdvice(k=3, weights=weights)) == kind


def test_advice_by_similarity_is_told_as_power() -> None:
    assert weights_kind(DbaAdvice(k=3, power=2.0, rounds=2)) == "power"
    with pytest.raises(ValueError, match="contradict"):
        weights_kind(DbaAdvice(k=1, weights=(1.0, 1.0), power=2.0))


@pytest.mark.parametrize("weights", [(1.0, 0.9, 0.1, 0.0), (1.0, 1.0)])
def test_weights_without_a_name_are_refused(weights: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="none of"):
        weights_kind(DbaAdvice(k=3, weights=weights))
