"""What a worker says on its way, read from the file that it appends to."""

from pathlib import Path

import structlog
from pydantic import ConfigDict, Field, ValidationError

from lookalike_model.records import Record, first_problems
from lookalike_trainer.job_records import Progress, Report

log = structlog.get_logger()

EVENTS = "events.jsonl"
NumberedReport = tuple[int, Report]
_READ_BYTES = 4 << 20


class _Line(Record):
    # A loss that is no number is worth saying.
    model_config = ConfigDict(allow_inf_nan=True)

    sequence: int = Field(ge=1, lt=1 << 63)
    milestone: int = Field(ge=0, lt=1 << 63)
    time: float
    stage: str
    done: int = Field(ge=0, lt=1 << 63)
    total: int = Field(ge=0, lt=1 << 63)
    unit: str
    message: str = ""
    metrics: dict[str, float] = Field(default_factory=dict)


class ReportTail:
    """The reports in a file, each once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def read(self) -> list[NumberedReport]:
        """The reports that were written whole since the last call, by number; lines that are none are logged and passed over."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read(_READ_BYTES)
        except FileNotFoundError:
            return []
        whole, newline, _ = data.rpartition(b"\n")
        self._offset += len(whole) + len(newline)
        return [report for line in whole.splitlines() if (report := self._parse(line))]

    def _parse(self, line: bytes) -> NumberedReport | None:
        try:
            read = _Line.model_validate_json(line)
        except ValidationError as error:
            log.warning("unreadable_report", file=str(self._path), problem=first_problems(error))
            return None
        return read.sequence, Report(read.time, Progress(read.stage, read.done, read.total, read.unit), read.message, read.metrics)
