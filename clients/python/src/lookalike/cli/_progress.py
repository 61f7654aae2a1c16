"""Progress on stderr: bars where it is a terminal, a line for what a person should know elsewhere."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from lookalike._models import Event
from lookalike.workflows import Observer

# What of a job's figures is worth a line, in this order.
_FIGURES = ("train_loss", "heldout_map", "heldout_r1")


class ConsoleObserver(Observer):
    """Shows what a workflow does until `close`."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars: Progress | None = None
        self._tasks: dict[tuple[str, str], TaskID] = {}

    def progress(self, stage: str, done: int, total: int, unit: str) -> None:
        """Move the bar of `stage`."""
        if not self._console.is_terminal:
            return
        if self._bars is None:
            self._bars = Progress(
                SpinnerColumn(finished_text="✓"),
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[unit]}", style="dim"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=self._console,
            )
            self._bars.start()
        for other in self._tasks.keys() - {(stage, unit)}:
            self._bars.stop_task(self._tasks[other])
        if (stage, unit) not in self._tasks or self._is_new_round(stage, unit, done):
            self._tasks[stage, unit] = self._bars.add_task(stage, unit=unit)
        self._bars.update(self._tasks[stage, unit], completed=done, total=total or None)

    def say(self, message: str) -> None:
        """Print a line above the bars."""
        self._console.print(escape(message), style="dim", highlight=False, soft_wrap=True)

    def event(self, event: Event) -> None:
        """Show how far the work is, and its figures."""
        if event.progress:
            self.work(event.progress)
        figures = "  ".join(f"{name} {event.metrics[name]:.3f}" for name in _FIGURES if name in event.metrics)
        if line := "  ".join(part for part in (event.message, figures) if part):
            self.say(line)

    def close(self) -> None:
        """Leave the bars as they are."""
        if self._bars is not None:
            self._bars.stop()
            self._bars, self._tasks = None, {}

    def _is_new_round(self, stage: str, unit: str, done: int) -> bool:
        assert self._bars is not None
        return done < self._bars.tasks[self._bars.task_ids.index(self._tasks[stage, unit])].completed
