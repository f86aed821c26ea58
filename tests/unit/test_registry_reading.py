"""A registry's file: what it may hold, and how the line and field are named that are wrong."""

from __future__ import annotations

import contextlib
import csv
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.policy.registry.reading import RegistryError, parsed, read

EXAMPLE = Path(__file__).parents[2] / "deploy" / "registry.toml"
TOML = """
odds = 2
[[brand]]
name = "Northwind Bank"
aliases = ["Northwind"]
senders = ["NORTHWIND", "+44 1632 960123"]
hosts = ["northwind.example"]
[[brand]]
name = "Pakketto"
hosts = ["pakketto.example"]
odds = 1.5
dry_run = true
"""
CSV = """name,aliases,senders,hosts,odds,dry_run
Northwind Bank,Northwind,NORTHWIND;+44 1632 960123,northwind.example,2,
"Pakketto",,,pakketto.example,1.5,true
"""
NUMBER = "441632960123"


@pytest.mark.parametrize(("name", "content"), [("r.toml", TOML), ("r.csv", CSV), ("R.CSV", "\ufeff" + CSV)])
def test_toml_and_csv_say_the_same(name: str, content: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_text(content, "utf-8")

    northwind, pakketto = read(file).brands

    assert (northwind.names, northwind.rule) == (("Northwind Bank", "Northwind"), "sender:northwind-bank")
    assert northwind.senders == {"northwind", NUMBER}
    assert (northwind.hosts, northwind.odds, northwind.is_dry_run) == ({"northwind.example"}, 2.0, False)
    assert (pakketto.names, pakketto.odds, pakketto.is_dry_run) == (("Pakketto",), 1.5, True)


def test_the_example_is_read_and_counted() -> None:
    registry = read(EXAMPLE)

    assert (len(registry.brands), registry.senders, registry.hosts) == (4, 8, 6)
    assert [each.rule for each in registry.brands if each.is_dry_run] == ["sender:gridline-energy"]


BRAND = '[[brand]]\nname = "Pakketto"\nhosts = ["pakketto.example"]\n'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no brand"),
        (f"odds = {'9' * 5000}\n", "holds a number of more than 4,300 digits"),
        ("[[brand]\n", "(at line 1, column 8)"),
        ("brand = 3\n", "brand: write each as [[brand]]"),
        ('colour = "red"\n' + BRAND, "colour: no such field outside [[brand]]"),
        (BRAND + 'host = "x"\n', "line 4: host: no such field; allowed: name, aliases, senders, hosts, odds, dry_run"),
        ('[[brand]]\nhosts = ["a.example"]\n', "line 1: name: is missing"),
        ('[[brand]]\nname = "x"\nhosts = ["a.example"]\n', "line 2: name: value 1 must have 2 to 64 characters"),
        (BRAND + 'aliases = ["Pak", "+44 1632"]\n', "line 4: aliases: value 2 must have 2 to 64 characters, a letter"),
        ('[[brand]]\nname = "123"\nhosts = ["a.example"]\n', "line 2: name: value 1 must have 2 to 64 characters"),
        ('[[brand]]\nname = "Pakketto"\n', "line 1: senders: is missing, and so is hosts"),
        (BRAND + "senders = [60123]\n", "line 4: senders: must be a list of texts"),
        (BRAND + 'senders = "60123"\n', "line 4: senders: must be a list of texts"),
        (BRAND + 'senders = ["ok", ""]\n', "line 4: senders: value 2 is no sender"),
        (BRAND + "odds = -1\n", "line 4: odds: must be a number from 0 to 10"),
        (BRAND + "odds = nan\n", "line 4: odds: must be a number from 0 to 10"),
        (BRAND + "odds = true\n", "line 4: odds: must be a number from 0 to 10"),
        (BRAND + 'dry_run = "yes"\n', "line 4: dry_run: must be true or false"),
        (BRAND.replace("pakketto.ex", "https://pakketto.ex"), "line 3: hosts: value 1 ('https://pakketto.example')"),
        (BRAND.replace("pakketto.example", "co.uk"), "line 3: hosts: value 1 ('co.uk') is a public suffix"),
        (BRAND.replace("pakketto.example", "*.a.example"), "line 3: hosts: value 1 ('*.a.example') is no host"),
        (BRAND + BRAND, "line 5: name: 'Pakketto' is called sender:pakketto, as the brand of line 1"),
        (BRAND + BRAND.replace('"Pakketto"', '"Pakketto!"'), "line 5: name: 'Pakketto!' is called sender:pakketto"),
        (BRAND + 'aliases = ["Pak"]\n' + BRAND.replace('"P', '"New P') + 'aliases = ["P\u0430k"]\n',
         "line 8: aliases: 'P\u0430k' already speaks as 'Pakketto', or looks like it"),
    ],
)  # fmt: skip
def test_a_bad_toml_is_refused_by_line_and_field(content: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "registry.toml"
    file.write_text(content, "utf-8")

    with pytest.raises(RegistryError) as refused:
        read(file)

    assert message in str(refused.value)
    assert all(line.startswith(f"{file}: ") for line in str(refused.value).splitlines())


HEADER = "name,senders,hosts,odds,dry_run\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "line 1: must name the fields"),
        ("hosts\n", "line 1: must name the fields"),
        ("name,name\n", "line 1: must name the fields"),
        ("name,host\n", "line 1: host: no such field"),
        (HEADER, "holds no brand"),
        (HEADER + "\nPakketto,x\n", "line 3: has 2 fields; the first line names 5"),
        (HEADER + 'A b,x,,,\n"Pak"ketto,x,,,\n', "line 3: "),
        (HEADER + '"A\nb",x,,,\nPakketto,,co.uk,,\n', "line 4: hosts: value 1 ('co.uk') is a public suffix"),
        (HEADER + "Pakketto,x,,much,\n", "line 2: odds: must be a number"),
        (HEADER + "Pakketto,x,,,maybe\n", "line 2: dry_run: must be true or false"),
    ],
)
def test_a_bad_csv_is_refused_by_line_and_field(content: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "registry.csv"
    file.write_text(content, "utf-8")

    with pytest.raises(RegistryError) as refused:
        read(file)

    assert message in str(refused.value)


def test_all_that_is_wrong_is_said_at_once_and_no_number_with_it(tmp_path: Path) -> None:
    file = tmp_path / "registry.toml"
    wrong = f'[[brand]]\nname = "Name {{}}"\nsenders = ["+{NUMBER}", "\\u0007{NUMBER}"]\n'
    file.write_text("".join(wrong.format(number) for number in range(8)), "utf-8")

    with pytest.raises(RegistryError) as refused:
        read(file)

    lines = str(refused.value).splitlines()
    assert len(lines) == 6
    assert lines[0].endswith("line 3: senders: value 2 is no sender: a number, a short code or a sender id of 64 "
                             "characters at most")  # fmt: skip
    assert lines[-1] == f"{file}: and 3 more"
    assert NUMBER not in str(refused.value)


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes(b"name,senders\nCaf\xe9,x\n")

    for file, message in (("none.toml", "cannot be read"), ("latin.csv", "not UTF-8 at byte 16"), (".", "cannot")):
        with pytest.raises(RegistryError, match=message):
            read(tmp_path / file)


@given(st.binary(max_size=80) | st.text(max_size=80).map(str.encode), st.booleans())
def test_whatever_the_file_holds_it_is_read_or_refused(content: bytes, is_csv: bool) -> None:  # noqa: FBT001 drawn
    with contextlib.suppress(UnicodeDecodeError, tomllib.TOMLDecodeError, csv.Error):  # what `read` makes words of
        assert isinstance(parsed(content, [], is_csv=is_csv), list)


texts = st.text(st.characters(codec="utf-8"), max_size=12)
entries = st.fixed_dictionaries(
    {}, optional={"name": texts, "aliases": st.lists(texts), "senders": st.lists(texts), "hosts": st.lists(texts)}
)


@given(st.lists(entries, max_size=4))
def test_every_entry_is_a_brand_or_a_problem(given_entries: list[dict[str, object]]) -> None:
    def written(value: object) -> str:
        if isinstance(value, list):
            return f"[{', '.join(map(written, value))}]"
        return '"' + "".join(f"\\U{ord(each):08x}" for each in str(value)) + '"'

    content = "".join(
        "[[brand]]\n" + "".join(f"{name} = {written(value)}\n" for name, value in entry.items())
        for entry in given_entries
    )
    problems: list[str] = []

    brands = parsed(content.encode(), problems, is_csv=False)

    assert len(brands) + len(problems) == len(given_entries)
