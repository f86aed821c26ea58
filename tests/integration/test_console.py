"""The console on real brokers: it follows what is committed, survives an outage and a restart, and sends back once."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("uvicorn", reason="the console needs the extra `console`")

from console.api import CLIENTS
from deploy.kafka import topics
from deploy.kafka.node import free_port, temporary
from tests.conftest import make_place
from tests.consoles import buried, judged
from tests.integration.harness import Traffic, environment, until
from tests.running_console import running, settings
from worker.broker import Publisher, Reader
from worker.messages import Action, Outgoing, RecordSource, Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Place
    from tests.integration.harness import WorkerProcess
    from tests.running_console import RunningConsole


def publish(place: Place, first: int, count: int = 10) -> None:
    with Publisher(place.link) as publisher:
        made = [judged(n, action=Action.BLOCK, label="spam", score=0.9)[0] for n in range(first, first + count)]
        publisher.publish(place.verdicts, [Outgoing(each.key, each.value) for each in made])


def bury(place: Place, *events: bytes) -> None:
    letters = [buried(n, value, reason=Unreadable.INVALID_JSON) for n, value in enumerate(events)]
    with Publisher(place.link) as publisher:
        made = [Outgoing(each.key, each.value, each.headers) for each in letters]
        publisher.publish(place.dead_letters, made, timestamp=time.time())


def seen(page: str) -> int:
    return page.count('<span class="badge block">')


def test_what_a_worker_answers_is_in_the_live_events_and_in_the_history(
    place: Place, start: Callable[..., WorkerProcess], traffic: Traffic, tmp_path: Path
) -> None:
    start()
    with running(settings(place, tmp_path / "console")) as console:
        traffic.feed(300)
        until(lambda: console.state()["minute"]["total"] == len(traffic.sent), within=60)

        assert console.state()["minute"]["dead"] == traffic.poison.total()
        assert console.state()["reading"]["is_connected"]
        page = console.page(f"/history?id={traffic.sent[5]}")
        assert page.count('<td class="id">') == 1
        assert f"{traffic.poison.total()}</b>" in console.page("/dead-letters")


def test_a_restart_goes_on_where_the_window_ends_and_reads_nothing_twice(place: Place, tmp_path: Path) -> None:
    publish(place, 0)
    made = settings(place, tmp_path / "console")
    with running(made) as console:
        until(lambda: seen(console.page("/history")) == 10)
    publish(place, 10)
    with running(made) as console:
        until(lambda: seen(console.page("/history")) == 20)
        assert console.state()["count"] == 10


def test_a_topic_made_anew_is_read_anew(place: Place, tmp_path: Path) -> None:
    from kafka.admin import KafkaAdminClient  # noqa: PLC0415

    publish(place, 0)
    made = settings(place, tmp_path / "console")
    with running(made) as console:
        until(lambda: seen(console.page("/history")) == 10)
    admin = KafkaAdminClient(bootstrap_servers=place.link.brokers)
    admin.delete_topics([place.verdicts])
    time.sleep(1)
    topics.create(place.link.brokers, (place.verdicts,), place.partitions)
    admin.close()
    publish(place, 50, 3)
    with running(made) as console:
        until(lambda: seen(console.page("/history")) == 3)


@pytest.mark.long
def test_an_outage_is_said_with_its_beginning_and_what_came_meanwhile_is_read(tmp_path: Path) -> None:
    with temporary("console-outage") as node:
        place = make_place(node.bootstrap)
        publish(place, 0)
        with running(settings(place, tmp_path / "console")) as console:
            until(lambda: seen(console.page("/history")) == 10)
            before = time.time()
            node.stop()
            until(lambda: "do not answer since" in console.page("/history"), within=60)
            since = console.state()["reading"]["away_since"]
            assert before < since < time.time()
            assert seen(console.page("/history")) == 10
            node.start()
            publish(place, 10)
            until(lambda: seen(console.page("/history")) == 20, within=90)
            assert "do not answer since" not in console.page("/history")
            assert console.state()["reading"]["away_since"] is None


def test_a_dead_letter_is_previewed_sent_back_once_and_answered(
    place: Place, start: Callable[..., WorkerProcess], tmp_path: Path
) -> None:
    events = [json.dumps({"id": f"sent-back-{n}", "text": "hello there"}).encode() for n in range(4)]
    bury(place, *events)
    start()
    with running(settings(place, tmp_path / "console")) as console:
        until(lambda: ">4</b>" in console.page("/dead-letters"))
        with Reader(place.link, place.dead_letters) as reader:
            wanted = [[r.partition, r.offset] for r in reader.to_end() if r.value in (events[1], events[3])]

        preview = console.redriven(places=wanted, preview=True)
        assert preview["counts"] == {"sent": {"invalid-json": 2}, "left": {}, "truncated": {}}
        with Reader(place.link, place.input) as reader:
            assert [*reader.to_end()] == []

        sent = console.redriven(places=wanted, preview=False)
        assert sent["error"] is None
        assert sent["counts"]["sent"] == {"invalid-json": 2}
        until(lambda: "sent-back-3" in console.page("/history"), within=60)
        page = console.page("/history")
        assert "sent-back-1" in page
        assert "sent-back-0" not in page

        assert console.redriven(places=wanted, preview=False)["counts"]["left"] == {"invalid-json": 2}
        assert console.redriven(reasons=["invalid-json"], preview=False)["counts"]["sent"] == {"invalid-json": 2}
        until(lambda: "sent-back-0" in console.page("/history"), within=60)
    log = [json.loads(line) for line in (tmp_path / "console" / "audit.jsonl").read_text().splitlines()]
    assert [each["what"] for each in log] == ["redrive preview", *["redrive", "redrive ended"] * 3]
    assert "hello there" not in json.dumps(log)


def test_a_hundred_pages_are_sent_live_events_and_the_next_is_refused_until_one_leaves(
    place: Place, tmp_path: Path
) -> None:
    with running(settings(place, tmp_path / "console")) as console, contextlib.ExitStack() as opened:
        streams = [opened.enter_context(console.opened("/api/live")) for _ in range(CLIENTS)]
        assert all(stream.readline() == b"retry: 2000\n" for stream in streams)

        with pytest.raises(urllib.error.HTTPError) as refused:
            console.opened("/api/live")
        assert refused.value.code == 503
        refused.value.close()
        assert seen(console.page("/history")) == 0  # the others are served

        streams[0].close()
        until(lambda: _is_let_in(console), within=30)


def _is_let_in(console: RunningConsole) -> bool:
    try:
        with console.opened("/api/live"):
            return True
    except urllib.error.HTTPError as refused:
        refused.close()
        return False


def test_the_bytes_of_a_dead_letter_are_fetched_when_they_are_looked_at_and_not_kept(
    place: Place, tmp_path: Path
) -> None:
    bury(place, b'{"text": "unmistakable \xe2\x80\xae <b>')
    with running(settings(place, tmp_path / "console")) as console:
        until(lambda: ">1</b>" in console.page("/dead-letters"))
        with Reader(place.link, place.dead_letters) as reader:
            [record] = reader.to_end()
        page = console.page(f"/dead-letters/{record.partition}/{record.offset}")
        assert "unmistakable ⟨U+202E⟩ &lt;b&gt;" in page
    kept = b"".join(path.read_bytes() for path in (tmp_path / "console").iterdir())
    assert b"unmistakable" not in kept


def test_as_a_command_it_names_its_address_refuses_what_is_open_and_ends_with_a_signal(
    place: Place, tmp_path: Path
) -> None:
    port = free_port()
    shipped = settings(place, tmp_path).bundle
    variables = environment(place, shipped, "console", console_port=str(port), console_folder=str(tmp_path / "c"))
    command = [sys.executable, "-m", "worker", "console"]
    opened = subprocess.run(
        [*command, "--console-host", "0.0.0.0"],  # noqa: S104 which is refused
        env=variables, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert opened.returncode == 1
    assert opened.stderr.startswith("HAMGATE_CONSOLE_HOST: 0.0.0.0 is not loopback: name a file of users")

    with subprocess.Popen(command, env=variables, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            until(lambda: _answers(port), within=60)
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 0
    assert f"http://127.0.0.1:{port}" in said
    assert "Traceback" not in said


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_passwd_prints_a_line_that_a_users_file_takes(tmp_path: Path) -> None:
    from console.access import read_users  # noqa: PLC0415

    variables = {name: value for name, value in os.environ.items() if not name.startswith("HAMGATE_")}
    command = [sys.executable, "-m", "worker", "console", "passwd", "anna", "operator"]
    done = subprocess.run(
        command, input="a long password\n", env=variables, capture_output=True, text=True, timeout=60, check=True
    )
    path = tmp_path / "users"
    path.write_text(done.stdout)
    path.chmod(0o600)

    assert read_users(path)["anna"].role == "operator"
    assert "a long password" not in done.stdout
    short = subprocess.run(
        command, input="short\n", env=variables, capture_output=True, text=True, timeout=60, check=False
    )
    assert (short.returncode, short.stderr) == (1, "a password has 10 to 1024 characters\n")


def test_texts_are_kept_only_where_a_key_file_is_and_a_restart_keeps_each_once(place: Place, tmp_path: Path) -> None:
    with Publisher(place.link) as publisher:
        events = [json.dumps({"text": f"unmistakable words {n}"}).encode() for n in range(20)]
        publisher.publish(place.input, [Outgoing(None, each) for each in events], timestamp=time.time())
    with Reader(place.link, place.input) as reader:
        sent = [*reader.to_end()]
    with Publisher(place.link) as publisher:
        sources = [RecordSource(place.input, each.partition, each.offset, 0) for each in sent]
        made = [judged(n, source=source)[0] for n, source in enumerate(sources)]
        publisher.publish(place.verdicts, [Outgoing(each.key, each.value) for each in made])
    keys = tmp_path / "text-keys"
    keys.write_text("k" * 64)
    keys.chmod(0o600)
    keeping = settings(place, tmp_path / "console", console_text_key_file=keys)
    for _ in range(2):
        with running(keeping) as console:
            until(lambda: console.page("/history?texts=1").count("unmistakable words") == 20, within=60)
            assert "20 of at most" in console.page("/texts")
    with running(settings(place, tmp_path / "console")) as console:
        until(lambda: console.page("/history?texts=1").count("m-1") > 0, within=60)
        assert "unmistakable" not in console.page("/history?texts=1")
    log = [json.loads(line) for line in (tmp_path / "console" / "audit.jsonl").read_text().splitlines()]
    assert {each["what"] for each in log} == {"text shown"}
    assert max(len(each["places"]) for each in log) == 20
