"""Stands in for `python -m lookalike_trainer.worker JOB_DIR`: the model's name in job.json says how it behaves."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

FINGERPRINT = "ls1:" + "0" * 64


def main(folder: Path) -> int:  # noqa: C901, a case a line
    job = json.loads((folder / "job.json").read_text())
    behaviour = job["model"]
    starts = folder.parent / f"starts-{job['uid']}"
    with starts.open("a") as file:
        file.write(f"{os.getpid()}\n")
    if behaviour == "slow-once" and len(starts.read_text().split()) > 1:
        behaviour = "quick"
    print("hello from the worker", flush=True)
    if behaviour.startswith("slow"):
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        for step in range(1, 600):
            report(folder, "train", step, 600)
            time.sleep(0.1)
    match behaviour:
        case "killed-at-each-step" | "killed-further-and-further":
            count = len(starts.read_text().split())
            (folder / "position").write_bytes(struct.pack("<q", count))
            if behaviour == "killed-further-and-further" or count < 6:
                os.kill(os.getpid(), signal.SIGKILL)
        case "stubborn":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            report(folder, "train", 1, 1)
            time.sleep(60)
        case "crash":
            print("ValueError: the moon is in the wrong place", file=sys.stderr)
            return 3
        case "no-room-for-words":
            return 74
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "refuses":
            (folder / "error.json").write_text(json.dumps({"reason": "INVALID_WEIGHTS", "message": "stem.weight does not fit"}))
            return 1
        case "empty":
            return 0
        case "leaves-a-child":
            child = subprocess.Popen(["sleep", "60"])
            (folder / "child").write_text(str(child.pid))
            return 3
    report(folder, "prepare", 2, 2, "2 pictures")
    report(folder, "train", 1, 2, loss=2.5)
    report(folder, "train", 2, 2, loss=float("nan"))
    bundle(folder, job)
    return 0


def report(folder: Path, stage: str, done: int, total: int, message: str = "", **metrics: float) -> None:
    events = folder / "events.jsonl"
    sequence = 1 + (len(events.read_text().splitlines()) if events.exists() else 0)
    numbers = {"sequence": sequence, "milestone": 0}
    line = numbers | {
        "time": time.time(),
        "stage": stage,
        "done": done,
        "total": total,
        "unit": "steps",
        "message": message,
        "metrics": metrics,
    }
    with events.open("a") as file:
        file.write(json.dumps(line) + "\n")


def bundle(folder: Path, job: dict[str, object]) -> None:
    (folder / "bundle" / "golden").mkdir(parents=True)
    (folder / "bundle" / "config.json").write_text("{}")
    (folder / "bundle" / "golden" / "vectors").write_text(str(job["uid"]))
    profile = {"fingerprint": FINGERPRINT, "dim": 8, "dba_advice": {"k": 3, "weights": [1, 0.75, 0.5, 0.25]}}
    result = {"metrics": {"heldout_map": 0.5}, "profiles": {"plain": profile}, "default_profile": "plain", "notes": ["made by a fake"]}
    (folder / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
