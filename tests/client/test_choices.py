"""What is used where nothing was said, and where that came from."""

from __future__ import annotations

import pytest

from lookalike import DbaSpec, DbaWeights, InputError
from lookalike._names import numbered_name, resource_name
from lookalike.workflows import choose_dba, choose_query_dba
from lookalike.workflows._dba import dba_document

ADVICE = DbaSpec(3, DbaWeights.RANK)


@pytest.mark.parametrize(
    ("k", "advice", "expected"),
    [
        (None, ADVICE, {"k": 3, "weights": "rank", "source": "profile"}),
        (None, None, {"k": 0, "weights": None, "source": "default"}),
        (None, DbaSpec(0), {"k": 0, "weights": None, "source": "profile"}),
        (0, ADVICE, {"k": 0, "weights": None, "source": "given"}),
        (5, ADVICE, {"k": 5, "weights": "rank", "source": "given"}),
        (5, None, {"k": 5, "weights": "linear", "source": "given"}),
    ],
)
def test_augmentation_is_what_was_said_else_what_the_profile_advises(
    k: int | None, advice: DbaSpec | None, expected: dict[str, object]
) -> None:
    assert dba_document(choose_dba(k, advice)) == expected


def test_queries_are_augmented_only_if_asked_for() -> None:
    assert dba_document(choose_query_dba(None)) == {"k": 0, "weights": None, "source": "default"}
    assert choose_query_dba(2).k == 2


@pytest.mark.parametrize("k", [-1, 101])
def test_augmentation_out_of_range_is_refused(k: int) -> None:
    with pytest.raises(InputError, match=r"0 \(off\) to 100"):
        choose_dba(k, None)


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
