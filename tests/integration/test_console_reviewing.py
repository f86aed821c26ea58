"""The pages Feedback and Model on a real broker: decisions are read as they come, and a word reaches its topic."""

from __future__ import annotations

import json
import time
import urllib.error
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("uvicorn", reason="the console needs the extra `console`")

import msgspec
from kafka.admin import KafkaAdminClient, NewTopic

from tests.consoles import judged
from tests.integration.harness import until
from tests.running_console import running, settings
from tests.unit.test_console_feedback import annotated, decision
from worker.broker import Publisher, Reader
from worker.feedback.records import DecisionState, encode_record, key_of
from worker.feedback.reports import ReportedPlace, read_report
from worker.messages import Outgoing
from worker.rollout.shadow import Summary

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Place
    from worker.feedback.records import FeedbackDecision


def write(place: Place, topic: str, *decisions: FeedbackDecision) -> None:
    with Publisher(place.link) as publisher:
        made = [Outgoing(key_of(each).encode(), encode_record(each)) for each in decisions]
        publisher.publish(f"{topic}-decisions", made)


def test_decisions_are_read_as_they_are_written_and_words_and_annotations_reach_the_topic_of_reports(
    place: Place, tmp_path: Path
) -> None:
    reports, shadow = f"{place.group}.feedback", f"{place.group}.shadow"
    with KafkaAdminClient(bootstrap_servers=place.link.brokers) as admin:
        admin.create_topics([NewTopic(name, num_partitions=2) for name in (reports, f"{reports}-decisions", shadow)])
        admin.wait_for_topics([reports, f"{reports}-decisions", shadow])
    with Publisher(place.link) as publisher:
        publisher.publish(place.verdicts, [Outgoing(b"k", judged(7)[0].value)])
        summary = Summary("2026-01-31T08:00:00Z", "2026-01-31T08:00:10Z", "a@0", "b@1", 100, 0, {"ham": {"spam": 3}})
        publisher.publish(shadow, [Outgoing(None, msgspec.json.encode(summary)), Outgoing(None, b"not json")])
    write(place, reports, decision(), decision("0-2"))

    made = settings(place, tmp_path / "console", feedback_topic=reports, shadow_topic=shadow)
    with running(made) as console:
        assert "to review <b>2</b>" in console.page("/feedback")
        write(place, reports, decision("0-2", DecisionState.ACCEPTED, "spam"))
        until(lambda: "to review <b>1</b>" in console.page("/feedback"))
        assert "analyst:anna" in console.page("/feedback/0-2")

        console.ask("/api/feedback/decide", {"decision": "0-1", "label": "dismiss", "reason": "a test"})
        until(lambda: "m-7" in console.page("/history"))
        _, verdict = console.page("/history").split('data-learn="')
        partition, offset = map(int, verdict.partition('"')[0].split(":"))
        console.ask("/api/feedback/learn", {"partition": partition, "offset": offset, "label": "spam"})
        console.ask("/api/feedback/import?preview=false", [annotated("ham", data={"source": "sms.events:3:9"})])
        until(lambda: "100 judged by both, 3 differ" in console.page("/model"))
    with Reader(place.link, reports) as reader:
        sent = [read_report(record, max_bytes=10_000) for record in reader.to_end()]
    assert {(each.label, each.decision, each.source, each.author) for each in sent} == {
        ("dismiss", "0-1", None, "local"),
        ("ham", None, ReportedPlace("sms.events", 3, 9), "local"),
        ("spam", None, ReportedPlace("sms.events", 0, 7), "local"),
    }


def test_a_topic_of_decisions_that_is_not_there_is_said_at_once_and_other_pages_go_on(
    place: Place, tmp_path: Path
) -> None:
    with running(settings(place, tmp_path / "console", feedback_topic=f"{place.group}.absent")) as console:
        page = console.page("/feedback")
        began = time.monotonic()
        assert "could not be read" in page
        assert "could not be read" in console.page("/feedback")
        console.page("/model")
        assert console.page("/history")
        assert time.monotonic() - began < 10

        with pytest.raises(urllib.error.HTTPError) as refused:
            console.ask("/api/feedback/decide", {"decision": "0-1", "label": "spam"})
        said = json.loads(refused.value.read())
        refused.value.close()
        assert refused.value.code == 503
        assert f"{place.group}.absent-decisions does not exist" in said["error"]
