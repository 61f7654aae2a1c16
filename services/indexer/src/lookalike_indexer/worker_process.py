"""A process for a piece of work, as the server starts it."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, Process

from pydantic import BaseModel


async def start_worker(module: str, job: BaseModel, longest_line: int) -> Process:
    """Start `module` as a worker and give it its job.

    It ends by itself when this process does, since it reads the end of its stdin then. The lines that it writes have up to
    `longest_line` bytes.
    """
    command = (sys.executable, "-m", "lookalike_indexer.worker", module)
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, limit=longest_line)
    assert process.stdin is not None
    process.stdin.write(job.model_dump_json().encode() + b"\n")
    return process
