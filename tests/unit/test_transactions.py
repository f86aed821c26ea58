"""A transaction's requests: which go out together, what is asked again, and what is raised."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from kafka import TopicPartition, errors
from kafka.future import Future
from kafka.protocol.producer import AddPartitionsToTxnRequest, AddPartitionsToTxnResponse
from kafka.record.memory_records import MemoryRecords
from structlog.testing import capture_logs

from tests.simulation.answers import LABELS, answer
from tests.simulation.cluster import VERDICTS, Cluster
from worker.broker import KafkaLink, asking, transactions
from worker.broker import protocol as requests
from worker.broker.client.network import TooLateError, UnknownOutcomeError
from worker.broker.transactions import Transactions
from worker.messages import Outgoing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_MOST_SLEEPS = 50
ONE, TWO = Outgoing(b"a", b"first"), Outgoing(b"b", b"second")
POSITIONS = {("sms.events", 0): 7}
KEYS = {0: b"key-2", 1: b"key-0"}  # by the partition of two that they fall into


class FakeNetwork:
    """Answers all that was sent by then as soon as somebody waits: a round trip. `changed` may answer otherwise."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.rounds, self.slept = cluster, 0, 0
        self.topics = {VERDICTS}
        self.sent: list[Any] = []
        self.changed: Callable[[Any], Any] = lambda _: None
        self._waiting: list[tuple[Any, Future]] = []

    def send(self, request: Any, _: int | None) -> Future:
        self.sent.append(request)
        future = Future()
        self._waiting.append((request, future))
        return future

    def run(self, work: Callable[[], Awaitable[Any]], *, until: float) -> Any:
        assert until > 0
        coroutine = self._do(work)
        try:
            while self.slept < _MOST_SLEEPS:
                coroutine.send(None)
                self.catch_up()
            coroutine.close()
        except StopIteration as end:
            return end.value
        raise TooLateError

    async def _do(self, work: Callable[[], Awaitable[Any]]) -> Any:
        return await work()

    def catch_up(self) -> None:
        self.rounds += bool(self._waiting)
        for request, future in self._waiting:
            reply = self.changed(request) or answer(self.cluster, request)
            if isinstance(reply, Exception):
                future.failure(reply)
            elif not isinstance(reply, Future):  # that is no answer yet
                future.success(reply)
        self._waiting.clear()
        for writer, partition in self.cluster.unmarked():
            self.cluster.mark(writer, partition)

    async def sleep(self, _: float) -> None:
        self.rounds += 1
        self.slept += 1
        if self.slept >= _MOST_SLEEPS:
            await Future()  # the deadline comes first

    async def partitions(self, topic: str) -> list[int]:
        if topic not in self.topics:
            raise errors.UnknownTopicOrPartitionError(topic)
        return [0, 1]

    def leader(self, partition: TopicPartition) -> int:
        return int(partition.partition)

    def knows(self, _: int) -> bool:
        return True

    async def refresh(self) -> None: ...

    def close(self) -> None: ...

    def labels(self) -> list[str]:
        return [LABELS[type(request)] for request in self.sent]

    def batches(self) -> list[tuple[int, bytes]]:
        return [
            (each.index, bytes(each.records))
            for request in self.sent
            if LABELS[type(request)] == "produce"
            for topic in request.topic_data
            for each in topic.partition_data
        ]


@pytest.fixture
def network() -> FakeNetwork:
    network = FakeNetwork(Cluster(lambda: 0.0, 2, is_cooperative=False))
    network.cluster.group.members["m"] = 0.0
    return network


@pytest.fixture
def writer(network: FakeNetwork, monkeypatch: pytest.MonkeyPatch) -> Transactions:
    monkeypatch.setattr(transactions, "Network", lambda _: network)
    writer = Transactions(KafkaLink("none:1"), "hamgate.one", 10.0)
    network.sent.clear()
    network.rounds = 0
    return writer


def connected(network: FakeNetwork, monkeypatch: pytest.MonkeyPatch, version: int) -> Transactions:
    """Like `writer`, where the cluster has this transaction version."""
    network.cluster.transaction_version = version
    monkeypatch.setattr(transactions, "Network", lambda _: network)
    return Transactions(KafkaLink("none:1"), "hamgate.one", 10.0)


METADATA: Any = SimpleNamespace(group_id="hamgate", generation_id=0, member_id="m", group_instance_id=None)


def write(writer: Transactions, *records: Outgoing) -> None:
    writer.send({VERDICTS: records}, POSITIONS, METADATA, until=10.0)
    writer.commit(until=10.0)


def committed(network: FakeNetwork) -> list[bytes]:
    network.catch_up()
    return [record.value or b"" for record in network.cluster.committed(VERDICTS)]


def test_what_need_not_wait_for_an_answer_goes_out_with_what_came_before(
    network: FakeNetwork, writer: Transactions
) -> None:
    write(writer, ONE)  # the first has its group's coordinator to find
    network.sent.clear()
    network.rounds = 0

    write(writer, TWO)

    assert network.labels() == ["add", "add", "offsets", "produce", "end"]
    assert network.rounds == 3
    assert committed(network) == [b"first", b"second"]
    assert network.cluster.group.committed == POSITIONS


def test_a_prepared_transaction_waits_for_two_answers_only(network: FakeNetwork, writer: Transactions) -> None:
    write(writer, ONE)
    network.sent.clear()

    writer.prepare("hamgate")
    network.catch_up()
    network.rounds = 0
    write(writer, ONE)

    assert network.labels() == ["add", "add", "offsets", "produce", "end"]
    assert network.rounds == 2


def test_a_partition_that_was_not_foreseen_is_added_before_it_is_written_to(
    network: FakeNetwork, writer: Transactions
) -> None:
    write(writer, Outgoing(KEYS[0], b"first"))
    network.sent.clear()

    writer.prepare("hamgate")
    write(writer, Outgoing(KEYS[1], b"second"))

    assert network.labels() == ["add", "add", "add", "offsets", "produce", "end"]
    assert sorted(committed(network)) == [b"first", b"second"]


NOT_SENT = [errors.NodeNotReadyError(), errors.KafkaConnectionError(), errors.UnknownBrokerIdError()]


@pytest.mark.parametrize("error", NOT_SENT, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("label", ["add", "offsets", "produce", "end"])
def test_a_request_that_was_not_sent_is_sent_later(
    network: FakeNetwork, writer: Transactions, label: str, error: Exception
) -> None:
    failing = [error]
    network.changed = lambda request: failing.pop() if LABELS[type(request)] == label and failing else None

    write(writer, ONE, TWO)

    assert sorted(committed(network)) == [b"first", b"second"]
    assert network.cluster.group.committed == POSITIONS


def losing(network: FakeNetwork, label: str, *, is_done: bool) -> Callable[[Any], Any]:
    """The first answer to such a request is lost; `is_done`: it had taken effect."""
    failing = [UnknownOutcomeError("lost")]

    def lose(request: Any) -> Any:
        if LABELS[type(request)] != label or not failing:
            return None
        if is_done:
            answer(network.cluster, request)
        return failing.pop()

    return lose


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("label", ["add", "offsets", "end"])
@pytest.mark.parametrize("is_done", [False, True])
def test_a_request_whose_answer_is_lost_is_not_sent_again(
    network: FakeNetwork, monkeypatch: pytest.MonkeyPatch, label: str, version: int, *, is_done: bool
) -> None:
    if (label, version) == ("add", 2):
        pytest.skip("version 2 has no such request")
    writer = connected(network, monkeypatch, version)
    network.changed = losing(network, label, is_done=is_done)
    asked_before = network.labels().count(label)

    with pytest.raises(UnknownOutcomeError):
        write(writer, ONE, TWO)

    asked = network.labels().count(label) - asked_before
    assert asked == (2 if label == "add" else 1)  # partitions and offsets, together


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("is_done", [False, True])
def test_records_whose_answer_is_lost_are_sent_again_and_count_once(
    network: FakeNetwork, monkeypatch: pytest.MonkeyPatch, version: int, *, is_done: bool
) -> None:
    writer = connected(network, monkeypatch, version)
    network.changed = losing(network, "produce", is_done=is_done)

    write(writer, ONE)

    assert committed(network) == [b"first"]
    first, *again = network.batches()
    assert again == [first]


def test_an_epoch_asked_for_again_is_counted_since_its_first_request_may_come_late(
    network: FakeNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    network.changed = losing(network, "init", is_done=True)

    assert connected(network, monkeypatch, 1).stray_inits == 1


def test_version_two_adds_nothing_and_goes_on_with_the_epoch_that_the_end_returns(
    network: FakeNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = connected(network, monkeypatch, 2)
    write(writer, ONE)
    network.sent.clear()
    network.rounds = 0
    epoch = writer._identity.epoch

    writer.prepare("hamgate")
    write(writer, ONE)
    write(writer, TWO)

    assert network.labels() == ["offsets", "produce", "end"] * 2
    assert network.rounds == 4
    assert writer._identity.epoch == epoch + 2
    assert [next(iter(MemoryRecords(batch))).base_sequence for _, batch in network.batches()] == [0, 0]
    assert sorted(committed(network)) == [b"first", b"first", b"second"]


@pytest.mark.parametrize("version", [1, 2])
def test_nothing_to_write_is_no_transaction(
    network: FakeNetwork, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    writer = connected(network, monkeypatch, version)
    network.sent.clear()

    writer.commit(until=10.0)

    assert network.labels() == []


@pytest.mark.parametrize(
    ("finalised", "version"), [({}, 1), ({"transaction.version": 1}, 1), ({"transaction.version": 2}, 2)]
)
def test_version_two_is_used_where_the_cluster_has_finalised_it(finalised: dict[str, int], version: int) -> None:
    features = [SimpleNamespace(name=name, max_version_level=level) for name, level in finalised.items()]

    assert requests.transaction_version(SimpleNamespace(finalized_features=features)) == version


def test_a_broker_that_names_no_features_has_version_one() -> None:
    assert requests.transaction_version(SimpleNamespace(finalized_features=None)) == 1


def refusing(partition: int, error: Any) -> Callable[[Any], Any]:
    """One leader refuses; once."""
    left = [error]

    def refuse(request: Any) -> Any:
        if LABELS[type(request)] != "produce" or request.topic_data[0].partition_data[0].index != partition or not left:
            return None
        each = SimpleNamespace(index=partition, error_code=left.pop().errno, error_message=None)
        return SimpleNamespace(responses=[SimpleNamespace(name=VERDICTS, partition_responses=[each])])

    return refuse


def test_only_what_was_refused_is_sent_again_byte_for_byte(network: FakeNetwork, writer: Transactions) -> None:
    network.changed = refusing(1, errors.NotLeaderForPartitionError)

    write(writer, Outgoing(KEYS[0], b"first"), Outgoing(KEYS[1], b"second"))

    first, refused, again = network.batches()
    assert (first[0], refused) == (0, again)
    assert sorted(committed(network)) == [b"first", b"second"]


def test_a_batch_that_the_leader_has_already_is_acknowledged(network: FakeNetwork, writer: Transactions) -> None:
    network.changed = refusing(0, errors.DuplicateSequenceNumberError)

    write(writer, Outgoing(KEYS[0], b"first"))

    assert len(network.batches()) == 1


def test_what_passes_is_raised_itself_when_it_has_not_passed_by_the_deadline(
    network: FakeNetwork, writer: Transactions
) -> None:
    network.changed = lambda request: (
        SimpleNamespace(error_code=errors.CoordinatorLoadInProgressError.errno)
        if LABELS[type(request)] == "end"
        else None
    )

    with pytest.raises(errors.CoordinatorLoadInProgressError):
        write(writer, ONE)


def test_a_topic_that_is_gone_is_named(network: FakeNetwork, writer: Transactions) -> None:
    network.topics.clear()

    with pytest.raises(errors.UnknownTopicOrPartitionError, match=VERDICTS):
        write(writer, ONE)


def test_what_has_passed_is_not_the_reason_for_a_silence_after_it(network: FakeNetwork, writer: Transactions) -> None:
    once = [errors.CoordinatorLoadInProgressError()]
    silent = Future()

    def lose_then_say_nothing(request: Any) -> Any:
        if LABELS[type(request)] != "end":
            return None
        if once:
            return once.pop()
        network.slept = _MOST_SLEEPS
        return silent

    network.changed = lose_then_say_nothing

    with pytest.raises(TooLateError):
        write(writer, ONE)


def test_a_partition_that_is_not_added_yet_is_asked_for_again_and_the_reason_comes_before_its_neighbours(
    network: FakeNetwork, writer: Transactions
) -> None:
    refused = [errors.UnknownTopicOrPartitionError, errors.OperationNotAttemptedError]

    def refuse(request: Any) -> Any:
        if not isinstance(request, AddPartitionsToTxnRequest) or not refused:
            return None
        topic = AddPartitionsToTxnResponse.AddPartitionsToTxnTopicResult
        each = topic.AddPartitionsToTxnPartitionResult
        results = [each(partition_index=at, partition_error_code=refused.pop().errno) for at in (0, 1)]
        return AddPartitionsToTxnResponse(
            results_by_topic_v3_and_below=[topic(name=VERDICTS, results_by_partition=results)]
        )

    network.changed = refuse

    write(writer, Outgoing(KEYS[0], b"first"), Outgoing(KEYS[1], b"second"))

    assert sorted(committed(network)) == [b"first", b"second"]


def test_records_without_an_answer_are_not_taken_for_written(network: FakeNetwork, writer: Transactions) -> None:
    network.changed = lambda request: SimpleNamespace(responses=[]) if LABELS[type(request)] == "produce" else None

    with pytest.raises(errors.KafkaError, match="no answer for 1 partitions"):
        write(writer, ONE)


def test_who_is_told_to_wait_asks_less_and_less_often(
    network: FakeNetwork, writer: Transactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        network.slept += 1
        if network.slept >= _MOST_SLEEPS:
            await Future()

    monkeypatch.setattr(network, "sleep", sleep)
    network.changed = lambda request: (
        SimpleNamespace(error_code=errors.ConcurrentTransactionsError.errno) if LABELS[type(request)] == "end" else None
    )

    with pytest.raises(errors.ConcurrentTransactionsError):
        write(writer, ONE)

    assert pauses[:3] == [0.001, 0.002, 0.004]
    assert pauses[-1] == 0.1


def test_what_does_not_pass_is_raised_though_another_leader_is_only_late(
    network: FakeNetwork, writer: Transactions
) -> None:
    late, never = refusing(0, errors.NotEnoughReplicasError), refusing(1, errors.MessageSizeTooLargeError)
    network.changed = lambda request: late(request) or never(request)

    with pytest.raises(errors.MessageSizeTooLargeError, match=VERDICTS):
        write(writer, Outgoing(KEYS[0], b"first"), Outgoing(KEYS[1], b"second"))


def test_metadata_that_is_stale_is_refused_and_nothing_is_seen(network: FakeNetwork, writer: Transactions) -> None:
    network.cluster.group.generation = 3

    with pytest.raises(errors.IllegalGenerationError):
        write(writer, ONE)

    writer.abort(until=10.0)
    assert committed(network) == []


def test_what_does_not_fit_one_batch_is_sent_one_batch_of_a_partition_at_a_time(
    network: FakeNetwork, writer: Transactions
) -> None:
    values = [b"%d" % number + bytes(200_000) for number in range(5)]

    write(writer, *(Outgoing(KEYS[0], value) for value in values))

    assert len(network.batches()) == 3
    assert network.labels().count("produce") == 3
    assert committed(network) == values


def test_sequences_begin_anew_behind_the_largest_there_is(network: FakeNetwork, writer: Transactions) -> None:
    place = TopicPartition(VERDICTS, 0)
    writer._appender._sequences[place] = (1 << 31) - 1
    network.cluster.writers["hamgate.one"].sequences[VERDICTS, 0] = (1 << 31) - 1

    write(writer, Outgoing(KEYS[0], b"first"))

    [(_, batch)] = network.batches()
    assert next(iter(MemoryRecords(batch))).base_sequence == (1 << 31) - 1
    assert writer._appender._sequences[place] == 0


def test_a_refusal_that_lasts_is_logged_once_while_it_is_still_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(asking, "time", SimpleNamespace(monotonic=lambda: clock.now))
    asker = asking.Asker(FakeNetwork(Cluster(lambda: 0.0, 2, is_cooperative=False)))  # type: ignore[arg-type]
    answers = iter([*[errors.NotEnoughReplicasError("sms.verdicts")] * 9, errors.NodeNotReadyError(), None])

    async def ask() -> None:
        clock.now += 1.0
        if refusal := next(answers):
            raise refusal

    with capture_logs() as said:
        asker.run(lambda: asker.insist(ask), until=1e9)

    assert [(line["event"], line["cause"]) for line in said] == [
        ("still refused", "[Error 19] NotEnoughReplicasError: sms.verdicts")
    ]
