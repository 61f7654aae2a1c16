"""Who may call what: tokens carry scopes, and each method's scope stands in its proto."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pool

from lookalike_protos.types.v1 import auth_pb2
from lookalike_runtime.errors import InvalidArgument, PermissionDenied, Unauthenticated

# The cluster's probes and tools call these without a token.
OPEN_SERVICES = ("grpc.health.v1.", "grpc.reflection.", "grpc.channelz.")
SCOPES = {"read": auth_pb2.SCOPE_READ, "write": auth_pb2.SCOPE_WRITE, "admin": auth_pb2.SCOPE_ADMIN}


class Authoriser:
    """Checks calls against tokens."""

    def __init__(self, scopes_by_digest: Mapping[str, frozenset[int]] | None) -> None:
        """`scopes_by_digest` maps a token's SHA-256 (hexadecimal) to its scopes; None lets every caller do everything."""
        self._scopes_by_digest = scopes_by_digest

    @classmethod
    def from_file(cls, path: Path | None) -> Authoriser:
        """Read the tokens file; raises InvalidArgument naming what is wrong in it."""
        if path is None:
            return cls(None)
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            return cls({_digest(key): frozenset(SCOPES[scope] for scope in scopes) for key, scopes in document.items()})
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            rule = 'a JSON object such as {"<sha256 of the token>": ["read", "write", "admin"]}'
            raise InvalidArgument("INVALID_SETTING", f"tokens_file {path}: {error}; it must be {rule}") from None

    def check(self, method: str, metadata: Mapping[str, Any]) -> None:
        """Raise Unauthenticated or PermissionDenied unless the token in `metadata` allows `method` (`/package.Service/Method`)."""
        if self._scopes_by_digest is None or method.lstrip("/").startswith(OPEN_SERVICES):
            return
        scheme, _, token = str(metadata.get("authorization", "")).partition(" ")
        granted = self._scopes_by_digest.get(hashlib.sha256(token.encode()).hexdigest())
        if scheme.lower() != "bearer" or granted is None:
            raise Unauthenticated("TOKEN_INVALID", "send `authorization: Bearer <token>` with a valid token")
        needed = scope_of(method)
        if needed not in granted:
            name = auth_pb2.Scope.Name(needed).removeprefix("SCOPE_").lower()
            raise PermissionDenied("SCOPE_MISSING", f"the token lacks the scope {name!r} that {method} needs", metadata={"scope": name})


def scope_of(method: str) -> auth_pb2.Scope.ValueType:
    """Return the scope that the proto of `method` states."""
    service, _, name = method.lstrip("/").partition("/")
    try:
        descriptor = descriptor_pool.Default().FindMethodByName(f"{service}.{name}")
    except KeyError:
        return auth_pb2.SCOPE_UNSPECIFIED
    scope: auth_pb2.Scope.ValueType = descriptor.GetOptions().Extensions[auth_pb2.scope]
    return scope


def _digest(key: str) -> str:
    if len(key) != 64 or not set(key) <= set("0123456789abcdef"):
        raise ValueError(f"{key[:12]!r}… is no SHA-256 in lower-case hexadecimal")
    return key
