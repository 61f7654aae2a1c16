"""How a workflow tells what it is doing."""

from __future__ import annotations

from lookalike._models import Event, Progress


class Observer:
    """Does nothing; whoever wants to show progress overrides what they need."""

    def progress(self, stage: str, done: int, total: int, unit: str) -> None:
        """`done` of `total` units of `stage` are done; `total` is 0 while it is not known."""

    def say(self, message: str) -> None:
        """Something that a person should know now."""

    def event(self, event: Event) -> None:
        """Something happened to a job or a build that is waited for."""
        if event.progress:
            self.work(event.progress)
        if event.message:
            self.say(event.message)

    def work(self, progress: Progress) -> None:
        """A server's work has come this far."""
        self.progress(progress.stage, progress.done, progress.total, progress.unit)


SILENT = Observer()
