"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO, TypeVar

from lookalike._exceptions import InputError

_File = TypeVar("_File", TextIO, BinaryIO)


@contextmanager
def written_whole(path: Path) -> Iterator[TextIO]:
    """Open a text file beside `path`: it takes the place of `path` once the block has ended well, and vanishes otherwise.

    Raises InputError where nothing can be written.
    """
    with _written_whole(path, lambda aside: aside.open("w", encoding="utf-8", newline="\n")) as file:
        yield file


@contextmanager
def bytes_written_whole(path: Path) -> Iterator[BinaryIO]:
    """`written_whole` for a file of bytes."""
    with _written_whole(path, lambda aside: aside.open("wb")) as file:
        yield file


@contextmanager
def _written_whole(path: Path, opened: Callable[[Path], _File]) -> Iterator[_File]:
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        if path.is_dir():
            raise InputError(f"{path} is a folder: name a file to write", reason="NOT_WRITABLE")
        path.parent.mkdir(parents=True, exist_ok=True)
        file = opened(aside)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}", reason="NOT_WRITABLE") from None
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
