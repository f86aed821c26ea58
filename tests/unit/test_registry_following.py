"""The registry of a topic: read before it is used, followed, and what is in force stays whatever befalls the topic."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.unit.test_lists_following import FakeTopic
from worker.messages import Record
from worker.metrics import Metrics
from worker.model.normalise import normalise
from worker.policy import following
from worker.policy.registry.following import RegistryFollower, last_of, record_of, registry_of
from worker.policy.registry.reading import RegistryError

if TYPE_CHECKING:
    from worker.messages import Outgoing

EXAMPLE = Path(__file__).parents[2] / "deploy" / "registry.toml"
ONE = b'[[brand]]\nname = "Northwind"\nsenders = ["NWIND"]\n'
NOW = 1_790_000_000.0


@pytest.fixture(autouse=True)
def looks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "EVERY", 0.0)
    monkeypatch.setattr(following, "_AFTER_AN_OUTAGE", 0.0)


def pushed(content: bytes, *, is_csv: bool = False) -> Outgoing:
    return record_of(content, is_csv=is_csv, author="ana", reason="a test")


def topic(*records: Outgoing) -> FakeTopic:
    made = FakeTopic(name="sms.registry")
    for each in records:
        put(made, each)
    return made


def put(where: FakeTopic, each: Outgoing) -> None:
    where.put(each.key or b"", each.value, each.headers)


def followed(where: FakeTopic, metrics: Metrics | None = None) -> RegistryFollower:
    return RegistryFollower(where.connect, "sms.registry", metrics or Metrics(), normalise, clock=lambda: NOW)


def brands(of: RegistryFollower) -> list[str]:
    return [each.name for each in of.rules.latest.brands]


def test_the_last_registry_pushed_is_read_before_it_is_used() -> None:
    found = followed(topic(pushed(EXAMPLE.read_bytes()), pushed(ONE)))

    assert brands(found) == ["Northwind"]
    assert [each.rule for each in found.rules._registry.registered("nwind")] == ["sender:northwind"]


def test_toml_and_csv_are_told_apart_by_the_record() -> None:
    assert brands(followed(topic(pushed(b"name,senders\nNorthwind,NWIND;60001\n", is_csv=True)))) == ["Northwind"]


def test_a_change_is_offered_once_and_a_tombstone_ends_it(capsys: pytest.CaptureFixture[str]) -> None:
    metrics, where = Metrics(), topic(pushed(EXAMPLE.read_bytes()))
    found = followed(where, metrics)
    first = found.rules.latest

    assert found.step()
    assert found.rules.latest is first
    put(where, pushed(ONE))
    assert found.step()
    assert brands(found) == ["Northwind"]
    assert metrics.registry.get_sample_value("hamgate_registry_brands") == 1
    where.put(b"registry", None)
    assert found.step()
    assert brands(found) == []
    assert capsys.readouterr().out.count("registry in force") == 3


def test_an_empty_topic_is_an_empty_registry_with_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    found = followed(topic())

    assert brands(found) == []
    assert "no registry in its topic" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("value", "headers", "why"),
    [
        (b'[[brand]]\nname = "Northwind"\nhosts = ["co.uk"]\n', ((("format"), b"toml"),), "public suffix"),
        (ONE, (), "has no format"),
        (ONE, (("format", b"xml"),), "has no format"),
        (b"\xff\xfe\x00", (("format", b"csv"),), "not UTF-8"),
        (b"", (("format", b"toml"),), "holds no brand"),
    ],
)
def test_a_record_that_is_wrong_stops_a_start_and_changes_nothing_later(
    value: bytes, headers: tuple[tuple[str, bytes], ...], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics, where = Metrics(), topic(pushed(ONE))
    found = followed(where, metrics)
    where.put(b"registry", value, headers)

    for _ in range(2):
        assert found.step()
    assert brands(found) == ["Northwind"]
    assert metrics.registry.get_sample_value("hamgate_registry_refused_total") == 1
    said = capsys.readouterr().out
    assert said.count("registry refused") == 1
    assert why in said
    with pytest.raises(RegistryError, match=f"sms.registry:0:1.*{why}"):
        followed(where)


def test_in_an_outage_and_when_the_topic_is_made_anew_and_empty_the_registry_stays() -> None:
    metrics, where = Metrics(), topic(pushed(ONE))
    found = followed(where, metrics)

    where.is_away = True
    found.clock = lambda: NOW + 60
    assert found.step()
    assert metrics.registry.get_sample_value("hamgate_registry_read_timestamp_seconds") == NOW
    where.is_away, where.identity, where.records = False, "b", []
    assert found.step()
    assert brands(found) == ["Northwind"]
    put(where, pushed(EXAMPLE.read_bytes()))
    assert found.step()
    assert len(brands(found)) == 4


def test_records_under_other_keys_are_nobodys() -> None:
    other = Record("sms.registry", 0, 0, NOW, b"other", b"x")
    mine = Record("sms.registry", 0, 1, NOW, b"registry", None)

    assert last_of([other]) is None
    assert last_of([mine, other]) is mine
    assert registry_of(mine).brands == ()
