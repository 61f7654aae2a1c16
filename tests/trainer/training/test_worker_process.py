"""The worker as a process."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

JobFolder = Callable[..., Path]
COMMAND = [sys.executable, "-m", "lookalike_trainer.worker"]


def test_told_to_stop_it_stops_soon_and_leaves_nothing_half_done(job_folder: JobFolder) -> None:
    folder = job_folder({"loop.epochs": "10000"})
    process = subprocess.Popen([*COMMAND, str(folder)], stderr=subprocess.PIPE, text=True)
    try:
        wait_for_an_epoch(folder, process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 143
    finally:
        process.kill()
        process.communicate()
    assert sorted(path.name.partition(".out.")[0] for path in folder.iterdir()) == ["events", "events.jsonl", "job.json"]


def test_a_failure_is_told_in_a_file_and_by_the_exit_status(job_folder: JobFolder) -> None:
    folder = job_folder(recipe="no-such")
    assert subprocess.run([*COMMAND, str(folder)], check=False, capture_output=True).returncode == 1
    assert json.loads((folder / "error.json").read_text())["reason"] == "UNKNOWN_RECIPE"


def wait_for_an_epoch(folder: Path, process: "subprocess.Popen[str]") -> None:
    events = folder / "events.jsonl"
    deadline = time.monotonic() + 60
    while not (events.exists() and "train_loss" in events.read_text()):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)
