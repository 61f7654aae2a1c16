"""A killed process loses nothing that the page cache holds, a power cut does: so the calls themselves are traced."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# Notes, in one file and in their order: a write to the write-ahead log, an fsync of it, an acknowledgement.
SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static int is_log(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 4) return 0;
    path[n] = 0;
    return strcmp(path + n - 4, "-wal") == 0;
}

static void note(int fd, const char *what) {
    static int trace = -1;
    if (!is_log(fd)) return;
    if (trace < 0) trace = open(getenv("TRACE"), O_WRONLY | O_APPEND);
    static ssize_t (*real)(int, const void *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "write");
    real(trace, what, 1);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    static ssize_t (*real)(int, const void *, size_t, off64_t);
    if (!real) real = dlsym(RTLD_NEXT, "pwrite64");
    note(fd, "w");
    return real(fd, data, size, at);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    static ssize_t (*real)(int, const void *, size_t, off_t);
    if (!real) real = dlsym(RTLD_NEXT, "pwrite");
    note(fd, "w");
    return real(fd, data, size, at);
}

ssize_t write(int fd, const void *data, size_t size) {
    static ssize_t (*real)(int, const void *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "write");
    note(fd, "w");
    return real(fd, data, size);
}

int fdatasync(int fd) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fdatasync");
    int result = real(fd);
    note(fd, "s");
    return result;
}

int fsync(int fd) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fsync");
    int result = real(fd);
    note(fd, "s");
    return result;
}
"""

PROGRAM = """
import os, sys
from pathlib import Path
import numpy as np
from lookalike_indexer import database
from lookalike_indexer.admission import Offer
from lookalike_indexer.collection import OpenCollection, create_folder
from lookalike_indexer.records import Collection, Dba, Space
from lookalike_indexer.store import NewItem

database.SYNCHRONOUS = sys.argv[2]
folder = Path(sys.argv[1])
create_folder(folder)
space = Space(fingerprint="", model="", version=1, profile="", dim=4)
collection = OpenCollection(folder, Collection(uid="u", name="n", space=space, engine="annoy", dba=Dba(), recall_target=1, create_time=0))
trace = os.open(os.environ["TRACE"], os.O_WRONLY | os.O_APPEND)
os.write(trace, b"|")
for number in range(30):
    offers = [Offer(NewItem(f"{number}-{place}")) for place in range(5)]
    written = collection.upsert(offers, np.ones((5, 4), np.float32))
    os.write(trace, b"A")
    collection.delete([f"{number}-0"])
    os.write(trace, b"A")
"""


def traced(tmp_path: Path, synchronous: str) -> list[str]:
    """Return, for each acknowledgement, the calls since the one before it."""
    shim, trace = tmp_path / "shim.so", tmp_path / "trace"
    trace.touch()
    subprocess.run(["cc", "-shared", "-fPIC", "-x", "c", "-o", shim, "-", "-ldl"], input=SHIM, text=True, check=True)
    environment = {**os.environ, "LD_PRELOAD": str(shim), "TRACE": str(trace)}
    subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path / "c"), synchronous], env=environment, check=True)
    calls = trace.read_text().partition("|")[2].split("A")
    assert calls.pop() == "" or set(calls[-1]) <= set("ws")
    assert len(calls) == 60
    return calls


@pytest.mark.skipif(shutil.which("cc") is None or sys.platform != "linux", reason="needs a C compiler and Linux to trace calls")
def test_each_acknowledgement_follows_the_fsync_of_its_transaction(tmp_path: Path) -> None:
    for calls in traced(tmp_path, "FULL"):
        assert "w" in calls, "an acknowledgement without a write"
        assert calls.endswith("s"), f"written after the last fsync: {calls}"


@pytest.mark.skipif(shutil.which("cc") is None or sys.platform != "linux", reason="needs a C compiler and Linux to trace calls")
@pytest.mark.parametrize("synchronous", ["OFF", "NORMAL"])
def test_the_trace_would_notice_a_missing_fsync(tmp_path: Path, synchronous: str) -> None:
    assert any(not calls.endswith("s") for calls in traced(tmp_path, synchronous))
