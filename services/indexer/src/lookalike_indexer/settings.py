"""What the indexer can be told."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from lookalike_runtime.settings import ServerSettings


class IndexerSettings(ServerSettings):
    """Settings of the indexer beside those of every server."""

    data: Annotated[Path, Field(description="Data folder; the indexer's part is DIR/indexer.")]
    threads: Annotated[int, Field(ge=1, le=256, description="Searches and writes that run at once.")] = 8
    exact_below: Annotated[int, Field(ge=0, description="A build of fewer items answers exactly unless its engine is forced.")] = 1_000
    auto_build_share: Annotated[
        float,
        Field(ge=0, le=1, description="A build begins by itself once more than this share of a collection has changed; 0: never."),
    ] = 0.1
    auto_build_seconds: Annotated[
        float,
        Field(gt=0, le=3600, description="Seconds between looks for collections that need a build, and of pause in writes before one."),
    ] = 5.0
    kept_builds: Annotated[int, Field(ge=1, le=100, description="Builds of a collection whose files are kept.")] = 2
    augment_seconds: Annotated[float, Field(gt=0, le=3600, description="Seconds between looks for fresh items to augment.")] = 2.0
    expiry_seconds: Annotated[float, Field(gt=0, le=3600, description="Seconds between looks for collections whose time has come.")] = 5.0
