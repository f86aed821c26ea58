"""Feedback to a new model and back, as an analyst and an operator do it: in Chromium, with a real worker and broker."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pytest

pytest.importorskip("uvicorn", reason="the console needs the extra `console`")

from deploy.kafka.node import die_with_parent, free_port
from tests import toy_messages
from tests.console.conftest import TOOLS
from tests.integration.harness import until
from tests.integration.test_feedback import Reported, feeding, reported, variables  # noqa: F401 a fixture among them
from tests.integration.test_training_commands import (  # noqa: F401 fixtures among them
    collection,
    hub,
    offline,
    recipe,
    run,
)
from training.__main__ import main as training

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

AXE: Final = TOOLS / "axe.min.js"
PATIENCE: Final = 90.0
TEXTS: Final = tuple(f"{word} bring mum home noon charger" for word in toy_messages.WORDS)


@contextlib.contextmanager
def command(log: Path, given: dict[str, str], *words: str, answers: str) -> Iterator[None]:
    """A command as a user runs it, from when it answers."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "worker", *words], env=given, stdout=output, stderr=output,
            preexec_fn=die_with_parent(),  # noqa: PLW1509 one prctl, made ready before the fork
        )  # fmt: skip
    try:
        until(lambda: _is_there(answers), within=PATIENCE)
        yield
    finally:
        process.terminate()
        process.wait(60)
        print(f"{log.name}:\n{log.read_text(errors='replace')[-3000:]}")  # noqa: T201 for a test that has failed


def _is_there(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def tab_to(page: Any, wanted: str) -> None:
    """Go to an element by the keyboard alone."""
    for _ in range(200):
        page.keyboard.press("Tab")
        if page.evaluate("wanted => document.activeElement.matches(wanted)", wanted):
            return
    raise AssertionError(wanted)


def faults_of(page: Any) -> list[Any]:
    """What axe-core finds on a page, where it is among the tools."""
    if not AXE.is_file():
        return []
    page.evaluate(AXE.read_text())
    found: list[Any] = page.evaluate(
        "async () => (await axe.run()).violations.map(v => [v.impact, v.id, v.nodes[0].html.slice(0, 200)])"
    )
    return [each for each in found if each[0] in ("serious", "critical")]


def judged(page: Any, name: str) -> str | None:
    """The label of a message's newest verdict, as the history says."""
    page.goto(f"/history?id={name}")
    rows = page.locator("tbody tr:has(td.id)")
    return rows.first.locator("td >> nth=3").inner_text() if rows.count() else None


def tasks(*names: str) -> list[dict[str, Any]]:
    """What Label Studio exports of messages that somebody has annotated as spam."""
    return [
        {
            "id": number, "project": 1, "data": {"text": "…", "id": name}, "predictions": [],
            "annotations": [{
                "id": number, "was_cancelled": False, "completed_by": 1,
                "result": [{"from_name": "label", "to_name": "text", "type": "choices",
                            "value": {"choices": ["spam"]}}],
            }],
        }
        for number, name in enumerate(names, 1)
    ]  # fmt: skip


NAMES: Final = tuple(f"m-{number}" for number in range(len(TEXTS)))


@dataclass
class Walk:
    """A browser's page, and what stands behind it: topics, a link to the bundle in force, a folder of candidates."""

    page: Any
    other: Any
    reported: Reported
    folder: Path
    sent: int = 0

    @property
    def live(self) -> Path:
        return self.folder / "live"

    def give(self) -> None:
        """A subscriber's report, one click in the history, and a file of Label Studio."""
        page, labelled = self.page, self.folder / "labelled.json"
        self.reported.report({"reporter": "a", "id": NAMES[0]})
        judged(page, NAMES[1])
        tab_to(page, "[data-learn] button[data-label=spam]")
        page.keyboard.press("Enter")
        page.wait_for_selector("[data-learn] :text('sent as')")
        labelled.write_text(json.dumps(tasks(*NAMES[2:], "not-a-message")))
        page.goto("/feedback")
        page.set_input_files("#tasks", labelled)
        page.wait_for_selector(f"#import-said:has-text('{len(NAMES) - 1} corrections would be sent')")
        page.focus("#import-send")
        page.keyboard.press("Enter")
        page.wait_for_selector(f"#import-said:has-text('{len(NAMES) - 1} corrections sent')")

    def review(self) -> None:
        """The one that waits, by the keyboard."""
        page = self.page
        until(lambda: self.rows("/feedback") == 1, within=PATIENCE)
        assert faults_of(page) == []
        tab_to(page, "[data-decide=spam]")
        page.keyboard.press("d")
        page.wait_for_selector("#fault:has-text('A dismissal needs a reason.')")
        page.keyboard.type("parcel scam")
        tab_to(page, "[data-decide=spam]")
        page.keyboard.press("s")
        page.wait_for_selector("#decisions .state .badge.block")
        until(lambda: self.rows("/feedback?show=accepted") == len(NAMES), within=PATIENCE)
        assert "parcel scam" in page.inner_text("#decisions")
        page.click("#decisions a >> nth=0")
        page.wait_for_selector("text=Who did what")
        assert faults_of(page) == []

    def rows(self, path: str) -> int:
        self.page.goto(path)
        return int(self.page.locator("#decisions [data-decision]").count())

    def promote(self) -> None:
        """By the keyboard, with a look at what is confirmed."""
        page = self.page
        page.goto("/model")
        page.wait_for_selector("text=by paired tests")
        assert faults_of(page) == []
        digests = [page.get_attribute("[data-turn=use]", f"data-{name}") for name in ("in-force", "digest")]
        tab_to(page, "[data-turn=use] .ask")
        page.keyboard.press("Enter")
        said = page.inner_text("[data-turn=use] .confirm")
        assert all(digest in said for digest in digests)
        assert faults_of(page) == []
        page.keyboard.press("Escape")
        assert not page.is_visible("[data-turn=use] .confirm")
        page.keyboard.press("Enter")
        page.keyboard.press("Enter")
        page.wait_for_selector("#said:has-text('The link points to')")

    def go_back(self) -> None:
        """By the keyboard, too."""
        self.page.goto("/model")
        tab_to(self.page, "[data-turn=back] .ask")
        self.page.keyboard.press("Enter")
        self.page.keyboard.press("Enter")
        self.page.wait_for_selector("#said:has-text('The link points to')")

    def judged_anew(self) -> str | None:
        """Send the first text once more, and return the label of its verdict."""
        self.sent += 1
        name = f"again-{self.sent}"
        self.reported.send(self.reported.place.input, {"id": name, "text": TEXTS[0]})
        until(lambda: judged(self.other, name) is not None, within=PATIENCE)
        return judged(self.other, name)


@contextlib.contextmanager
def walking(browser: Any, reported: Reported, folder: Path, given: dict[str, str]) -> Iterator[Walk]:  # noqa: F811
    """A worker, the process that decides, a console, and a browser before it that must have nothing to complain of."""
    ports = {name: str(free_port()) for name in ("console", "metrics")}
    address = f"http://127.0.0.1:{ports['console']}"
    given |= {"HAMGATE_CONSOLE_PORT": ports["console"], "HAMGATE_METRICS_PORT": ports["metrics"]}
    ready = f"http://127.0.0.1:{ports['metrics']}/readyz"
    wrong: list[str] = []
    with contextlib.ExitStack() as opened:
        opened.enter_context(command(folder / "worker.log", given, "run", answers=ready))
        opened.enter_context(command(folder / "console.log", given, "console", answers=f"{address}/healthz"))
        opened.enter_context(feeding(reported, folder / "feedback.log"))
        context = browser.new_context(base_url=address, locale="en-GB", viewport={"width": 1280, "height": 860})
        context.set_default_timeout(60_000)
        opened.callback(context.close)
        pages = [context.new_page(), context.new_page()]
        for page in pages:
            page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
            page.on("pageerror", lambda error: wrong.append(str(error)))
        yield Walk(*pages, reported, folder)
        assert wrong == []


def test_feedback_is_given_reviewed_retrained_compared_promoted_and_taken_back_on_the_pages(
    browser: Any,
    reported: Reported,  # noqa: F811
    collection: Path,  # noqa: F811
    hub: Path,  # noqa: F811
    recipe: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    chosen = ["--recipe", str(recipe), "--data", str(collection)]
    old, source, new = (tmp_path / name for name in ("old", "reports.jsonl", "candidates/next"))
    runs = [str(tmp_path / name) for name in ("run-old", "run-new")]
    run(["train", runs[0], *chosen], ["export", runs[0], str(old), *chosen], hub=hub)
    new.parent.mkdir()
    (tmp_path / "live").symlink_to(old)
    given = os.environ | offline(hub) | reported.environment()
    given |= {"HAMGATE_BUNDLE": str(tmp_path / "live"), "HAMGATE_CONSOLE_CANDIDATES": str(new.parent)}
    given |= {"HAMGATE_CONSOLE_FOLDER": str(tmp_path / "console")}
    with walking(browser, reported, tmp_path, given) as walk:
        events = [{"id": name, "text": text} for name, text in zip(NAMES, TEXTS, strict=True)]
        reported.send(reported.place.input, *events)
        until(lambda: judged(walk.page, NAMES[-1]) == "ham", within=PATIENCE)
        assert judged(walk.page, NAMES[0]) == "ham"
        assert faults_of(walk.page) == []
        walk.give()
        walk.review()

        with variables(reported.environment()):
            assert training(["feedback", "--out", str(source)]) == 0
        more = [*chosen, "--data", str(source)]
        compare = ["compare", str(new), str(old), "--data", str(collection), "--out"]
        run(["train", runs[1], *more], ["export", runs[1], str(new), *more], compare, hub=hub)

        walk.promote()
        assert walk.live.resolve() == new
        until(lambda: walk.judged_anew() == "spam", within=PATIENCE)
        walk.page.wait_for_selector("#said:has-text('the newest verdict is by it')")
        walk.go_back()
        assert walk.live.resolve() == old
        until(lambda: walk.judged_anew() == "ham", within=PATIENCE)
    noted = [json.loads(line) for line in (tmp_path / "console" / "audit.jsonl").read_text().splitlines()]
    assert [each["what"] for each in noted] == [
        "feedback learnt", "feedback imported", "feedback decided", "model promoted", "model gone back",
    ]  # fmt: skip
    assert not any(text in json.dumps(noted) for text in TEXTS)
