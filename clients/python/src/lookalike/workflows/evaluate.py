"""How good a model ranks: queries and references in a folder per class each, which is the truth."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lookalike._client import AsyncClient
from lookalike._exceptions import InputError
from lookalike._folders import LeftOut, Listing, PictureFile, scan
from lookalike._models import DbaSpec, Ranking, Space
from lookalike.workflows._dba import DbaChoice, choose_dba, choose_query_dba
from lookalike.workflows._ingest import Ingested
from lookalike.workflows._model import ChosenModel, choose_model
from lookalike.workflows._observer import SILENT, Observer
from lookalike.workflows._rank import check_k, rank
from lookalike.workflows._scratch import scratch_collection
from lookalike_retrieval import Interval, RankingScores, class_bootstrap, evaluate_ranking


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A measured ranking.

    queries, references: the pictures behind the ranking's query and reference ids, in their order.
    map, r1, r5: means over the queries that have a relevant reference, with 95 % intervals in which whole classes are resampled.
    same_folder: queries and references are one folder, and each query is left out of its own ranking.
    """

    model: str
    space: Space
    k: int
    dba: DbaChoice
    query_dba: DbaChoice
    same_folder: bool
    queries: tuple[PictureFile, ...]
    references: tuple[PictureFile, ...]
    ranking: Ranking
    scores: RankingScores
    map: Interval
    r1: Interval
    r5: Interval
    left_out_queries: tuple[LeftOut, ...]
    left_out_references: tuple[LeftOut, ...]

    @property
    def map_definition(self) -> str:
        """The definition of mAP that was used, of those in use."""
        return f"mAP@{self.k}, denominator min(R, {self.k})"

    @property
    def unanswerable(self) -> tuple[PictureFile, ...]:
        """Queries without a relevant reference: they are in no mean."""
        return tuple(self.queries[row] for row in np.flatnonzero(~self.scores.answerable))

    @property
    def class_count(self) -> int:
        """Classes of the queries that count."""
        return len({self.queries[row].label for row in np.flatnonzero(self.scores.answerable)})


async def evaluate(
    client: AsyncClient,
    queries: Path,
    references: Path,
    model: str,
    *,
    k: int = 1000,
    dba: int | DbaSpec | None = None,
    query_dba: int | DbaSpec | None = None,
    observer: Observer = SILENT,
) -> Evaluation:
    """Rank the pictures of `references` for those of `queries`, exactly, and measure against the labels of both folders.

    `dba` None means what the model's profile advises, `query_dba` None means off; 0 is off. Raises InputError for folders without classes,
    or that share fewer than two.
    """
    check_k(k)
    asked_query_dba = choose_query_dba(query_dba)
    query_list, reference_list = await asyncio.gather(asyncio.to_thread(_labelled, queries), asyncio.to_thread(_labelled, references))
    _check_shared(query_list, reference_list)
    chosen = await choose_model(client, model, observer)
    reference_dba = choose_dba(dba, chosen.profile.dba_advice)
    observer.say(f"embedding {len(query_list.pictures):,} queries with {chosen.version.name}")
    query_side = _Side(query_list, await scratch_collection(client, query_list, chosen.space, observer))
    observer.say(f"embedding {len(reference_list.pictures):,} references")
    reference_side = _Side(reference_list, await scratch_collection(client, reference_list, chosen.space, observer))
    ranking = await rank(
        client,
        query_side.ingested.collection,
        reference_side.ingested.collection,
        k,
        query_dba=asked_query_dba.spec,
        reference_dba=reference_dba.spec,
        exclude_same_id=_is_same(queries, references),
        observer=observer,
    )
    sides = (query_side, reference_side)
    return await asyncio.to_thread(_measure, ranking, chosen, k, reference_dba, asked_query_dba, _is_same(queries, references), *sides)


class _Side(NamedTuple):
    listing: Listing
    ingested: Ingested

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        return (*self.listing.left_out, *self.ingested.failed)


def _is_same(queries: Path, references: Path) -> bool:
    return queries.resolve() == references.resolve()


def _labelled(folder: Path) -> Listing:
    return scan(folder).labelled()


def _check_shared(queries: Listing, references: Listing) -> None:
    shared = queries.labels.keys() & references.labels.keys()
    if len(shared) < 2:
        raise InputError(
            f"{queries.root} and {references.root} share {len(shared)} class(es): two or more are needed, with equal folder names",
            reason="TOO_FEW_CLASSES",
        )


def _measure(
    ranking: Ranking,
    chosen: ChosenModel,
    k: int,
    dba: DbaChoice,
    query_dba: DbaChoice,
    same_folder: bool,
    query_side: _Side,
    reference_side: _Side,
) -> Evaluation:
    queries = _in_order(query_side.listing, ranking.query_ids)
    references = _in_order(reference_side.listing, ranking.reference_ids)
    labels = _labels(queries)
    place = {each: row for row, each in enumerate(ranking.reference_ids)}
    exclude = np.array([place.get(each, -1) for each in ranking.query_ids], np.int64) if same_folder else None
    scores = evaluate_ranking(ranking.indices, labels, _labels(references), k=k, exclude=exclude)
    if len(np.unique(labels[scores.answerable])) < 2:
        raise InputError("fewer than two classes have a query and a reference that could be read", reason="TOO_FEW_CLASSES")
    return Evaluation(
        model=chosen.version.name,
        space=chosen.space,
        k=k,
        dba=dba,
        query_dba=query_dba,
        same_folder=same_folder,
        queries=queries,
        references=references,
        ranking=ranking,
        scores=scores,
        map=_over_classes(scores, scores.ap, labels),
        r1=_over_classes(scores, scores.r1, labels),
        r5=_over_classes(scores, scores.r5, labels),
        left_out_queries=query_side.left_out,
        left_out_references=reference_side.left_out,
    )


def _over_classes(scores: RankingScores, values: NDArray[np.float64], labels: NDArray[np.str_]) -> Interval:
    return class_bootstrap(values[scores.answerable], labels[scores.answerable])


def _in_order(listing: Listing, ids: tuple[str, ...]) -> tuple[PictureFile, ...]:
    by_id = {picture.id: picture for picture in listing.pictures}
    return tuple(by_id[each] for each in ids)


def _labels(pictures: tuple[PictureFile, ...]) -> NDArray[np.str_]:
    return np.array([picture.label for picture in pictures])
