"""Reports beside real workers: counted once through kills, decided, told, and learnt from."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from kafka.admin import KafkaAdminClient, NewTopic

from tests import toy_messages
from tests.audited import verdict
from tests.integration.harness import CompanionProcess, Watch, WorkerProcess, environment, until
from tests.integration.test_training_commands import (  # noqa: F401 fixtures among them
    collection,
    hub,
    offline,
    recipe,
    run,
)
from training.__main__ import main as training
from worker.__main__ import main
from worker.broker import BrokerError, Publisher, Reader
from worker.broker.feedback import FeedbackNames, FeedbackTopics
from worker.feedback.accepting import DAILY, DAY, LEAST_AGREED
from worker.feedback.joining import Hashes
from worker.feedback.records import (
    FeedbackDecision,
    RefusedReport,
    ReporterRecord,
    decode_record,
    encode_record,
    key_of,
)
from worker.messages import Outgoing
from worker.policy.hashing import Hashing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Place

PATIENCE: Final = 60.0
KEY: Final = "a key of these tests, 32 characters"
OLD: Final = tuple(f"+4477009001{number:02}" for number in range(5))
ROOT: Final = Path(__file__).resolve().parents[2]


def _key(value: dict[str, Any]) -> bytes:
    return str(value.get("reporter", "k")).encode()


@dataclass
class Reported:
    """A place with a topic of reports, and what an operator does there."""

    place: Place
    folder: Path
    topic: str = field(init=False)
    settings: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.topic = f"{self.place.group}.feedback"
        key = self.folder / "hash.key"
        key.write_text(KEY)
        self.settings = {"feedback_topic": self.topic, "feedback_window": "100000", "hash_key_file": str(key)}
        with KafkaAdminClient(bootstrap_servers=self.place.link.brokers) as admin:
            admin.create_topics([
                NewTopic(self.topic, num_partitions=2),
                NewTopic(self.decisions, num_partitions=2, topic_configs={"cleanup.policy": "compact"}),
            ])  # fmt: skip
            admin.wait_for_topics([self.topic, self.decisions])

    @property
    def decisions(self) -> str:
        return f"{self.topic}-decisions"

    def environment(self) -> dict[str, str]:
        return environment(self.place, self.folder, **self.settings)

    def send(self, topic: str, *values: dict[str, Any]) -> None:
        with Publisher(self.place.link) as publisher:
            publisher.publish(topic, [Outgoing(_key(value), json.dumps(value).encode()) for value in values])

    def report(self, *values: dict[str, Any]) -> None:
        self.send(self.topic, *values)

    def old_reporters(self) -> None:
        """Reporters who have been right for a month, each since a day of his own."""
        hashes = Hashes(Hashing((KEY.encode(),)))
        made = [
            ReporterRecord(
                hashes.reporters(name)[0], time.time() - (30 + number) * DAY, time.time(), 0, 0, LEAST_AGREED
            )
            for number, name in enumerate(OLD)
        ]
        with Publisher(self.place.link) as publisher:
            publisher.publish(self.decisions, [Outgoing(key_of(each).encode(), encode_record(each)) for each in made])

    def records(self) -> list[Any]:
        with Reader(self.place.link, self.decisions) as reader:
            newest = {record.key: record.value for record in reader.to_end()}
        return [decode_record(value) for value in newest.values() if value]

    def decided(self) -> list[FeedbackDecision]:
        return [each for each in self.records() if isinstance(each, FeedbackDecision)]

    def asked(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "worker", "feedback", *words],
            env=self.environment(), capture_output=True, text=True, check=False, timeout=PATIENCE,
        )  # fmt: skip


def feeding(reported: Reported, log: Path) -> CompanionProcess:
    return CompanionProcess(("feedback",), reported.environment(), log, patience=PATIENCE)


@pytest.fixture
def reported(place: Place, tmp_path: Path) -> Reported:
    return Reported(place, tmp_path)


def judged(reported: Reported, count: int) -> list[str]:
    """Messages with a worker's verdicts on them, written here; returns the ids."""
    ids = [f"m-{number}" for number in range(count)]
    values = [json.dumps({"id": name, "text": f"text of {name}", "sender": "SHOP"}).encode() for name in ids]
    with Publisher(reported.place.link) as publisher:
        publisher.publish(reported.place.input, [Outgoing(b"k", value) for value in values])
        with Reader(reported.place.link, reported.place.input) as reader:
            places = {json.loads(each.value or b"")["id"]: (each.partition, each.offset) for each in reader.to_end()}
        said = [
            json.loads(verdict(*places[name], reported.place.input).value or b"") | {"id": name, "score": 0.01}
            for name in ids
        ]
        publisher.publish(reported.place.verdicts, [Outgoing(b"k", json.dumps(each).encode()) for each in said])
    return ids


@pytest.mark.long
def test_through_kills_each_report_is_counted_once_and_a_thousand_false_ones_change_nothing(
    reported: Reported, tmp_path: Path
) -> None:
    ids = judged(reported, 50)
    reported.old_reporters()
    false = [{"reporter": f"liar-{number % 10}", "id": ids[number // 10 % 50]} for number in range(1000)]
    honest = [{"reporter": name, "text": f"text of {ids[0]}", "sender": "shop"} for name in OLD[:3]]

    for number in range(4):
        with feeding(reported, tmp_path / f"feedback-{number}.log") as process:
            reported.report(*false[number * 250 : (number + 1) * 250])
            time.sleep(number * 0.15)  # wherever it is then
            process.kill()
    reported.report(*honest)
    with feeding(reported, tmp_path / "last.log") as process:
        until(lambda: len([each for each in reported.decided() if each.state == "accepted"]) == 1, within=PATIENCE)
        assert process.stop() == 0
        said = process.said()

    records = reported.records()
    decided = [each for each in records if isinstance(each, FeedbackDecision)]
    votes = sum(len(each.votes) for each in decided)
    refused = [each for each in records if isinstance(each, RefusedReport)]
    assert votes == 10 * DAILY + 3
    assert len(refused) == 1000 - 10 * DAILY
    assert {each.reason for each in refused} == {"limited"}
    liars = [each for each in records if isinstance(each, ReporterRecord) and each.agreed < LEAST_AGREED]
    assert [each.today for each in liars] == [DAILY] * 10
    [accepted] = [each for each in decided if each.state == "accepted"]
    assert (accepted.label, accepted.history[-1].by) == ("spam", "rule:trusted-reporters")
    assert "text of" not in said
    assert "+4477" not in said


def test_the_later_of_two_fences_the_earlier(reported: Reported, tmp_path: Path) -> None:
    ids = judged(reported, 3)
    with feeding(reported, tmp_path / "earlier.log") as earlier:
        reported.report({"reporter": "a", "id": ids[0]})
        until(lambda: earlier.metric("hamgate_feedback_reports_total") == 1, within=PATIENCE)
        with feeding(reported, tmp_path / "later.log") as later:
            reported.report({"reporter": "b", "id": ids[0]})
            until(lambda: later.metric("hamgate_feedback_reports_total") == 1, within=PATIENCE)
            assert earlier.ended() == 1
            assert "another `hamgate feedback` has taken over" in earlier.said()
    assert [len(each.votes) for each in reported.decided()] == [2]


def test_it_does_not_begin_where_its_decisions_would_be_deleted_or_have_no_topic(
    reported: Reported, capfd: pytest.CaptureFixture[str]
) -> None:
    names = FeedbackNames(reported.topic, reported.topic, reported.place.input, reported.place.verdicts, "g")
    with pytest.raises(BrokerError, match=r"has cleanup\.policy=delete: .* set it to compact"):
        FeedbackTopics(reported.place.link, names)
    reported.settings["feedback_topic"] = f"{reported.topic}.absent"

    with variables(reported.environment() | {"HAMGATE_METRICS_PORT": "0"}):
        assert main(["feedback"]) == 1

    assert f"topic {reported.topic}.absent" in "".join(capfd.readouterr())


@pytest.mark.long
def test_an_analyst_sees_the_queue_decides_and_reads_who_changed_what(reported: Reported, tmp_path: Path) -> None:
    ids = judged(reported, 3)
    with feeding(reported, tmp_path / "feedback.log") as process:
        reported.report({"reporter": "a", "id": ids[0]})
        until(lambda: process.metric("hamgate_feedback_reports_total") == 1, within=PATIENCE)
        shown = reported.asked("show", "--json")
        [row] = [json.loads(line) for line in shown.stdout.splitlines()]
        assert (row["state"], row["spam"], row["ham"], row["verdict"]["score"]) == ("disputed", 1, 0, 0.01)

        assert (
            reported.asked("decide", row["id"], "spam", "--author", "anna", "--reason", "parcel scam").returncode == 0
        )
        by_id = reported.asked("decide", ids[1], "ham", "--author", "ben")
        assert (by_id.returncode, "feedback show --all`" in by_id.stdout) == (0, True)
        until(lambda: process.metric("hamgate_feedback_reports_total") == 3, within=PATIENCE)

    history = reported.asked("history", row["id"]).stdout.splitlines()
    assert [line.split("  ", 1)[1] for line in history] == [
        "rule:against-a-sure-verdict  nothing -> disputed",
        "analyst:anna  disputed -> accepted spam  (parcel scam)",
    ]
    assert reported.asked("show").stdout.splitlines()[1:] == []
    table = reported.asked("show", "--all").stdout
    assert table.count("accepted") == 2
    assert "text of" not in table + shown.stdout


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (["show", "more"], 2, "allowed: show, decide ID spam|ham|dismiss, history ID"),
        (["decide", "0-1", "smishing", "--author", "anna"], 2, "the label"),
        (["decide", "0-1", "spam"], 2, "--author"),
        (["decide", "0-1", "dismiss", "--author", "anna"], 2, "dismiss needs one"),
        (["decide", "0-1", "spam", "--author", "anna", "--reason", "http://x.example"], 2, "--reason"),
        (["decide", "0-1", "spam", "--author", "anna"], 1, "0-1: no such decision"),
        (["history", "0-1"], 1, "0-1: no such decision"),
    ],
)
def test_a_wrong_word_is_refused_by_name(
    reported: Reported, words: list[str], status: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with variables(reported.environment()):
        assert main(["feedback", *words]) == status

    assert says in capsys.readouterr().err


@pytest.mark.long
def test_a_report_leads_to_a_candidate_that_judges_the_reported_text_anew(
    reported: Reported,
    collection: Path,  # noqa: F811
    hub: Path,  # noqa: F811
    recipe: Path,  # noqa: F811
    start: Callable[..., WorkerProcess],
    watch: Watch,
    tmp_path: Path,
) -> None:
    texts = [f"{each} bring mum home noon charger" for each in toy_messages.WORDS]
    chosen = ["--recipe", str(recipe), "--data", str(collection)]
    old, new = tmp_path / "old", tmp_path / "candidate"
    run(
        ["train", str(tmp_path / "run-old"), *chosen], ["export", str(tmp_path / "run-old"), str(old), *chosen], hub=hub
    )
    assert verdicts_of(old, texts[0], hub) == ["ham"]

    start()
    reported.send(reported.place.input, *[{"id": f"m-{n}", "text": each} for n, each in enumerate(texts)])
    until(lambda: watch.seen() == len(texts), within=PATIENCE)
    with feeding(reported, tmp_path / "feedback.log") as process:
        reported.report({"reporter": "a", "text": texts[0], "sender": "x"})
        reported.report(*[{"author": "anna", "label": "spam", "id": f"m-{n}"} for n in range(len(texts))])
        until(lambda: process.metric("hamgate_feedback_reports_total") == len(texts) + 1, within=PATIENCE)
    source = tmp_path / "reports.jsonl"
    with variables(reported.environment()):
        assert training(["feedback", "--out", str(source)]) == 0
    rows = [json.loads(line) for line in source.read_text().splitlines()]
    assert sorted(row["text"] for row in rows) == sorted(texts)
    assert {(row["label"], row["decided_by"]) for row in rows} == {("spam", "analyst")}
    assert rows[0].keys() == {"label", "text", "decision", "decided_by", "decided_at"}

    chosen += ["--data", str(source)]
    run(
        ["train", str(tmp_path / "run-new"), *chosen],
        ["export", str(tmp_path / "run-new"), str(new), *chosen],
        ["compare", str(new), str(old), "--data", str(collection)],
        hub=hub,
    )

    assert verdicts_of(new, texts[0], hub) == ["spam"]
    live = tmp_path / "live"
    live.symlink_to(old)
    subprocess.run(
        [sys.executable, "-m", "worker", "use", str(new)],
        cwd=ROOT, env=os.environ | offline(hub) | {"HAMGATE_BUNDLE": str(live)}, check=True,
    )  # fmt: skip
    assert live.resolve() == new.resolve()


def verdicts_of(bundle: Path, text: str, hub: Path) -> list[str]:  # noqa: F811
    said = subprocess.run(
        [sys.executable, "-m", "worker", "predict", text],
        cwd=ROOT, env=os.environ | offline(hub) | {"HAMGATE_BUNDLE": str(bundle)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [line.split()[0] for line in said.stdout.splitlines()]


@contextmanager
def variables(given: dict[str, str]) -> Iterator[None]:
    """These variables of the environment, for this block."""
    before = dict(os.environ)
    os.environ.update(given)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
