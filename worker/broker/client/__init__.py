"""Everything that touches private names of kafka-python, or replaces a part of it, and nothing else.

    connecting   a client whose start ends when every broker refuses it; which brokers are away, for the log
    network      requests by the thread that needs the answers
    membership   joining a group without forgetting a join, or asking on and on who coordinates it; generations taken up
    consuming    what a consumer knows and does not say: its session, its positions, a fetch while the group joins
    fetching     a poll that asks the client's I/O thread once
    unpacking    fetched bytes to our records
    compressing  gzip at its quickest level

`PRIVATE` says of each name what it is for and which test fails when it is no longer needed, or no longer there.
tests/unit/test_private_names.py holds the table to the code. `require_known` refuses a version that was never tested.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import kafka

KNOWN: Final = ("3.0.12",)
"""The versions that the tests of this table have run against."""


class Use(NamedTuple):
    """One private name: why it is used, where upstream has it, and the test that proves the need."""

    why: str
    source: str
    proof: str


_FAST = "one pass over a fetched batch: 2.6 instead of 6.5 us a message in the reading thread"
_POLL = "an answer that arrives between two questions is not waited past: without it, beside a GPU, tails of 50 ms"
_JOINS = "an assignment that arrives between two polls must not be thrown away"
_NETWORK = "requests go out by the thread that waits for them, without the client's I/O thread"
_REFUSED = "the start must end, with the broker's reason, when every broker refuses the user or the certificate"

PRIVATE: Final = {
    # Correctness: faults of the client, repaired.
    "_build_transport": Use(_REFUSED, "net/manager.py", "tests/security/test_link.py"),
    "_sock_recv": Use(_REFUSED, "net/transport.py", "tests/security/test_link.py"),
    "_coordinator": Use(_JOINS, "consumer/group.py", "tests/contracts/test_kafka_traps.py"),
    "_do_join_and_sync_async": Use(_JOINS, "coordinator/base.py", "tests/contracts/test_kafka_traps.py"),
    "_send_group_coordinator_request": Use(
        "a coordinator that is named and cannot be reached must not be asked for without a pause",
        "coordinator/base.py",
        "tests/unit/test_coordinator_lookup.py",
    ),
    "_generation": Use(_JOINS, "coordinator/base.py", "tests/contracts/test_kafka_traps.py"),
    "_assignors": Use(
        "a member that was removed must not claim what it owned before",
        "coordinator/consumer.py",
        "tests/contracts/test_membership.py",
    ),
    "_on_join_complete_async": Use(
        "the group metadata of a batch is that of its own generation, never a later one (KIP-447)",
        "coordinator/consumer.py",
        "tests/simulation/test_protocol.py",
    ),
    "_heartbeat_enabled": Use(
        "a fenced static member only falls silent", "coordinator/base.py", "tests/contracts/test_membership.py"
    ),
    "_subscription": Use(
        "whether a partition was held without a break, and the lag without asking a broker",
        "consumer/group.py",
        "tests/contracts/test_stream.py",
    ),
    "_cluster": Use(
        "a position must not outlive its topic, whose id only the metadata has",
        "consumer/group.py",
        "tests/contracts/test_recreated.py",
    ),
    "_fetcher": Use(
        "a cooperative member reads on while the group joins", "consumer/group.py", "tests/contracts/test_membership.py"
    ),
    # Transactions by our own requests: none is sent twice under one producer epoch (KIP-890).
    "_manager": Use(_NETWORK, "net/compat.py", "tests/unit/test_network.py"),
    "_net": Use(_NETWORK, "net/compat.py", "tests/unit/test_network.py"),
    # Speed: docs/experiments.md has what was measured, and what was deleted because it no longer paid.
    "_send_fetches_async": Use(_POLL, "consumer/fetcher.py", "tests/unit/test_fetching.py"),
    "_completed_fetches": Use(_POLL, "consumer/fetcher.py", "tests/unit/test_fetching.py"),
    "_fetch_futures": Use(_POLL, "consumer/fetcher.py", "tests/unit/test_fetching.py"),
    "_reset_task": Use(_POLL, "consumer/fetcher.py", "tests/unit/test_fetching.py"),
    "_unpack_records": Use(_FAST, "consumer/fetcher.py", "tests/unit/test_unpacking.py"),
    "_consume_aborted_transactions_up_to": Use(_FAST, "consumer/fetcher.py", "tests/unit/test_unpacking.py"),
    "_contains_abort_marker": Use(_FAST, "consumer/fetcher.py", "tests/unit/test_unpacking.py"),
    "_is_batch_aborted": Use(_FAST, "consumer/fetcher.py", "tests/unit/test_unpacking.py"),
    "_buffer": Use(_FAST, "record/default_records.py", "tests/unit/test_unpacking.py"),
}


class UnknownClientError(Exception):
    """The installed kafka-python is not one that this package was tested with."""


def require_known(version: str = kafka.__version__) -> None:
    """Refuse an installed version whose private names nobody has checked. Raises UnknownClientError."""
    if version not in KNOWN:
        message = (
            f"kafka-python {version} is installed, and this version of hamgate was tested with {', '.join(KNOWN)}; "
            f"install kafka-python=={KNOWN[-1]}"
        )
        raise UnknownClientError(message)
