from __future__ import annotations

from pathlib import Path

import pytest

from lookalike_runtime.data_folder import DataFolder
from lookalike_runtime.errors import FailedPrecondition


def test_a_folder_is_held_by_one_until_closed(tmp_path: Path) -> None:
    first = DataFolder(tmp_path / "indexer", 1)
    with pytest.raises(FailedPrecondition, match="in use"):
        DataFolder(tmp_path / "indexer", 1)
    first.close()
    DataFolder(tmp_path / "indexer", 1).close()


def test_another_format_is_refused_and_the_lock_given_back(tmp_path: Path) -> None:
    DataFolder(tmp_path, 1).close()
    with pytest.raises(FailedPrecondition, match="format '1'"):
        DataFolder(tmp_path, 2)
    DataFolder(tmp_path, 1).close()
