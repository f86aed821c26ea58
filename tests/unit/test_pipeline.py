"""The three stages, one step at a time, on fakes that keep the real broker's contract."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics

from tests.closed_sets import hostile, strays
from tests.fakes import DEAD_LETTERS, INPUT, VERDICTS, FakeBroker, FakeClassifier, FakeSink, FakeSource
from tests.pipelines import pipeline_of
from worker.messages import Action
from worker.metrics import Metrics
from worker.model.classifier import NO_SCORES
from worker.pipeline.batch import Batch
from worker.pipeline.batching import MicroBatcher
from worker.pipeline.ports import FencedError, RolledBackError
from worker.pipeline.slices import Limits
from worker.pipeline.verdicts import Outcome, Verdicts
from worker.policy.bands import Policy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from worker.model.classifier import Prepared, Scores
    from worker.pipeline.batch import Waiting
    from worker.pipeline.stages import Pipeline

NOW = 1000.0


def event(text: str, **more: Any) -> bytes:
    return json.dumps({"text": text, **more}).encode()


def make(
    broker: FakeBroker,
    sink: FakeSink | None = None,
    *,
    max_messages: int = 100,
    deadline: float | None = None,
    classifier: FakeClassifier | None = None,
    clock: Callable[[], float] = lambda: NOW,
) -> Pipeline:
    batcher: MicroBatcher[Waiting] = MicroBatcher(1000, max_messages, 0.1)
    policy = Policy.make(0.5, flag_from=None, block_from=None, on_unscored="unscored")
    classifier = classifier or FakeClassifier()
    return pipeline_of(
        FakeSource(broker),
        sink or FakeSink(broker),
        classifier,  # type: ignore[arg-type] # kept to the Classifier's contract by tests/contracts
        Verdicts(classifier.labels, policy, "fake@000000000000"),
        batcher,
        Metrics(),
        Limits(max_event_bytes=1000, deadline=deadline),
        clock=clock,
    )


def read(pipeline: Pipeline) -> None:
    """Until a poll has brought nothing: once for the rebalance, for the records, and for there being no more."""
    for _ in range(3):
        pipeline.read()


def step(pipeline: Pipeline) -> None:
    read(pipeline)
    pipeline.judge()
    pipeline.write()


def verdicts(broker: FakeBroker) -> list[dict[str, Any]]:
    return [json.loads(record.value or b"") for record in broker.records(VERDICTS)]


def value(pipeline: Pipeline, name: str, **labels: str) -> float:
    return pipeline.accounts.metrics.registry.get_sample_value(name, labels) or 0.0


def test_a_message_becomes_a_verdict_and_its_offset_is_committed() -> None:
    broker = FakeBroker()
    broker.feed(event("win a prize", id="a"), event("see you at seven", id="b"), at=NOW - 1)

    step(make(broker))

    assert [(v["id"], v["label"], v["action"]) for v in verdicts(broker)] == [
        ("a", "spam", "block"), ("b", "ham", "deliver"),
    ]  # fmt: skip
    assert broker.committed == {(INPUT, 0): 2}


def test_a_bad_event_is_set_aside_in_the_same_write_as_its_neighbours_verdicts() -> None:
    broker = FakeBroker()
    sink = FakeSink(broker)
    broker.feed(event("one", id="a"), b"not json", event("two", id="b"), None, at=NOW)

    step(make(broker, sink))

    assert [v["id"] for v in verdicts(broker)] == ["a", "b"]
    assert [dict(letter.headers)["reason"] for letter in broker.records(DEAD_LETTERS)] == [b"invalid-json"]
    assert (broker.committed, sink.writes) == ({(INPUT, 0): 4}, 1)


def test_what_cannot_be_scored_says_why() -> None:
    broker = FakeBroker()
    broker.feed(event("", id="a"), event("nan", id="b"), event("late", id="c", received_at=(NOW - 99) * 1000), at=NOW)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("worker.messages.EARLIEST", 0.0)  # the test's clock starts in 1970
        step(make(broker, deadline=10))

    assert [(v["id"], v["label"], v["action"], v["reason"]) for v in verdicts(broker)] == [
        ("a", None, "unscored", "empty-text"),
        ("b", None, "unscored", "non-finite-score"),
        ("c", None, "unscored", "deadline"),
    ]


def test_nothing_is_committed_when_publishing_fails() -> None:
    broker = FakeBroker()
    broker.feed(event("hello"), at=NOW)
    pipeline = make(broker, FakeSink(broker, ConnectionError()))

    with pytest.raises(ConnectionError):
        step(pipeline)

    assert broker.committed == {}
    assert broker.records(VERDICTS) == []


def test_nothing_is_published_when_judging_fails() -> None:
    class Broken(FakeClassifier):
        def judge(self, _: Any) -> Any:
            raise RuntimeError

    broker = FakeBroker()
    sink = FakeSink(broker)
    broker.feed(event("hello"), at=NOW)
    pipeline = make(broker, sink, classifier=Broken())

    with pytest.raises(RuntimeError):
        step(pipeline)

    assert (sink.writes, broker.committed) == (0, {})


def test_a_transaction_that_is_rolled_back_is_read_judged_and_written_again() -> None:
    broker = FakeBroker()
    broker.feed(event("one", id="a"), event("two", id="b"), at=NOW)
    pipeline = make(broker, FakeSink(broker, RolledBackError("rebalance")))

    step(pipeline)
    assert verdicts(broker) == []
    step(pipeline)

    assert [v["id"] for v in verdicts(broker)] == ["a", "b"]
    assert broker.committed == {(INPUT, 0): 2}
    assert value(pipeline, "hamgate_transactions_total", outcome="rolled-back") == 1
    assert value(pipeline, "hamgate_transactions_total", outcome="committed") == 1


def test_what_is_judged_while_the_writer_is_busy_goes_into_one_transaction() -> None:
    broker = FakeBroker()
    sink = FakeSink(broker)
    broker.feed(*[event("x", id=str(n)) for n in range(5)], at=NOW)
    pipeline = make(broker, sink, max_messages=2)
    for _ in range(3):
        read(pipeline)
        pipeline.judge()

    pipeline.write()

    assert [v["id"] for v in verdicts(broker)] == ["0", "1", "2", "3", "4"]
    assert (sink.writes, broker.committed) == (1, {(INPUT, 0): 5})
    assert value(pipeline, "hamgate_transactions_total", outcome="committed") == 1
    assert value(pipeline, "hamgate_batch_messages_count") == 3


def test_batches_of_one_transaction_that_is_rolled_back_are_all_read_again() -> None:
    broker = FakeBroker()
    broker.feed(*[event("x", id=str(n)) for n in range(4)], at=NOW)
    pipeline = make(broker, FakeSink(broker, RolledBackError("rebalance")), max_messages=2)
    read(pipeline)
    pipeline.judge()
    pipeline.judge()

    pipeline.write()
    assert (verdicts(broker), value(pipeline, "hamgate_messages_let_go_total")) == ([], 4)
    read(pipeline)
    pipeline.judge()
    pipeline.judge()
    pipeline.write()

    assert [v["id"] for v in verdicts(broker)] == ["0", "1", "2", "3"]


def test_a_change_of_the_model_falls_between_two_transactions() -> None:
    broker = FakeBroker()
    sink = FakeSink(broker)
    pipeline = make(broker, sink)
    for number in range(2):
        broker.feed(event("x", id=str(number)), at=NOW)
        read(pipeline)
        pipeline.judge()
        pipeline.adopt(replace(pipeline.models, revision=pipeline.models.revision + 1))

    pipeline.write()

    assert (sink.writes, broker.committed) == (2, {(INPUT, 0): 2})


def test_batches_under_different_claims_are_not_one_transaction() -> None:
    written = []

    class Recorder(FakeSink):
        def prepare(self, _: Any) -> None: ...

        def write(self, verdicts: Sequence[Any], _letters: Any, _positions: Any, metadata: Any) -> None:
            written.append(([json.loads(verdict.value)["id"] for verdict in verdicts], metadata))

    broker, metadata_of = FakeBroker(), {0: "older", 1: "newer", 2: "newer"}
    broker.feed(*[event("x", id=str(n)) for n in range(3)], at=NOW)
    pipeline = make(broker, Recorder(broker), max_messages=1)
    for _ in range(3):
        read(pipeline)
        pipeline.judge()
    pipeline.inbox = SimpleNamespace(  # type: ignore[assignment]
        **{name: getattr(pipeline.inbox, name) for name in ("begin_writing", "end_writing", "learn", "fill")},
        still_owned=lambda batch: replace(batch, metadata=metadata_of[batch.items[0].record.offset]),
    )

    pipeline.write()

    assert written == [(["0"], "older"), (["1", "2"], "newer")]


def test_what_is_in_the_pipe_of_a_lost_partition_is_let_go_and_what_is_kept_goes_on() -> None:
    broker = FakeBroker(partitions=2)
    sink = FakeSink(broker)
    for partition in (0, 1):
        broker.feed(*[event("x", id=f"{partition}-{n}") for n in range(2)], partition=partition, at=NOW)
    pipeline = make(broker, sink, max_messages=3)

    read(pipeline)
    pipeline.judge()  # three are judged, one waits
    other = FakeSource(broker)
    pipeline.read()
    pipeline.write()

    assert [v["id"] for v in verdicts(broker)] == ["0-0", "0-1"]
    assert broker.committed == {(INPUT, 0): 2}
    assert value(pipeline, "hamgate_transactions_total", outcome="rolled-back") == 0
    other.close()
    step(pipeline)
    assert [v["id"] for v in verdicts(broker)] == ["0-0", "0-1", "1-0", "1-1"]


def test_the_first_of_a_large_poll_can_be_judged_before_the_last_is_made_ready() -> None:
    broker = FakeBroker()
    broker.feed(*[event("x", id=str(n)) for n in range(600)], at=NOW)
    pipeline = make(broker, max_messages=1000)
    pipeline.source.max_poll_records = 1000  # type: ignore[attr-defined]
    offered: list[int] = []
    offer = pipeline.inbox.offer
    pipeline.inbox.offer = lambda items, **more: (offered.append(len(items)), offer(items, **more))[1]  # type: ignore[method-assign,func-returns-value]

    read(pipeline)

    assert [count for count in offered if count] == [256, 256, 88]


def test_the_judge_waits_only_for_what_is_at_hand_and_the_reader_only_for_what_is_not() -> None:
    broker = FakeBroker(partitions=1)
    broker.feed(*[event("x", id=str(n)) for n in range(700)], at=NOW)
    pipeline = make(broker, max_messages=10_000)
    source = pipeline.source
    source.max_poll_records = 600  # type: ignore[attr-defined]
    offered: list[tuple[int, bool]] = []
    offer = pipeline.inbox.offer
    pipeline.inbox.offer = lambda items, **more: (offered.append((len(items), more["more"])), offer(items, **more))[1]  # type: ignore[method-assign,func-returns-value]

    read(pipeline)

    # A poll that only tells of the assignment, one that brings as many as it may, one that brings the rest, and more.
    assert [each for each in offered if each[0]] == [(256, True), (256, True), (88, True), (100, False)]
    assert [at for at, wait in enumerate(source.waits) if not wait] == [2]  # type: ignore[attr-defined]


class Slicing(FakeClassifier):
    """Tells what was begun and what was awaited, by first texts; `meanwhile` is called with each that is begun."""

    def __init__(self, meanwhile: Callable[[str], object] = lambda _: None) -> None:
        super().__init__()
        self.calls: list[str] = []
        self._meanwhile = meanwhile

    def begin_preparing(self, texts: Sequence[str]) -> Callable[[], list[Prepared]]:
        self.calls.append(f"begin {texts[0]}")
        self._meanwhile(texts[0])

        def prepared() -> list[Prepared]:
            self.calls.append(f"await {texts[0]}")
            if "broken" in texts:
                raise ConnectionError
            return self.prepare(texts)

        return prepared


def sliced(monkeypatch: pytest.MonkeyPatch, broker: FakeBroker, classifier: Slicing) -> Pipeline:
    """A pipeline that makes two messages ready at a time."""
    monkeypatch.setattr("worker.pipeline.slices._SLICE", 2)
    return make(broker, classifier=classifier)


def test_a_slice_of_a_poll_is_on_its_way_before_the_one_before_it_is_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    broker, classifier = FakeBroker(), Slicing()
    broker.feed(*[event(str(n), id=str(n)) for n in range(5)], at=NOW)

    step(sliced(monkeypatch, broker, classifier))

    assert classifier.calls == ["begin 0", "begin 2", "await 0", "begin 4", "await 2", "await 4"]
    assert [v["id"] for v in verdicts(broker)] == ["0", "1", "2", "3", "4"]


def test_slices_of_a_poll_whose_epoch_ends_meanwhile_are_let_go_and_come_again_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ends = ["2"]  # once
    broker = FakeBroker()
    broker.feed(*[event(str(n), id=str(n)) for n in range(6)], at=NOW)
    classifier = Slicing(lambda text: text in ends and (ends.remove(text), pipeline.inbox.restart()))
    pipeline = sliced(monkeypatch, broker, classifier)

    pipeline.read()
    pipeline.read()

    assert classifier.calls == ["begin 0", "begin 2", "await 0"]
    assert pipeline.inbox.waiting()[0] == 0
    assert value(pipeline, "hamgate_messages_consumed_total") == value(pipeline, "hamgate_messages_let_go_total") == 2
    step(pipeline)
    assert [v["id"] for v in verdicts(broker)] == ["0", "1", "2", "3", "4", "5"]
    assert broker.committed == {(INPUT, 0): 6}


def test_slices_on_their_way_over_a_change_of_the_model_are_each_of_the_model_they_were_begun_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broker, newer = FakeBroker(), Slicing()
    broker.feed(*[event(str(n), id=str(n)) for n in range(4)], at=NOW)
    classifier = Slicing(lambda _: pipeline.adopt(replace(pipeline.models, primary=second, revision=1)))
    pipeline = sliced(monkeypatch, broker, classifier)
    second = replace(pipeline.models.primary, classifier=newer)  # type: ignore[arg-type]

    read(pipeline)
    for _ in range(2):
        pipeline.judge()
        pipeline.write()

    assert (classifier.calls, newer.calls) == (["begin 0", "await 0"], ["begin 2", "await 2"])
    assert (classifier.batches, newer.batches) == ([2], [2])
    assert [v["id"] for v in verdicts(broker)] == ["0", "1", "2", "3"]


def test_a_slice_that_cannot_be_made_ready_ends_the_reading_and_nothing_behind_it_gets_by(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broker, classifier = FakeBroker(), Slicing()
    broker.feed(*[event(text) for text in ("a", "b", "broken", "c", "d", "e")], at=NOW)
    pipeline = sliced(monkeypatch, broker, classifier)

    with pytest.raises(ConnectionError):
        read(pipeline)

    assert classifier.calls[-2:] == ["begin d", "await broken"]
    assert pipeline.inbox.waiting()[0] == 2


def test_what_waits_of_a_lost_partition_is_let_go() -> None:
    broker = FakeBroker(partitions=2)
    for partition in (0, 1):
        broker.feed(event("x", id=str(partition)), partition=partition, at=NOW)
    pipeline = make(broker)

    read(pipeline)
    FakeSource(broker)
    step(pipeline)

    assert [v["id"] for v in verdicts(broker)] == ["0"]


def test_a_stale_batch_that_slips_through_is_refused_by_its_claim() -> None:
    broker = FakeBroker()
    broker.feed(event("x", id="a"), at=NOW)
    pipeline = make(broker)

    read(pipeline)
    pipeline.judge()
    broker.rebalance()  # not heard of by the reader yet
    pipeline.write()

    assert (verdicts(broker), broker.committed) == ([], {})
    assert value(pipeline, "hamgate_transactions_total", outcome="rolled-back") == 1


def test_being_fenced_ends_the_work() -> None:
    broker = FakeBroker()
    broker.feed(event("x"), at=NOW)
    pipeline = make(broker, FakeSink(broker, FencedError("newer")))

    with pytest.raises(FencedError):
        step(pipeline)

    assert value(pipeline, "hamgate_transactions_total", outcome="fenced") == 1


def test_a_full_pipe_keeps_the_membership_and_polls_no_more() -> None:
    broker = FakeBroker()
    broker.feed(*[event("x") for _ in range(10)], at=NOW)
    pipeline = make(broker, max_messages=2)
    source = pipeline.source
    assert isinstance(source, FakeSource)

    read(pipeline)
    pipeline.read()

    assert source.times_kept_alive >= 1


def test_tombstones_alone_are_committed_too() -> None:
    broker = FakeBroker()
    broker.feed(None, None, at=NOW)
    pipeline = make(broker)

    step(pipeline)

    assert broker.committed == {(INPUT, 0): 2}
    assert value(pipeline, "hamgate_tombstones_total") == 2
    assert verdicts(broker) == []


def test_only_what_is_committed_is_counted() -> None:
    broker = FakeBroker()
    broker.feed(event("win"), event("no"), event(""), b"?", at=NOW - 0.5)
    pipeline = make(broker, FakeSink(broker, RolledBackError()))

    step(pipeline)
    assert value(pipeline, "hamgate_verdicts_total", label="spam", action="block") == 0
    step(pipeline)

    assert value(pipeline, "hamgate_messages_consumed_total") == 8
    assert value(pipeline, "hamgate_verdicts_total", label="spam", action="block") == 1
    assert value(pipeline, "hamgate_verdicts_total", label="ham", action="deliver") == 1
    assert value(pipeline, "hamgate_verdicts_total", label="none", action="unscored") == 1
    assert value(pipeline, "hamgate_unscored_total", reason="empty-text") == 1
    assert value(pipeline, "hamgate_dead_letters_total", reason="invalid-json") == 1
    assert value(pipeline, "hamgate_end_to_end_latency_seconds_count") == 4
    assert value(pipeline, "hamgate_end_to_end_latency_seconds_sum") == pytest.approx(2.0)
    assert value(pipeline, "hamgate_batch_messages_count") == 1
    assert value(pipeline, "hamgate_tokens_total") == 2


def test_flags_and_languages_are_counted_in_a_closed_set() -> None:
    pipeline = make(FakeBroker())
    by_flag, by_language = "hamgate_verdicts_by_flag_total", "hamgate_verdicts_by_language_total"
    outcome = Outcome()
    outcome.flagged["outside", Action.FLAG] = 2
    outcome.languages.update({("fr", Action.BLOCK): 3, ("xh", Action.BLOCK): 1, ("zu", Action.BLOCK): 1})
    outcome.languages[None, Action.DELIVER] = 4

    pipeline.accounts._content(Batch(0, None, [], NOW).begun([], 0.0, None).judged(NO_SCORES, NOW, 0.0), outcome)  # type: ignore[arg-type]

    assert value(pipeline, by_flag, flag="outside", action="flag") == 2
    assert pipeline.accounts.metrics.registry.get_sample_value(by_flag, {"flag": "notice", "action": "block"}) == 0
    assert value(pipeline, by_language, language="fr", action="block") == 3
    assert value(pipeline, by_language, language="other", action="block") == 2
    assert value(pipeline, by_language, language="none", action="deliver") == 4


def test_a_rebalance_is_counted_by_what_it_did() -> None:
    broker = FakeBroker(partitions=2)
    pipeline = make(broker)

    pipeline.read()
    FakeSource(broker)  # a second member takes one of the two
    pipeline.read()

    assert value(pipeline, "hamgate_rebalances_total", kind="gained") == 1
    assert value(pipeline, "hamgate_rebalances_total", kind="lost") == 1
    assert value(pipeline, "hamgate_assigned_partitions") == 1


def test_a_trace_goes_from_event_to_verdict_and_shows_as_an_exemplar() -> None:
    parent = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    broker = FakeBroker()
    broker.append(INPUT, 0, NOW - 1, b"k", None)
    broker.append(INPUT, 0, NOW - 1, b"k", event("win"), (("other", b"1"), ("traceparent", parent)))
    broker.append(INPUT, 0, NOW - 1, b"k", event("no"), (("traceparent", b"+447700900000"),))
    pipeline = make(broker)

    step(pipeline)

    assert [record.headers for record in broker.records(VERDICTS)] == [(("traceparent", parent),), ()]
    shown = openmetrics(pipeline.accounts.metrics.registry).decode()
    assert shown.count("trace_id") == 1
    assert '_bucket{le="1.0"} 2.0 # {trace_id="4bf92f3577b34da6a3ce929d0e0e4736"} 1.0 ' in shown


def test_what_was_polled_is_accounted_for_to_the_last_message() -> None:
    broker = FakeBroker()
    broker.feed(*[event("x", id=str(n)) for n in range(6)], b"?", None, at=NOW)
    pipeline = make(broker, FakeSink(broker, RolledBackError()), max_messages=2)

    for _ in range(1 + 4):  # the one that is rolled back, and the four that stand
        step(pipeline)

    consumed = value(pipeline, "hamgate_messages_consumed_total")
    assert consumed > 8
    assert consumed - value(pipeline, "hamgate_messages_let_go_total") == 8
    assert value(pipeline, "hamgate_messages_judged_total", role="primary", label="ham") == 6


def test_the_oldest_message_is_seen_wherever_it_is_in_the_pipe() -> None:
    broker = FakeBroker()
    pipeline = make(broker)
    assert pipeline.oldest() == 0

    broker.feed(event("x"), at=NOW - 5)
    read(pipeline)
    assert pipeline.oldest() == 5
    pipeline.judge()
    assert pipeline.oldest() == 5
    pipeline.write()
    assert pipeline.oldest() == 0


def test_the_lag_is_told_in_seconds_while_there_is_more_to_read() -> None:
    broker = FakeBroker(partitions=1)
    pipeline = make(broker, max_messages=2)
    source = pipeline.source
    assert isinstance(source, FakeSource)
    source.max_poll_records = 2
    broker.feed(event("x"), event("y"), event("z"), at=NOW - 30)

    pipeline.read()  # the rebalance
    pipeline.read()  # two of three
    pipeline.accounts._lag_shown = 0.0
    pipeline.accounts.lag(pipeline.source, NOW)
    assert value(pipeline, "hamgate_consumer_lag_messages", topic=INPUT, partition="0") == 1
    assert value(pipeline, "hamgate_consumer_lag_seconds", topic=INPUT, partition="0") == 30

    step(pipeline)
    pipeline.accounts._lag_shown = 0.0
    pipeline.accounts.lag(pipeline.source, NOW)
    assert value(pipeline, "hamgate_consumer_lag_seconds", topic=INPUT, partition="0") == 0


def test_the_parts_of_the_time_budget_make_up_the_whole() -> None:
    broker = FakeBroker()
    clock = iter(range(1000, 2000))
    pipeline = make(broker, clock=lambda: float(next(clock)))
    broker.feed(event("x"), at=990)

    step(pipeline)

    whole = value(pipeline, "hamgate_end_to_end_latency_seconds_sum")
    parts = ("broker_age", "queue_wait", "inference", "handover", "encode", "commit")
    parts_sum = sum(value(pipeline, f"hamgate_{part}_seconds_sum") for part in parts)
    # The clock that is told ticks a second at each look; what is timed by itself takes next to nothing.
    assert 0 <= whole - parts_sum <= 3


def test_no_message_gets_anything_into_a_label() -> None:
    broker = FakeBroker(partitions=3)
    pipeline = make(broker, max_messages=5000)
    pipeline.accounts.metrics.know_labels(("ham", "spam"))
    assert isinstance(pipeline.source, FakeSource)
    pipeline.source.max_poll_records = 5000
    broker.publish(INPUT, hostile(2000), timestamp=NOW)

    step(pipeline)

    assert value(pipeline, "hamgate_messages_consumed_total") == 2000
    assert strays(openmetrics(pipeline.accounts.metrics.registry).decode(), INPUT) == []


@dataclass
class OnItsWay:
    """A batch on a GPU: done when its scores were asked for."""

    answer: Scores
    log: list[str]
    is_done: bool = False

    def scores(self) -> Scores:
        self.log.append("end")
        return self.answer


class Overlapping(FakeClassifier):
    def __init__(self) -> None:
        super().__init__()
        self.log: list[str] = []

    def begin(self, prepared: Sequence[Prepared]) -> OnItsWay:  # type: ignore[override]
        self.log.append(f"begin {len(prepared)}")
        return OnItsWay(self.judge(prepared), self.log)


def test_a_whole_batch_is_begun_before_the_one_on_its_way_is_waited_for_and_a_smaller_one_is_not() -> None:
    broker, classifier = FakeBroker(), Overlapping()
    broker.feed(*[event("x", id=str(n)) for n in range(5)])
    pipeline = make(broker, max_messages=2, classifier=classifier)
    read(pipeline)

    pipeline.judge()  # 0 and 1 are begun
    pipeline.judge()  # 2 and 3 behind them, then the first two are ended
    pipeline.write()
    assert classifier.log == ["begin 2", "begin 2", "end"]

    pipeline.judge()  # 4 alone goes on filling: what is on its way is ended
    pipeline.write()
    pipeline.judge()
    pipeline.judge()
    pipeline.write()

    assert classifier.log == ["begin 2", "begin 2", "end", "end", "begin 1", "end"]
    assert [v["id"] for v in verdicts(broker)] == ["0", "1", "2", "3", "4"]


def test_what_is_on_its_way_is_ended_when_the_inbox_closes() -> None:
    broker, classifier = FakeBroker(), Overlapping()
    broker.feed(event("x", id="a"))
    pipeline = make(broker, classifier=classifier)
    read(pipeline)
    pipeline.judge()

    pipeline.inbox.close()
    assert pipeline.judge()
    pipeline.write()

    assert not pipeline.judge()
    assert [v["id"] for v in verdicts(broker)] == ["a"]
