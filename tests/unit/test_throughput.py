"""The worker's log says twice a minute what was committed, and how far behind it is."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

from tests.fakes import FakeBroker
from tests.unit.test_pipeline import event, make, step
from worker.messages import Action
from worker.pipeline.throughput import EVERY, Tally, Throughput
from worker.process import logs

if TYPE_CHECKING:
    import pytest


def lines(said: str) -> list[dict[str, object]]:
    found = [json.loads(line) for line in said.splitlines()]
    return [{name: each[name] for name in each if name not in ("timestamp", "level")} for each in found]


def run(throughput: Throughput) -> None:
    while throughput.step():
        pass


def test_each_line_counts_from_the_one_before(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    tally = Tally()
    throughput = Throughput(tally, lambda: 0.25, lambda: False, every=0.01)
    tally.verdicts[Action.DELIVER], tally.verdicts[Action.BLOCK], tally.dead_letters, tally.lag = 7, 2, 1, 40

    assert throughput.step()
    tally.verdicts[Action.BLOCK] += 3
    assert throughput.step()

    first, second = lines(capsys.readouterr().err)
    counted = ("event", "verdicts", "deliver", "flag", "block", "unscored", "dead_letters", "lag", "oldest_s")
    assert [first[name] for name in counted] == ["throughput", 9, 7, 0, 2, 0, 1, 40, 0.25]
    assert [second[name] for name in counted] == ["throughput", 3, 0, 0, 3, 0, 0, 40, 0.25]
    assert isinstance(first["per_second"], float)


def test_while_the_brokers_do_not_answer_nobody_knows_the_lag(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    tally = Tally(lag=40)

    assert Throughput(tally, lambda: 0.0, lambda: True, every=0.01).step()

    assert lines(capsys.readouterr().err)[0]["lag"] is None


def test_it_is_said_every_thirty_seconds_and_ends_at_once() -> None:
    throughput = Throughput(Tally(), lambda: 0.0, lambda: False)
    ended = threading.Thread(target=lambda: run(throughput), daemon=True)
    ended.start()

    throughput.stop()

    ended.join(5)
    assert EVERY == 30
    assert not ended.is_alive()


def test_the_pipeline_counts_what_it_commits() -> None:
    broker = FakeBroker()
    pipeline = make(broker)
    broker.feed(event("win"), event("hello"), b"no event")

    step(pipeline)

    tally = pipeline.accounts.tally
    assert (sum(tally.verdicts.values()), tally.dead_letters) == (2, 1)
