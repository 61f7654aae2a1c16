from __future__ import annotations

import pytest
from google.protobuf.json_format import MessageToDict

from lookalike import AsyncClient, InputError, Servers, filters


def test_conditions_become_the_messages_that_they_say() -> None:
    wanted = (filters.Equals("label", "x") | filters.OneOf("payload.n", [1, True, "1"])) & ~filters.Range("payload.n", above=0, at_most=2)
    assert MessageToDict(wanted.message()) == {
        "allOf": {
            "filters": [
                {
                    "anyOf": {
                        "filters": [
                            {"equals": {"path": "label", "value": {"text": "x"}}},
                            {"oneOf": {"path": "payload.n", "values": [{"number": 1.0}, {"truth": True}, {"text": "1"}]}},
                        ]
                    }
                },
                {"negate": {"range": {"path": "payload.n", "above": 0.0, "atMost": 2.0}}},
            ]
        }
    }
    assert MessageToDict(filters.Prefix("uri", "s3:").message()) == {"prefix": {"path": "uri", "prefix": "s3:"}}
    assert MessageToDict(filters.Exists("id").message()) == {"exists": {"path": "id"}}


def test_a_long_chain_is_no_deep_filter() -> None:
    one = filters.Exists("id")
    assert one & one & one == filters.AllOf((one, one, one))
    assert one | one | one == filters.AnyOf((one, one, one))
    assert (one & one) | one == filters.AnyOf((filters.AllOf((one, one)), one))


def test_a_filter_reads_as_it_was_made() -> None:
    made = ~filters.OneOf("label", ["a"]) & filters.Range("payload.n", below=1)
    assert eval(repr(made), vars(filters)) == made


def test_values_that_no_field_has_are_refused() -> None:
    for value in (None, [1], 10**400):
        with pytest.raises(InputError, match="in a filter is no text, number or truth value"):
            filters.Equals("payload.n", value).message()  # type: ignore[arg-type]
    with pytest.raises(InputError, match="both above and at_least"):
        filters.Range("payload.n", above=1, at_least=1)


async def test_a_deletion_takes_ids_or_a_filter() -> None:
    async with AsyncClient(Servers(indexer="127.0.0.1:1")) as client:
        with pytest.raises(InputError, match="give one of them"):
            await client.indexer.delete_items("collections/c")
        with pytest.raises(InputError, match="give one of them"):
            await client.indexer.delete_items("collections/c", ["a"], filter=filters.Exists("id"))
