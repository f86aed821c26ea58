"""Every page with all of it in operation, texts kept among it, by axe-core and in four windows."""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

pytest.importorskip("uvicorn", reason="the console needs the extra `console`")

from deploy.kafka import topics
from tests.console import looks
from tests.console.test_browser import bury
from tests.consoles import PASSWORD, users_file
from tests.integration.harness import until
from tests.integration.test_feedback import Reported, feeding, reported  # noqa: F401 a fixture among them
from tests.running_console import running, settings
from worker.rollout import link as releases

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.integration.harness import WorkerProcess
    from tests.running_console import RunningConsole

pytestmark = [pytest.mark.long, pytest.mark.timeout(900), looks.needs_axe]

ROOT: Final = Path(__file__).resolve().parents[2]
NANO: Final = ROOT / "models" / "nano"
TEXTS: Final = (
    "Running ten minutes late, order me the soup?",
    "Your parcel is held at our depot. Pay the fee of £1.99 at https://depot-fee.example/x7 to avoid return",
    "Mum says dinner is at seven, bring the charger",
    "WINNER!! You have been selected for a £900 prize. Text CLAIM to 80082 now",
    "Your code is 4471. Do not share it with anyone.",
    "ok",
    "Urgent! Your account is locked, verify at http://bank-check.example/login within 24 hours",
    "Can we move the meeting to Thursday? The room is taken on Wednesday and half of us are away anyway",
    "FREE entry in our weekly draw, reply WIN. 150p a message, 18+",
    "Kommst du heute Abend mit ins Kino?",
    "a" * 300,  # a word without a place to break
)
RECIPIENT: Final = "+447700900123"
MANY: Final = 60
REPORTED: Final = range(9)
LONG_HOST: Final = "kafkabroker1.messaging.production.carrier.example"


class KeptEverything:
    """A broker's topics full of messages, verdicts, reports and dead letters; and the settings that show them."""

    def __init__(self, reported: Reported, folder: Path) -> None:  # noqa: F811
        self.reported, self.place, self.folder = reported, reported.place, folder
        self.context = {f"{each}_topic": f"{self.place.input}.{each}" for each in ("lists", "campaigns", "senders")}
        for topic in self.context.values():
            topics.create_compacted(self.place.link.brokers, topic)
        key, self.live, candidates = folder / "text-keys", folder / "live", folder / "candidates"
        key.write_text("f" * 64 + "\n")
        key.chmod(0o600)
        candidates.mkdir()
        (candidates / "half-copied").mkdir()
        copies = [candidates / "nano-again", candidates / "nano-third"]
        for copy in copies:
            shutil.copytree(NANO, copy)
        for bundle in (NANO, *copies):
            releases.use(self.live, bundle)
        releases.back(self.live, copies[0])
        self.settings = {
            **self.context,
            "hash_key_file": reported.settings["hash_key_file"],
            "registry": str(ROOT / "deploy" / "registry.toml"),
            "bundle": str(self.live),
            "console_candidates": candidates,
            "console_text_key_file": key,
            "feedback_topic": reported.topic,
        }

    def send(self, numbers: range) -> None:
        self.reported.send(self.place.input, *(
            {"id": f"m-{n}", "text": TEXTS[n % len(TEXTS)], "sender": f"+44770090{n % 7:04}", "recipient": RECIPIENT}
            for n in numbers
        ))  # fmt: skip

    @contextlib.contextmanager
    def sending(self) -> Iterator[None]:
        """Some messages a second meanwhile."""
        over = threading.Event()

        def send() -> None:
            for number in itertools.count(MANY, 2):
                self.send(range(number, number + 2))
                if over.wait(0.7):
                    return

        thread = threading.Thread(target=send, name="sending")
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def report(self) -> None:
        self.reported.report(*(
            {"reporter": f"r-{n}-{m}", "id": f"m-{n}", "label": "ham" if (n + m) % 4 == 0 else "spam"}
            for n in REPORTED for m in range(1 + n % 4)
        ))  # fmt: skip

    @contextlib.contextmanager
    def console(self, name: str, **more: Any) -> Iterator[RunningConsole]:
        place = replace(self.place, link=replace(self.place.link, brokers=more.pop("brokers", self.place.link.brokers)))
        with running(settings(place, self.folder / name, **self.settings | more)) as console:
            yield console


@pytest.fixture
def everything(reported: Reported, start: Callable[..., WorkerProcess], tmp_path: Path) -> Iterator[KeptEverything]:  # noqa: F811
    made = KeptEverything(reported, tmp_path)
    start(bundle=str(NANO), hash_key_file=made.settings["hash_key_file"], **made.context)
    with feeding(reported, tmp_path / "feedback.log"):
        made.send(range(MANY))
        bury(made.place, *(json.dumps({"text": n}).encode()[: 9 + n] for n in range(4)))
        yield made


def lay(page: Any, made: KeptEverything) -> dict[str, str]:
    """Wait until all is there that the pages show; decide on two of the reports. Returns the pages of single things."""
    page.goto("/history?texts=1")
    until(lambda: page.reload() and page.locator("td.id a").count() == 50, within=60)
    until(lambda: page.reload() and page.locator("text=no text is kept").count() == 0, within=30)
    made.report()
    page.goto("/feedback")
    until(lambda: page.reload() and page.locator("#decisions [data-decision]").count() == len(REPORTED), within=60)
    page.fill("#reason", "parcel scam")
    for number, label in enumerate(("spam", "ham")):
        page.click(f"#decisions [data-decision] >> nth={number} >> [data-decide={label}]")
        page.wait_for_selector(f"#decisions [data-decision] >> nth={number} >> .badge:has-text('{label}')")
    found = {}
    for name, path, link in (
        ("decision", "/feedback?show=waiting", "#decisions a"),
        ("verdict-text", "/history?action=block", "td.id a"),
        ("letter", "/dead-letters", "#letters a"),
    ):
        page.goto(path)
        until(lambda link=link: page.reload() and page.locator(link).count() > 0, within=30)  # type: ignore[misc]
        found[name] = page.get_attribute(f"{link} >> nth=0", "href")
    return found


def judge(page: Any) -> None:
    page.wait_for_selector("#model:has-text('Judged by')")
    page.fill("#text", TEXTS[3])
    page.click("#judge")
    page.wait_for_selector("#explained table")


def judge_lines(page: Any) -> None:
    page.wait_for_selector("#model:has-text('Judged by')")
    content = "\n".join(TEXTS[:10] * 12).encode()
    page.set_input_files("#file", files=[{"name": "many.txt", "mimeType": "text/plain", "buffer": content}])
    page.wait_for_selector("#done:has-text('120 of 120 judged')")


def preview(page: Any) -> None:
    page.check("#letters input >> nth=0")
    page.click("#preview")
    page.wait_for_selector("#said:has-text('1 would be sent back')")


READY: Final[dict[str, Callable[[Any], object]]] = {
    "live": lambda page: page.wait_for_selector("#connection:has-text('Up to date')"),
    "try": judge,
    "try-lines": judge_lines,
    "history-texts": lambda page: page.wait_for_selector("tr.of .message"),
    "feedback-texts": lambda page: page.wait_for_selector("tr.of .message"),
    "feedback-accepted": lambda page: page.wait_for_selector("tr.of .message"),
    "verdict-text": lambda page: page.wait_for_selector(".card .message"),
    "decision": lambda page: page.wait_for_selector(".card .message"),
    "letters": preview,
    "model-further": lambda page: page.click(".turn[data-again] .ask"),
}
PATHS: Final = {
    "live": "/", "try": "/try", "try-lines": "/try", "history": "/history", "history-texts": "/history?texts=1",
    "texts": "/texts", "feedback": "/feedback", "feedback-texts": "/feedback?texts=1",
    "feedback-accepted": "/feedback?show=accepted&texts=1", "letters": "/dead-letters", "model": "/model",
    "model-further": "/model",
}  # fmt: skip


def looked_at(browser: Any, address: str, paths: dict[str, str]) -> dict[str, list[str]]:
    """The faults of each page in each window."""
    found = {}
    for window, page in looks.windows(browser, address):
        for name, path in paths.items():
            page.goto(path)
            READY.get(name, lambda _: None)(page)
            if wrong := looks.faults(page, f"{name}-{window}"):
                found[f"{name}-{window}"] = wrong
    return found


def test_no_page_has_a_serious_fault_or_is_wider_than_its_window_also_with_texts(
    browser: Any, everything: KeptEverything
) -> None:
    with everything.console("console") as console, everything.sending():
        first = browser.new_context(base_url=console.address, locale="en-GB").new_page()
        first.set_default_timeout(60_000)
        single = lay(first, everything)
        first.context.close()

        assert looked_at(browser, console.address, PATHS | single) == {}


def test_one_goes_further_back_on_the_page_by_the_keyboard(browser: Any, everything: KeptEverything) -> None:
    with everything.console("console") as console:
        page = browser.new_context(base_url=console.address, locale="en-GB").new_page()
        page.goto("/model")
        page.focus(".turn[data-again] .ask")
        page.keyboard.press("Enter")
        page.keyboard.press("Enter")
        page.wait_for_selector("#said:has-text('The link points to')", timeout=60_000)
        page.context.close()

    assert everything.live.resolve() == NANO


def test_the_log_in_and_what_a_viewer_is_shown_have_no_serious_fault_either(
    browser: Any, everything: KeptEverything, tmp_path: Path
) -> None:
    found = {}
    with everything.console("console", console_users=users_file(tmp_path)) as console:
        for window, page in looks.windows(browser, console.address):
            page.goto("/")
            found[f"login-{window}"] = looks.faults(page, f"login-{window}")
            page.fill("[name=name]", "viewer-user")
            page.fill("[name=password]", "wrong")
            page.press("[name=password]", "Enter")
            page.wait_for_selector(".fault")
            found[f"login-refused-{window}"] = [*looks.wider(page), *looks.serious(page)]
            page.fill("[name=name]", "viewer-user")
            page.fill("[name=password]", PASSWORD)
            page.press("[name=password]", "Enter")
            page.wait_for_selector("#connection")
            page.goto("/history?texts=1")
            until(lambda page=page: page.reload() and page.locator("tr.of .message").count() == 50, within=60)  # type: ignore[misc]
            found[f"history-masked-{window}"] = looks.faults(page, f"history-masked-{window}")
            assert TEXTS[0] not in page.content()
            assert "xxxxxxx xxx xxxxxxx xxxx, xxxxx xx xxx xxxx?" in page.content()
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


def test_while_the_brokers_are_away_under_a_long_name_no_page_is_wider_than_its_window(
    browser: Any, everything: KeptEverything
) -> None:
    with everything.console("console") as console:
        page = browser.new_context(base_url=console.address).new_page()
        page.goto("/history?texts=1")
        until(lambda: page.reload() and page.locator("tr.of .message").count() == 50, within=60)
        page.context.close()
    with everything.console("console", brokers=f"{LONG_HOST}:9092") as console:
        until(lambda: console.state()["reading"]["away_since"] is not None, within=60)
        page = browser.new_context(base_url=console.address).new_page()
        for path in ("/lists", "/campaigns"):
            page.goto(path)
            until(lambda: page.reload() and page.locator(".fault:has-text('cannot be read since')").count(), within=60)
        page.context.close()
        paths = {"outage": "/", "outage-lists": "/lists", "outage-campaigns": "/campaigns", "outage-texts": "/history"}

        assert looked_at(browser, console.address, paths) == {}
