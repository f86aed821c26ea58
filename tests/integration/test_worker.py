"""Messages in, verdicts out: one worker, as a user runs it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.integration.harness import POISON, Traffic, Watch, WorkerProcess, environment, exactly_once, until
from tests.integration.parts import Parts
from tests.processes import has_ended, watched
from worker.broker import Publisher, Reader
from worker.messages import Outgoing, decode_dead_letter
from worker.pipeline.stages import Pipeline
from worker.process import signals

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Place


def test_every_message_comes_to_one_verdict_or_one_dead_letter(
    place: Place, start: Callable[..., WorkerProcess], traffic: Traffic, watch: Watch
) -> None:
    traffic.feed(1000)
    worker = start(log_level="debug")
    exactly_once(traffic, watch)

    [bundle] = {verdict.model for verdict in watch.verdicts}
    assert bundle.startswith("tiny@")
    with Reader(place.link, place.input) as reader:
        sent = {(record.partition, record.offset): record for record in reader.to_end()}
    for key, verdict in zip(watch.keys, watch.verdicts, strict=True):
        origin = sent[verdict.source.partition, verdict.source.offset]
        assert json.loads(origin.value or b"")["id"] == verdict.id
        assert (verdict.source.topic, key) == (place.input, origin.key)
        assert verdict.source.timestamp == round(origin.timestamp * 1000)
        assert verdict.label in {"ham", "spam"}
        assert verdict.latency_ms.total >= verdict.latency_ms.inference > 0
    for letter in watch.dead_letters:
        added = dict(letter.headers)
        origin = sent[int(added["source-partition"] or b""), int(added["source-offset"] or b"")]
        assert decode_dead_letter(letter) == Outgoing(origin.key, origin.value, origin.headers)
    reasons = Counter((dict(letter.headers)["reason"] or b"").decode() for letter in watch.dead_letters)
    assert len(reasons) == len(POISON)

    assert worker.metric("hamgate_messages_consumed_total") == 1000
    assert worker.metric("hamgate_verdicts_total") == len(traffic.sent)
    assert worker.metric("hamgate_dead_letters_total") == traffic.poison.total()
    assert worker.metric("hamgate_tombstones_total") == traffic.tombstones
    worker.send(signal.SIGTERM)
    assert worker.ended() == 0
    assert "+4477" not in worker.said()
    assert "win a prize" not in worker.said()


def test_texts_are_judged_over_http_beside_the_stream_and_none_is_logged(
    start: Callable[..., WorkerProcess], traffic: Traffic, watch: Watch
) -> None:
    worker = start(predict_port="0", log_level="debug")
    [address] = re.findall(r'"address": "(http://127\.0\.0\.1:\d+/predict)"', worker.said())
    body = json.dumps({"texts": ["win a prize", "see you at seven"]}).encode()
    asked = urllib.request.Request(address, data=body, headers={"Content-Type": "application/json"})

    with traffic.flowing():
        until(lambda: len(watch.verdicts) > 100)
        with urllib.request.urlopen(asked, timeout=20) as answer:
            said = json.load(answer)

    exactly_once(traffic, watch)
    assert len(said["verdicts"]) == 2
    assert {each["model"] for each in said["verdicts"]} == {watch.verdicts[0].model}
    assert worker.metric("hamgate_predict_texts_total") == 2
    worker.send(signal.SIGTERM)
    assert worker.ended() == 0
    assert "win a prize" not in worker.said()


def test_the_command_line_runs_a_worker_until_it_is_told_to_stop(
    place: Place, traffic: Traffic, watch: Watch, bundle: Path
) -> None:
    traffic.feed(200)
    command = [sys.executable, "-m", "worker", "run", "--metrics-port", "0"]
    with subprocess.Popen(command, env=environment(place, bundle), stderr=subprocess.PIPE) as worker:
        try:
            exactly_once(traffic, watch)
            worker.terminate()
            assert worker.wait(30) == 0
        finally:
            worker.kill()


def test_a_worker_that_cannot_start_says_why_and_ends(start: Callable[..., WorkerProcess]) -> None:
    worker = start(ready=False, verdict_topic="sms.vredicts")

    assert worker.ended(60) == 1
    assert "topic sms.vredicts does not exist" in worker.said()


@pytest.mark.parametrize(
    ("parts", "cause"),
    [
        (Parts(tokenizer_processes=1), "TokenizerProcessError: the tokenizer process ended with -9 (Killed)"),
        (Parts(has_sink_process=True), "SinkProcessError: the sink process ended with -9 (Killed)"),
        (Parts(has_engine_process=True), "EngineProcessError: the engine process ended with -9 (Killed)"),
    ],
)
def test_a_worker_one_of_whose_processes_is_killed_ends_uncommitted_and_the_next_one_goes_on(
    start: Callable[..., WorkerProcess], traffic: Traffic, watch: Watch, parts: Parts, cause: str
) -> None:
    worker = start(parts=parts)
    with traffic.flowing():
        until(lambda: len(watch.verdicts) > 100)
        [child] = worker.children()
        os.kill(child, signal.SIGKILL)
        assert worker.ended() == 1

    assert f'"cause": "{cause}"' in worker.said()
    assert "win a prize" not in worker.said()
    worker = start(parts=parts)
    exactly_once(traffic, watch)
    with watched(*worker.children()) as process:
        worker.send(signal.SIGTERM)
        assert worker.ended() == 0
        assert has_ended(process, within=10), "it outlives its worker"


@pytest.mark.parametrize(
    ("parts", "loss"),
    [
        (Parts(tokenizer_processes=1), "read: the tokenizer process has ended"),
        (Parts(has_sink_process=True), "write: the sink process has ended"),
        (Parts(has_engine_process=True), "judge: the engine process has ended"),
    ],
)
def test_a_worker_one_of_whose_processes_is_killed_while_nothing_comes_says_so_when_it_is_asked(
    start: Callable[..., WorkerProcess], parts: Parts, loss: str
) -> None:
    worker = start(parts=parts)
    [child] = worker.children()

    os.kill(child, signal.SIGKILL)

    until(lambda: worker.probe("/livez") == (503, loss + "\n"))
    assert worker.probe("/readyz") == (503, loss + "\n")
    assert worker.is_running()


def test_a_worker_that_is_killed_takes_its_processes_along(
    start: Callable[..., WorkerProcess], traffic: Traffic, watch: Watch
) -> None:
    worker = start(parts=Parts(tokenizer_processes=1, has_sink_process=True, has_engine_process=True))
    traffic.feed(100)
    until(lambda: len(watch.verdicts) > 0)
    one, two, three = worker.children()
    with watched(one) as first, watched(two) as second, watched(three) as third:
        worker.send(signal.SIGKILL)

        assert all(has_ended(each, within=10) for each in (first, second, third))


def log_to_nobody() -> None:
    reading, writing = os.pipe()
    os.dup2(writing, 2)
    os.close(reading)


def test_a_worker_whose_log_nobody_reads_works_through_a_rebalance_and_drains(
    start: Callable[..., WorkerProcess], traffic: Traffic, watch: Watch
) -> None:
    with traffic.flowing():
        first = start("one", prepare=log_to_nobody, parts=Parts(has_sink_process=True))
        until(lambda: len(watch.verdicts) > 0)
        start("two")
        until(lambda: first.metric("hamgate_rebalances_total") >= 2)
        assert first.metric("hamgate_log_lines_dropped_total") > 0
        first.send(signal.SIGTERM)
        assert first.ended() == 0

    exactly_once(traffic, watch)


def keep_a_thread_of_a_pool_busy() -> None:
    ThreadPoolExecutor(1).submit(time.sleep, 600)


def test_nothing_that_ends_with_a_worker_keeps_it_beyond_its_grace(
    place: Place, start: Callable[..., WorkerProcess], watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A collector of traces that never answers, and a thread for which the interpreter would wait."""
    parent = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    with socket.create_server(("127.0.0.1", 0)) as silent, Publisher(place.link) as publisher:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        worker = start(tracing="otlp", shutdown_grace="4", prepare=keep_a_thread_of_a_pool_busy)
        publisher.publish(place.input, [Outgoing(b"k", b'{"text": "hi"}', (("traceparent", parent),))])
        until(lambda: len(watch.verdicts) == 1)

        began = time.monotonic()
        worker.send(signal.SIGTERM)
        assert worker.ended() == 0
        assert time.monotonic() - began < 4 + 2


def judge_for_ever() -> None:
    def end(pipeline: Pipeline, _: object) -> None:
        with pipeline.progress.at_work("judge"):
            time.sleep(600)

    Pipeline._end = end  # type: ignore[method-assign]


def test_a_worker_whose_grace_is_over_says_by_its_status_that_it_left_something(
    start: Callable[..., WorkerProcess], traffic: Traffic
) -> None:
    worker = start(prepare=judge_for_ever, shutdown_grace="0.2")
    traffic.feed(100)
    # Not a message that is polled alone: one that still waits for its batch is nobody's, and is left without a word.
    until(lambda: worker.metric("hamgate_stage_step_seconds", stage="judge") > 0)

    worker.send(signal.SIGTERM)

    assert worker.ended() == signals.UNCOMMITTED == 3
    assert '"cause": "HAMGATE_SHUTDOWN_GRACE is over' in worker.said().splitlines()[-1]


def test_replayed_dead_letters_are_read_again(
    place: Place, start: Callable[..., WorkerProcess], watch: Watch, bundle: Path
) -> None:
    with Publisher(place.link) as publisher:
        publisher.publish(place.input, [Outgoing(b"k", value) for value in POISON])
    start()
    until(lambda: len(watch.dead_letters) == len(POISON))

    def replay(*options: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "worker", "replay", *options],
            env=environment(place, bundle),
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout

    [named] = re.findall(r"1 wrong-type \(the last one: (.*)\)", replay("--dry-run"))
    shown = replay(*named.split())
    assert re.search(r"^field +text$", shown, re.MULTILINE)
    assert shown.endswith('    {"text": \n>>> 0}\n')

    assert "1 invalid-json\n" in replay("--reason", "invalid-json")
    until(lambda: len(watch.dead_letters) == len(POISON) + 1)
    again = watch.dead_letters[-1]
    assert (again.key, again.value) == (b"k", b"not json")
    assert (dict(again.headers)["source-topic"] or b"").decode() == place.input
