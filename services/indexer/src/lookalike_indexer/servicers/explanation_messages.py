"""Explanations of hits as messages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lookalike_indexer.explain import Explanation, explain
from lookalike_indexer.search import Hits
from lookalike_indexer.view import View
from lookalike_protos.indexer.v1 import search_pb2


def add_explanations(messages: Sequence[search_pb2.QueryHits], view: View, queries: NDArray[np.float32], hits: Sequence[Hits]) -> None:
    """Tell in `messages`, one for the `hits` of each of the unit `queries`, why each hit is one."""
    for message, explanations in zip(messages, explain(view, queries, hits), strict=True):
        message.explanations.extend(map(_explanation_message, explanations))


def _explanation_message(explanation: Explanation) -> search_pb2.Explanation:
    columns = (explanation.averaged.ids, explanation.averaged.weights, explanation.averaged.similarities)
    return search_pb2.Explanation(
        raw_score=explanation.raw_score,
        rank=explanation.rank,
        raw_rank=explanation.raw_rank,
        neighbours=[
            search_pb2.Neighbour(id=each, weight=weight, similarity=similarity) for each, weight, similarity in zip(*columns, strict=True)
        ],
    )
