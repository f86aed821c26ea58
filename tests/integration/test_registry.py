"""The sender registry in a real worker: one text, judged by who sends it and where its link leads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from tests.integration.harness import Watch, WorkerProcess, until
from worker.broker import Publisher
from worker.messages import Action, DryRun, Outgoing, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Place

EXAMPLE = Path(__file__).parents[2] / "deploy" / "registry.toml"
TEXT = "Northwind: call a number, win a prize at https://{}/prize"
OWN, FOREIGN = TEXT.format("northwind.example"), TEXT.format("northwind-prize.example")
PERSON, BRAND = "+447700900123", "NORTHWIND"
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


def test_a_bad_registry_stops_the_start_by_line_and_field(start: Callable[..., WorkerProcess], tmp_path: Path) -> None:
    file = tmp_path / "registry.toml"
    file.write_text('[[brand]]\nname = "Northwind"\nhosts = ["co.uk"]\n')

    worker = start(ready=False, registry=str(file))

    assert worker.ended(60) == 1
    assert "line 3: hosts: value 1 ('co.uk') is a public suffix" in worker.said()
