"""Kafka: the only package that imports the client. What others need of it is named here.

    link       how the brokers are spoken to: addresses and security, as every client takes them
    thrift     how often a connection speaks to the system
    source     the input topic as a member of the group, and the metadata that fences what it read
    fetching   how often a poll asks the client's own thread
    unpacking  fetched bytes to our records
    member     how it is a member: static or not, eager or cooperative; and what the client's joining needs corrected
    sink       verdicts, dead letters and offsets, in one transaction; or at least once
    transactions  a transaction, by the thread that waits for it; requests: its five; network: the connections it asks
    sink_process  the same in a process of its own, sink_server, which leaves the interpreter to the pipeline
    producer   batches to the brokers without a transaction; batches: what both send
    reader     whole topics, read_committed, outside any group; and plain publishing
    replay     dead letters back to the input, each once; sentback: the note of which
    audit      what the audit asks: topics from any position, the offsets of the workers' group and its own
    check      what is wrong with the link, the topics or the rights, each with its fix

kafka-python is pinned below 3.1: its connections, requests and encoder are used as they are. Transactions are our own,
because the client asks one thing after the other, from a thread of its own, and its calls may wait for ever; batches
are built whole, because its `send` costs five times as much a record.
"""

from __future__ import annotations

from worker.broker.check import Finding, check, transaction_version
from worker.broker.link import BrokerError, KafkaLink, transactional_id
from worker.broker.member import Member
from worker.broker.reader import Publisher, Reader
from worker.broker.replay import Replayed, Selection, replay
from worker.broker.sink import AtLeastOnceSink, ExactlyOnceSink
from worker.broker.sink_process import SinkProcess, SinkProcessError, Terms
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
    "SinkProcess",
    "SinkProcessError",
    "Terms",
    "check",
    "replay",
    "transaction_version",
    "transactional_id",
]
