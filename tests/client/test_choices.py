"""What is used where nothing was said, and where that came from."""

from __future__ import annotations

import pytest

from lookalike import DbaSpec, DbaWeights, InputError
from lookalike._names import build_name, numbered_name, resource_name
from lookalike.workflows import choose_dba, choose_query_dba
from lookalike.workflows._dba import dba_document, same_dba

ADVICE = DbaSpec(3, DbaWeights.RANK, rounds=2)
OFF = {"k": 0, "weights": None, "power": None, "rounds": None}


@pytest.mark.parametrize(
    ("asked", "advice", "expected"),
    [
        (None, ADVICE, {"k": 3, "weights": "rank", "power": None, "rounds": 2, "source": "profile"}),
        (None, None, OFF | {"source": "default"}),
        (None, DbaSpec(0), OFF | {"source": "profile"}),
        (0, ADVICE, OFF | {"source": "given"}),
        (5, ADVICE, {"k": 5, "weights": "rank", "power": None, "rounds": 2, "source": "given"}),
        (5, None, {"k": 5, "weights": "linear", "power": None, "rounds": 1, "source": "given"}),
        (DbaSpec(4, DbaWeights.POWER), ADVICE, {"k": 4, "weights": "power", "power": 3, "rounds": 1, "source": "given"}),
        (DbaSpec(4, DbaWeights.POWER, 2.5, 3), None, {"k": 4, "weights": "power", "power": 2.5, "rounds": 3, "source": "given"}),
    ],
)
def test_augmentation_is_what_was_said_else_what_the_profile_advises(
    asked: int | DbaSpec | None, advice: DbaSpec | None, expected: dict[str, object]
) -> None:
    assert dba_document(choose_dba(asked, advice)) == expected


def test_queries_are_augmented_only_if_asked_for() -> None:
    assert dba_document(choose_query_dba(None)) == OFF | {"source": "default"}
    assert choose_query_dba(2).k == 2


@pytest.mark.parametrize("k", [-1, 101])
def test_augmentation_out_of_range_is_refused(k: int) -> None:
    with pytest.raises(InputError, match=r"0 \(off\) to 100"):
        choose_dba(k, None)


@pytest.mark.parametrize(
    ("spec", "match"),
    [
        (DbaSpec(3, DbaWeights.LINEAR, 2.0), "a power but linear weights"),
        (DbaSpec(3, DbaWeights.POWER, -1.0), "power -1"),
        (DbaSpec(3, DbaWeights.POWER, 20.5), "power 20.5"),
        (DbaSpec(3, rounds=11), "11 rounds"),
    ],
)
def test_augmentation_that_contradicts_itself_is_refused(spec: DbaSpec, match: str) -> None:
    with pytest.raises(InputError, match=match):
        choose_dba(spec, None)


def test_augmentation_is_alike_where_what_was_left_out_means_the_same() -> None:
    assert same_dba(None, DbaSpec(0, DbaWeights.EQUAL))
    assert same_dba(DbaSpec(3, DbaWeights.POWER), DbaSpec(3, DbaWeights.POWER, 3.0, 1))
    assert not same_dba(DbaSpec(3, DbaWeights.POWER), DbaSpec(3, DbaWeights.POWER, 2.0))
    assert not same_dba(DbaSpec(3), DbaSpec(3, rounds=2))


@pytest.mark.parametrize(
    ("value", "name"),
    [("shoes", "models/shoes"), ("models/shoes", "models/shoes"), ("models/shoes/versions/2", "models/shoes/versions/2")],
)
def test_names_are_taken_short_and_long(value: str, name: str) -> None:
    assert numbered_name("models", "versions", value) == name


@pytest.mark.parametrize(
    "value", ["", "../x", "a/../b", "A", "a" * 64, "a..b", "models/", "models/a/versions/0", "models/a/versions/x", "/a"]
)
def test_names_that_could_lead_elsewhere_are_refused(value: str) -> None:
    with pytest.raises(InputError):
        numbered_name("models", "versions", value)
    if "versions" not in value:
        with pytest.raises(InputError):
            resource_name("models", value)


@pytest.mark.parametrize("value", ["shoes/3", "collections/shoes/3", "shoes/builds/3", "collections/shoes/builds/3"])
def test_builds_are_named_short_and_long(value: str) -> None:
    assert build_name(value) == "collections/shoes/builds/3"


@pytest.mark.parametrize(
    "value", ["", "shoes", "collections/shoes", "collections/3", "shoes/0", "shoes/x", "shoes/", "/3", "../3", "a/b/3", "A/3"]
)
def test_names_of_no_build_are_refused(value: str) -> None:
    with pytest.raises(InputError):
        build_name(value)
