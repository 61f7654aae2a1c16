"""What the embedder can be told."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import Field

from lookalike_embedder.fastest import Measuring, PrecisionSetting
from lookalike_embedder.pipeline import PipelineLimits
from lookalike_embedder.room import Room
from lookalike_model.cores import cores
from lookalike_runtime.errors import InvalidArgument
from lookalike_runtime.settings import ServerSettings

_MIB = 1024 * 1024


class EmbedderSettings(ServerSettings):
    """Settings of the embedder."""

    data: Annotated[Path | None, Field(description="Data folder; its folder `registry` is served unless --registry says otherwise.")] = None
    registry: Annotated[str | None, Field(description="Folder or fsspec URL of the model registry, such as s3://bucket/registry.")] = None
    cache: Annotated[
        Path | None,
        Field(
            description="Folder for bundles that are fetched from a remote registry; default: in the data folder, or else the user's cache."
        ),
    ] = None
    poll_seconds: Annotated[float, Field(ge=0.05, le=3600, description="Time between two looks at the registry.")] = 1.0
    max_models: Annotated[
        int, Field(ge=1, le=1000, description="Model versions in memory at most; the least recently used goes first.")
    ] = 4
    models_mib: Annotated[
        int | None,
        Field(ge=1, le=10_000_000, description="MiB of tensors of all model versions in memory, on each device; default: no limit."),
    ] = None
    device: Annotated[
        str,
        Field(
            pattern=r"^(auto|cpu|cuda(:\d+)?|cuda:\d+(,cuda:\d+)+)$",
            description="auto, cpu, cuda:N or several such as cuda:0,cuda:1; auto takes every GPU, or the CPU where there is none.",
        ),
    ] = "auto"
    precision: Annotated[
        PrecisionSetting,
        Field(description="fp32, bf16 or auto; auto takes bf16 where it is faster and a model's golden pictures allow it."),
    ] = "auto"
    measure_seconds: Annotated[
        float,
        Field(
            ge=0,
            le=600,
            description="Time to find how a model is fastest here (precision, memory format, threads) when it is first loaded; 0: plain.",
        ),
    ] = 3.0
    batch_size: Annotated[int, Field(ge=1, le=1024, description="Pictures in a batch at most.")] = 32
    batch_wait_ms: Annotated[
        float, Field(ge=0, le=1000, description="Longest that an idle device waits for pictures that are being decoded to join a batch.")
    ] = 5.0
    queue_pictures: Annotated[
        int, Field(ge=64, le=100_000, description="Pictures that may wait, of calls and of streams each; beyond them calls are refused.")
    ] = 512
    queue_mib: Annotated[
        int, Field(ge=256, le=100_000, description="MiB of waiting pictures, encoded and decoded, of calls and of streams each.")
    ] = 256
    stream_pictures: Annotated[int, Field(ge=1, le=10_000, description="Unanswered pictures of one stream at most.")] = 256
    decode_threads: Annotated[int | None, Field(ge=1, le=256, description="Threads that decode pictures; default: one a core.")] = None
    torch_threads: Annotated[
        int | None,
        Field(
            ge=1,
            le=256,
            description="Threads of a batch on the CPU, where as many batches run side by side as there are cores for; default: fastest.",
        ),
    ] = None

    @property
    def registry_url(self) -> str:
        """Where models are published; raises InvalidArgument if that is not said."""
        if self.registry is not None:
            return self.registry
        if self.data is None:
            raise InvalidArgument("INVALID_SETTING", "where the models are is not said: give --data or --registry")
        return str(self.data.absolute() / "registry")

    @property
    def cache_folder(self) -> Path:
        """Where fetched bundles are kept."""
        if self.cache is not None:
            return self.cache.absolute()
        user_cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lookalike"
        return (user_cache if self.data is None else self.data.absolute()) / "embedder" / "bundles"

    @property
    def room(self) -> Room:
        """How many models may be in memory, and how large."""
        return Room(self.max_models, None if self.models_mib is None else self.models_mib * _MIB)

    @property
    def measuring(self) -> Measuring:
        """Among what a model's numerics are chosen."""
        return Measuring(self.precision, self.torch_threads, cores(), self.batch_size, self.measure_seconds)

    @property
    def limits(self) -> PipelineLimits:
        """How much may wait, and how batches are made."""
        return PipelineLimits(
            queue_pictures=self.queue_pictures,
            queue_bytes=self.queue_mib * _MIB,
            stream_pictures=self.stream_pictures,
            batch_size=self.batch_size,
            batch_wait_seconds=self.batch_wait_ms / 1000,
            decode_threads=self.decode_threads or cores(),
        )
