"""Numbers are found in a text, whatever hides them, and in a time that is linear in its length."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.policy.lists.finding import numbers


def digits(text: str) -> set[str]:
    return {spelling for one in numbers(text) for spelling in one.spellings}


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("call +44 7700 900123 now", "447700900123"),
        ("call 0044 7700-900.123", "447700900123"),
        ("call +44 (0)7700 900123", "447700900123"),
        ("ring 09061701461", "09061701461"),
        ("ring 0 9 0 6 1 7 0 1 4 6 1", "09061701461"),
        ("ring (0906) 170/1461", "09061701461"),
        ("ring 0906\u200b170\u20111461", "09061701461"),
        ("ring \uff10\uff19\uff10\uff16\uff11\uff17\uff10\uff11\uff14\uff16\uff11", "09061701461"),
        ("\u0660\u0669\u0660\u0666\u0661\u0667\u0660\u0661\u0664\u0666\u0661", "09061701461"),
        ("https://wa.me/447700900123?text=hi", "447700900123"),
        ("from 5 on call 09061701461 or 09061701462", "09061701462"),
        ("09061701461 09061701462", "09061701462"),
    ],
)
def test_a_number_is_found_as_it_is_written(text: str, number: str) -> None:
    assert number in digits(text)


@pytest.mark.parametrize("text", ["", "at 7", "code 123456", "12:30, 14:45", "no digits at all"])
def test_fewer_than_seven_digits_are_no_number(text: str) -> None:
    assert digits(text) == set()


@given(st.text())
def test_any_text_is_looked_through(text: str) -> None:
    for one in numbers(text):
        assert one.spellings
        assert all(spelling.isascii() and spelling.isdigit() for spelling in one.spellings)


@pytest.mark.parametrize(
    "piece",
    ["a", "1", "1 ", "(", ".", "\u00e9", "\u0301", "a.b", "&#", "%41", "+1", "\u00e9.\u00e9 ", "\ufdfa", "a.", "//1"],
)
def test_a_long_text_takes_a_time_that_is_linear_in_its_length(piece: str) -> None:
    text = piece * (60_000 // len(piece)) + ".x"
    began = time.process_time()

    numbers(text)

    assert time.process_time() - began < 1.0
