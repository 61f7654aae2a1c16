from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import lookalike_indexer

SOURCES = sorted(Path(lookalike_indexer.__file__).parent.rglob("*.py"))
WITH_GRPC = ("servicers", "service.py", "__main__.py")


def test_the_server_and_its_builds_never_import_torch() -> None:
    program = "import sys, lookalike_indexer.service, lookalike_indexer.builds.__main__; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_the_process_of_a_build_never_imports_grpc() -> None:
    program = "import sys, lookalike_indexer.builds.__main__; sys.exit('grpc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_only_servicers_and_the_wiring_know_grpc_and_messages(source: Path) -> None:
    if not set(WITH_GRPC) & {source.name, source.parent.name}:
        text = source.read_text()
        assert "import grpc" not in text
        assert "_pb2" not in text
