"""Pictures in folders, servers that do as a test says, and an environment that knows nothing of the machine's own servers."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import grpc
import pytest
from PIL import Image

WritePicture = Callable[..., Path]
Serve = Callable[[Callable[[grpc.aio.Server], None]], AbstractAsyncContextManager[str]]


def encoded(colour: int = 0, side: int = 24) -> bytes:
    """A PNG of one colour, another for each number."""
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), (colour * 37 % 256, colour * 91 % 256, colour * 151 % 256)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("TRAINER", "EMBEDDER", "INDEXER", "TOKEN", "DATA", "CONFIG"):
        monkeypatch.delenv(f"LOOKALIKE_{name}", raising=False)
    for name in ("CONFIG", "STATE", "DATA"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / "home" / name.lower()))


@pytest.fixture
def write_picture() -> WritePicture:
    """Write a picture, with its folders."""

    def write(path: Path, colour: int = 0) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(colour))
        return path

    return write


@pytest.fixture
def serve() -> Serve:
    """Run a server in this process: `add` gives it its servicers; yields its address."""

    @asynccontextmanager
    async def run(add: Callable[[grpc.aio.Server], None]) -> AsyncIterator[str]:
        server = grpc.aio.server()
        add(server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            await server.stop(0)

    return run
