"""How well a network ranks pictures of classes it was never trained on."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lookalike_images import Preprocessing
from lookalike_model.embedding_model import EmbeddingModel
from lookalike_model.network import RetrievalNetwork
from lookalike_model.profile import Profile
from lookalike_retrieval import class_bootstrap, evaluate_ranking, exact_topk
from lookalike_trainer.training.dataset import Labels
from lookalike_trainer.training.interruption import Interruption
from lookalike_trainer.training.pixels import PixelStore

_K = 1000
_BATCH = 64


@dataclass(frozen=True, slots=True)
class HeldOutScores:
    """Leave-one-out within the held-out pictures: each ranks all the others.

    Attributes:
        map: mAP@1000, denominator min(R, k).
        low, high: its 95 % interval, classes resampled.
        r1: share of queries whose first hit is right.
        queries: pictures that have another of their class.
    """

    map: float
    low: float
    high: float
    r1: float
    queries: int


@dataclass(frozen=True)
class HeldOut:
    """The pictures that are measured on.

    Attributes:
        rows: int64, in the store.
    """

    store: PixelStore
    labels: Labels
    rows: NDArray[np.int64]
    preprocessing: Preprocessing
    stop: Interruption

    def score(self, network: RetrievalNetwork, profile: Profile, device: str) -> HeldOutScores:
        """Embed as a server would and rank exactly; the network is left in inference mode."""
        return self.score_among(self.rows, network, profile, device)

    def score_among(self, among: NDArray[np.int64], network: RetrievalNetwork, profile: Profile, device: str) -> HeldOutScores:
        """The same, with each of `rows` ranking all of `among`, int64 rows in ascending order that hold `rows`."""
        model = EmbeddingModel(network, self.preprocessing, "plain", profile, device=device)
        references = np.concatenate([self._embed(model, among[at : at + _BATCH]) for at in range(0, len(among), _BATCH)])
        itself = np.searchsorted(among, self.rows)
        classes, theirs = self.labels.of_row[self.rows], self.labels.of_row[among]
        ranking = exact_topk(references[itself], references, _K, exclude=itself)
        scores = evaluate_ranking(ranking.indices, classes, theirs, k=_K, exclude=itself)
        answered = scores.answerable
        interval = class_bootstrap(scores.ap[answered], classes[answered])
        return HeldOutScores(interval.mean, interval.low, interval.high, scores.mean_r1, int(answered.sum()))

    def _embed(self, model: EmbeddingModel, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        self.stop.check()
        return model.embed(self.store.rows(self.preprocessing.size, rows))
