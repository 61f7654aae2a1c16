"""Settings of a server: flags, then `LOOKALIKE_<SERVICE>_*`, then a TOML file's table of the service, then defaults."""

from __future__ import annotations

import argparse
import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    CliSettingsSource,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from lookalike_runtime.errors import InvalidArgument

S = TypeVar("S", bound="ServerSettings")


class ServerSettings(BaseSettings):
    """What every server can be told. A service adds its own fields below."""

    model_config = SettingsConfigDict(extra="forbid", cli_kebab_case=True, cli_hide_none_type=True, cli_avoid_json=True)

    host: Annotated[str, Field(description="Address to listen on.")] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535, description="Port to listen on; 0 takes a free one.")] = 0
    metrics_port: Annotated[int | None, Field(ge=0, le=65535, description="Port of the Prometheus endpoint; 0 takes a free one.")] = None
    log_level: Annotated[Literal["debug", "info", "warning", "error"], Field(description="Least level that is logged.")] = "info"
    tokens_file: Annotated[
        Path | None,
        Field(
            description="JSON file: SHA-256 of a token, in hexadecimal, to its list of scopes. Without it every caller may do everything."
        ),
    ] = None
    drain_seconds: Annotated[float, Field(ge=0, le=3600, description="Longest time to finish calls after SIGTERM.")] = 20.0
    announce: Annotated[Path | None, Field(description="File that is written with the addresses once the server listens.")] = None


def _toml_table(file: Path | None, table: str) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidArgument("INVALID_SETTING", f"--config {file}: {error}") from None
    return dict(document.get(table, {}))


def load_settings(settings_type: type[S], service: str, argv: list[str]) -> S:
    """Read the settings of `service` from `argv`, the environment and the TOML file that `--config` or `LOOKALIKE_CONFIG` names.

    Raises InvalidArgument naming the setting, its value and what it may be. `--help` prints the flags and exits.
    """
    chooser = argparse.ArgumentParser(add_help=False)
    chooser.add_argument("--config", type=Path, default=os.environ.get("LOOKALIKE_CONFIG"))
    chosen, flags = chooser.parse_known_args(argv)
    table = _toml_table(chosen.config, service)

    class Sourced(settings_type):  # type: ignore[valid-type, misc]
        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], **_: PydanticBaseSettingsSource
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            program = f"python -m lookalike_{service}"
            cli: CliSettingsSource[Any] = CliSettingsSource(settings_cls, cli_parse_args=flags, cli_prog_name=program)
            environment = EnvSettingsSource(settings_cls, env_prefix=f"LOOKALIKE_{service.upper()}_")
            return cli, environment, InitSettingsSource(settings_cls, init_kwargs=table)

    try:
        return Sourced()
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']} (got {e['input']!r})" for e in error.errors())
        raise InvalidArgument("INVALID_SETTING", wrong) from None
    except ValueError as error:
        raise InvalidArgument("INVALID_SETTING", str(error)) from None
