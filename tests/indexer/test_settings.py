from __future__ import annotations

from pathlib import Path

import pytest

from lookalike_indexer.settings import IndexerSettings
from lookalike_runtime.errors import InvalidArgument
from lookalike_runtime.settings import load_settings


@pytest.mark.parametrize(
    ("flag", "value"),
    [("kept-builds", "0"), ("kept-builds", "101"), ("auto-build-share", "1.5"), ("auto-build-share", "-0.1"), ("auto-build-seconds", "0")],
)
def test_a_setting_out_of_range_is_refused_by_name(tmp_path: Path, flag: str, value: str) -> None:
    with pytest.raises(InvalidArgument, match=flag.replace("-", "_")):
        load_settings(IndexerSettings, "indexer", ["--data", str(tmp_path), f"--{flag}={value}"])


def test_builds_begin_by_themselves_past_a_tenth_and_two_are_kept_unless_told_otherwise(tmp_path: Path) -> None:
    settings = load_settings(IndexerSettings, "indexer", ["--data", str(tmp_path)])
    assert (settings.auto_build_share, settings.kept_builds) == (0.1, 2)
    told = load_settings(IndexerSettings, "indexer", ["--data", str(tmp_path), "--auto-build-share=0", "--kept-builds=1"])
    assert (told.auto_build_share, told.kept_builds) == (0, 1)
