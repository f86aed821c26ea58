"""Kafka: the only package that imports the client. What others need of it is named here.

    link       how the brokers are spoken to: addresses and security, as every client takes them
    source     the input topic as a member of the group, and the claim that fences what it read
    unpacking  fetched bytes to our records
    member     how it is a member: static or not, eager or cooperative; and what the client's joining needs mended
    sink       verdicts, dead letters and offsets, in one transaction; or at least once
    producer   records to batches to the brokers, each step under a deadline
    reader     whole topics, read_committed, outside any group; and plain publishing
    replay     dead letters back to the input, each once; sentback: the note of which
    check      what is wrong with the link, the topics or the rights, each with its mend

kafka-python is pinned below 3.1: `producer` builds batches itself and waits on the client's own results, because the
client's `send` costs five times as much a record and its transaction calls may wait for ever.
"""

from __future__ import annotations

from worker.broker.check import Finding, check
from worker.broker.link import BrokerError, KafkaLink, transactional_id
from worker.broker.member import Member
from worker.broker.reader import Publisher, Reader
from worker.broker.replay import Replayed, Selection, replay
from worker.broker.sink import AtLeastOnceSink, ExactlyOnceSink
from worker.broker.source import KafkaSource

__all__ = [
    "AtLeastOnceSink",
    "BrokerError",
    "ExactlyOnceSink",
    "Finding",
    "KafkaLink",
    "KafkaSource",
    "Member",
    "Publisher",
    "Reader",
    "Replayed",
    "Selection",
    "check",
    "replay",
    "transactional_id",
]
