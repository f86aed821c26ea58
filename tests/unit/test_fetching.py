"""A poll that finds nothing asks the client's own thread once, and waits past nothing that comes meanwhile."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
from kafka import TopicPartition, errors
from kafka.future import Future
from kafka.net.selector import NetworkSelector

from worker.broker.client.fetching import ask_once

if TYPE_CHECKING:
    from collections.abc import Iterator

PLACE = TopicPartition("in", 0)


class Client:
    """A consumer's fetcher and its thread: answers come when the test says so, `late` ones between look and sending."""

    def __init__(self) -> None:
        self.net, self.sent, self.asked = NetworkSelector(), 0, 0
        self.has_brokers = True
        self.late: list[str] = []
        self.failure: Exception | None = None
        self.fetch_records: Any = None
        self._fetcher = self._manager = self
        self._completed_fetches: list[list[str]] = []
        self._fetch_futures: list[Future] = []
        self._reset_task = None
        self.net.start()
        ask_once(self)

    async def _send_fetches_async(self) -> None:
        if self.failure:
            raise self.failure
        self.sent += 1
        if self.late:
            self._completed_fetches.append(self.late)
        # What is answered is forgotten; the fetch is of the other partitions.
        self._fetch_futures = [Future()] if self.has_brokers else []

    def send_fetches(self) -> None:
        self.net.run(self._send_fetches_async)

    def fetched_records(self, _: int | None, *, update_offsets: bool) -> tuple[dict[TopicPartition, list[str]], bool]:
        assert update_offsets
        found, self._completed_fetches = [*itertools.chain(*self._completed_fetches)], []
        return ({PLACE: found} if found else {}), False

    def comes(self, *records: str) -> None:
        self._completed_fetches.append([*records])
        for each in self._fetch_futures:
            each.success(None)

    def run(self, work: Any) -> Any:
        self.asked += 1
        return self.net.run(work)

    async def wait_for(self, future: Future, timeout_ms: float) -> None:
        self.net.call_later(timeout_ms / 1000, lambda: future.is_done or future.failure(errors.KafkaTimeoutError()))
        await future


@pytest.fixture
def client() -> Iterator[Client]:
    made = Client()
    yield made
    made.net.close()


def test_what_is_there_is_returned_and_more_is_sent_for(client: Client) -> None:
    client.comes("a", "b")

    assert client.fetch_records(10, timeout_ms=1000) == ({PLACE: ["a", "b"]}, False)

    assert client.sent == 1


def test_a_poll_that_finds_nothing_sends_and_waits_for_what_comes(client: Client) -> None:
    client.net.call_later(0.05, lambda: client.comes("a"))

    assert client.fetch_records(10, timeout_ms=60_000) == ({PLACE: ["a"]}, False)

    assert (client.sent, client.asked) == (1, 1)


def test_a_poll_that_nothing_comes_for_ends_in_time(client: Client) -> None:
    assert client.fetch_records(10, timeout_ms=10) == ({}, False)


def test_a_poll_with_nothing_to_wait_for_says_so(client: Client) -> None:
    client.has_brokers = False

    assert client.fetch_records(10, timeout_ms=60_000) == ({}, True)


@pytest.mark.parametrize("has_brokers", [True, False])
def test_an_answer_that_comes_between_looking_and_sending_is_not_waited_past(
    client: Client, *, has_brokers: bool
) -> None:
    client.late, client.has_brokers = ["a"], has_brokers

    # Were it waited for another answer, none would ever come.
    assert client.fetch_records(10, timeout_ms=None) == ({PLACE: ["a"]}, False)


def test_a_fetch_that_cannot_be_sent_is_told(client: Client) -> None:
    client.failure = errors.KafkaConnectionError("gone")

    with pytest.raises(errors.KafkaConnectionError):
        client.fetch_records(10, timeout_ms=1000)
