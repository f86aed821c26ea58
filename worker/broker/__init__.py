"""Kafka: the only package that imports the client. What others need of it is named here.

Reading:

    source        START HERE: the input topic as a member of the group; keeps the group metadata of each poll
    member        the member's options: static or dynamic, eager or cooperative

Writing, from the top down:

    sink          START HERE: publishes and commits the offsets, in one transaction or at least once
    transactions  the transactional producer (KIP-98, KIP-890): prepare, send, commit, and the rules of retrying
    burying       dead letters that their topic takes: whole where it can be, else truncated
    producer      the idempotent producer, without transactions
    appending     records to the partition leaders (Produce), with sequence numbers; both producers use it
    offsets       commits offsets outside transactions: at least once, and where a group begins
    asking        sends a request to its coordinator or leader, and retries retriable errors
    refusals      what each error code means: ask again, roll back, fenced, or stop
    protocol      builds the requests and reads the answers; batches: builds record batches
    sink_process  a sink that runs in a subprocess; sink_server: that subprocess

For the commands:

    check         `hamgate check`: what is wrong with connection, topics and rights, each with its fix
    compacted     topics that are read whole, and the commands that create them
    replay        `hamgate replay`: dead letters back to the input, each once; sentback: the note of which
    audit         `hamgate audit`: topics from any position, the offsets of the workers' group and of its own
    feedback      `hamgate feedback`: reports and recent messages in, decisions out in transactions
    reader        reads whole topics, read_committed, outside any group; and publishes without a transaction

Below all of them:

    link          addresses, security, time-outs and codec, as every client takes them
    tokens        access tokens for SASL OAUTHBEARER
    codecs        the records of a batch, decompressed
    incarnation   which topic of a name an offset belongs to: its id, kept beside each committed offset
    client/       everything that uses private names of kafka-python: joining, polling, connections, unpacking

kafka-python is pinned below 3.1. Two parts of it are replaced. Its transactional producer sends one request after the
other from a thread of its own, and its calls may block for ever. Its `send` costs five times as much a record as
building a whole batch.
"""

from __future__ import annotations

from worker.broker.check import Finding, check, check_feedback, transaction_version
from worker.broker.client.connecting import OUTAGES
from worker.broker.link import BrokerError, KafkaLink, replay_name, transactional_id
from worker.broker.member import Member
from worker.broker.reader import Publisher, Reader
from worker.broker.replay import Letter, Replayed, Selection, letter_at, replay
from worker.broker.sink import AtLeastOnceSink, ExactlyOnceSink
from worker.broker.sink_process import SinkProcess, SinkProcessError, Terms
from worker.broker.source import KafkaSource

__all__ = [
    "OUTAGES",
    "AtLeastOnceSink",
    "BrokerError",
    "ExactlyOnceSink",
    "Finding",
    "KafkaLink",
    "KafkaSource",
    "Letter",
    "Member",
    "Publisher",
    "Reader",
    "Replayed",
    "Selection",
    "SinkProcess",
    "SinkProcessError",
    "Terms",
    "check",
    "check_feedback",
    "letter_at",
    "replay",
    "replay_name",
    "transaction_version",
    "transactional_id",
]
