"""`check` names what keeps a worker from starting, with its remedy."""

from __future__ import annotations

import socket
import sys
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from tests.contracts.worlds import configured
from worker.broker import Finding, KafkaLink, check

if TYPE_CHECKING:
    from tests.conftest import Place


def checked(
    place: Place, link: KafkaLink | None = None, *, largest_verdict: int = 4096, **changed: str
) -> list[Finding]:
    topics = {"input_topic": place.input, "verdict_topic": place.verdicts, "dead_letter_topic": place.dead_letters}
    return check(
        link or place.link,
        **(topics | changed),
        group_id=place.group,
        transactional_id="t",
        largest_verdict=largest_verdict,
    )


def test_nothing_is_found_where_all_is_well(place: Place) -> None:
    assert checked(place) == []


def test_each_missing_topic_is_named(place: Place) -> None:
    found = checked(place, input_topic="sms.evnets", dead_letter_topic="nowhere")

    assert [finding.problem for finding in found] == ["topic sms.evnets does not exist", "topic nowhere does not exist"]
    assert all(finding.remedy for finding in found)


def test_a_dead_letter_topic_too_narrow_for_the_largest_event_is_found(place: Place) -> None:
    [found] = checked(place, input_topic=place.dead_letters, dead_letter_topic=place.input)

    assert "would not fit as dead letters" in found.problem
    assert "max.message.bytes" in found.remedy


def test_a_dead_letter_topic_that_is_stored_uncompressed_is_found(place: Place) -> None:
    configured(place, place.dead_letters, {"compression.type": "uncompressed", "max.message.bytes": "1114112"})

    [found] = checked(place)

    assert "may not fit" in found.problem
    assert "compression.type to producer" in found.remedy


def test_a_verdict_topic_too_narrow_for_the_largest_verdict_is_found(place: Place) -> None:
    [found] = checked(place, largest_verdict=2_000_000)

    assert place.verdicts in found.problem
    assert "2000000" in found.remedy


def test_brokers_that_are_not_there_are_named_with_the_reason(place: Place) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        began = time.monotonic()

        [found] = checked(place, KafkaLink(address, patience=1))

    assert time.monotonic() - began < 5
    assert address in found.problem
    assert "ECONNREFUSED" in found.problem
    assert address in found.remedy


def test_a_password_is_never_shown(place: Place) -> None:
    link = replace(
        place.link,
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="PLAIN",
        sasl_username="hamgate",
        sasl_password="hunter2",  # noqa: S106 nobody's
        patience=1,
    )

    [found] = checked(place, link)

    assert "hunter2" not in repr(found) + str(found) + repr(link)
    assert "SASL_PLAINTEXT" in found.remedy


def test_a_compacted_topic_to_write_to_is_found(place: Place) -> None:
    configured(place, place.verdicts, {"cleanup.policy": "compact,delete"})
    configured(place, place.input, {"cleanup.policy": "compact"})

    [found] = checked(place)

    assert place.verdicts in found.problem
    assert "compacted" in found.problem
    assert "cleanup.policy to delete" in found.remedy


@pytest.mark.parametrize(("hours", "how"), [(2, "ahead of"), (-2, "behind")])
def test_a_clock_too_far_from_the_brokers_is_found(
    place: Place, hours: int, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = {f"message.timestamp.{side}.max.ms": "3600000" for side in ("after", "before")}
    configured(place, place.verdicts, limits)
    configured(place, place.dead_letters, {**limits, "message.timestamp.type": "LogAppendTime"})
    assert checked(place) == []
    clock = SimpleNamespace(time=lambda: time.time() + 3600 * hours, monotonic=time.monotonic, sleep=time.sleep)
    # The package has a function of that name.
    monkeypatch.setattr(sys.modules["worker.broker.check"], "time", clock)

    [found] = checked(place)

    assert f"s {how} the brokers'" in found.problem
    assert place.verdicts in found.problem
    assert "NTP" in found.remedy
