from __future__ import annotations

import errno
from pathlib import Path

import pytest

from lookalike_indexer.database import Database, refusing_when_full
from lookalike_runtime.errors import ResourceExhausted, Unavailable

SCHEMA = "CREATE TABLE IF NOT EXISTS t (x INTEGER)"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_as_such(number: int) -> None:
    with pytest.raises(ResourceExhausted) as error, refusing_when_full():
        raise OSError(number, "no room")
    assert error.value.reason == "DISK_FULL"


def test_another_error_of_the_disk_stays_what_it_is() -> None:
    with pytest.raises(PermissionError), refusing_when_full():
        raise PermissionError(errno.EACCES, "no")


def test_a_reader_sees_one_state_whatever_is_written_meanwhile(tmp_path: Path) -> None:
    database = Database(tmp_path / "x.db", SCHEMA)
    with database.reading() as reader:
        assert reader.execute("SELECT count(*) FROM t").fetchone() == (0,)
        with database.writing() as writer:
            writer.execute("INSERT INTO t VALUES (1)")
        assert reader.execute("SELECT count(*) FROM t").fetchone() == (0,)
    with database.reading() as reader:
        assert reader.execute("SELECT count(*) FROM t").fetchone() == (1,)
    database.close()


def test_a_closed_database_says_so(tmp_path: Path) -> None:
    database = Database(tmp_path / "x.db", SCHEMA)
    database.close()
    with pytest.raises(Unavailable), database.reading():
        pass
