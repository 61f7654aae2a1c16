"""How much of the disk a build takes at most, and whether there is as much."""

from __future__ import annotations

import shutil

from lookalike_indexer.collection import ITEMS_FILE, OpenCollection
from lookalike_indexer.records import BuildSpec, Collection
from lookalike_runtime.errors import ResourceExhausted

# Of ids.json, an item.
_ID_BYTES = 64
# Of a neighbour that is averaged into an item: its row, weight and similarity.
_NEIGHBOUR_BYTES = 12
# Of one of Annoy's trees, an item, as measured from 2 to 128 dimensions: 11 to 13.
_TREE_BYTES = 14
# Annoy's trees, or hnswlib's links, of all indexes that are tried, together; each may be kept until the plan is made.
_TRIED_TREES = 270
_TRIED_LINKS = 104
# Of a link: in the lowest layer there are twice as many, of 4 bytes; the layers above add a fifth at most.
_LINK_BYTES = 12
# Of a node beside vector and links, padding and layers above included, in as many graphs.
_NODE_BYTES = 80
_TRIED_GRAPHS = 7
# Reduced dimensions of all indexes that are tried, scans and inverted files included, together.
_TRIED_DIMS = 2_000
# How often hnswlib may index vectors as they are: once for each number of links. Bytes of one of their numbers, layers above included.
_TRIED_FULL = 4
_ROUNDED_BYTES = 3


def bytes_needed(record: Collection, spec: BuildSpec, items: int, store_bytes: int) -> int:
    """Return how many bytes a build of `items` items takes at most while it is made; a purge writes the store of `store_bytes` anew."""
    vectors = 4 * record.space.dim
    neighbours = (spec.dba or record.dba).k
    augmented = vectors + _NEIGHBOUR_BYTES * neighbours if neighbours else 0
    return items * (vectors + augmented + _index_bytes(record, spec) + _ID_BYTES) + (store_bytes if spec.purge else 0)


def _index_bytes(record: Collection, spec: BuildSpec) -> int:
    if record.engine == "exact":
        return 0
    reduced = 4 * min(_TRIED_DIMS, 16 * record.space.dim)
    if record.engine == "hnsw":
        graphs = _LINK_BYTES * _TRIED_LINKS + _NODE_BYTES * _TRIED_GRAPHS
        return reduced + graphs + _TRIED_FULL * _ROUNDED_BYTES * record.space.dim
    return reduced + _TREE_BYTES * (spec.trees or _TRIED_TREES)


def require_room(collection: OpenCollection, record: Collection, spec: BuildSpec) -> None:
    """Raise ResourceExhausted unless the disk has room for a build of all items."""
    store_bytes = (collection.folder / ITEMS_FILE).stat().st_size
    needed = bytes_needed(record, spec, collection.view.item_count, store_bytes)
    free = shutil.disk_usage(collection.folder).free
    if needed > free:
        message = f"the build needs up to {_said(needed)} of the data folder's disk, which has {_said(free)}: free {_said(needed - free)}"
        raise ResourceExhausted("DISK_FULL", message, metadata={"needed_bytes": str(needed), "free_bytes": str(free)})


def _said(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"
