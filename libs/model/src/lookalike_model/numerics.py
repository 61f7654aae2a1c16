"""How a network is computed. None of it is part of a space; the golden proof covers it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch

Precision = Literal["fp32", "bf16"]

TOLERANCE: dict[Precision, float] = {"fp32": 1e-5, "bf16": 1e-3}
"""Largest 1 − cosine to a golden vector that is accepted at each precision."""


class CompileError(ValueError):
    """The network cannot be compiled; the message says why."""


@dataclass(frozen=True, slots=True)
class Numerics:
    """A way to compute.

    Attributes:
        precision: fp32 (never TF32), or bf16 by autocast.
        channels_last: whether weights and pictures lie in memory with the channels last.
        compiled: whether OpenVINO runs it instead of torch, on a CPU, in a layout of its own.
    """

    precision: Precision = "fp32"
    channels_last: bool = True
    compiled: bool = False

    @property
    def memory_format(self) -> torch.memory_format:
        """As torch calls the layout."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    @contextmanager
    def applied(self, device: torch.device) -> Iterator[None]:
        """Compute so on a device within the block."""
        if self.precision == "bf16":
            with torch.autocast(device.type, dtype=torch.bfloat16):
                yield
        elif device.type == "cuda":
            # cuDNN takes TF32 by default.
            with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
                yield
        else:
            yield
