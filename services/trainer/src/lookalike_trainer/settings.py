"""What the trainer can be told."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from lookalike_runtime.settings import ServerSettings


class TrainerSettings(ServerSettings):
    """Settings of the trainer beside those of every server."""

    data: Annotated[Path, Field(description="Folder that holds blobs, registry and the trainer's own files.")]
    registry: Annotated[str | None, Field(description="fsspec URL that models are published under. Default: DATA/registry.")] = None
    import_roots: Annotated[tuple[Path, ...], Field(description="Folders below which callers may import pictures.")] = ()
    slots: Annotated[int, Field(ge=1, le=64, description="Jobs that run at the same time: one a device.")] = 1

    @property
    def registry_url(self) -> str:
        """Where models are published."""
        return self.registry or str(self.data.absolute() / "registry")
