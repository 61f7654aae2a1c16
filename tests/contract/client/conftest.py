"""Real servers, started by `lookalike up` once for all tests, and the command run against them."""

from __future__ import annotations

import json
import os
import random
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from PIL import Image, ImageDraw
from safetensors.torch import save_file

from lookalike import Client, Servers
from lookalike.cli import main

SIDE = 64


@dataclass(frozen=True)
class Outcome:
    """What a command came to."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.out)


Run = Callable[..., Outcome]
Interrupt = Callable[..., Outcome]
Draw = Callable[[Path, int, int], Path]


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home of its own for what the command keeps, in the environment of all that these tests start."""
    folder = tmp_path_factory.mktemp("home")
    own = {f"XDG_{name}_HOME": str(folder / name.lower()) for name in ("CONFIG", "STATE", "DATA")} | {"OMP_NUM_THREADS": "1"}
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("LOOKALIKE_")]:
            patch.delenv(name)
        for name, value in own.items():
            patch.setenv(name, value)
        yield folder


@pytest.fixture(scope="session")
def data(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The data folder of running servers."""
    folder = tmp_path_factory.mktemp("data")
    started = subprocess.run(
        [sys.executable, "-m", "lookalike", "up", "--detach", "--data", str(folder)], capture_output=True, text=True, check=False
    )
    assert started.returncode == 0, started.stderr
    assert started.stdout == "READY\n"
    yield folder
    subprocess.run([sys.executable, "-m", "lookalike", "down", "--data", str(folder)], check=True, capture_output=True)


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights file of timm's `test_efficientnet`, a network of 1.4 MB."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_file(timm.create_model("test_efficientnet").state_dict(), file)
    return file


@pytest.fixture(scope="session")
def tiny_model(data: Path, tiny_weights: Path) -> str:
    """A model whose every picture takes milliseconds."""
    assert (
        main(["models", "import", "--timm", "test_efficientnet", "--weights", str(tiny_weights), "--name", "tiny", "--data", str(data)])
        == 0
    )
    return "tiny"


@pytest.fixture
def run(data: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command in this process."""

    def call(*words: object) -> Outcome:
        status = main([*map(str, words), "--data", str(data)])
        captured = capsys.readouterr()
        return Outcome(status, captured.out, captured.err)

    return call


@pytest.fixture
def interrupt(data: Path) -> Interrupt:
    """Run the command in a process of its own, and press Ctrl-C once its stderr says something."""

    def call(*words: object, once: str, pause: float = 0.0) -> Outcome:
        process = subprocess.Popen(
            [sys.executable, "-m", "lookalike", *map(str, words), "--data", str(data)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        said = ""
        assert process.stderr is not None
        while once not in said:
            line = process.stderr.readline()
            assert line, f"it ended without saying {once!r}: {said}"
            said += line
        time.sleep(pause)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        return Outcome(process.returncode, out, said + err)

    return call


@pytest.fixture
def client(data: Path) -> Iterator[Client]:
    """The synchronous client of the running servers."""
    record = json.loads((data / "run" / "servers.json").read_text())["servers"]
    with Client(Servers(**{name: server["address"] for name, server in record.items()}), token="") as client:
        yield client


def draw_picture(path: Path, kind: int, variant: int) -> Path:
    """Draw a shape: `kind` decides what is seen, `variant` where and how large."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shades, places = random.Random(kind), random.Random(f"{kind}-{variant}")
    image = Image.new("RGB", (SIDE, SIDE), "white")
    draw = ImageDraw.Draw(image)
    fill = tuple(shades.randrange(220) for _ in range(3))
    left, top, size = places.randrange(4, 16), places.randrange(4, 16), places.randrange(28, 40)
    box = (left, top, left + size, top + size)
    (draw.ellipse, draw.rectangle)[kind % 2](box, fill=fill)
    draw.line((left, top, left + size, top + size * (kind % 5) // 4), fill="black", width=3)
    image.save(path)
    return path


def png_that_says(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header states a size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.fixture(scope="session")
def draw() -> Draw:
    """Draw a picture into a file."""
    return draw_picture


@pytest.fixture(scope="session")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders `queries` (2 a class) and `references` (3 a class) of 6 classes."""
    root = tmp_path_factory.mktemp("classes")
    for kind in range(6):
        for variant in range(5):
            side = "queries" if variant < 2 else "references"
            draw_picture(root / side / f"kind{kind}" / f"{variant}.png", kind, variant)
    return root


@pytest.fixture(scope="session")
def flat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Flat folders `queries` (4) and `references` (9)."""
    root = tmp_path_factory.mktemp("flat")
    for kind in range(3):
        for variant in range(4):
            side = "queries" if variant == 0 else "references"
            draw_picture(root / side / f"kind{kind}-{variant}.png", kind, variant)
    draw_picture(root / "queries" / "extra.png", 7, 0)
    return root


@pytest.fixture
def bad_files() -> Callable[[Path], dict[str, str]]:
    """Write files that are no usable pictures into a folder; returns the reason by name."""

    def write(folder: Path) -> dict[str, str]:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "notes.txt").write_text("hello")
        (folder / "empty.png").touch()
        whole = draw_picture(folder / "whole.png", 1, 1).read_bytes()
        (folder / "whole.png").unlink()
        (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
        (folder / "huge.png").write_bytes(png_that_says(30_000, 30_000))
        return {"notes.txt": "NOT_A_PICTURE", "empty.png": "EMPTY", "cut.png": "TRUNCATED", "huge.png": "TOO_MANY_PIXELS"}

    return write
