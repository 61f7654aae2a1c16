"""A disk that is full: clear refusals, reads go on, all goes well again once there is room."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from benchmarks.faults.ledger import Ledger
from benchmarks.faults.server import Server
from benchmarks.faults.traffic import random_values
from lookalike_protos.types.v1 import operations_pb2

DISK_MIB = 64
# As much again as what is written before the disk is full: the log is written into the database once there is room.
_FILLER_MIB = 36
_PAYLOAD_BYTES = 20_000
_MOST_CHUNKS = 500


class NoSmallDisk(Exception):
    """This machine does not let us mount one."""


@contextmanager
def small_disk(folder: Path, mib: int) -> Iterator[None]:
    """Mount a tmpfs of `mib` MiB at `folder`, as root; raises NoSmallDisk where that is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", str(folder)], capture_output=True, check=False)  # noqa: S607
    if mounted.returncode:
        raise NoSmallDisk(mounted.stderr.decode(errors="replace").strip())
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], capture_output=True, check=False)  # noqa: S607


def disk_full(work: Path, seed: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """Fill a small disk, look what still goes, make room, look again; what is True must be."""
    try:
        with small_disk(work / "disk", DISK_MIB):
            return _fill(work / "disk", seed, tell)
    except NoSmallDisk as error:
        return {"skipped": f"no small disk could be mounted here: {error}"}


def _fill(disk: Path, seed: int, tell: Callable[[str], None]) -> dict[str, Any]:
    filler = disk / "filler"
    filler.write_bytes(bytes(_FILLER_MIB << 20))
    rng, ledger = np.random.default_rng(seed), Ledger()
    server = Server(disk / "data", beside=disk.parent)
    server.create()
    refusal = _write_until_refused(server, ledger, rng)
    tell(f"disk full: refused after {ledger.acknowledged:,} items")
    checks = {
        "upsert_refused_as": refusal,
        "reads_go_on": _all_found(server, ledger),
        "delete_answered_as": reason_of(lambda: _delete(server, ledger)),
        "build_refused_as": _build_reason(server),
        "reads_go_on_after_the_refusals": _all_found(server, ledger),
    }
    server.kill()
    server = Server(disk / "data", beside=disk.parent)
    checks["a_restart_loses_nothing"] = _settled(server, ledger)
    filler.unlink()
    checks["upsert_after_room_returned"] = reason_of(lambda: _write(server, ledger, rng, 0)) == ""
    checks["build_after_room_returned"] = server.build(trees=5).state == operations_pb2.STATE_SUCCEEDED
    checks["all_there_in_the_end"] = _settled(server, ledger) and _all_found(server, ledger)
    server.kill()
    good = {"upsert_refused_as": "DISK_FULL", "build_refused_as": "DISK_FULL"}
    ok = all(value == good[name] if name in good else value in (True, "", "DISK_FULL") for name, value in checks.items())
    return {"disk_mib": DISK_MIB, "acknowledged": ledger.acknowledged, **checks, "as_promised": ok}


def reason_of(call: Callable[[], object]) -> str:
    """Return the reason that a call was refused for, empty if it went well."""
    try:
        call()
    except grpc.RpcError as error:
        status = rpc_status.from_call(error)
        for detail in status.details if status else []:
            info = error_details_pb2.ErrorInfo()
            if detail.Unpack(info):
                return str(info.reason)
        return str(error.code().name)
    return ""


def _write_until_refused(server: Server, ledger: Ledger, rng: np.random.Generator) -> str:
    for _ in range(_MOST_CHUNKS):
        reason = reason_of(lambda: _write(server, ledger, rng, _PAYLOAD_BYTES))
        if reason:
            return reason
    return "never refused"


def _write(server: Server, ledger: Ledger, rng: np.random.Generator, payload_bytes: int) -> None:
    values = random_values(rng, [f"d{ledger.acknowledged + place:06d}" for place in range(20)], "filling")
    ledger.begin(values)
    server.upsert(values, payload_bytes)
    ledger.acknowledge()


def _delete(server: Server, ledger: Ledger) -> None:
    ids = sorted(ledger.kept)[:5]
    ledger.begin(dict.fromkeys(ids))
    server.delete(ids)
    ledger.acknowledge()


def _build_reason(server: Server) -> str:
    """Return why a build is refused, at once or at its end."""
    reason = reason_of(lambda: server.begin_build(trees=400, dba=3))
    if reason:
        return reason
    build = server.build(trees=400, dba=3)
    for detail in build.error.details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return str(info.reason)
    return operations_pb2.State.Name(build.state)


def _all_found(server: Server, ledger: Ledger) -> bool:
    ids = sorted(ledger.kept.keys() - ledger.under_way.keys())[::17]
    vectors = np.stack([np.frombuffer(ledger.kept[each].vector, "<f4") for each in ids])
    hits = [found for start in range(0, len(ids), 64) for found in server.found(vectors[start : start + 64], 1)]
    return hits == [[each] for each in ids]


def _settled(server: Server, ledger: Ledger) -> bool:
    return ledger.settle(server.stored()).clean
