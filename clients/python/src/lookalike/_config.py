"""Where the servers are, and how long to wait for them.

Each setting is taken from the first place that has it: what the caller gives (flags of the command), the environment, the configuration
file, `run/servers.json` in the data folder of `lookalike up`, defaults.

| setting                        | environment                                    | configuration file, table `[client]` |
|--------------------------------|------------------------------------------------|--------------------------------------|
| trainer, embedder, indexer     | LOOKALIKE_TRAINER, _EMBEDDER, _INDEXER         | trainer, embedder, indexer           |
| token                          | LOOKALIKE_TOKEN                                | token                                |
| data                           | LOOKALIKE_DATA                                 | data                                 |

The configuration file is TOML: `LOOKALIKE_CONFIG`, or `lookalike/config.toml` under `XDG_CONFIG_HOME` (`~/.config`).
The data folder that nothing names is the one of the last `lookalike up`, kept in `lookalike/last-up` under `XDG_STATE_HOME`
(`~/.local/state`), else `lookalike` under `XDG_DATA_HOME` (`~/.local/share`).
"""

from __future__ import annotations

import json
import os
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lookalike._exceptions import InputError

SERVICES = ("trainer", "embedder", "indexer")
DEFAULT_PORTS = {"trainer": 50151, "embedder": 50152, "indexer": 50153}


@dataclass(frozen=True)
class Timeouts:
    """Longest waits, in seconds."""

    call: float = 30.0
    """For the answer to a short call."""
    embed: float = 120.0
    """For the vectors of a few pictures; the first call may have to load the model."""
    upload: float = 900.0
    """For the answer to an upload of up to 64 MiB, or of one larger file."""
    upsert: float = 300.0
    """For the acknowledgement of a call's items."""
    silence: float = 300.0
    """For the next answer of a stream that owes one."""


DEFAULT_TIMEOUTS = Timeouts()


@dataclass(frozen=True)
class Servers:
    """Addresses, `host:port` each."""

    trainer: str = f"127.0.0.1:{DEFAULT_PORTS['trainer']}"
    embedder: str = f"127.0.0.1:{DEFAULT_PORTS['embedder']}"
    indexer: str = f"127.0.0.1:{DEFAULT_PORTS['indexer']}"
    found: dict[str, str] = field(default_factory=dict, compare=False, repr=False)
    """For error messages: where the address of each service was found."""


@dataclass(frozen=True)
class Config:
    """All that a client needs to know, resolved."""

    servers: Servers
    token: str | None
    data: Path


def load_config(
    *,
    trainer: str | None = None,
    embedder: str | None = None,
    indexer: str | None = None,
    token: str | None = None,
    data: Path | None = None,
) -> Config:
    """Resolve what is not given; raises InputError for a configuration file that cannot be read."""
    file, table = _config_table()
    folder, how = _data_folder(data, table, file)
    given = {"trainer": trainer, "embedder": embedder, "indexer": indexer}
    # A folder that the caller names is meant before what lies in the environment.
    recorded = {service: (address, f"in {servers_file(folder)}") for service, address in recorded_addresses(folder).items()}
    addresses, found = {}, {}
    for service in SERVICES:
        named = [
            (given[service], f"given by --{service}"),
            *([recorded.get(service, (None, ""))] if how == "given" else []),
            (os.environ.get(f"LOOKALIKE_{service.upper()}"), f"from LOOKALIKE_{service.upper()}"),
            (table.get(service), f"from {file}"),
            recorded.get(service, (None, "")),
            (getattr(Servers(), service), "the default address"),
        ]
        addresses[service], found[service] = next((str(address), where) for address, where in named if address)
    return Config(Servers(**addresses, found=found), token or os.environ.get("LOOKALIKE_TOKEN") or table.get("token"), folder)


def data_folder_for_up(data: Path | None) -> Path:
    """Return where `lookalike up` keeps its data: the same places, but for the last `up`, which may have been elsewhere on purpose."""
    file, table = _config_table()
    named = _named_data_folder(data, table, file)
    return named[0] if named else _home("XDG_DATA_HOME", ".local/share")


def servers_file(data: Path) -> Path:
    """Return the file in which `lookalike up` notes its servers."""
    return data / "run" / "servers.json"


def last_up_file() -> Path:
    """Return the file that holds the data folder of the last `lookalike up`."""
    return _home("XDG_STATE_HOME", ".local/state") / "last-up"


def recorded_addresses(data: Path) -> dict[str, str]:
    """Return the addresses that `lookalike up` noted in `data`; empty where there are none."""
    try:
        servers = json.loads(servers_file(data).read_text(encoding="utf-8"))["servers"]
        return {service: str(servers[service]["address"]) for service in SERVICES}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _config_table() -> tuple[Path, dict[str, Any]]:
    chosen = os.environ.get("LOOKALIKE_CONFIG")
    file = Path(chosen) if chosen else _home("XDG_CONFIG_HOME", ".config") / "config.toml"
    if not chosen and not file.is_file():
        return file, {}
    try:
        return file, dict(tomllib.loads(file.read_text(encoding="utf-8")).get("client", {}))
    except (OSError, ValueError) as error:
        raise InputError(f"the configuration file {file} cannot be read: {error}", reason="BAD_CONFIG") from None


def _data_folder(data: Path | None, table: dict[str, Any], file: Path) -> tuple[Path, str]:
    if named := _named_data_folder(data, table, file):
        return named
    try:
        return Path(last_up_file().read_text(encoding="utf-8").strip()), "last up"
    except OSError:
        return _home("XDG_DATA_HOME", ".local/share"), "default"


def _named_data_folder(data: Path | None, table: dict[str, Any], file: Path) -> tuple[Path, str] | None:
    for path, how in ((data, "given"), (os.environ.get("LOOKALIKE_DATA"), "environment"), (table.get("data"), str(file))):
        if path:
            return Path(path).expanduser().absolute(), how
    return None


def _home(variable: str, default: str) -> Path:
    chosen = os.environ.get(variable)
    return (Path(chosen) if chosen else Path.home() / default) / "lookalike"
