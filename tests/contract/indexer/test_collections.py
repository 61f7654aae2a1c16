from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lookalike_protos.indexer.v1 import collections_pb2
from lookalike_protos.types.v1 import dba_pb2, space_pb2

if TYPE_CHECKING:
    from tests.contract.indexer.conftest import Indexer, Refused

Refuse = Callable[[Callable[[], Any]], "Refused"]
Code = grpc.StatusCode
FINGERPRINT = "ls1:" + "a" * 64


def fresh_name() -> str:
    return f"n{uuid.uuid4().hex[:12]}"


def space(**fields: Any) -> space_pb2.Space:
    right = {"fingerprint": FINGERPRINT, "model": "shoes", "version": 1, "profile": "plain", "dim": 8, "metric": space_pb2.METRIC_COSINE}
    return space_pb2.Space(**{**right, **fields})


def create(indexer: Indexer, name: str, **fields: Any) -> collections_pb2.Collection:
    collection = collections_pb2.Collection(**{"space": space(), **fields})
    return indexer.collections.CreateCollection(collections_pb2.CreateCollectionRequest(collection_id=name, collection=collection))


def get(indexer: Indexer, name: str) -> collections_pb2.Collection:
    return indexer.collections.GetCollection(collections_pb2.GetCollectionRequest(name=name))


def delete(indexer: Indexer, name: str, etag: str = "") -> None:
    indexer.collections.DeleteCollection(collections_pb2.DeleteCollectionRequest(name=name, etag=etag))


def alias(indexer: Indexer, name: str, target: str) -> collections_pb2.Alias:
    request = collections_pb2.CreateAliasRequest(alias_id=name, alias=collections_pb2.Alias(collection=target))
    return indexer.collections.CreateAlias(request)


def test_a_collection_keeps_what_it_was_made_with_and_names_its_defaults(indexer: Indexer) -> None:
    made = create(indexer, fresh_name())
    assert made == get(indexer, made.name)
    assert made.space == space()
    assert (made.engine, made.recall_target, made.dba.k) == (collections_pb2.ENGINE_ANNOY, 0.95, 0)
    assert (made.revision, made.item_count, made.active_build) == (0, 0, "")
    other = create(indexer, fresh_name(), engine=collections_pb2.ENGINE_EXACT, recall_target=0.5, dba=dba_pb2.DbaSpec(k=3))
    assert (other.engine, other.recall_target, other.dba.k) == (collections_pb2.ENGINE_EXACT, 0.5, 3)
    assert other.dba.weights == dba_pb2.DBA_WEIGHTS_LINEAR


@pytest.mark.parametrize("name", ["", "../x", "a/b", "A", ".a", "a..b", "a" * 64, "ä"])
def test_a_name_that_is_none_is_refused(indexer: Indexer, refused: Refuse, name: str) -> None:
    told = refused(lambda: create(indexer, name))
    assert (told.code, told.reason, told.fields) == (Code.INVALID_ARGUMENT, "INVALID_FIELD", ["collection_id"])


@pytest.mark.parametrize("name", ["", "collections/", "collections/../x", "aliases/a", "collections/a/b"])
def test_a_resource_name_that_is_none_is_refused(indexer: Indexer, refused: Refuse, name: str) -> None:
    assert refused(lambda: get(indexer, name)).fields == ["name"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"space": space(fingerprint="")}, "collection.space.fingerprint"),
        ({"space": space(fingerprint="ls1:xyz")}, "collection.space.fingerprint"),
        ({"space": space(model="m" * 64)}, "collection.space.model"),
        ({"space": space(dim=0)}, "collection.space.dim"),
        ({"space": space(dim=16385)}, "collection.space.dim"),
        ({"space": space(metric=0)}, "collection.space.metric"),
        ({"engine": 99}, "collection.engine"),
        ({"recall_target": 1.5}, "collection.recall_target"),
        ({"recall_target": float("nan")}, "collection.recall_target"),
        ({"dba": dba_pb2.DbaSpec(k=101)}, "collection.dba.k"),
        ({"dba": dba_pb2.DbaSpec.FromString(b"\x08\x01\x10\x09")}, "collection.dba.weights"),
        ({"expire_time": Timestamp(seconds=1)}, "collection.expire_time"),
        ({"expire_time": Timestamp(seconds=2**62)}, "collection.expire_time"),
    ],
)
def test_each_wrong_field_is_named(indexer: Indexer, refused: Refuse, fields: dict[str, Any], field: str) -> None:
    told = refused(lambda: create(indexer, fresh_name(), **fields))
    assert (told.code, told.reason, told.fields) == (Code.INVALID_ARGUMENT, "INVALID_FIELD", [field])


def test_what_is_not_there_is_not_found(indexer: Indexer, refused: Refuse) -> None:
    for action in (lambda: get(indexer, "collections/nobody"), lambda: delete(indexer, "collections/nobody")):
        told = refused(action)
        assert (told.code, told.reason) == (Code.NOT_FOUND, "COLLECTION_NOT_FOUND")


def test_collections_and_aliases_share_one_namespace(indexer: Indexer, refused: Refuse) -> None:
    one, other = fresh_name(), fresh_name()
    target = create(indexer, one).name
    alias(indexer, other, target)
    for action in (lambda: create(indexer, one), lambda: create(indexer, other), lambda: alias(indexer, one, target)):
        told = refused(action)
        assert (told.code, told.reason) == (Code.ALREADY_EXISTS, "NAME_TAKEN")


def test_an_alias_is_read_as_its_collection_and_moves_for_every_later_call(indexer: Indexer, rng: np.random.Generator) -> None:
    first, second, name = create(indexer, fresh_name()).name, create(indexer, fresh_name()).name, fresh_name()
    vectors = rng.standard_normal((2, 8)).astype(np.float32)
    indexer.upsert(first, ["one"], vectors[:1])
    indexer.upsert(second, ["two"], vectors[1:])
    made = alias(indexer, name, first)
    through = f"collections/{name}"
    assert get(indexer, through).name == first
    answer = indexer.search(through, vectors[:1])
    assert (answer.collection, answer.items[0].id) == (first, "one")
    moved = indexer.collections.UpdateAlias(
        collections_pb2.UpdateAliasRequest(alias=collections_pb2.Alias(name=made.name, collection=second, etag=made.etag))
    )
    assert moved.etag != made.etag
    assert indexer.search(through, vectors[:1]).collection == second
    assert indexer.upsert(through, ["three"], vectors[:1])[0].collection == second
    assert indexer.delete(through, ["three"]).collection == second


def test_an_alias_moves_and_goes_only_under_its_present_etag(indexer: Indexer, refused: Refuse) -> None:
    target = create(indexer, fresh_name()).name
    made = alias(indexer, fresh_name(), target)
    stale = collections_pb2.Alias(name=made.name, collection=target, etag="stale")
    told = refused(lambda: indexer.collections.UpdateAlias(collections_pb2.UpdateAliasRequest(alias=stale)))
    assert (told.code, told.reason) == (Code.ABORTED, "ETAG_MISMATCH")
    told = refused(lambda: indexer.collections.DeleteAlias(collections_pb2.DeleteAliasRequest(name=made.name, etag="stale")))
    assert (told.code, told.reason) == (Code.ABORTED, "ETAG_MISMATCH")
    indexer.collections.DeleteAlias(collections_pb2.DeleteAliasRequest(name=made.name, etag=made.etag))
    told = refused(lambda: indexer.collections.DeleteAlias(collections_pb2.DeleteAliasRequest(name=made.name)))
    assert (told.code, told.reason) == (Code.NOT_FOUND, "ALIAS_NOT_FOUND")
    told = refused(lambda: alias(indexer, fresh_name(), "collections/nobody"))
    assert (told.code, told.reason) == (Code.NOT_FOUND, "COLLECTION_NOT_FOUND")


def test_an_aliased_collection_is_not_deleted(indexer: Indexer, refused: Refuse) -> None:
    target, name = create(indexer, fresh_name()).name, fresh_name()
    made = alias(indexer, name, target)
    told = refused(lambda: delete(indexer, target))
    assert (told.code, told.reason) == (Code.FAILED_PRECONDITION, "COLLECTION_ALIASED")
    # An alias is no collection: deleting through it would delete what somebody else uses.
    assert refused(lambda: delete(indexer, f"collections/{name}")).code == Code.NOT_FOUND
    indexer.collections.DeleteAlias(collections_pb2.DeleteAliasRequest(name=made.name))
    delete(indexer, target)


def test_a_collection_is_deleted_only_under_its_present_etag_and_with_all_it_holds(
    indexer: Indexer, refused: Refuse, rng: np.random.Generator
) -> None:
    made = create(indexer, fresh_name())
    indexer.upsert(made.name, ["a"], rng.standard_normal((1, 8)).astype(np.float32))
    told = refused(lambda: delete(indexer, made.name, made.etag))
    assert (told.code, told.reason) == (Code.ABORTED, "ETAG_MISMATCH")
    folder = indexer.data / "indexer" / "collections" / made.uid
    assert folder.is_dir()
    delete(indexer, made.name, get(indexer, made.name).etag)
    assert not folder.exists()
    anew = create(indexer, made.name.removeprefix("collections/"))
    assert anew.uid != made.uid
    assert (anew.item_count, anew.revision) == (0, 0)


def test_pages_of_collections_and_aliases_neither_repeat_nor_skip(indexer: Indexer) -> None:
    names = sorted(f"page{number}" for number in range(5))
    for name in names:
        alias(indexer, f"alias-{name}", create(indexer, name).name)
    listed: list[str] = []
    aliases: list[str] = []
    token = ""
    while True:
        page = indexer.collections.ListCollections(collections_pb2.ListCollectionsRequest(page_size=2, page_token=token))
        listed += [each.name for each in page.collections]
        token = page.next_page_token
        if not token:
            break
    while True:
        aliased = indexer.collections.ListAliases(collections_pb2.ListAliasesRequest(page_size=2, page_token=token))
        aliases += [each.name for each in aliased.aliases]
        token = aliased.next_page_token
        if not token:
            break
    assert listed == sorted(listed)
    assert len(listed) == len(set(listed))
    assert {f"collections/{name}" for name in names} <= set(listed)
    assert [each for each in aliases if "alias-page" in each] == [f"aliases/alias-{name}" for name in names]


def test_a_page_that_cannot_be_is_refused(indexer: Indexer, refused: Refuse) -> None:
    listing = indexer.collections.ListCollections
    assert refused(lambda: listing(collections_pb2.ListCollectionsRequest(page_size=1001))).fields == ["page_size"]
    assert refused(lambda: listing(collections_pb2.ListCollectionsRequest(page_token="?"))).code == Code.INVALID_ARGUMENT


def test_a_collection_deletes_itself_when_its_time_comes_but_not_under_an_alias(indexer: Indexer, refused: Refuse) -> None:
    soon = Timestamp()
    soon.FromMilliseconds(int(time.time() * 1000) + 500)
    plain, aliased = create(indexer, fresh_name(), expire_time=soon), create(indexer, fresh_name(), expire_time=soon)
    alias(indexer, fresh_name(), aliased.name)
    for _ in range(100):
        if not (indexer.data / "indexer" / "collections" / plain.uid).exists():
            break
        time.sleep(0.1)
    assert refused(lambda: get(indexer, plain.name)).reason == "COLLECTION_NOT_FOUND"
    assert get(indexer, aliased.name).uid == aliased.uid


def test_each_collection_has_its_health_name(indexer: Indexer) -> None:
    health = health_pb2_grpc.HealthStub(indexer.channel)
    made = create(indexer, fresh_name())
    assert health.Check(health_pb2.HealthCheckRequest(service=made.name)).status == health_pb2.HealthCheckResponse.SERVING
    delete(indexer, made.name)
    assert health.Check(health_pb2.HealthCheckRequest(service=made.name)).status == health_pb2.HealthCheckResponse.NOT_SERVING
