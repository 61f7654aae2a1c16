"""Putting a streamed ranking together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lookalike._exceptions import WorkIncomplete
from lookalike._models import Ranking
from lookalike_protos.indexer.v1 import search_pb2


class RankParts:
    """Gathers the messages of a ranking."""

    def __init__(self) -> None:
        self._start = search_pb2.RankStart()
        self._reference_ids: list[str] = []
        self._query_ids: list[str] = []
        self._indices: list[NDArray[np.uint32]] = []
        self._scores: list[NDArray[np.float32]] = []

    def add(self, message: search_pb2.RankResponse) -> None:
        match message.WhichOneof("message"):
            case "start":
                self._start = message.start
            case "reference_ids":
                self._reference_ids.extend(message.reference_ids.ids)
            case "rows":
                rows = message.rows
                self._query_ids.extend(rows.query_ids)
                self._indices.append(np.frombuffer(rows.indices, "<u4").reshape(len(rows.query_ids), rows.width))
                self._scores.append(np.frombuffer(rows.scores, "<f4").reshape(len(rows.query_ids), rows.width))

    def ranking(self) -> Ranking:
        start = self._start
        got = (len(self._query_ids), len(self._reference_ids))
        if got != (start.query_count, start.reference_count) or not self._indices:
            raise WorkIncomplete(
                f"the ranking has {got[0]} of {start.query_count} queries and {got[1]} of {start.reference_count} references: try again"
            )
        return Ranking(
            tuple(self._query_ids),
            tuple(self._reference_ids),
            np.concatenate(self._indices),
            np.concatenate(self._scores),
            start.query_collection,
            start.query_revision,
            start.reference_collection,
            start.reference_revision,
        )
