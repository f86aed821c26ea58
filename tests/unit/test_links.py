"""No spelling hides a link's host, and nothing that is no link becomes one."""

from __future__ import annotations

import sys
import time
import unicodedata
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.policy import links
from worker.policy.facts import Facts

# One way to write evil.example each.
DISGUISES = [
    "https://evil.example",
    "http://evil.example/bank.example/login.html?a=b.c#d",
    "HTTPS://EVIL.EXAMPLE",
    "https://bank.example@evil.example",
    "https://bank.example:443@evil.example:8443/x",
    "https://bank.example,x@evil.example/",
    "https://bank.example%2F@evil.example/",
    "https://bank.example\u2044login@evil.example/",
    "https://user:pa@ss@evil.example/",
    "https://evil%2eexample/",
    "https://%65vil.example/",
    "https:\\\\evil.example\\@bank.example",
    "https://evil.example\\@bank.example/",
    "https://ev\u200bil.ex\u00adample",
    "evil\u2060.example/x",
    "\uff45\uff56\uff49\uff4c\uff0e\uff45\uff58\uff41\uff4d\uff50\uff4c\uff45",
    "https://evil\u3002example/",
    "https://evil\uff61example/",
    "https\uff1a\uff0f\uff0fevil.example",
    "evil.example",
    "Evil.Example.",
    "evil.example:8080/x",
    "(evil.example)",
    "\u201cevil.example\u201d",
    "*evil.example*",
    "evil.example!",
    "evil.example,",
    "https:evil.example",
    "bank@evil.example/login",
    "//evil.example/x",
    "hier:evil.example",
    "\u8bf7\u8bbf\u95eeevil.example",
    "\u70b9\u51fbhttps://evil.example\u67e5\u770b",
    "\u70b9\u51fbevil.example\u67e5\u770b",
    "\U0001f449evil.example\U0001f448",
    "https://evil.example\u2019s",
]


@pytest.mark.parametrize("disguise", DISGUISES)
@pytest.mark.parametrize("around", ["{}", "pay at {} now", "Ok.\n{}\nThanks"])
def test_no_disguise_hides_a_host(disguise: str, around: str) -> None:
    assert links.hosts(around.format(disguise)) == ("evil.example",)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("https://n\u043erthwind.example/", ("xn--nrthwind-nbh.example",)),
        ("www.b\u00fccher.de", ("www.xn--bcher-kva.de",)),
        ("www.xn--bcher-kva.de", ("www.xn--bcher-kva.de",)),
        ("\u0909\u0926\u093e\u0939\u0930\u0923.\u092d\u093e\u0930\u0924", ("xn--p1b6ci4b4b3a.xn--h2brj9c",)),
        ("\u0645\u062b\u0627\u0644.\u0645\u0635\u0631\u060c ok", ("xn--mgbh0fb.xn--wgbh1c",)),
        ("\u4f8b\u5b50.\u4e2d\u56fd", ("xn--fsqu00a.xn--fiqs8s",)),
        ("http://0x7f.1/ http://2130706433/", ("127.0.0.1",)),
        ("192.0.2.1:80/a", ("192.0.2.1",)),
        ("http://[2001:DB8::0:1]:80/", ("2001:db8::1",)),
        ("http://localhost/", ("localhost",)),
        ("a.example b.example A.example", ("a.example", "b.example")),
        ("https://a.example,https://b.example;c.example", ("a.example", "b.example", "c.example")),
        ("https://a.example/?u=https%3A%2F%2Fb.example%2Fc", ("a.example", "b.example")),
        ("a.example/go?u=https://x@b.example/c", ("a.example", "b.example")),
        ("https://bank.example\u2044.evil.example/", ("bank.example\u2044.evil.example",)),
    ],
)
def test_a_host_is_found_as_it_is_looked_up(text: str, found: tuple[str, ...]) -> None:
    assert links.hosts(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "see you at seven",
        "Ok. See you. Bye...",
        "12.50 or 3.14, v1.2.3, 31.12.2026",
        "me@bank.example, or you.there@mail.bank.example.",
        "yes//no and/or",
        "e.g. this, i.e. that, a.m.",
        "evil..example",
        "https://",
        "file.nosuchtop report.docx",
        "\u0645\u0631\u062d\u0628\u0627. \u0643\u064a\u0641",
    ],
)
def test_what_is_no_link_has_no_host(text: str) -> None:
    assert links.hosts(text) == ()


@given(st.text())
def test_whatever_the_text_hosts_are_in_lower_case_and_distinct(text: str) -> None:
    found = links.hosts(text)

    assert len(set(found)) == len(found)
    assert all(host and host == host.lower() for host in found)


names = st.from_regex(r"[a-z][a-z0-9]{0,10}(\.[a-z][a-z0-9]{0,10}){0,2}\.(com|co\.uk|example)", fullmatch=True)


@given(names, st.text(max_size=30), st.sampled_from(["", "bank.example@", "a:b@", "%40@"]), st.booleans())
def test_a_link_after_a_space_is_found_whatever_stands_before_and_however_it_is_encoded(
    host: str,
    before: str,
    user: str,
    is_encoded: bool,  # noqa: FBT001 drawn
) -> None:
    written = "".join(f"%{ord(each):02x}" for each in host) if is_encoded else host

    assert host in links.hosts(f"{before} https://{user}{written}/{quote(before)}")


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        ("www.bank.co.uk", "bank.co.uk"),
        ("bank.com", "bank.com"),
        ("a.b.github.io", "b.github.io"),
        ("co.uk", "co.uk"),
        ("www.northwind.example", "northwind.example"),
        ("a.www.ck", "www.ck"),
        ("www.xn--bcher-kva.de", "xn--bcher-kva.de"),
        ("192.0.2.1", "192.0.2.1"),
        ("localhost", "localhost"),
        ("a.nosuchtop", "a.nosuchtop"),
    ],
)
def test_the_domain_is_what_somebody_has_registered(host: str, domain: str) -> None:
    assert links.registrable(host) == domain


@pytest.mark.parametrize(
    ("given", "host"),
    [
        ("Bank.Example", "bank.example"),
        ("b\u00fccher.de.", "xn--bcher-kva.de"),
        ("192.0.2.1", "192.0.2.1"),
        ("https://bank.example", None),
        ("bank.example/x", None),
        ("*.bank.example", None),
        ("bank example", None),
        ("", None),
    ],
)
def test_an_operators_host_is_spelt_as_those_that_are_found(given: str, host: str | None) -> None:
    assert links.typed(given) == host
    assert host is None or links.hosts(f"https://{given}/") == (host,)


def test_everything_that_is_drawn_as_nothing_is_known() -> None:
    formats = {code for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)) == "Cf"}

    assert formats <= set(links.INVISIBLE)


def test_a_suffix_is_nobodys() -> None:
    assert [links.is_suffix(each) for each in ("co.uk", "com", "github.io", "example", "bank.com")] == [
        True, True, True, True, False,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        *("/" * 65_000, "a." * 32_000, "@" * 65_000, "a@" * 32_000, "//a" * 20_000, "://a?//" * 9_000, "//," * 20_000),
        *(
            "https://a.example/" + "https%3A%2F%2F" * 4_000,
            "\u8bf7" * 60_000 + ".",
            "a-" * 30_000 + ".",
            "https://" + "\u2018" * 21_000 + ".",
            "https://" + "\u00fc" * 30_000,
            "\u00fc.com " * 9_000,
            "\u0301" * 60_000,
        ),
    ],
)
def test_a_hostile_text_takes_no_longer_than_its_length(text: str) -> None:
    began = time.process_time()
    links.hosts(text)

    assert time.process_time() - began < 1.0


@pytest.mark.parametrize(
    "text",
    [
        " ".join(f"\u00e9{number}.com" for number in range(8_000)),
        " ".join(f"//\u00e9{number}" for number in range(8_000)),
        " ".join("\u00e9" * 50 + f"{number}.com" for number in range(600)),
        " ".join("\u00e9." * 50 + f"{number}.zz" for number in range(400)),
        "https://a.example/" + "".join(f"%3a//\u00e9{number}.com" for number in range(4_000)),
    ],
    ids=["of a top level", "schemed", "long labels", "many labels", "within a path"],
)
def test_hosts_in_letters_of_other_scripts_are_looked_at_in_bounded_number(text: str) -> None:
    links._canonical.cache_clear()
    began = time.process_time()
    found = links.hosts(text)

    assert time.process_time() - began < 0.25
    assert found[-1] == links.MORE


def test_behind_more_hosts_than_a_message_can_show_one_stands_that_is_nobodys() -> None:
    shown = [f"a{number}.example" for number in range(800)]

    assert links.hosts(" ".join(shown)) == tuple(shown)
    assert links.hosts(" ".join(f"a{number}.example" for number in range(2_000)))[-1] == links.MORE


@pytest.mark.parametrize(
    "host", ["a." * 20_000, "\u00e9." * 20_000, "\u00e9" * 20_000, "xn--a." * 9_000, "%61." * 9_000]
)
def test_no_host_is_longer_than_one_can_be(host: str) -> None:
    [found] = links.hosts(f"https://{host}com/x https://{host}com")

    assert len(found) <= 253


def test_what_is_too_long_for_a_host_is_not_remembered() -> None:
    links._canonical.cache_clear()
    for number in range(10):
        links.hosts("https://" + f"a{number}" * 20_000 + ".com")

    assert links._canonical.cache_info().currsize == 0


def test_a_host_belongs_to_itself_and_to_what_it_lies_in() -> None:
    domains = {"bank.example", "192.0.2.1"}

    for host in ("bank.example", "www.bank.example", "a.b.bank.example", "192.0.2.1"):
        assert links.belongs(host, domains)
    for host in ("mybank.example", "bank.example.evil.example", "example", "", "2.192.0.2.2"):
        assert not links.belongs(host, domains)


def test_a_message_is_searched_once() -> None:
    facts = Facts("see https://evil.example/", None, None, 0.0, ("sms.events", 0), 0)

    assert links.hosts_of(facts) == ("evil.example",)
    facts.text = ""
    assert links.hosts_of(facts) == ("evil.example",)
