"""Networks compiled for the CPU by OpenVINO: layers fused, weights laid out as the processor wants them."""

from __future__ import annotations

import math
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lookalike_model.cores import cores
from lookalike_model.network import RetrievalNetwork
from lookalike_model.numerics import CompileError, Precision
from lookalike_model.profile import Tap

# OpenVINO tells its makers of each import and conversion if this package is there, and does without if not.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

import openvino  # noqa: E402
from openvino import properties  # noqa: E402
from openvino.properties import hint  # noqa: E402

_PRECISIONS: dict[Precision, openvino.Type] = {"fp32": openvino.Type.f32, "bf16": openvino.Type.bf16}


class _Way(NamedTuple):
    size: int
    precision: Precision
    threads: int


class CompiledNetwork:
    """A network as OpenVINO runs it, for pictures of the sizes that it was given.

    It runs with as many threads as torch would in the thread that calls (`torch.set_num_threads`); so many calls run side by
    side as there are cores for. Several threads may call at a time.
    """

    def __init__(self) -> None:
        self._taps: tuple[Tap, ...] = ()
        self._graphs: dict[int, openvino.Model] = {}
        self._programs: dict[_Way, _Program] = {}
        self._lock = threading.Lock()

    def take(self, network: RetrievalNetwork, size: int) -> None:
        """Take the network for pictures of a size, unless that was done.

        Raises:
            CompileError: OpenVINO has no way to compute a part of it.
        """
        if size in self._graphs:
            return
        try:
            self._graphs[size] = _graph(network, size)
        except Exception as error:  # torch and OpenVINO raise many types
            raise CompileError(f"OpenVINO cannot run {network.spec.architecture}: {error}") from error
        self._taps = network.taps

    def __call__(self, pixels: Tensor, precision: Precision) -> dict[Tap, Tensor]:
        """uint8 [n, s, s, 3] RGB of a size that was taken → each tap's float32 [n, width]."""
        outputs = self._program(_Way(pixels.shape[1], precision, torch.get_num_threads())).run(pixels)
        return dict(zip(self._taps, outputs, strict=True))

    def settle(self, precision: Precision, threads: Collection[int]) -> None:
        """Compile for these numbers of threads, and free what was compiled for others and in another precision."""
        wanted = {_Way(size, precision, count) for size in self._graphs for count in threads}
        for way in self._programs.keys() - wanted:
            del self._programs[way]
        for way in wanted:
            self._program(way)

    @property
    def weights_bytes(self) -> int:
        """Bytes of the weights in memory: each compiled program has its own."""
        return sum(program.weights_bytes for program in self._programs.values())

    def _program(self, way: _Way) -> _Program:
        with self._lock:
            if way not in self._programs:
                self._programs[way] = _Program(self._graphs[way.size], way)
            return self._programs[way]


class _Program:
    """A graph compiled for one number of threads."""

    def __init__(self, graph: openvino.Model, way: _Way) -> None:
        side_by_side = max(1, cores() // way.threads)
        settings = {
            hint.inference_precision: _PRECISIONS[way.precision],
            properties.num_streams: side_by_side,
            properties.inference_num_threads: side_by_side * way.threads,
            # Threads that decode need cores too: the kernel places all of them better.
            hint.enable_cpu_pinning: False,
        }
        self._compiled = openvino.Core().compile_model(graph, "CPU", settings)
        self._idle: deque[openvino.InferRequest] = deque()
        values = sum(math.prod(op.get_output_shape(0)) for op in graph.get_ops() if op.get_type_name() == "Constant")
        self.weights_bytes = values * _PRECISIONS[way.precision].size

    def run(self, pixels: Tensor) -> list[Tensor]:
        """uint8 [n, s, s, 3] → each output's float32 [n, width]."""
        try:
            request = self._idle.pop()
        except IndexError:
            request = self._compiled.create_infer_request()
        outputs = request.infer([pixels.numpy()], share_inputs=True)
        vectors = [torch.from_numpy(outputs[index]) for index in range(len(outputs))]
        self._idle.append(request)
        return vectors


class _FromPixels(nn.Module):
    """From pixels to each tap in order, as OpenVINO gets it to see."""

    def __init__(self, network: RetrievalNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.network(self.network.to_input(pixels)).values())


@torch.no_grad()
def _graph(network: RetrievalNetwork, size: int) -> openvino.Model:
    """The network as OpenVINO's graph, for any number of pictures; its weights are in a file without a name, mapped."""
    example = torch.zeros((2, size, size, 3), dtype=torch.uint8)
    # Not by torch.jit, which OpenVINO would take for itself: it never frees what it traced.
    exported = torch.export.export(_FromPixels(network).eval(), (example,), dynamic_shapes={"pixels": {0: torch.export.Dim("pictures")}})
    graph = openvino.convert_model(exported)
    graph.reshape({graph.inputs[0]: [-1, size, size, 3]})
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "graph.xml"
        openvino.save_model(graph, file, compress_to_fp16=False)
        return openvino.Core().read_model(file)
