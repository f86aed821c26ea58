"""Which model judges which message, while models come and go."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.fakes import INPUT, VERDICTS, FakeBroker, FakeClassifier, FakeSink
from tests.unit.test_pipeline import NOW, event, make, read, step
from worker.messages import Record
from worker.model.classifier import Prepared
from worker.model.models_in_service import Model, ModelsInService, Role, in_share
from worker.pipeline.ports import RolledBackError
from worker.pipeline.service import Service
from worker.pipeline.verdicts import Verdicts
from worker.policy.bands import Policy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.pipeline.stages import Pipeline


class Marked(FakeClassifier):
    """Refuses to judge what another has tokenised."""

    def __init__(self, mark: int) -> None:
        super().__init__()
        self.mark = mark

    def prepare(self, texts: Sequence[str]) -> list[Prepared]:
        return [Prepared([*message.tokens, self.mark]) for message in super().prepare(texts)]  # type: ignore[arg-type, list-item]

    def judge(self, prepared: Sequence[Prepared]) -> Any:
        assert all(message.tokens[-1] == self.mark for message in prepared)
        return super().judge([Prepared(message.tokens[:-1]) for message in prepared])


def model(mark: int, threshold: float = 0.5, role: Role = Role.PRIMARY) -> Model:
    policy = Policy.make(threshold, flag_from=None, block_from=None, on_unscored="unscored")
    classifier = Marked(mark)
    return Model(classifier, Verdicts(classifier.labels, policy, f"m{mark}@0"), role)  # type: ignore[arg-type]


def answers(broker: FakeBroker) -> list[tuple[str, str]]:
    return [(v["id"], v["model"]) for v in (json.loads(record.value or b"") for record in broker.records(VERDICTS))]


def with_model(broker: FakeBroker, first: Model, sink: FakeSink | None = None) -> Pipeline:
    pipeline = make(broker, sink)
    pipeline.adopt(ModelsInService(first))
    return pipeline


def test_a_message_is_judged_by_the_model_that_tokenised_it_whatever_comes_into_force_meanwhile() -> None:
    broker = FakeBroker(partitions=1)
    broker.feed(event("one", id="a"), event("two", id="b"), at=NOW)
    pipeline = with_model(broker, model(901))

    read(pipeline)
    pipeline.adopt(ModelsInService(model(902), revision=1))
    broker.feed(event("three", id="c"), at=NOW)
    read(pipeline)
    for _ in range(2):
        pipeline.judge()
        pipeline.write()

    assert answers(broker) == [("a", "m901@0"), ("b", "m901@0"), ("c", "m902@0")]


def test_a_transaction_holds_the_verdicts_of_one_lineup_only() -> None:
    broker = FakeBroker(partitions=1)
    sink = FakeSink(broker)
    pipeline = with_model(broker, model(901), sink)
    for number in range(1, 6):
        broker.feed(event("x", id=str(number)), b"unreadable", None, at=NOW)
        read(pipeline)
        pipeline.adopt(ModelsInService(model(901 + number), revision=number))

    for _ in range(5):
        pipeline.judge()
        pipeline.write()

    assert sink.writes == 5
    assert [name for _, name in answers(broker)] == [f"m{901 + n}@0" for n in range(5)]
    assert broker.committed == {(INPUT, 0): 15}


def test_what_is_rolled_back_over_a_change_is_judged_again_by_the_new_model_once() -> None:
    broker = FakeBroker(partitions=1)
    broker.feed(event("one", id="a"), at=NOW)
    pipeline = with_model(broker, model(901), FakeSink(broker, RolledBackError()))

    read(pipeline)
    pipeline.adopt(ModelsInService(model(902), revision=1))
    pipeline.judge()
    pipeline.write()
    step(pipeline)

    assert answers(broker) == [("a", "m902@0")]


def test_a_canary_judges_its_share_of_the_keys_by_its_own_threshold() -> None:
    broker = FakeBroker(partitions=1)
    pipeline = make(broker)
    pipeline.adopt(ModelsInService(model(901), model(902, threshold=0.95, role=Role.CANARY), 0.3))
    keys = [b"+44770090%04d" % n for n in range(400)] * 2
    for n, key in enumerate(keys):
        broker.append(INPUT, 0, NOW, key, event("win" if n % 2 else "no", id=str(n)))

    for _ in range(8):
        step(pipeline)

    shown = [json.loads(record.value or b"") for record in broker.records(VERDICTS)]
    assert [v["id"] for v in shown] == [str(n) for n in range(800)]
    by_key = {}
    for record, verdict in zip(broker.records(VERDICTS), shown, strict=True):
        assert by_key.setdefault(record.key, verdict["model"]) == verdict["model"], "a key has one model"
    share = sum(name == "m902@0" for name in by_key.values()) / len(by_key)
    assert share == pytest.approx(0.3, abs=0.08)
    for n, verdict in enumerate(shown):
        assert verdict["threshold"] == (0.95 if verdict["model"] == "m902@0" else 0.5)
        assert verdict["action"] == ("block" if n % 2 and verdict["model"] == "m901@0" else "deliver")
    registry = pipeline.accounts.metrics.registry
    judged = [
        registry.get_sample_value("hamgate_messages_judged_total", {"role": role, "label": label}) or 0
        for role in ("primary", "canary") for label in ("ham", "spam")
    ]  # fmt: skip
    assert sum(judged) == 800
    assert all(judged)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
def test_a_share_is_of_the_keys_and_grows_by_adding_keys(share: float) -> None:
    records = [Record("t", 0, n, 0.0, b"key-%d" % n, b"") for n in range(5000)]

    chosen = [in_share(record, share) for record in records]

    assert np.mean(chosen) == pytest.approx(share, abs=0.02)
    assert all(in_share(record, min(1.0, share + 0.2)) for record, its in zip(records, chosen, strict=True) if its)


def test_records_without_a_key_are_shared_out_one_by_one() -> None:
    records = [Record("t", 0, n, 0.0, None, b"") for n in range(5000)]

    assert np.mean([in_share(record, 0.5) for record in records]) == pytest.approx(0.5, abs=0.02)


def test_a_canary_whose_tokenizer_is_gone_is_told_from_the_model_in_force() -> None:
    pipeline = make(FakeBroker())
    first, canary = model(901), model(902, role=Role.CANARY)
    pipeline.adopt(ModelsInService(first, canary, 0.3))
    losses = Service(pipeline, grace=1.0, stall=1.0)._losses
    assert losses() == []

    canary.classifier.has_tokenizer = False  # type: ignore[misc] # a fake's
    assert losses() == ["read: the canary's tokenizer process has ended"]

    first.classifier.has_tokenizer = False  # type: ignore[misc]
    assert losses() == [
        "read: the tokenizer process has ended",
        "read: the canary's tokenizer process has ended",
    ]


def test_an_engine_that_is_gone_is_told_with_whose_it_is() -> None:
    pipeline = make(FakeBroker())
    first, canary = model(901), model(902, role=Role.CANARY)
    pipeline.adopt(ModelsInService(first, canary, 0.3))
    first.classifier.has_engine = canary.classifier.has_engine = False  # type: ignore[misc] # a fake's

    losses = Service(pipeline, grace=1.0, stall=1.0)._losses()

    assert losses == ["judge: the engine process has ended", "judge: the canary's engine process has ended"]
