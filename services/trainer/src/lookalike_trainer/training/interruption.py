"""Being told to stop."""

import signal
from types import FrameType

from lookalike_trainer.training.errors import Cancelled


class Interruption:
    """Remembers SIGTERM (and SIGINT), so that work stops between two steps and never inside one."""

    def __init__(self) -> None:
        self._asked = False

    def listen(self) -> None:
        """Take over the process's signals; only in its main thread."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)

    def check(self) -> None:
        """Raise Cancelled if the process was told to stop."""
        if self._asked:
            raise Cancelled

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self._asked = True
