"""Lists on a real broker: changes by the command, in force on every worker within two seconds, nothing lost for it."""

from __future__ import annotations

import json
import re
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from deploy.kafka import topics
from tests.integration.harness import Traffic, Watch, WorkerProcess, environment, exactly_once, until
from worker.__main__ import main
from worker.broker import Publisher, Reader
from worker.messages import Action, Outgoing
from worker.process import signals

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Place

SIGNED = ("--author", "ana", "--reason", "a test")
WITHIN = 2.0


@pytest.fixture
def lists(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A topic, a key file, and the settings for them, also in this process's environment."""
    topic, key = f"{place.input}.lists", tmp_path / "hash.key"
    key.write_text("0123456789abcdef0123456789abcdef\n")
    topics.create_compacted(place.link.brokers, topic)
    settings = {"lists_topic": topic, "hash_key_file": str(key)}
    for name, value in environment(place, tmp_path, "command", log_format="json", **settings).items():
        monkeypatch.setenv(name, value)
    return settings


def change(*arguments: str) -> int:
    return main(["lists", *arguments])


def probe(place: Place, number: int, sender: str, partitions: int) -> None:
    """One message to every partition, so that every worker gets some."""
    with Publisher(place.link) as publisher:
        for each in range(partitions * 2):
            value = json.dumps({"id": f"p-{number}-{each}", "text": "hello", "sender": sender}).encode()
            publisher.publish(place.input, [Outgoing(b"probe-%d-%d" % (number, each), value)])


@pytest.mark.long
def test_changes_under_load_lose_nothing_and_are_in_force_on_two_workers_within_two_seconds(
    place: Place,
    start: Callable[..., WorkerProcess],
    traffic: Traffic,
    watch: Watch,
    lists: dict[str, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    workers = [start("one", **lists), start("two", **lists)]
    until(lambda: all(worker.metric("hamgate_assigned_partitions") == 2 for worker in workers))
    with traffic.flowing():
        for number in range(6):
            assert change("add", "block", "sender", f"Bank{number}", *SIGNED) == 0
            wanted = number + 1
            began = time.monotonic()
            until(
                lambda wanted=wanted: all(  # type: ignore[misc] # mypy knows no type for a lambda's default
                    worker.metric("hamgate_list_entries", what="sender", action="block") == wanted for worker in workers
                ),
                within=30,
            )
            assert time.monotonic() - began < WITHIN
        assert change("add", "allow", "sender", "Bank0", *SIGNED) == 0
        assert change("remove", "sender", "BANK1", *SIGNED) == 0
        until(lambda: all(worker.metric("hamgate_list_entries", action="block") == 4 for worker in workers))
    exactly_once(traffic, watch)

    for number, sender in enumerate(("bank0", "BANK1", "Bank2")):
        probe(place, number, sender, place.partitions)
    until(lambda: sum(verdict.id.startswith("p-") for verdict in watch.verdicts) == 3 * 2 * place.partitions)
    found = {
        sender: {
            (verdict.action, verdict.reason) for verdict in watch.verdicts if verdict.id.startswith(f"p-{sender}-")
        }
        for sender in range(3)
    }
    assert found[0] == {(Action.DELIVER, "list")}
    assert {reason for _, reason in found[1]} == {None}
    assert found[2] == {(Action.BLOCK, "list")}
    rules = {verdict.rule for verdict in watch.verdicts if verdict.reason == "list"}
    assert all(re.fullmatch(r"list:sender:[0-9a-f]{12}", str(rule)) for rule in rules)
    capsys.readouterr()
    [rule] = {verdict.rule for verdict in watch.verdicts if verdict.id.startswith("p-2-")}
    assert change("show", "--rule", str(rule)) == 0
    assert "bank2" in capsys.readouterr().out


def test_the_whole_topic_is_read_before_the_first_message_and_what_is_unreadable_is_counted(
    place: Place, start: Callable[..., WorkerProcess], watch: Watch, lists: dict[str, str]
) -> None:
    assert change("add", "block", "sender", "+447700900123", *SIGNED) == 0
    with Publisher(place.link) as publisher:
        publisher.publish(
            lists["lists_topic"], [Outgoing(b"sender:prefix:", b'{"what":"sender"}'), Outgoing(b"x", b"{")]
        )
    assert change("add", "block", "recipient", "+447700900999", "--dry-run", *SIGNED) == 0
    with Publisher(place.link) as publisher:
        event = {"id": "m-1", "text": "hi", "sender": "0044 7700 900123", "recipient": "447700900999"}
        publisher.publish(place.input, [Outgoing(b"k", json.dumps(event).encode())])

    worker = start(**lists)
    until(lambda: bool(watch.verdicts))

    [verdict] = watch.verdicts
    assert (verdict.action, verdict.reason) == (Action.BLOCK, "list")
    assert worker.metric("hamgate_lists_unreadable_total") == 2
    assert worker.said().count("list entry unreadable") == 2
    assert worker.metric("hamgate_lists_read_timestamp_seconds") > time.time() - 60
    assert worker.metric("hamgate_rule_matches_total", decider="list", dry_run="false") == 1
    worker.send(signal.SIGTERM)
    assert worker.ended() == 0
    assert "7700" not in worker.said()
    with Reader(place.link, lists["lists_topic"]) as reader:
        assert not any(b"7700" in (record.key or b"") + (record.value or b"") for record in reader.to_end())


def test_a_worker_whose_lists_cannot_be_read_does_not_start_and_says_why(
    place: Place, start: Callable[..., WorkerProcess], lists: dict[str, str]
) -> None:
    missing = start(ready=False, **(lists | {"lists_topic": f"{place.input}.nowhere"}))
    kept = start("two", ready=False, **(lists | {"lists_topic": f"{place.input}.kept"}))
    topics.create(place.link.brokers, (f"{place.input}.kept",), 1)

    assert missing.ended(60) == 1
    assert f"topic {place.input}.nowhere does not exist" in missing.said()
    kept.ended(60)
    again = start("two", ready=False, **(lists | {"lists_topic": f"{place.input}.kept"}))
    assert again.ended(60) == 1
    assert f"topic {place.input}.kept is not compacted" in again.said()


@pytest.mark.usefixtures("lists")
def test_a_block_that_hits_much_of_the_last_hour_is_refused_and_nothing_is_written(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    with Publisher(place.link) as publisher:
        events = [
            {"text": "go to https://everybody.example", "sender": "MyBank" if each % 20 == 0 else f"+447700{each:06}"}
            for each in range(1000)
        ]
        publisher.publish(
            place.input, [Outgoing(b"%d" % at, json.dumps(event).encode()) for at, event in enumerate(events)]
        )

    assert change("add", "block", "link-host", "everybody.example", *SIGNED) == 1
    assert "share: it would block 100.0% of the last hour's messages" in capsys.readouterr().err
    assert change("add", "block", "sender", "+44770", "--match", "prefix", *SIGNED, "--max-share", "0.5") == 1
    assert change("add", "block", "sender", "MyBank", *SIGNED, "--max-share", "1") == 1
    assert change("show") == 0
    assert capsys.readouterr().out == ""
    assert change("add", "block", "link-host", "everybody.example", "--dry-run", *SIGNED) == 0
    assert change("add", "block", "sender", "MyBank", *SIGNED) == 0
    assert "5.00% of the last hour's messages (50 of a sample of 1,000)" in capsys.readouterr().out


def test_the_command_asks_shows_exports_and_imports_without_a_number(
    place: Place, lists: dict[str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "lists.csv"
    file.write_text(
        "action,what,match,value,until,dry_run\n"
        "block,sender,exact,+44 7700 900123,,\n"
        "allow,sender,exact,MyBank,2099-01-01T00:00:00Z,\n"
        "flag,link-host,suffix,b\u00fccher.example,,true\n"
        "block,number,prefix,+44 906,,\n"
    )
    assert change("import", str(file), *SIGNED) == 0
    assert capsys.readouterr().out.startswith("4 entries written")
    assert change("show", "--sender", "0044 7700 900123") == 0
    assert "block sender exact hashed" in capsys.readouterr().out
    assert change("show", "--sender", "+447700900124") == 1
    assert change("show", "--link-host", "www.xn--bcher-kva.example") == 0
    assert change("show", "--number", "+44 9061 701461") == 0
    capsys.readouterr()

    assert change("export", "--format", "jsonl") == 0
    exported = capsys.readouterr().out
    assert change("export") == 0
    as_csv = capsys.readouterr().out
    assert "7700" not in exported + as_csv
    assert len(exported.splitlines()) == 4
    for text in (exported, as_csv):
        other = f"{lists['lists_topic']}.{len(text)}"
        topics.create_compacted(place.link.brokers, other)
        file.write_text(text)
        assert change("import", str(file), "--lists-topic", other) == 0
        capsys.readouterr()
        assert change("export", "--format", "jsonl", "--lists-topic", other) == 0
        assert capsys.readouterr().out == exported

    assert change("remove", "sender", "+44 7700 900123", *SIGNED) == 0
    assert change("remove", "sender", "+44 7700 900123", *SIGNED) == 1
    assert change("show", "--sender", "+447700900123") == 1
    with Reader(place.link, lists["lists_topic"]) as reader:
        [tombstone] = [record for record in reader.to_end() if record.value is None]
    assert dict(tombstone.headers)["author"] == b"ana"


def test_a_new_key_takes_an_entrys_place_when_it_is_added_again(
    lists: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert change("add", "block", "sender", "+447700900123", *SIGNED) == 0
    key = Path(lists["hash_key_file"])
    key.write_text(f"another key, of 32 characters....\n{key.read_text()}")
    capsys.readouterr()
    assert change("show", "--sender", "+447700900123") == 0
    assert change("add", "flag", "sender", "+447700900123", *SIGNED) == 0
    assert change("show", "--json") == 0
    [shown] = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert shown["action"] == "flag"
    key.write_text("a third key, of 32 characters....\n")
    assert change("show") == 0
    assert "CANNOT MATCH" in capsys.readouterr().out


def test_lists_that_are_not_set_are_named(lists: dict[str, str], monkeypatch: pytest.MonkeyPatch,
                                          capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    monkeypatch.delenv("HAMGATE_LISTS_TOPIC")

    assert change("show") == signals.USAGE
    assert "HAMGATE_LISTS_TOPIC is not set" in capsys.readouterr().err
    assert lists
