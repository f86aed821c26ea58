"""Addresses have one spelling, and what is personal is hashed by a key that nobody can do without."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.policy.addresses import SenderType, normal, sender_type
from worker.policy.hashing import Hashing, HashKeyError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("address", "kind", "spelling"),
    [
        ("+44 7700 900123", SenderType.NUMBER, "447700900123"),
        ("0044 7700-900123", SenderType.NUMBER, "447700900123"),
        ("(650) 555-0100", SenderType.NUMBER, "6505550100"),
        ("72655", SenderType.SHORT_CODE, "72655"),
        ("+60777", SenderType.NUMBER, "60777"),
        ("00123", SenderType.SHORT_CODE, "00123"),
        ("MyBank", SenderType.ALPHANUMERIC, "mybank"),
        ("MYBANK", SenderType.ALPHANUMERIC, "mybank"),
        ("A1", SenderType.ALPHANUMERIC, "a1"),
        ("who@example.com", SenderType.EMAIL, "who@example.com"),
    ],
)
def test_an_address_has_a_kind_and_one_spelling(address: str, kind: SenderType, spelling: str) -> None:
    assert (sender_type(address), normal(address)) == (kind, spelling)


@given(st.text())
def test_spelling_it_again_changes_nothing_whatever_it_is(address: str) -> None:
    assert sender_type(address) in set(SenderType)
    assert isinstance(normal(address), str)


@given(st.from_regex(r"[+]?[0-9\u0660-\u0669]{1,16}", fullmatch=True))
def test_the_short_way_for_digits_is_the_long_one(address: str) -> None:
    """White space around an address, which says nothing, has it read the long way."""
    assert (sender_type(address), normal(address)) == (sender_type(f"{address} "), normal(f"{address} "))


def test_a_hash_depends_on_key_kind_and_value(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("a" * 32 + "\n")
    one = Hashing.read(file)
    file.write_text("b" * 32 + "\n" + "a" * 32 + "\n")
    two = Hashing.read(file)

    made = {one.of("sender", "447700900123"), one.of("recipient", "447700900123"), one.of("sender", "447700900124")}

    assert len(made | {two.of("sender", "447700900123")}) == 4
    assert two.all("sender", "447700900123")[1] == one.of("sender", "447700900123")
    assert "a" * 32 not in repr(one)


@pytest.mark.parametrize("key", ["a" * 16, "b" * 64, "c" * 100])
@given(st.text())
def test_hashes_are_those_of_the_standard(key: str, value: str) -> None:
    wanted = hmac.digest(key.encode(), f"sender\0{value}".encode("utf-8", "surrogatepass"), "sha256")

    assert Hashing((key.encode(),)).of("sender", value) == wanted[:16].hex()


@pytest.mark.parametrize("content", ["", "\n\n", "short\n", "a" * 32 + "\nshort\n"])
def test_a_key_file_that_protects_nothing_is_refused_by_name(content: str, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(content)

    with pytest.raises(HashKeyError, match=f"{file}: wants a key of at least 16 characters a line"):
        Hashing.read(file)
    with pytest.raises(HashKeyError, match="cannot be read"):
        Hashing.read(tmp_path / "none")
