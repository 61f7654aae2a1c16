from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .trainer_process import FAKE, Trainer

PNG = b"\x89PNG\r\n\x1a\n"
Start = Callable[..., Trainer]


@pytest.fixture(scope="session")
def import_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two classes that the server may import."""
    root = tmp_path_factory.mktemp("import_root")
    for name in ("shoes/boots/1.png", "shoes/clogs/1.png", "empty/readme.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(PNG + name.encode() if name.endswith("png") else b"")
    return root


@pytest.fixture(scope="session")
def trainer(tmp_path_factory: pytest.TempPathFactory, import_root: Path) -> Iterator[Trainer]:
    """A server with a fake worker that tests share; each takes names of its own."""
    server = Trainer(tmp_path_factory.mktemp("trainer"), FAKE, ["--import-roots", str(import_root), "--metrics-port", "0"]).start()
    yield server
    assert server.end() == 0


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts servers of the test's own and ends those that still run."""
    started: list[Trainer] = []

    def start_one(*arguments: object, folder: Path = tmp_path / "data", **options: object) -> Trainer:
        started.append(Trainer(folder, *arguments, **options))  # type: ignore[arg-type]
        return started[-1].start()

    yield start_one
    for server in started:
        if server.process.poll() is None:
            server.end(signal.SIGKILL)
