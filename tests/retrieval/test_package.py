import subprocess
import sys

import lookalike_retrieval


def test_every_public_name_is_there_and_listed_once() -> None:
    assert len(set(lookalike_retrieval.__all__)) == len(lookalike_retrieval.__all__)
    assert all(hasattr(lookalike_retrieval, name) for name in lookalike_retrieval.__all__)


def test_only_numpy_is_needed() -> None:
    """What the import brings in beyond the standard library is numpy and nothing else."""
    script = (
        "import sys, numpy.random; before = set(sys.modules); import lookalike_retrieval;"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names))"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert set(loaded) <= {"lookalike_retrieval", "numpy"}
