from __future__ import annotations

import pytest

from lookalike_runtime.errors import InvalidArgument
from lookalike_runtime.paging import decode_token, encode_token, page_size
from lookalike_runtime.resource_names import parse_name, parse_number, parse_optional_version


def test_ids_of_a_name_are_returned_in_order() -> None:
    assert parse_name("name", "models/m.1/versions/3", "models", "versions") == ("m.1", "3")


@pytest.mark.parametrize(
    "name", ["models/../x", "models/a..b", "models/", "models/A", "models/a/b", "m", "", "models/-a", "models/" + "a" * 64]
)
def test_a_name_that_could_leave_its_folder_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument, match="parent"):
        parse_name("parent", name, "models")


def test_a_version_may_be_left_out() -> None:
    assert parse_optional_version("name", "models/m", "models", "versions") == ("m", None)
    assert parse_optional_version("name", "models/m/versions/12", "models", "versions") == ("m", 12)


@pytest.mark.parametrize("number", ["0", "-1", "1.5", "x", "01", "9999999999"])
def test_a_number_starts_at_one(number: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_number("name", number)


def test_tokens_hold_any_key() -> None:
    assert decode_token("") is None
    assert decode_token(encode_token("ключ/1.jpg")) == "ключ/1.jpg"


@pytest.mark.parametrize("token", ["x", "!!!!", "YWJj", "a1fö"])
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(InvalidArgument, match="page_token"):
        decode_token(token)


def test_page_sizes_have_limits() -> None:
    assert page_size(0) == 100
    assert page_size(1000) == 1000
    for wrong in (-1, 1001):
        with pytest.raises(InvalidArgument):
            page_size(wrong)
