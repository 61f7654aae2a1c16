from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from google.protobuf import descriptor_pool

from lookalike_protos.embedder.v1 import embedder_pb2, models_pb2
from lookalike_protos.indexer.v1 import builds_pb2, collections_pb2, items_pb2, search_pb2
from lookalike_protos.trainer.v1 import datasets_pb2, jobs_pb2
from lookalike_protos.trainer.v1 import models_pb2 as trainer_models_pb2
from lookalike_protos.types.v1 import auth_pb2
from lookalike_runtime.auth import Authoriser, scope_of
from lookalike_runtime.errors import InvalidArgument, PermissionDenied, Unauthenticated

SEARCH = "/lookalike.indexer.v1.SearchService/Search"
DELETE = "/lookalike.indexer.v1.CollectionService/DeleteCollection"
FILES = [
    embedder_pb2, models_pb2, builds_pb2, collections_pb2, items_pb2, search_pb2, datasets_pb2, jobs_pb2, trainer_models_pb2,
]  # fmt: skip


@pytest.fixture
def authoriser(tmp_path: Path) -> Authoriser:
    file = tmp_path / "tokens.json"
    file.write_text(json.dumps({hashlib.sha256(b"secret").hexdigest(): ["read"]}))
    return Authoriser.from_file(file)


def test_every_method_of_every_service_states_its_scope() -> None:
    methods = [m for file in FILES for s in file.DESCRIPTOR.services_by_name.values() for m in s.methods]
    assert len(methods) > 30
    for method in methods:
        path = f"/{method.containing_service.full_name}/{method.name}"
        assert scope_of(path) != auth_pb2.SCOPE_UNSPECIFIED, path
    assert descriptor_pool.Default() is not None


def test_a_token_may_do_what_its_scopes_say_and_no_more(authoriser: Authoriser) -> None:
    authoriser.check(SEARCH, {"authorization": "Bearer secret"})
    with pytest.raises(PermissionDenied, match="admin"):
        authoriser.check(DELETE, {"authorization": "Bearer secret"})


@pytest.mark.parametrize("header", [{}, {"authorization": "Bearer wrong"}, {"authorization": "Basic secret"}, {"authorization": "secret"}])
def test_a_call_without_a_valid_token_is_refused(authoriser: Authoriser, header: dict[str, str]) -> None:
    with pytest.raises(Unauthenticated):
        authoriser.check(SEARCH, header)


def test_a_method_without_a_scope_is_refused_when_tokens_are_in_use(authoriser: Authoriser) -> None:
    with pytest.raises(PermissionDenied):
        authoriser.check("/someone.else.v1.Service/Do", {"authorization": "Bearer secret"})


def test_probes_need_no_token(authoriser: Authoriser) -> None:
    authoriser.check("/grpc.health.v1.Health/Check", {})


@pytest.mark.parametrize("text", ["[]", "{", '{"abc": ["read"]}', '{"' + "a" * 64 + '": ["fly"]}'])
def test_a_wrong_tokens_file_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "tokens.json"
    file.write_text(text)
    with pytest.raises(InvalidArgument, match=r"tokens\.json"):
        Authoriser.from_file(file)
