"""The command `lookalike`.

Exit status: 0 done; 1 failed, or stopped by Ctrl-C; 2 wrong usage: something given was wrong, and nothing was begun.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

import typer

from lookalike._exceptions import InputError, LookalikeError
from lookalike.cli._app import app
from lookalike.cli._documents import error_document, to_json
from lookalike.cli._session import Interrupted

# Each module adds its commands; help shows them in this order.
_COMMANDS = (
    "up",
    "dataset",
    "train",
    "recipes",
    "models",
    "jobs",
    "index",
    "search",
    "collections",
    "builds",
    "items",
    "submit",
    "evaluate",
)
for _module in _COMMANDS:
    importlib.import_module(f"lookalike.cli.{_module}")

_WRONG_USAGE = "INVALID_ARGUMENT"
# typer brings its own click or uses the installed one: this is ClickException of either.
_ClickError: type[Exception] = typer.BadParameter.__mro__[2]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status; every foreseeable error is a sentence on stderr."""
    given = list(sys.argv[1:] if argv is None else argv)
    try:
        status = app(given, prog_name="lookalike", standalone_mode=False)
    except LookalikeError as error:
        return _fail(error, given)
    except (Interrupted, KeyboardInterrupt) as stopped:
        return _fail(LookalikeError(f"stopped by Ctrl-C: {stopped}" if str(stopped) else "stopped by Ctrl-C", reason="INTERRUPTED"), given)
    except typer.Abort:
        return _fail(LookalikeError("nothing was done", reason="ABORTED"), given)
    except _ClickError as error:
        error.show()  # type: ignore[attr-defined]
        if "--json" in given:
            print(to_json(error_document(InputError(error.format_message(), reason="WRONG_USAGE"))))  # type: ignore[attr-defined]
        return 2
    return status if isinstance(status, int) else 0


def _fail(error: LookalikeError, given: Sequence[str]) -> int:
    print(f"lookalike: {error.message}", file=sys.stderr)
    for violation in error.violations:
        print(f"  {violation.field}: {violation.description}", file=sys.stderr)
    if "--json" in given:
        print(to_json(error_document(error)))
    return 2 if error.code == _WRONG_USAGE else 1
