"""A process for a piece of work, as the server starts it; `worker` is what it does first."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, Process

from pydantic import BaseModel


async def start_worker(module: str, job: BaseModel, longest_line: int) -> Process:
    """Start `python -m module` and give it its job.

    It ends by itself when this process does, since it reads the end of its stdin then. The lines that it writes have up to
    `longest_line` bytes.
    """
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", module, stdin=PIPE, stdout=PIPE, limit=longest_line)
    assert process.stdin is not None
    process.stdin.write(job.model_dump_json().encode() + b"\n")
    return process
