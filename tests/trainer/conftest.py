from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .parts import Parts


@pytest.fixture
def reopen(tmp_path: Path) -> Iterator[Callable[[], Parts]]:
    """The parts over the same folder, as after a restart of the server."""
    opened: list[Parts] = []

    def make() -> Parts:
        if opened:
            opened[-1].database.close()
        opened.append(Parts(tmp_path / "trainer"))
        return opened[-1]

    yield make
    opened[-1].database.close()


@pytest.fixture
def parts(reopen: Callable[[], Parts]) -> Parts:
    return reopen()
