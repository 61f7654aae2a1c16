"""How many models may be in memory, and how large they may be together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lookalike_runtime.errors import FailedPrecondition, ResourceExhausted

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Room:
    """At most `models` versions, whose tensors have at most `size` bytes together on each device; None for any size."""

    models: int
    size: int | None = None

    def holds(self, sizes: Sequence[int]) -> bool:
        """Whether versions of these bytes fit together."""
        return len(sizes) <= self.models and (self.size is None or sum(sizes) <= self.size)

    def check(self, name: str, size: int) -> None:
        """Raise FailedPrecondition (MODEL_TOO_LARGE) if a version would not even fit alone."""
        if not self.holds([size]):
            assert self.size is not None, "one model always is allowed"
            message = (
                f"{name} has {size / _MIB:.1f} MiB of tensors and all models together may have {self.size / _MIB:.1f} MiB: "
                "start the server with a larger --models-mib"
            )
            raise FailedPrecondition("MODEL_TOO_LARGE", message, metadata={"name": name, "bytes": str(size), "most_bytes": str(self.size)})

    def full(self) -> ResourceExhausted:
        """The error for when all that is in memory is in use."""
        limit = f"at most {self.models} models" + ("" if self.size is None else f" of {self.size / _MIB:.0f} MiB together")
        message = f"all models in memory are in use, and there is room for {limit}: try again later, or raise --max-models or --models-mib"
        return ResourceExhausted("QUEUE_FULL", message, retry_after=5)
