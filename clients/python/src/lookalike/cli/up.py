"""`lookalike up`, `down` and `status`: the three servers on this machine."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict
from typing import Annotated, Any

import typer

from lookalike._config import SERVICES, data_folder_for_up
from lookalike._exceptions import LookalikeError
from lookalike.cli._app import SERVERS, app
from lookalike.cli._session import Session, command, table
from lookalike.local.record import read_record
from lookalike.local.up import bring_down, bring_up, stay


@command(app, "up", "lookalike up", "lookalike up --data ./shoes-data --detach", panel=SERVERS)
async def up(
    session: Session,
    detach: Annotated[bool, typer.Option("--detach", help="Return once all three answer; `lookalike down` stops them.")] = False,
) -> None:
    """Start trainer, embedder and indexer on this machine, and print READY when all three answer.

    They listen on 127.0.0.1, on ports 50151 to 50153 or free ones if those are taken, and keep everything in one data folder: --data, else
    LOOKALIKE_DATA, else ~/.local/share/lookalike. Later commands find them by themselves. Without --detach they run until Ctrl-C.
    """
    session.if_interrupted = "no server was left running"
    data = data_folder_for_up(session.data)
    session.note(f"starting the servers in {data}")
    processes, started = await bring_up(data, session.note)
    document = {"ready": True, "data": str(data), "servers": {name: asdict(server) for name, server in started.items()}}
    session.answer(document, "READY")
    if not detach:
        session.note("Ctrl-C stops the servers")
        why = await stay(data, processes)
        session.note(f"the servers were stopped by {why}")


@command(app, "down", "lookalike down", "lookalike down --data ./shoes-data", panel=SERVERS)
async def down(session: Session) -> None:
    """Stop the servers that `lookalike up` started; what they keep stays.

    Only processes are ended whose pid and start time are those that `up` noted.
    """
    data = session.config.data
    stopped = await asyncio.to_thread(bring_down, data)
    lines = [f"{name}: {'stopped' if was_running else 'was not running any more'}" for name, was_running in stopped.items()]
    session.answer({"data": str(data), "stopped": stopped}, *(lines or [f"no servers were up in {data}"]))


@command(app, "status", "lookalike status", "lookalike status --json", panel=SERVERS)
async def status(session: Session) -> None:
    """Show where the three servers are and whether they answer. Exit status 1 unless all do."""
    record = read_record(session.config.data)
    rows = await asyncio.gather(*(_look(session, service) for service in SERVICES))
    shown = table("server", "address", "state", "#pid", "#up for", "#memory", "address from")
    for row in rows:
        if server := record.get(row["service"]):
            row.update(_process(server.process(), same=server.address == row["address"]))
        up_for = f"{row['up_seconds'] / 3600:.1f} h" if "up_seconds" in row else ""
        memory = f"{row['memory_mib']:,.0f} MiB" if "memory_mib" in row else ""
        shown.add_row(row["service"], row["address"], row["state"], str(row.get("pid", "")), up_for, memory, row["from"])
    healthy = all(row["state"] == "SERVING" for row in rows)
    session.answer({"healthy": healthy, "data": str(session.config.data), "servers": rows}, shown)
    if not healthy:
        if all(row["state"] == "NOT_REACHABLE" for row in rows):
            session.note("no server answers: start them with `lookalike up`")
        raise typer.Exit(1)


async def _look(session: Session, service: str) -> dict[str, Any]:
    servers = session.config.servers
    row = {"service": service, "address": getattr(servers, service), "from": servers.found[service]}
    try:
        return {**row, "state": "SERVING" if await session.client.health(service, 3.0) else "NOT_SERVING"}
    except LookalikeError as error:
        return {**row, "state": "NOT_REACHABLE", "error": error.message}


def _process(process: Any, *, same: bool) -> dict[str, Any]:
    if process is None or not same:
        return {}
    with process.oneshot():
        return {
            "pid": process.pid,
            "up_seconds": time.time() - process.create_time(),
            "memory_mib": process.memory_info().rss / 2**20,
        }
