"""A model that judges beside: what it would have said otherwise is counted and told, and nobody waits for it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes import INPUT, FakeBroker, FakeClassifier
from tests.unit.test_pipeline import NOW, event, make, read, step
from worker.model.models_in_service import Model, ModelsInService, Role
from worker.pipeline.verdicts import Verdicts
from worker.policy.bands import Policy
from worker.rollout import compare
from worker.rollout.shadow import Disagreement, Shadow, Summary, decode_report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.messages import Outgoing
    from worker.model.classifier import Prepared, Scores
    from worker.pipeline.stages import Pipeline

NUMBER = "+447700900123"


class Contrary(FakeClassifier):
    """Says of a score what one would not expect."""

    def judge(self, prepared: Sequence[Prepared]) -> Scores:
        scores = super().judge(prepared)
        scores.score[:] = 1 - scores.score
        scores.label[scores.scored] = 1 - scores.label[scores.scored]
        return scores


def model(classifier: FakeClassifier, name: str, role: Role) -> Model:
    policy = Policy.make(0.5, flag_from=None, block_from=None, on_unscored="unscored")
    return Model(classifier, Verdicts(classifier.labels, policy, name), role)  # type: ignore[arg-type]


class Shaded:
    """A pipeline with a shadow, and what the shadow reports."""

    def __init__(self, broker: FakeBroker, classifier: FakeClassifier, share: float = 1.0) -> None:
        self.reports: list[Outgoing] = []
        self.now = NOW
        self.pipeline: Pipeline = make(broker)
        self.pipeline.adopt(ModelsInService(model(FakeClassifier(), "first@1", Role.PRIMARY)))
        self.shadow = Shadow(self.reports.extend, self.pipeline.accounts.metrics, clock=lambda: self.now)
        self.shadow.use(model(classifier, "second@2", Role.SHADOW), share)
        self.pipeline.accounts.shadow = self.shadow

    def finish(self) -> list[Disagreement | Summary]:
        while self.shadow._waiting.qsize():
            assert self.shadow.step()
        self.shadow.stop()
        assert not self.shadow.step()
        return [decode_report(report.value or b"") for report in self.reports]

    def value(self, series: str, **labels: str) -> float:
        return self.pipeline.accounts.metrics.registry.get_sample_value(series, labels) or 0.0


@pytest.fixture
def broker() -> FakeBroker:
    broker = FakeBroker(partitions=1)
    for n in range(30):
        text = f"win {NUMBER}" if n % 3 == 0 else f"see you {NUMBER}"
        broker.append(INPUT, 0, NOW, NUMBER.encode(), event(text, id=f"m{n}"))
    broker.feed(event("", id="empty"), b"unreadable", None, at=NOW)
    return broker


def test_what_it_would_say_otherwise_is_counted_and_told_by_id(broker: FakeBroker) -> None:
    shaded = Shaded(broker, Contrary())

    step(shaded.pipeline)
    reports = shaded.finish()

    *differing, summary = reports
    assert [each.id for each in differing if isinstance(each, Disagreement)] == [f"m{n}" for n in range(30)]
    assert isinstance(summary, Summary)
    assert (summary.judged, summary.skipped) == (30, 0)
    assert summary.labels == {"ham": {"spam": 20}, "spam": {"ham": 10}}
    assert (summary.primary, summary.shadow) == ("first@1", "second@2")
    assert shaded.value("hamgate_shadow_disagreements_total", label="ham", shadow="spam") == 20
    assert shaded.value("hamgate_messages_judged_total", role="shadow", label="ham") == 10
    assert shaded.value("hamgate_shadow_score_difference_count") == 30


def test_nothing_of_a_message_is_told_but_its_id_and_place(broker: FakeBroker) -> None:
    shaded = Shaded(broker, Contrary())

    step(shaded.pipeline)
    shaded.finish()

    published = b"".join((report.key or b"") + (report.value or b"") for report in shaded.reports)
    assert NUMBER.encode() not in published
    assert b"see you" not in published
    first = json.loads(shaded.reports[0].value or b"")
    assert first["source"] == {"topic": INPUT, "partition": 0, "offset": 0, "timestamp": NOW * 1000}


def test_one_that_agrees_has_nothing_to_tell_but_how_many(broker: FakeBroker) -> None:
    shaded = Shaded(broker, FakeClassifier())

    step(shaded.pipeline)

    [summary] = shaded.finish()
    assert isinstance(summary, Summary)
    assert summary.labels == {"ham": {"ham": 20}, "spam": {"spam": 10}}


def test_one_without_a_score_disagrees(broker: FakeBroker) -> None:
    class Silent(FakeClassifier):
        def judge(self, prepared: Sequence[Prepared]) -> Any:
            scores = super().judge(prepared)
            scores.score[:], scores.label[:], scores.scored[:] = float("nan"), -1, False
            return scores

    shaded = Shaded(broker, Silent())
    step(shaded.pipeline)

    *differing, summary = shaded.finish()
    assert isinstance(summary, Summary)
    assert summary.labels == {"ham": {"none": 20}, "spam": {"none": 10}}
    assert all(isinstance(each, Disagreement) and each.shadow.label is None for each in differing)


def test_one_that_is_too_slow_misses_messages_and_holds_up_nobody() -> None:
    broker = FakeBroker(partitions=1)
    shaded = Shaded(broker, FakeClassifier())
    for n in range(20):  # twenty batches, and the shadow takes none of them
        broker.feed(event("x", id=str(n)), at=NOW)
        step(shaded.pipeline)

    assert broker.committed == {(INPUT, 0): 20}
    assert shaded.value("hamgate_shadow_skipped_total") == 12
    [summary] = shaded.finish()
    assert isinstance(summary, Summary)
    assert (summary.judged, summary.skipped) == (8, 12)


def test_it_judges_only_what_is_committed_and_only_its_share() -> None:
    broker = FakeBroker(partitions=1)
    shaded = Shaded(broker, FakeClassifier(), share=0.5)
    for n in range(90):
        broker.append(INPUT, 0, NOW, b"key-%d" % n, event("x"))
    read(shaded.pipeline)
    shaded.pipeline.judge()
    assert shaded.shadow._waiting.empty(), "judged is not committed"
    shaded.pipeline.write()

    [summary] = shaded.finish()
    assert isinstance(summary, Summary)
    assert 25 < summary.judged < 65


def test_a_summary_comes_now_and_then_and_when_the_models_change(broker: FakeBroker) -> None:
    shaded = Shaded(broker, FakeClassifier())
    step(shaded.pipeline)
    shaded.shadow.step()
    assert shaded.reports == []
    shaded.now += 10
    shaded.shadow.step()
    assert len(shaded.reports) == 1

    broker.feed(event("x"), at=NOW)
    step(shaded.pipeline)
    shaded.shadow.step()
    shaded.shadow.use(model(FakeClassifier(), "third@3", Role.SHADOW), 1.0)
    broker.feed(event("y"), at=NOW)
    step(shaded.pipeline)

    _, second, third = shaded.finish()
    assert isinstance(second, Summary)
    assert isinstance(third, Summary)
    assert (second.shadow, second.judged, third.shadow, third.judged) == ("second@2", 1, "third@3", 1)


def test_a_flood_of_disagreements_is_counted_whole_and_told_in_part() -> None:
    broker = FakeBroker(partitions=1)
    shaded = Shaded(broker, Contrary())
    broker.feed(*[event("x", id=str(n)) for n in range(500)], at=NOW)
    for _ in range(5):
        step(shaded.pipeline)

    *differing, summary = shaded.finish()
    assert isinstance(summary, Summary)
    assert summary.labels == {"ham": {"spam": 500}}
    assert len(differing) == 200


def test_compare_sums_up_what_was_told(broker: FakeBroker) -> None:
    shaded = Shaded(broker, Contrary())
    step(shaded.pipeline)
    shaded.finish()

    values = [b"not a report", None, *(report.value for report in shaded.reports)]
    [found] = compare.compare(values)

    assert (found.judged, found.differing) == (30, 30)
    assert found.labels == {("ham", "spam"): 20, ("spam", "ham"): 10}
    assert [each.id for each in found.examples["spam", "ham"]] == [f"m{n}" for n in range(0, 30, 3)]
    shown = "\n".join(found.lines())
    assert "30 judged by both, 30 differ: 100.000%" in shown
    assert "m0  0.900 -> 0.100" in shown
    json.dumps(found.as_json())
    assert compare.compare(values, since=NOW + 1) == []


def test_the_interval_of_a_share_is_wilsons() -> None:
    assert compare.interval(10, 100) == pytest.approx((0.0552, 0.1744), abs=1e-4)
    assert compare.interval(0, 0) == (0.0, 1.0)
    assert compare.interval(0, 1000)[1] < 0.005
