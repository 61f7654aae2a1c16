"""What a worker tells the service while it works: lines of `events.jsonl`."""

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from lookalike_trainer.training.tensorboard import ScalarLog

Stage = Literal["prepare", "train", "evaluate", "bundle", "report"]
_SECONDS_BETWEEN = 1.0


class EventLog:
    """Appends events, each line flushed as it is written; figures of the training go to TensorBoard's files beside it too."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")
        self._scalars = ScalarLog(path.parent)
        self._last = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._scalars.close()
        self._file.close()

    def report(
        self,
        stage: Stage,
        done: int,
        total: int,
        unit: str,
        message: str = "",
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Append an event; figures that are not finite are left out."""
        finite = {name: float(value) for name, value in (metrics or {}).items() if math.isfinite(value)}
        event = {
            "time": time.time(),
            "stage": stage,
            "done": done,
            "total": total,
            "unit": unit,
            "message": message,
            "metrics": finite,
        }
        self._file.write(json.dumps(event, ensure_ascii=False) + "\n")
        self._file.flush()
        if stage in ("train", "evaluate"):
            self._scalars.add(done if stage == "train" else 0, finite)
        self._last = time.monotonic()

    def tick(self, stage: Stage, done: int, total: int, unit: str) -> None:
        """Report progress, but not more often than once a second."""
        if time.monotonic() - self._last >= _SECONDS_BETWEEN:
            self.report(stage, done, total, unit)
