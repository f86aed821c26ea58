"""What a page shows of strangers' text and bytes can be seen, and moves nothing beside it."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.visible import escaped, hexadecimal, in_line, visible


@given(st.text(st.characters(), max_size=200))
def test_nothing_that_is_shown_steers_what_is_beside_it(text: str) -> None:
    for character in visible(text):
        assert character.isprintable() or character == "\n"
        assert unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp") or character == "\n"


@given(st.binary(max_size=300))
def test_any_bytes_can_be_shown_as_text_and_in_hexadecimal(value: bytes) -> None:
    assert all(character.isprintable() or character == "\n" for character in escaped(value))
    assert bytes.fromhex("".join(line[10:57].replace(" ", "") for line in hexadecimal(value).splitlines())) == value


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("hello, wörld 你好", "hello, wörld 你好"),
        ("\u202egnp.exe", "⟨U+202E⟩gnp.exe"),
        ("a\x1b[2J\x00", "a⟨U+001B⟩[2J⟨U+0000⟩"),
        ("zero\u200bwidth\xa0space", "zero⟨U+200B⟩width⟨U+00A0⟩space"),
        ("half \ud800", "half ⟨U+D800⟩"),
    ],
)
def test_controls_and_direction_marks_are_spelt_out(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_a_pile_of_accents_is_spelt_out_from_the_fourth_on() -> None:
    assert visible("e" + "\u0301" * 5) == "e" + "\u0301" * 3 + "⟨U+0301⟩" * 2


def test_what_is_long_is_cut_and_says_by_how_much() -> None:
    assert visible("x" * 5000).endswith("x … and 904 characters more")
    assert escaped(b"x" * 100_000).endswith(" … and 95,904 bytes more")
    assert len(hexadecimal(b"x" * 100_000).splitlines()) == 256


def test_a_cell_has_one_line() -> None:
    assert in_line("a\nb") == "a↵b"
    assert in_line(None) == ""
