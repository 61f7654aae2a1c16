"""The command `lookalike`, run as a user would run it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


class CommandError(Exception):
    """A command failed; what it said stands above."""


class Lookalike:
    """`lookalike … --json` against the servers of one data folder."""

    def __init__(self, data: Path) -> None:
        self._data = data

    def __call__(self, *words: str | Path | int) -> dict[str, Any]:
        """Run the command; return the JSON document that it prints. Its progress goes to the terminal. Raises CommandError."""
        arguments = [*map(str, words), "--data", str(self._data), "--json"]
        print("$ lookalike", " ".join(map(str, words)), file=sys.stderr, flush=True)
        done = subprocess.run([sys.executable, "-m", "lookalike", *arguments], stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise CommandError(f"`lookalike {words[0]}` ended with status {done.returncode}")
        document: dict[str, Any] = json.loads(done.stdout)
        return document
