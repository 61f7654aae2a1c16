"""Exact top-k, database-side augmentation, query expansion, PCA, ranking metrics and class bootstrap, on numpy alone."""

from lookalike_retrieval.bootstrap import Interval, class_bootstrap, paired_class_bootstrap
from lookalike_retrieval.dba import (
    DEFAULT_POWER,
    AugmentedBlock,
    Weights,
    augment,
    augment_against,
    augment_blocks,
    dba_weights,
    neighbour_weights,
    weighted_mean,
)
from lookalike_retrieval.expansion import expand_query
from lookalike_retrieval.metrics import Denominator, RankingScores, average_precision, evaluate_ranking
from lookalike_retrieval.normalise import VectorError, normalise
from lookalike_retrieval.pca import Projection, fit_pca
from lookalike_retrieval.topk import TopK, TopKBlock, exact_topk, exact_topk_blocks

__all__ = [
    "DEFAULT_POWER",
    "AugmentedBlock",
    "Denominator",
    "Interval",
    "Projection",
    "RankingScores",
    "TopK",
    "TopKBlock",
    "VectorError",
    "Weights",
    "augment",
    "augment_against",
    "augment_blocks",
    "average_precision",
    "class_bootstrap",
    "dba_weights",
    "evaluate_ranking",
    "exact_topk",
    "exact_topk_blocks",
    "expand_query",
    "fit_pca",
    "neighbour_weights",
    "normalise",
    "paired_class_bootstrap",
    "weighted_mean",
]
