"""The file of a graph in layers: each node in one piece, its vector as whole numbers of 16 bits.

hnswlib makes the graph. In its own file vectors have 32 bits, and nodes begin anywhere: most of a search's time is waiting for memory,
of which this is half as much.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

# As `cpp/whole_numbers.hpp` has it.
_ONE: Final = 1 << 15
_MOST: Final = _ONE - 1
# Bytes of a line of memory, to which records are padded, and its words.
_LINE: Final = 64
_WORDS: Final = _LINE // 4
# What a file begins with: the format and its version.
_MAGIC: Final = int.from_bytes(b"LAG1", "little")


class Layers(NamedTuple):
    """Records [n, size] of each layer, uint8, the lowest first; a search begins at the node `entry` of the last."""

    records: list[NDArray[np.uint8]]
    entry: int


def record_of(dims: int, links: int) -> np.dtype[np.void]:
    """Return what a node is: its unit vector, the same item in the layer below (in the lowest its row), and the nodes it leads to."""
    below = -(-2 * dims // 4) * 4
    names, formats = ["vector", "below", "count", "linked"], [("<i2", (dims,)), "<u4", "<u4", ("<u4", (links,))]
    size = -(-(below + 8 + 4 * links) // _LINE) * _LINE
    return np.dtype({"names": names, "formats": formats, "offsets": [0, below, below + 4, below + 8], "itemsize": size})


def write_layers(state: Mapping[str, Any], rows: NDArray[np.float32], path: Path, links: int) -> None:
    """Write the graph that hnswlib made of unit `rows` [n, dims], one after another, with at most `links` of a node.

    `state` is what hnswlib gives for pickling.
    """
    record = record_of(rows.shape[1], links)
    members = [np.flatnonzero(state["element_levels"] >= level) for level in range(state["max_level"] + 1)]
    entry = int(np.searchsorted(members[-1], state["enterpoint_node"]))
    with path.open("wb") as file:
        _header(rows.shape[1], links, entry, [len(each) for each in members]).tofile(file)
        for level, mine in enumerate(members):
            layer = np.zeros(len(mine), record)
            layer["vector"] = np.rint(rows[mine] * np.float32(_ONE)).clip(-_MOST, _MOST)
            layer["below"] = np.searchsorted(members[max(0, level - 1)], mine)
            counts, linked = _links(state, mine, level)
            used = np.arange(linked.shape[1]) < counts[:, None]
            layer["count"] = counts
            layer["linked"][:, : linked.shape[1]] = np.where(used, np.searchsorted(mine, linked), 0)
            layer.tofile(file)


def _links(state: Mapping[str, Any], nodes: NDArray[np.int64], level: int) -> tuple[NDArray[np.uint16], NDArray[np.uint32]]:
    """Return how many links each of hnswlib's `nodes` has on a level, and to which nodes, more behind these."""
    if level == 0:
        start, size, most, lists = state["offset_level0"], state["size_data_per_element"], state["max_M0"], state["data_level0"]
        places = nodes
    else:
        start, size, most, lists = 0, state["size_links_per_element"], state["max_M"], state["link_lists"]
        levels = state["element_levels"].astype(np.int64)
        places = (np.cumsum(levels) - levels)[nodes] + level - 1
    kind = np.dtype({"names": ["count", "linked"], "formats": ["<u2", ("<u4", (most,))], "offsets": [start, start + 4], "itemsize": size})
    found = lists.view(kind)[places]
    return found["count"], found["linked"]


def read_layers(path: Path, dims: int, links: int, count: int) -> Layers:
    """Read what `write_layers` wrote of `count` rows; raises ValueError for a file of another shape."""
    words = _read_aligned(path).view("<u4")
    entry, layers = words[3:5].tolist() if len(words) >= _WORDS else (0, 0)
    sizes = words[5 : 5 + layers].tolist()
    header, record = _header(dims, links, entry, sizes), record_of(dims, links)
    ends = (len(header) + np.cumsum([0, *sizes]) * (record.itemsize // 4)).tolist()
    if sizes[:1] != [count] or len(words) != ends[-1] or not np.array_equal(words[: len(header)], header):
        raise ValueError(f"{path} does not hold {count} rows of {dims} dimensions with {links} links")
    return Layers([words[start:end].view(np.uint8).reshape(-1, record.itemsize) for start, end in pairwise(ends)], entry)


def _header(dims: int, links: int, entry: int, sizes: Sequence[int]) -> NDArray[np.uint32]:
    header = np.array([_MAGIC, dims, links, entry, len(sizes), *sizes], "<u4")
    return np.pad(header, (0, -len(header) % _WORDS))


def _read_aligned(path: Path) -> NDArray[np.uint8]:
    """Read a file to where a line of the processor's memory begins, into pages that numpy asks to be large: both spare much waiting."""
    size = path.stat().st_size // _LINE * _LINE
    room = np.empty(size + _LINE, np.uint8)
    start = -room.ctypes.data % _LINE
    with path.open("rb") as file:
        file.readinto(room[start : start + size].data)
    return room[start : start + size]
