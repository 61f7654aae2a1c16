"""What every command has: its client, its two outputs, and the options that all commands share."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
from collections.abc import Callable, Coroutine, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType
from rich.table import Table

from lookalike._client import AsyncClient
from lookalike._config import Config, load_config
from lookalike._exceptions import LookalikeError
from lookalike._folders import LeftOut
from lookalike.cli._documents import to_json
from lookalike.cli._progress import ConsoleObserver

GO_ON = "run the same command again: it goes on where it was"

_PANEL = "Where the servers are"
_LISTED = 20
# Columns where nobody looks at a terminal: enough that no row is folded.
_UNFOLDED = 2000

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
DataOption = Annotated[
    Path | None,
    typer.Option("--data", help="Data folder of the servers that are meant.", metavar="DIR", rich_help_panel=_PANEL),
]


def _address_option(service: str) -> Any:
    help_text = f"Address of the {service}; else LOOKALIKE_{service.upper()}, the configuration file, or the last `lookalike up`."
    return Annotated[str | None, typer.Option(f"--{service}", help=help_text, metavar="HOST:PORT", rich_help_panel=_PANEL)]


_SHARED: dict[str, tuple[Any, Any]] = {
    "as_json": (JsonOption, False),
    "data": (DataOption, None),
    "trainer": (_address_option("trainer"), None),
    "embedder": (_address_option("embedder"), None),
    "indexer": (_address_option("indexer"), None),
}


class Interrupted(Exception):
    """Ctrl-C; `str()` says what that means for the command."""


class Session:
    """One run of a command."""

    def __init__(self, *, as_json: bool, data: Path | None, trainer: str | None, embedder: str | None, indexer: str | None) -> None:
        self.as_json = as_json
        self.data = data
        self.if_interrupted = GO_ON
        self._addresses = {"trainer": trainer, "embedder": embedder, "indexer": indexer}
        self._out = Console(highlight=False)
        if not self._out.is_terminal:
            self._out.width = _UNFOLDED
        self._notes = Console(stderr=True, highlight=False)
        self.observer = ConsoleObserver(self._notes)

    @cached_property
    def config(self) -> Config:
        """Where the servers are."""
        return load_config(data=self.data, **self._addresses)

    @cached_property
    def client(self) -> AsyncClient:
        """The three servers."""
        return AsyncClient(self.config.servers, token=self.config.token or "")

    def answer(self, document: Any, *shown: RenderableType) -> None:
        """Print the command's answer: `document` with --json, else `shown`."""
        self.observer.close()
        if self.as_json:
            self._out.out(to_json(document), highlight=False)
            self._out.file.flush()
            return
        for each in shown:
            self._out.print(each, soft_wrap=isinstance(each, str))

    def note(self, message: str) -> None:
        """Say something on stderr."""
        self.observer.say(message)

    def note_left_out(self, left_out: Sequence[LeftOut], what: str = "files were left out") -> None:
        """List on stderr what was not used; --json has all of it."""
        if left_out:
            self.note(f"{len(left_out):,} {what}:")
        for each in left_out[:_LISTED]:
            self.note(f"  {each.id}: {each.message} [{each.reason}]")
        if len(left_out) > _LISTED:
            self.note(f"  … and {len(left_out) - _LISTED:,} more (--json lists all)")

    def confirm(self, question: str, yes: bool) -> None:
        """Ask the person at the terminal, unless they said `yes` before or nobody sits there; ends the command if they say no."""
        if not yes and not self.as_json and self._notes.is_terminal:
            typer.confirm(question, abort=True, err=True)

    async def close(self) -> None:
        """End the connections."""
        self.observer.close()
        if "client" in self.__dict__:
            await self.client.close()


def table(*columns: str) -> Table:
    """Return an empty table; a column whose name begins with `#` holds numbers."""
    made = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        made.add_column(column.removeprefix("#"), justify="right" if column.startswith("#") else "left", overflow="fold")
    return made


def command(
    app: typer.Typer, name: str, *examples: str, panel: str | None = None
) -> Callable[[Callable[..., Coroutine[Any, Any, None]]], Callable[..., None]]:
    """Make an `async def run(session, …)` the command `name` of `app`, with the options that all share and examples in its help."""

    def decorate(work: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
        @functools.wraps(work)
        def run(**given: Any) -> None:
            session = Session(**{name: given.pop(name) for name in _SHARED})
            try:
                asyncio.run(_run(work, session, given))
            except KeyboardInterrupt:
                raise Interrupted(session.if_interrupted) from None

        own = list(inspect.signature(work, eval_str=True).parameters.values())[1:]
        shared = [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=default)
            for key, (kind, default) in _SHARED.items()
        ]
        signature = inspect.Signature([*(each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own), *shared])
        run.__signature__ = signature  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in signature.parameters.values()}
        del run.__wrapped__
        app.command(name, help=_help(work.__doc__ or "", examples), rich_help_panel=panel)(run)
        return run

    return decorate


async def _run(work: Callable[..., Coroutine[Any, Any, None]], session: Session, given: dict[str, Any]) -> None:
    try:
        await work(session, **given)
    finally:
        with contextlib.suppress(LookalikeError):
            await session.close()


def _help(text: str, examples: Sequence[str]) -> str:
    lines = "\n\n".join(f"[dim]$[/dim] {example}" for example in examples)
    return f"{inspect.cleandoc(text)}\n\n[bold]Examples[/bold]\n\n{lines}"
