"""The bundle that is measured: a timm network, as its import writes it."""

from __future__ import annotations

from pathlib import Path

import torch

from lookalike_model.bundle import Bundle
from lookalike_model.bundle_writer import BundleContent, write_bundle
from lookalike_model.network import RetrievalNetwork
from lookalike_model.spec import NetworkSpec
from lookalike_model.timm_config import preprocessing_of, statistics_of


def make_bundle(folder: Path, architecture: str, size: int) -> Bundle:
    """Write the bundle of a timm network as its import writes it, with random weights that are always the same."""
    torch.manual_seed(0)
    network = RetrievalNetwork(NetworkSpec(architecture=architecture), statistics_of(architecture))
    return write_bundle(folder, BundleContent("bench", network, preprocessing_of(architecture, size)))
