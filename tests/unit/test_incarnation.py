"""A topic's id beside a committed offset: written as Kafka prints it, read back, compared where both are known."""

from __future__ import annotations

import uuid

import pytest
from kafka.structs import ConsumerGroupMetadata

from worker.broker import incarnation

TOPIC = uuid.UUID("0123c567-89ab-4def-8123-456789abcdef")
WRITTEN = "ASPFZ4mrTe-BI0VniavN7w"


def test_an_id_is_written_as_kafka_s_tools_print_it_and_none_as_nothing() -> None:
    assert incarnation.written(TOPIC) == WRITTEN
    assert incarnation.written(None) == incarnation.written(uuid.UUID(int=0)) == ""


@pytest.mark.parametrize("other", ["", "17", "invalid-json:0-3,5-6;too-deep:4-5"])
def test_a_note_is_read_as_it_was_written(other: str) -> None:
    assert incarnation.read(incarnation.note(WRITTEN, other)) == (WRITTEN, other)
    assert incarnation.read(incarnation.note("", other)) == ("", other)


def test_two_topics_are_told_apart_only_where_both_are_known() -> None:
    assert incarnation.is_another("a", "b")
    assert not any(incarnation.is_another(*pair) for pair in (("a", "a"), ("", "a"), ("a", ""), ("", "")))


def test_group_metadata_of_the_client_s_own_knows_no_topic() -> None:
    assert incarnation.of(ConsumerGroupMetadata("group")) == ""
    assert incarnation.of(incarnation.Membership("group", 1, "m", None, WRITTEN)) == WRITTEN
