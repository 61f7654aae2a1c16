from __future__ import annotations

import subprocess
import sys

import pytest

from lookalike_embedder.allocator import keep_freed_memory
from lookalike_embedder.pace import Pace


def test_bulk_is_one_picture_until_both_times_are_known() -> None:
    pace = Pace()
    assert pace.pictures_in_the_time_of_one() == 1
    pace.note(8, 0.08)
    assert pace.pictures_in_the_time_of_one() == 1
    pace.note(1, 0.04)
    assert pace.pictures_in_the_time_of_one() == 4


def test_network_that_gains_nothing_from_batches_gets_one_picture() -> None:
    pace = Pace()
    pace.note(1, 0.01)
    pace.note(4, 0.4)
    assert pace.pictures_in_the_time_of_one() == 1


def test_newer_batches_count_more_than_older_ones() -> None:
    pace = Pace()
    pace.note(2, 2.0)
    for _ in range(50):
        pace.note(4, 0.4)
    assert pace.seconds_per_picture == pytest.approx(0.1, rel=0.01)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")
def test_freed_memory_is_used_again_without_new_page_faults() -> None:
    """A block far above the threshold of mmap, from a thread: the kernel has nothing to clear the second time."""
    program = """
import resource, threading
from lookalike_embedder.allocator import keep_freed_memory
assert keep_freed_memory()
import numpy as np
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(100_000_000, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
told = []
thread = threading.Thread(target=lambda: told.extend(faults() for _ in range(4)))
thread.start(); thread.join()
print(told[-1])
"""
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(told.stdout) < 1_000, told.stdout  # 24,414 pages


def test_other_c_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    assert not keep_freed_memory()
