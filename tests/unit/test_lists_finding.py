"""Hosts and numbers are found in a text, whatever hides them, and in a time that is linear in its length."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.policy.lists.finding import hosts, numbers, top_level_domains, visible


def found(text: str) -> set[str]:
    return {spelling for one in hosts(visible(text)) for spelling in one.spellings}


def sure(text: str) -> set[str]:
    return {one.spellings[0] for one in hosts(visible(text)) if one.is_certain}


def digits(text: str) -> set[str]:
    return {spelling for one in numbers(visible(text)) for spelling in one.spellings}


@pytest.mark.parametrize(
    "text",
    [
        "https://evil.example/pay",
        "evil.example",
        "EVIL.Example.",
        "(evil.example), now",
        "pay at:evil.example/x?y=z.z",
        "http://evil.example:8443",
        "https://bank.com@evil.example",
        "https://bank.com:443@evil.example/",
        "https://bank.com%2f@evil.example",
        r"https:\\evil.example\pay",
        "e\u200bvil.exa\u00admple",
        "evil.exam\x00ple",
        "\u202eevil.example",
        "evil\uff0eexample",
        "evil\u3002example",
        "\uff45\uff56\uff49\uff4c.example",
        "\U0001d41e\U0001d42f\U0001d422\U0001d425.example",
        "https://%65vil%2eexample",
        "https://ev%E2%80%8Bil.example",
        "evil&#46;example",
        "evil&#x200B;.example",
        "https://google.com/url?q=https%3A%2F%2Fevil.example%2Fa",
        "\u8bf7\u770bevil.example\u73b0\u5728",
        "\u201cevil.example\u201d",
        "mail who@evil.example",
    ],
)
def test_a_host_is_found_whatever_hides_it(text: str) -> None:
    assert "evil.example" in found(text)


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("https://b\u00fccher.example", "xn--bcher-kva.example"),
        ("https://B\u00dcCHER.example", "xn--bcher-kva.example"),
        ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
        ("\u043f\u0440\u0438\u043c\u0435\u0440.\u0440\u0444", "xn--e1afmkfd.xn--p1ai"),
        ("https://\u2764.example", "xn--qei.example"),
        ("http://3221225985/x", "192.0.2.1"),
        ("http://0xc0000201/x", "192.0.2.1"),
        ("http://192.0.513/x", "192.0.2.1"),
        ("192.0.2.1", "192.0.2.1"),
    ],
)
def test_a_host_has_one_ascii_form(text: str, host: str) -> None:
    assert host in found(text)


@pytest.mark.parametrize("text", ["it costs 10.50 now", "v1.2.3", "see you at 7.30", "no.", "a..b", "...", "", "x . y"])
def test_prices_times_and_full_stops_are_no_hosts(text: str) -> None:
    assert found(text) == set()


def test_a_bare_word_with_a_dot_is_surely_a_host_only_under_a_top_level_domain() -> None:
    assert sure("tomorrow.then pay at bank.com or https://evil.lan/terms.pdf") == {"bank.com", "evil.lan"}
    assert {"com", "uk", "xn--p1ai"} <= top_level_domains()


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
    plain = visible(text)

    for one in (*hosts(plain), *numbers(plain)):
        assert one.spellings
        assert all(spelling.isascii() for spelling in one.spellings)


@pytest.mark.parametrize(
    "piece",
    ["a", "1", "1 ", "(", ".", "\u00e9", "\u0301", "a.b", "&#", "%41", "+1", "\u00e9.\u00e9 ", "\ufdfa", "a.", "//1"],
)
def test_a_long_text_takes_a_time_that_is_linear_in_its_length(piece: str) -> None:
    text = piece * (60_000 // len(piece)) + ".x"
    began = time.process_time()

    plain = visible(text)
    hosts(plain)
    numbers(plain)

    assert time.process_time() - began < 1.0
