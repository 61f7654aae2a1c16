from __future__ import annotations

from pathlib import Path

import pytest

from lookalike_embedder.settings import EmbedderSettings
from lookalike_runtime.errors import InvalidArgument
from lookalike_runtime.settings import load_settings


def load(*flags: str) -> EmbedderSettings:
    return load_settings(EmbedderSettings, "embedder", list(flags))


def test_registry_and_cache_lie_in_the_data_folder_unless_said_otherwise(tmp_path: Path) -> None:
    settings = load("--data", str(tmp_path))
    assert settings.registry_url == str(tmp_path / "registry")
    assert settings.cache_folder == tmp_path / "embedder" / "bundles"
    assert load("--data", str(tmp_path), "--registry", "s3://bucket/models").registry_url == "s3://bucket/models"


def test_server_that_is_not_told_where_models_are_says_so() -> None:
    with pytest.raises(InvalidArgument, match="--data or --registry"):
        load().registry_url  # noqa: B018


@pytest.mark.parametrize("flags", [["--max-models", "0"], ["--queue-pictures", "63"], ["--batch-size", "x"], ["--device", "tpu"]])
def test_wrong_setting_is_named_with_its_value(flags: list[str]) -> None:
    with pytest.raises(InvalidArgument, match=flags[1]):
        load("--registry", "somewhere", *flags)
