"""Files that arrive are those that were sent, and stay in their folder."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lookalike import InputError, WorkIncomplete
from lookalike._download import receive_files
from lookalike.workflows import read_excluded
from lookalike_protos.types.v1.files_pb2 import FileChunk

CONTENT = bytes(range(256)) * 4


def first(path: str, data: bytes, content: bytes = CONTENT) -> FileChunk:
    return FileChunk(path=path, sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content), data=data)


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def stream(*chunks: FileChunk) -> AsyncIterator[FileChunk]:
    for chunk in chunks:
        yield chunk


async def test_files_come_whole_in_any_number_of_chunks(tmp_path: Path) -> None:
    chunks = (first("a/写真.bin", CONTENT[:7]), FileChunk(data=CONTENT[7:]), first("empty", b"", b""), first("b", CONTENT))
    assert await receive_files(stream(*chunks), tmp_path) == (tmp_path / "a" / "写真.bin", tmp_path / "empty", tmp_path / "b")
    assert (tmp_path / "a" / "写真.bin").read_bytes() == (tmp_path / "b").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("chunks", "reason"),
    [
        ((first("f", CONTENT[:9]),), "DIGEST_MISMATCH"),
        ((first("f", CONTENT[:9]), first("g", CONTENT)), "DIGEST_MISMATCH"),
        ((first("f", CONTENT[::-1]),), "DIGEST_MISMATCH"),
        ((first("f", CONTENT + b"!"),), "DIGEST_MISMATCH"),
        ((first("../f", CONTENT),), "LEADS_OUT"),
        ((first("/tmp/f", CONTENT),), "LEADS_OUT"),
        ((FileChunk(data=b"x"),), "BAD_STREAM"),
    ],
)
async def test_what_did_not_arrive_as_it_was_sent_is_not_kept(tmp_path: Path, chunks: tuple[FileChunk, ...], reason: str) -> None:
    with pytest.raises(WorkIncomplete) as caught:
        await receive_files(stream(*chunks), tmp_path / "to")
    assert caught.value.reason == reason
    assert files_below(tmp_path) == []


@pytest.mark.parametrize(
    "text",
    ["path,label,score\nä/1.png,a,1\n\n写真/2.png,b,.5\n", "score,PATH\n1,ä/1.png\n.5,写真/2.png\n1,ä/1.png\n", "ä/1.png\n写真/2.png\n"],
)
async def test_paths_to_exclude_are_a_column_or_the_only_one(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.csv").write_text(text, encoding="utf-8")
    assert await read_excluded(tmp_path / "x.csv") == ("ä/1.png", "写真/2.png")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n1,2\n", "none is called path"),
        ("path,label\n,b\n", "line 2: there is no path"),
        ("path\n" + "\n".join(f"{n}.png" for n in range(10_001)), "at most 10,000"),
    ],
)
async def test_a_wrong_list_is_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(InputError, match=said):
        await read_excluded(tmp_path / "x.csv")


async def test_a_list_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.csv cannot be read"):
        await read_excluded(tmp_path / "none.csv")
