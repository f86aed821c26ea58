"""The sender registry in a real worker: one text, judged by who sends it and where its link leads."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.kafka import topics
from tests.integration.harness import Watch, WorkerProcess, environment, until
from worker.__main__ import main
from worker.broker import Publisher
from worker.messages import Action, DryRun, Outgoing, Verdict
from worker.process import signals

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from tests.conftest import Place

EXAMPLE = Path(__file__).parents[2] / "deploy" / "registry.toml"
TEXT = "Northwind: call a number, win a prize at https://{}/prize"
OWN, FOREIGN = TEXT.format("northwind.example"), TEXT.format("northwind-prize.example")
PERSON, BRAND = "+447700900123", "NORTHWIND"
WITHIN = 2.0
# The model has no sense: all that it judges is blocked.
BLOCK_ALL = {"threshold": "0.001", "flag_from": "0.001", "block_from": "0.001"}


def test_a_text_is_blocked_from_a_number_with_its_own_link_and_flagged_at_most_from_the_registered_sender(
    place: Place, start: Callable[..., WorkerProcess], watch: Watch, tmp_path: Path
) -> None:
    file = tmp_path / "registry.toml"
    file.write_text(EXAMPLE.read_text())
    worker = start(registry=str(file), **BLOCK_ALL)

    def judged(name: str, text: str, sender: str | None, **more: str) -> Verdict:
        value = json.dumps({"id": name, "text": text, "sender": sender, **more}).encode()
        with Publisher(place.link) as publisher:
            publisher.publish(place.input, [Outgoing(b"key", value)])
        until(lambda: any(each.id == name for each in watch.verdicts))
        return next(each for each in watch.verdicts if each.id == name)

    alone = judged("alone", FOREIGN, None)
    impostor = judged("impostor", FOREIGN, PERSON)
    brand = judged("brand", OWN, BRAND)
    spoofed = judged("spoofed", FOREIGN, BRAND)

    assert (alone.action, alone.reason) == (Action.BLOCK, None)
    assert (impostor.action, impostor.reason, impostor.rule) == (Action.BLOCK, "sender", "sender:northwind-bank")
    assert (impostor.score or 0) > (alone.score or 1)
    assert (brand.action, brand.reason, brand.rule) == (Action.FLAG, "sender", "sender:northwind-bank")
    assert (spoofed.action, spoofed.reason) == (Action.BLOCK, None)
    assert worker.metric("hamgate_registry_brands") == 4
    assert worker.metric("hamgate_rule_matches_total", decider="sender", dry_run="false") == 2

    file.write_text(EXAMPLE.read_text().replace("dry_run = false", "dry_run = true"))
    until(lambda: worker.said().count("registry in force") == 1)
    tried = judged("tried", OWN, BRAND)

    assert (tried.action, tried.reason) == (Action.BLOCK, None)
    assert tried.dry_run == (DryRun("sender:northwind-bank", Action.FLAG),)

    file.write_text("[[brand]]\nname = 3\n")
    until(lambda: worker.metric("hamgate_registry_refused_total") == 1)
    assert judged("after", OWN, BRAND).dry_run == tried.dry_run
    assert PERSON.lstrip("+") not in worker.said()

    judged("typed", OWN, BRAND, sender_type="alphanumeric")
    value = json.dumps({"text": OWN, "sender_type": "pigeon"}).encode()
    with Publisher(place.link) as publisher:
        publisher.publish(place.input, [Outgoing(b"key", value)])
    until(lambda: len(watch.dead_letters) == 1)
    assert dict(watch.dead_letters[0].headers)["field"] == b"sender_type"


def test_a_registry_that_is_pushed_is_in_force_on_a_running_worker_and_a_wrong_one_is_refused(
    place: Place,
    start: Callable[..., WorkerProcess],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    topic, file = f"{place.input}.registry", tmp_path / "registry.csv"
    topics.create_compacted(place.link.brokers, topic)
    for name, value in environment(place, tmp_path, "command", log_format="json", registry_topic=topic).items():
        monkeypatch.setenv(name, value)
    signed = ("--author", "ana", "--reason", "a test")
    worker = start(registry_topic=topic)
    assert worker.metric("hamgate_registry_brands") == 0
    assert worker.said().count("no registry in its topic") == 1

    assert main(["registry", "show"]) == 1
    assert main(["registry", "push", str(EXAMPLE), *signed]) == 0
    pushed_at = time.monotonic()
    until(lambda: worker.metric("hamgate_registry_brands") == 4)
    assert time.monotonic() - pushed_at < WITHIN + 0.5  # what asking for the metric takes
    capsys.readouterr()
    assert main(["registry", "show"]) == 0
    shown = capsys.readouterr()
    assert shown.out == EXAMPLE.read_text()
    assert "by ana: a test" in shown.err

    file.write_text("name,hosts\nNorthwind,co.uk\n")
    assert main(["registry", "push", str(file), *signed]) == 1
    assert "line 2: hosts: value 1 ('co.uk') is a public suffix" in capsys.readouterr().err
    assert main(["registry", "push", str(EXAMPLE)]) == signals.USAGE
    with Publisher(place.link) as publisher:
        publisher.publish(topic, [Outgoing(b"registry", b"\xff")])
    until(lambda: worker.metric("hamgate_registry_refused_total") == 1)
    assert worker.metric("hamgate_registry_brands") == 4


def test_a_bad_registry_stops_the_start_by_line_and_field(start: Callable[..., WorkerProcess], tmp_path: Path) -> None:
    file = tmp_path / "registry.toml"
    file.write_text('[[brand]]\nname = "Northwind"\nhosts = ["co.uk"]\n')

    worker = start(ready=False, registry=str(file))

    assert worker.ended(60) == 1
    assert "line 3: hosts: value 1 ('co.uk') is a public suffix" in worker.said()
