"""Conditions of the command line become the filters that they say, or a sentence that says where they went wrong."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike import InputError
from lookalike.cli._conditions import parse_condition, wanted
from lookalike.filters import AllOf, AnyOf, Equals, Exists, Filter, Not, OneOf, Prefix, Range


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("label=shoe", Equals("label", "shoe")),
        ("label!=shoe", Not(Equals("label", "shoe"))),
        ("!label=shoe", Not(Equals("label", "shoe"))),
        ("label=shoe|boot", OneOf("label", ["shoe", "boot"])),
        ("label!=shoe | boot", Not(OneOf("label", ["shoe", "boot"]))),
        ("  label  =  a shoe  ", Equals("label", "a shoe")),
        ("label^=run", Prefix("label", "run")),
        ("label^=run|walk", AnyOf((Prefix("label", "run"), Prefix("label", "walk")))),
        ("payload.code^=12", Prefix("payload.code", "12")),
        ("payload.price<100", Range("payload.price", below=100)),
        ("payload.price<=1e2", Range("payload.price", at_most=100)),
        ("payload.price>-0.5", Range("payload.price", above=-0.5)),
        ("payload.price >= 0", Range("payload.price", at_least=0)),
        ("!payload.price>=0", Not(Range("payload.price", at_least=0))),
        ("payload.sold?", Exists("payload.sold")),
        ("!payload.sold?", Not(Exists("payload.sold"))),
        (" ! payload.sold ? ", Not(Exists("payload.sold"))),
        ("payload.sold=true", Equals("payload.sold", True)),
        ('payload.sold="true"', Equals("payload.sold", "true")),
        ("payload.sold=True", Equals("payload.sold", "True")),
        ("payload.size=42", Equals("payload.size", 42.0)),
        ('payload.size="42"', Equals("payload.size", "42")),
        ('payload.size=42|"42"|false|x', OneOf("payload.size", [42.0, "42", False, "x"])),
        ("payload.size=007", Equals("payload.size", "007")),
        ("payload.size=٣", Equals("payload.size", "٣")),
        ("payload.shop.town name=Bern", Equals("payload.shop.town name", "Bern")),
        ("label=42", Equals("label", "42")),
        ("label=true", Equals("label", "true")),
        ('label="a|b"', Equals("label", "a|b")),
        ('label="=x"', Equals("label", "=x")),
        (r'label="a\"\u00e9"', Equals("label", 'a"é')),
        ('payload.note=""', Equals("payload.note", "")),
        ("payload.note=null", Equals("payload.note", "null")),
        ('label=24" screen', Equals("label", '24" screen')),
        ("uri=https://example.org/?a=b!c", Equals("uri", "https://example.org/?a=b!c")),
        ("uri^=s3://shop/home", Prefix("uri", "s3://shop/home")),
        ("id=a/1.png", Equals("id", "a/1.png")),
    ],
)
def test_a_condition_becomes_the_filter_that_it_says(text: str, expected: Filter) -> None:
    found = parse_condition(text)
    assert found == expected
    assert found.message() == expected.message()  # to Python 1 and True are equal


@pytest.mark.parametrize(
    ("text", "position", "why"),
    [
        ("", 0, "must follow"),
        ("label", 5, "must follow"),
        ("!payload.sold", 13, "must follow"),
        ("label!shoe", 5, "must follow"),
        ("label^shoe", 5, "must follow"),
        ("!!label=shoe", 1, "must follow"),
        ("price<100", 0, "'price' is no field"),
        ("payload<100", 0, "'payload' is no field"),
        ("payload.=1", 0, "'payload.' is no field"),
        ("payload..x=1", 0, "is no field"),
        ('payload."x"=1', 0, "is no field"),
        ("Label=shoe", 0, "'Label' is no field"),
        ("=shoe", 0, "'' is no field"),
        ("label=", 6, "a value is missing"),
        ("label=  ", 8, "a value is missing"),
        ("label=shoe|", 11, "a value is missing"),
        ("label=|shoe", 6, "a value is missing"),
        ("label==shoe", 6, "begins with = only"),
        ("payload.x=>5", 10, "begins with > only"),
        ("label=!shoe", 6, "begins with ! only"),
        ('label="shoe', 6, "a text in quotes ends"),
        ('label="shoe" boot', 6, "a text in quotes ends"),
        (r'label="\x"', 6, "no JSON text"),
        (r'label="\ud800"', 6, "no JSON text"),
        ("label<5", 5, "label is a text"),
        ("payload.price<cheap", 14, "takes one number"),
        ('payload.price<"5"', 14, "takes one number"),
        ("payload.price<true", 14, "takes one number"),
        ("payload.price<1|2", 14, "takes one number"),
        ("payload.price<NaN", 14, "takes one number"),
        ("payload.price<1e999", 14, "too large"),
        ("payload.sold?yes", 13, "nothing may follow"),
    ],
)
def test_a_bad_condition_is_named_with_its_place_and_an_example(text: str, position: int, why: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_condition(text)
    error = caught.value
    assert why in error.message
    assert repr(text) in error.message
    assert "; such as " in error.message
    assert (f"at character {position + 1}:" in error.message) or ("at its end:" in error.message and not text[position:].strip())
    assert error.metadata == {"condition": text, "position": str(position)}
    assert (error.reason, error.code) == ("BAD_CONDITION", "INVALID_ARGUMENT")


def test_all_conditions_and_one_of_the_labels_must_hold() -> None:
    assert wanted(None, None) is None
    assert wanted([], []) is None
    assert wanted(["a", "b"], None) == OneOf("label", ["a", "b"])
    assert wanted(None, ["id?"]) == Exists("id")
    assert wanted(["a"], ["id?", "uri?"]) == AllOf((OneOf("label", ["a"]), Exists("id"), Exists("uri")))


def test_bytes_that_are_no_utf_8_are_told() -> None:
    with pytest.raises(InputError, match="at character 8: this is no UTF-8") as caught:
        parse_condition("label=a\udcff")
    assert caught.value.metadata["condition"] == "label=a?"


@given(st.text(max_size=20) | st.from_regex(r"!?(label|payload\.a|x)[=!<>^?|\" \\]{1,3}[a1\"|\\ ]{0,4}", fullmatch=True))
def test_any_text_is_a_condition_or_a_sentence(text: str) -> None:
    with contextlib.suppress(InputError):
        parse_condition(text).message()
