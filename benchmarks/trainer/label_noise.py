"""How many planted wrong labels the data check lists first.

python -m benchmarks.trainer.label_noise --pictures out/demo/data/train --out out/bench-trainer/label_noise.json

Plants wrong labels at random, scores every picture as `lookalike dataset check` does (built-in weights, 96 px), and says which share of the
planted ones stands among the first 5 % listed; beside it, what votes of the nearest neighbours would find.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lookalike_images import Preprocessing, decode, preprocess
from lookalike_model.builtin import EFFICIENTNET_LITE0
from lookalike_model.embedding_model import EmbeddingModel
from lookalike_model.network import RetrievalNetwork
from lookalike_model.profile import Profile
from lookalike_model.spec import NetworkSpec
from lookalike_model.timm_config import statistics_of
from lookalike_model.weights import load_weights
from lookalike_retrieval import exact_topk
from lookalike_trainer.data_checks.label_noise import doubt_labels

SIZE = 96
NEIGHBOURS = 10
LISTED = 0.05
_BATCH = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, default=Path("out/demo/data/train"), help="a folder per class")
    parser.add_argument("--out", type=Path, default=Path("out/bench-trainer/label_noise.json"))
    parser.add_argument("--share", type=float, default=0.03, help="share of pictures that get a wrong label")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    files = sorted(path for path in given.pictures.glob("*/*") if path.is_file())
    if not files:
        parser.error(f"{given.pictures} holds no pictures in class folders: run `make demo` first, or name another folder")
    report = measure(embed(files), [path.parent.name for path in files], given.share, given.seeds)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(report, indent=1), encoding="utf-8")
    print(json.dumps(report, indent=1))


def embed(files: list[Path]) -> NDArray[np.float32]:
    """float32 [files, dim] of the built-in weights."""
    network = RetrievalNetwork(NetworkSpec(architecture=EFFICIENTNET_LITE0.architecture), statistics_of(EFFICIENTNET_LITE0.architecture))
    load_weights(network, EFFICIENTNET_LITE0.path())
    preprocessing = Preprocessing(SIZE)
    model = EmbeddingModel(network, preprocessing, "plain", Profile())
    pixels = np.stack([preprocess(decode(file.read_bytes()), preprocessing) for file in files])
    return np.concatenate([model.embed(pixels[start : start + _BATCH]) for start in range(0, len(pixels), _BATCH)])


def measure(vectors: NDArray[np.float32], labels: list[str], share: float, seeds: int) -> dict[str, Any]:
    """Shares of the planted labels among the first `LISTED` of the list, per seed and in the mean."""
    names, true = np.unique(labels, return_inverse=True)
    nearest = exact_topk(vectors, vectors, NEIGHBOURS, exclude=np.arange(len(vectors), dtype=np.int64)).indices
    ours, votes = [], []
    for seed in range(seeds):
        planted, classes = plant(true.astype(np.int64), len(names), share, seed)
        ours.append(recall(doubt_labels(vectors, classes, len(names)).score, planted))
        votes.append(recall((classes[nearest] != classes[:, None]).mean(axis=1), planted))
    return {
        "pictures": len(vectors),
        "classes": len(names),
        "planted_share": share,
        "listed_share": LISTED,
        "found_in_listed": ours,
        "found_in_listed_mean": float(np.mean(ours)),
        "neighbour_votes_mean": float(np.mean(votes)),
        "target": 0.7,
    }


def plant(true: NDArray[np.int64], classes: int, share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows that got another label, drawn evenly from the others, and the labels with them."""
    random = np.random.default_rng(seed)
    rows = random.choice(len(true), round(share * len(true)), replace=False)
    labels = true.copy()
    labels[rows] = (true[rows] + random.integers(1, classes, len(rows))) % classes
    return rows, labels


def recall(score: NDArray[Any], planted: NDArray[np.int64]) -> float:
    """Share of the planted rows among the highest scores."""
    listed = np.argsort(-score, kind="stable")[: round(LISTED * len(score))]
    return float(np.isin(planted, listed).mean())


if __name__ == "__main__":
    main()
