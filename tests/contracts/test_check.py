"""`check` names what keeps a worker from starting, with its remedy."""

from __future__ import annotations

import socket
import sys
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from deploy.kafka import topics
from tests.contracts.worlds import configured
from worker.broker import Finding, KafkaLink, check, check_feedback
from worker.broker.compacted import CompactedTopic, campaigns_topic, lists_topic, registry_topic, senders_topic
from worker.broker.feedback import FeedbackNames

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Place


def checked(
    place: Place,
    link: KafkaLink | None = None,
    *,
    largest_verdict: int = 4096,
    compacted: tuple[CompactedTopic, ...] = (),
    **changed: str,
) -> list[Finding]:
    names = {"input_topic": place.input, "verdict_topic": place.verdicts, "dead_letter_topic": place.dead_letters}
    return check(
        link or place.link,
        **(names | changed),
        group_id=place.group,
        transactional_id="t",
        largest_verdict=largest_verdict,
        compacted=compacted,
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


@pytest.mark.parametrize("described", [lists_topic, campaigns_topic, senders_topic])
def test_a_compacted_topic_is_named_where_it_is_missing_or_kept_otherwise_with_the_command_that_helps(
    place: Place, described: Callable[[str], CompactedTopic]
) -> None:
    topic = described(f"{place.input}.beside")

    [missing] = checked(place, compacted=(topic,))
    topics.create(place.link.brokers, (topic.name,), 1)
    [deleting] = checked(place, compacted=(topic,))

    assert missing.problem == f"topic {topic.name} does not exist"
    assert f"--create --topic {topic.name} --partitions 1" in missing.remedy
    assert all(f"--config {name}={value}" in missing.remedy for name, value in topic.configs.items())
    assert deleting.problem == f"topic {topic.name} is not compacted (its cleanup.policy is delete)"
    assert f"--alter --topic {topic.name} --add-config" in deleting.remedy

    configured(place, topic.name, topic.configs)
    assert checked(place, compacted=(topic,)) == []


def test_only_a_topic_whose_records_grow_old_may_delete_as_well(place: Place) -> None:
    configured(place, place.input, {"cleanup.policy": "compact,delete"})

    [found] = checked(place, compacted=(lists_topic(place.input),))

    assert "deletes what it holds" in found.problem
    assert checked(place, compacted=(senders_topic(place.input),)) == []


def test_the_topics_of_a_broker_of_ones_own_are_as_the_check_wants_them(place: Place) -> None:
    topics.create_context(place.link.brokers)
    topics.create_context(place.link.brokers)

    described = (lists_topic, registry_topic, campaigns_topic, senders_topic)
    wanted = [each(f"sms.{each.__name__.removesuffix('_topic')}") for each in described]
    assert checked(place, compacted=tuple(wanted)) == []
    assert check_feedback(place.link, of_feedback(place)) == []


def of_feedback(place: Place) -> FeedbackNames:
    return FeedbackNames(
        "sms.feedback", "sms.feedback-decisions", place.input, place.verdicts, f"{place.group}.feedback"
    )


def test_of_reports_a_topic_that_is_not_there_or_would_forget_is_named_with_the_command(place: Place) -> None:
    names = replace(of_feedback(place), reports=place.dead_letters, decisions="nowhere")

    [missing] = check_feedback(place.link, names)
    [forgetting] = check_feedback(place.link, replace(names, decisions=place.input))
    configured(place, place.dead_letters, {"cleanup.policy": "compact"})
    compacted, _ = check_feedback(place.link, replace(names, decisions=place.input))

    assert missing.problem == "topic nowhere does not exist"
    assert "--create --topic nowhere --partitions 6 --config cleanup.policy=compact" in missing.remedy
    assert "is not compacted" in forgetting.problem
    assert "is compacted: it refuses records without a key" in compacted.problem
