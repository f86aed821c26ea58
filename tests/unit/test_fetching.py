"""The next fetch is on its way when a poll returns, and is sent before anything is changed that it was made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from kafka import TopicPartition, errors
from kafka.future import Future
from kafka.net.selector import NetworkSelector

from worker.broker.fetching import FetchesAhead

if TYPE_CHECKING:
    from collections.abc import Iterator

PLACE = TopicPartition("in", 0)


class Client:
    """A consumer's fetcher and its thread: what is asked for comes when the test says so."""

    def __init__(self) -> None:
        self.net, self.sent, self.there = NetworkSelector(), 0, [list[str]()]
        self.failure: Exception | None = None
        self._fetcher = self._manager = self
        self._fetch_futures: list[Future] = []
        self._reset_task = None
        self.net.start()
        self.fetches = FetchesAhead(self)

    async def _send_fetches_async(self) -> None:
        if self.failure:
            raise self.failure
        self.sent += 1
        self._fetch_futures = [Future()]

    def fetched_records(self, _: int | None, *, update_offsets: bool) -> tuple[dict[TopicPartition, list[str]], bool]:
        assert update_offsets
        found, self.there = self.there[0], self.there[1:] or [[]]
        return ({PLACE: found} if found else {}), False

    def comes(self, *records: str) -> None:
        self.there = [list(records)]
        self._fetch_futures[0].success(None)

    def run(self, work: Any) -> Any:
        return self.net.run(work)

    def call_soon(self, work: Any) -> Future:
        future: Future = self.net.call_soon_with_future(work)
        return future

    async def wait_for(self, future: Future, timeout_ms: float) -> None:
        self.net.call_later(timeout_ms / 1000, lambda: future.is_done or future.failure(errors.KafkaTimeoutError()))
        await future


@pytest.fixture
def client() -> Iterator[Client]:
    made = Client()
    yield made
    made.net.close()


def test_the_next_fetch_is_sent_as_a_poll_that_brought_something_returns(client: Client) -> None:
    client.there = [["a", "b"]]

    assert client.fetches.fetch_records(10, timeout_ms=1000) == ({PLACE: ["a", "b"]}, False)
    client.fetches.settle()

    assert client.sent == 1


def test_a_poll_that_finds_nothing_sends_and_waits_for_what_comes(client: Client) -> None:
    client.net.call_later(0.05, lambda: client.comes("a"))

    assert client.fetches.fetch_records(10, timeout_ms=5000) == ({PLACE: ["a"]}, False)


def test_a_poll_that_nothing_comes_for_ends_in_time(client: Client) -> None:
    assert client.fetches.fetch_records(10, timeout_ms=10) == ({}, False)


def test_a_fetch_that_could_not_be_sent_is_told_at_the_next_poll(client: Client) -> None:
    client.there, client.failure = [["a"]], errors.KafkaConnectionError("gone")
    client.fetches.fetch_records(10, timeout_ms=1000)

    with pytest.raises(errors.KafkaConnectionError):
        client.fetches.fetch_records(10, timeout_ms=1000)
