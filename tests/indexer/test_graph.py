"""hnswlib's graph, written anew and searched here: held against hnswlib's own search and brute force."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import hnswlib
import numpy as np
import pytest
from numpy.typing import NDArray

from lookalike_indexer.candidates import Effort
from lookalike_indexer.candidates._graph import Graph
from lookalike_indexer.candidates.hnsw import CONSIDERED, HnswCandidates, write_graph
from lookalike_indexer.candidates.layers import Layers, read_layers, record_of
from lookalike_indexer.records import Index
from lookalike_retrieval import normalise

COUNT, LINKS = 3_000, 6


def units(count: int, dim: int, seed: int = 5) -> NDArray[np.float32]:
    return normalise(np.random.default_rng(seed).standard_normal((count, dim)))


def opened(folder: Path, vectors: NDArray[np.float32], links: int = LINKS) -> HnswCandidates:
    index = Index("hnsw", vectors.shape[1], links=links)
    write_graph(vectors, folder / "graph", index)
    return HnswCandidates(folder / "graph", index, None, len(vectors))


def layers_of(folder: Path, vectors: NDArray[np.float32]) -> Layers:
    opened(folder, vectors)
    return read_layers(folder / "graph", vectors.shape[1], 2 * LINKS, len(vectors))


def recall(found: Iterable[NDArray[np.integer[Any]]], best: NDArray[np.int64]) -> float:
    return float(np.mean([np.isin(nearest, rows).mean() for nearest, rows in zip(best, found, strict=True)]))


@pytest.mark.parametrize("dim", [3, 24, 97])
def test_as_much_is_found_as_hnswlib_finds_with_the_same_effort(tmp_path: Path, dim: int) -> None:
    vectors, queries = units(COUNT, dim), units(200, dim, seed=6)
    source = opened(tmp_path, vectors)
    peer = hnswlib.Index("ip", dim)
    peer.init_index(COUNT, M=LINKS, ef_construction=CONSIDERED, random_seed=20160330)
    peer.add_items(vectors, num_threads=1)
    best = np.argsort(-queries @ vectors.T, axis=1)[:, :10]
    for width in (10, 40, 200):
        peer.set_ef(width)
        theirs, _ = peer.knn_query(queries, 10, num_threads=1)
        ours = source.ordered(queries, Effort(width, 10))
        assert recall(ours, best) >= recall(theirs, best) - 0.005
        # Alone or with others, a query finds the same.
        np.testing.assert_array_equal(np.vstack([source.ordered(query[None], Effort(width, 10))[0] for query in queries]), ours)


def test_little_effort_finds_little_and_much_finds_all_best_first(tmp_path: Path) -> None:
    vectors, queries = units(COUNT, 16), units(100, 16, seed=6)
    source = opened(tmp_path, vectors)
    best = np.argsort(-queries @ vectors.T, axis=1)[:, :10]
    shares = [recall(source.ordered(queries, Effort(width, 10)), best) for width in (10, 30, 300)]
    assert 0.3 < shares[0] < shares[1] < shares[2]
    assert shares[2] > 0.99
    for query, rows in zip(queries, source.ordered(queries, Effort(300, 100)), strict=True):
        assert len(set(rows.tolist())) == 100
        # Whole numbers of 16 bits tell so much.
        assert (np.diff(vectors[rows] @ query) < 1e-4).all()


def test_a_graph_is_served_without_hnswlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, index = units(50, 16), Index("hnsw", 16, links=LINKS)
    write_graph(vectors, tmp_path / "graph", index)
    monkeypatch.setitem(sys.modules, "hnswlib", None)
    rows = HnswCandidates(tmp_path / "graph", index, None, 50).ordered(vectors, Effort(50, 1))
    assert [each.tolist() for each in rows] == [[row] for row in range(50)]


def test_the_file_tells_of_every_node_what_it_is_and_where_it_leads(tmp_path: Path) -> None:
    vectors = units(COUNT, 24)
    layers = layers_of(tmp_path, vectors)
    nodes = [each.view(record_of(24, 2 * LINKS))[:, 0] for each in layers.records]
    assert len(nodes) > 2
    rows = np.arange(COUNT)
    np.testing.assert_array_equal(nodes[0]["below"], rows)
    for lower, layer in zip([nodes[0], *nodes], nodes, strict=False):
        rows = rows[layer["below"]]
        assert len(layer) <= len(lower)
        np.testing.assert_allclose(layer["vector"] / 2**15, vectors[rows], atol=2e-5)
        for place, node in enumerate(layer):
            linked = node["linked"][: node["count"]].tolist()
            assert len({*linked, place}) == len(linked) + 1
    assert all((layer["count"] <= LINKS).all() for layer in nodes[1:])
    assert nodes[0]["count"].max() > LINKS


def test_neighbours_on_axes_and_queries_of_any_length_are_told_apart(tmp_path: Path) -> None:
    axes = np.vstack([np.eye(20, dtype=np.float32), -np.eye(20, dtype=np.float32)])
    source = opened(tmp_path, axes, links=16)
    for length in (1e-6, 1, 1e6):
        found = source.ordered(np.float32(length) * axes, Effort(40, 40))
        assert [rows[0] for rows in found] == list(range(40))
        assert [rows[-1] for rows in found] == [*range(20, 40), *range(20)]
    assert len(source.ordered(np.zeros((1, 20), np.float32), Effort(40, 5))[0]) == 5


def pairs() -> NDArray[np.void]:
    """Two nodes on each of two axes, which lead to each other and nowhere else."""
    layer = np.zeros(4, record_of(2, 2))
    layer["vector"], layer["below"] = [[32767, 0], [30000, 0], [0, 32767], [0, 30000]], range(4)
    layer["count"], layer["linked"] = 1, [[1, 0], [0, 0], [3, 0], [2, 0]]
    return layer


def test_a_query_finds_no_more_than_where_it_is_led() -> None:
    graph = Graph([pairs().view(np.uint8).reshape(4, -1)], 0, 2, 2)
    assert [rows.tolist() for rows in graph.nearest(np.eye(2, dtype=np.float32), 4, 4)] == [[0, 1], [0, 1]]


def test_the_layers_above_lead_to_where_a_query_belongs() -> None:
    lowest = pairs()
    above = lowest[[1, 3]].copy()
    above["below"], above["linked"] = [1, 3], [[1, 0], [0, 0]]
    graph = Graph([layer.view(np.uint8).reshape(len(layer), -1) for layer in (lowest, above)], 0, 2, 2)
    assert [rows.tolist() for rows in graph.nearest(np.eye(2, dtype=np.float32), 4, 4)] == [[0, 1], [2, 3]]


@pytest.mark.parametrize("shape", [(24, LINKS, COUNT - 1), (25, LINKS, COUNT), (23, LINKS, COUNT), (24, LINKS + 1, COUNT)])
def test_a_file_of_another_shape_is_refused(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    dims, links, count = shape
    opened(tmp_path, units(COUNT, 24))
    with pytest.raises(ValueError, match=f"does not hold {count} rows of {dims} dimensions with {2 * links} links"):
        HnswCandidates(tmp_path / "graph", Index("hnsw", dims, links=links), None, count)


def test_a_file_that_is_cut_or_no_graph_is_refused(tmp_path: Path) -> None:
    opened(tmp_path, units(COUNT, 24))
    whole = (tmp_path / "graph").read_bytes()
    for content in (b"", b"\0" * 64, whole[:10], whole[:64], whole[:-64], whole[:-1], whole + b"\0" * 64, b"x" + whole[1:], b"\xff" * 640):
        (tmp_path / "graph").write_bytes(content)
        with pytest.raises(ValueError, match="does not hold"):
            HnswCandidates(tmp_path / "graph", Index("hnsw", 24, links=LINKS), None, COUNT)


def test_a_node_that_leads_astray_is_refused(tmp_path: Path) -> None:
    layers = layers_of(tmp_path, units(COUNT, 24))
    nodes = [each.view(record_of(24, 2 * LINKS))[:, 0] for each in layers.records]
    astray = [
        (nodes[0]["linked"][7], 0, COUNT),
        (nodes[1]["linked"][3], 0, len(nodes[1])),
        (nodes[0]["count"], 5, 2 * LINKS + 1),
        (nodes[0]["below"], 9, COUNT),
        (nodes[1]["below"], 0, COUNT),
        (nodes[2]["below"], 0, len(nodes[1])),
    ]
    Graph(layers.records, layers.entry, 24, 2 * LINKS)
    for numbers, place, wrong in astray:
        right = numbers[place]
        numbers[place] = wrong
        with pytest.raises(ValueError, match="does not exist"):
            Graph(layers.records, layers.entry, 24, 2 * LINKS)
        numbers[place] = right
    with pytest.raises(ValueError, match="entry"):
        Graph(layers.records, len(nodes[-1]), 24, 2 * LINKS)


def test_misfits_are_refused(tmp_path: Path) -> None:
    layers = layers_of(tmp_path, units(COUNT, 24))
    for records in ([], [layers.records[0][:0]], [layers.records[0].ravel()], [layers.records[0][:, :-1]]):
        with pytest.raises(ValueError, match="layer"):
            Graph(records, 0, 24, 2 * LINKS)
    graph = Graph(layers.records, layers.entry, 24, 2 * LINKS)
    for queries in (units(1, 23), units(1, 24)[0]):
        with pytest.raises(ValueError, match="queries must be"):
            graph.nearest(queries, 10, 10)
    for width, depth in ((0, 1), (1, 0)):
        with pytest.raises(ValueError, match="at least 1"):
            graph.nearest(units(1, 24), width, depth)
