"""Following long-running work to its end, over as many connections as it takes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from lookalike._channel import Channel
from lookalike._exceptions import DeadlineExceeded, ServerNotReachable, Unavailable
from lookalike._models import Event
from lookalike._wire import read

_ATTEMPTS = 8
_LONGEST_PAUSE = 5.0


async def watch(channel: Channel, method: Callable[..., Any], request: Any, silence: float) -> AsyncIterator[Event]:
    """Yield the events of `request` (which has `name` and `after_sequence`), each once and in order, to the last.

    A connection that breaks or falls silent is opened again after the last event seen; a server that is gone for good is an error.
    """
    attempt = 0
    while True:
        try:
            async for message in channel.stream(method, request, lambda: silence):
                attempt = 0
                request.after_sequence = message.sequence
                event = read(Event, message)
                yield event
                if event.state.ended:
                    return
            return
        except DeadlineExceeded:
            continue
        except (Unavailable, ServerNotReachable):
            attempt += 1
            if attempt == _ATTEMPTS:
                raise
        await asyncio.sleep(min(0.2 * 2**attempt, _LONGEST_PAUSE))
