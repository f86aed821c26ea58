"""The console as its users have it: in Chromium, with a real worker and broker."""

from __future__ import annotations

import json
import time
from statistics import median
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("uvicorn", reason="the console needs the extra `console`")

from tests.consoles import BIDI, CONTROL, HTML, PASSWORD, buried, judged, users_file
from tests.integration.harness import until
from tests.running_console import running, settings
from worker.broker import Publisher, Reader
from worker.messages import Action, Outgoing, decode_verdict

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Place
    from tests.integration.harness import WorkerProcess
    from tests.running_console import RunningConsole

pytestmark = pytest.mark.timeout(600)

SPAM = "WINNER!! Call 09061701461 to claim your prize"
SIZES = {"desktop": (1280, 860), "phone": (390, 844)}
PAGES = ("/", "/try", "/history", "/campaigns", "/lists", "/dead-letters", "/feedback", "/model")
# Notes when a message's row appears, by the browser's clock, which is the broker's here.
WATCH = """() => {
  window.seen = {};
  new MutationObserver(() => {
    for (const link of document.querySelectorAll("#newest a")) window.seen[link.textContent] ??= Date.now() / 1000;
  }).observe(document.getElementById("newest"), { childList: true, subtree: true });
}"""


def send(place: Place, *events: dict[str, str]) -> None:
    with Publisher(place.link) as publisher:
        publisher.publish(place.input, [Outgoing(b"+447700900123", json.dumps(event).encode()) for event in events])


def publish(place: Place, *fields: dict[str, Any]) -> None:
    made = [judged(n, **each)[0] for n, each in enumerate(fields)]
    with Publisher(place.link) as publisher:
        publisher.publish(place.verdicts, [Outgoing(each.key, each.value) for each in made])


def bury(place: Place, *events: bytes) -> None:
    letters = [buried(n, value, headers=((HTML, BIDI.encode()),)) for n, value in enumerate(events)]
    with Publisher(place.link) as publisher:
        publisher.publish(place.dead_letters, [Outgoing(each.key, each.value, each.headers) for each in letters])


def test_a_verdict_is_on_the_live_page_within_a_second(
    page: Any, place: Place, start: Callable[..., WorkerProcess]
) -> None:
    start()
    page.goto("/")
    page.wait_for_selector("#connection:has-text('Up to date')")
    page.evaluate(WATCH)
    names = [f"live-{n}" for n in range(7)]
    for name in names:
        send(place, {"id": name, "text": "see you at eight"})
        page.wait_for_selector(f"#newest a:has-text('{name}')")
        time.sleep(0.3)
    with Reader(place.link, place.verdicts) as reader:
        given = {decode_verdict(record.value or b"").id: record.timestamp for record in reader.to_end()}
    seen = page.evaluate("window.seen")
    delays = [seen[name] - given[name] for name in names]

    assert median(delays) < 1, delays
    assert page.inner_text("#deliver") != "–"
    assert page.locator("#chart canvas").count() == 1


def test_a_typed_message_is_judged_explained_and_what_if_is_redrawn_without_asking(page: Any) -> None:
    page.goto("/try")
    page.wait_for_selector("#model:has-text('Judged by nano@')")
    page.fill("#text", SPAM)
    page.press("#text", "Control+Enter")
    page.wait_for_selector("#explained table")

    assert page.inner_text("#verdict .badge") == "block"
    assert page.inner_text("#explained tbody tr >> nth=0").split("\t")[0] in {"prize", "09061701461", "WINNER!!"}
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.locator("#block-from").fill("1")
    assert page.inner_text("#verdict .badge") == "flag"
    assert page.inner_text("#what-if") == "It would be flag in place of block."
    page.locator("#flag-from").fill("1")
    page.locator("#block-from").fill("1")
    page.click("#reset")
    assert page.inner_text("#verdict .badge") == "block"
    assert asked == []


@pytest.mark.long
def test_a_file_of_a_thousand_messages_is_judged_with_progress(page: Any, tmp_path: Path) -> None:
    lines = [f"{SPAM} {n}" if n % 10 == 0 else f"see you at {n}" for n in range(1000)]
    (tmp_path / HTML.replace("/", "")).write_text("\n".join(lines))
    page.goto("/try")
    page.wait_for_selector("#model:has-text('Judged by')")
    page.evaluate(
        """() => { window.steps = [];
        new MutationObserver(() => window.steps.push(document.getElementById("bar").value))
          .observe(document.getElementById("done"), { childList: true, characterData: true, subtree: true }); }"""
    )
    page.set_input_files("#file", tmp_path / HTML.replace("/", ""))
    page.wait_for_selector("#done:has-text('1,000 of 1,000 judged')")

    steps = page.evaluate("window.steps")
    assert steps == sorted(steps)
    assert len(set(steps)) == 20
    assert page.locator("#rows tr").count() == 1000
    page.select_option("#only", "block")
    assert 80 <= page.locator("#rows tr").count() <= 120
    page.click("#rows button >> nth=0")
    page.wait_for_selector("#rows tr[data-why] table")


def test_a_file_that_is_too_long_is_refused_with_the_limit(page: Any, tmp_path: Path) -> None:
    (tmp_path / "many.txt").write_text("a\n" * 1001)
    page.goto("/try")
    page.wait_for_selector("#model:has-text('Judged by')")
    page.set_input_files("#file", tmp_path / "many.txt")
    page.wait_for_selector("#fault:visible")

    assert page.inner_text("#fault") == "1,001 lines; 1,000 at most."


def test_a_dead_letter_is_previewed_sent_back_and_answered(
    page: Any, place: Place, start: Callable[..., WorkerProcess]
) -> None:
    start()
    bury(place, *(json.dumps({"id": f"sent-back-{n}", "text": "hello"}).encode() for n in range(3)))
    page.goto("/dead-letters")
    until(lambda: page.reload() and page.locator("#letters tr input").count() == 3, within=60)
    page.check("#letters input >> nth=1")
    page.click("#preview")
    page.wait_for_selector("#said:has-text('1 would be sent back: 1 invalid-json.')")
    page.click("#send")
    page.wait_for_selector("#said:has-text('1 sent back to the input: 1 invalid-json.')")
    page.goto("/")
    page.wait_for_selector("#newest a:has-text('sent-back-')")
    page.goto("/dead-letters?reason=invalid-json")
    page.click("#preview-all")
    page.wait_for_selector("#said:has-text('2 would be sent back')")
    assert "1 left: sent back before." in page.inner_text("#said")


@pytest.mark.long
def test_every_step_of_a_redrive_can_be_taken_by_the_keyboard(page: Any, place: Place) -> None:
    bury(place, b'{"text": "hello"}')
    page.goto("/dead-letters")
    until(lambda: page.reload() and page.locator("#letters tr input").count() == 1, within=60)

    def tab_to(wanted: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("selector => document.activeElement.matches(selector)", wanted):
                return
        raise AssertionError(wanted)

    tab_to("#letters input")
    page.keyboard.press("Space")
    page.evaluate("document.getElementById('content').focus()")
    tab_to("#preview")
    page.keyboard.press("Enter")
    page.wait_for_selector("#send:visible")
    tab_to("#send")
    page.keyboard.press("Enter")
    page.wait_for_selector("#said:has-text('1 sent back')")
    outline = page.evaluate(
        "() => { const a = document.querySelector('nav a'); a.focus(); return getComputedStyle(a).outlineStyle }"
    )
    assert outline in ("solid", "auto")


def test_hostile_verdicts_letters_and_texts_run_nothing_and_steer_nothing(page: Any, place: Place) -> None:
    publish(
        place,
        *(
            {"id": each, "model": each, "flags": (each,), "label": each, "action": Action.BLOCK}
            for each in (HTML, BIDI, CONTROL)
        ),
    )
    bury(place, HTML.encode(), BIDI.encode(), CONTROL.encode(), b"x" * 100_000)
    page.goto("/")
    until(lambda: page.locator("#newest a").count() == 3)
    page.goto("/history")
    until(lambda: page.reload() and page.locator("td.id a").count() == 3)
    for link in [each.get_attribute("href") for each in page.locator("td.id a").all()]:
        page.goto(link)
    page.goto("/dead-letters")
    until(lambda: page.reload() and page.locator("#letters tr input").count() == 4, within=60)
    for link in [each.get_attribute("href") for each in page.locator("#letters a").all()]:
        page.goto(link)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.goto("/try")
    page.wait_for_selector("#model:has-text('Judged by')")
    for text in (HTML, BIDI, CONTROL.replace("\x00", ""), HTML * 1000):
        page.fill("#text", text)
        page.click("#judge")
        page.wait_for_selector("#explained .words")
        assert page.locator("#content img, #content script").count() == 0
        assert not set(page.inner_text("#one")) & set("\u202e\u202c\x1b\x07")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_viewer_logs_in_sees_and_is_offered_nothing_that_changes(browser: Any, place: Place, tmp_path: Path) -> None:
    bury(place, b'{"text": "secret"}')
    with running(settings(place, tmp_path / "console", console_users=users_file(tmp_path))) as console:
        page = browser.new_context(base_url=console.address, locale="en-GB").new_page()
        page.goto("/history")
        page.fill("[name=name]", "viewer-user")
        page.fill("[name=password]", PASSWORD)
        page.press("[name=password]", "Enter")
        page.wait_for_selector("#connection")
        assert page.locator("nav a").all_inner_texts() == [
            *("Live", "History", "Campaigns", "Lists and senders", "Feedback", "Model", "Dead letters")
        ]
        page.goto("/dead-letters")
        until(lambda: page.reload() and page.locator("#letters a").count() == 1, within=60)
        assert page.locator("main button, main input").count() == 0
        page.click("#letters a")
        assert "secret" not in page.inner_text("main")
        page.click("text=Log out")
        page.wait_for_selector("[name=password]")
        page.context.close()


@pytest.mark.long
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_is_wider_than_its_window_and_each_is_drawn_within_a_second(
    browser: Any, console: RunningConsole, place: Place, size: str, scheme: str
) -> None:
    publish(place, *({"id": f"m-{n}", "flags": ("outside", "normalised", "one-time-code")} for n in range(60)))
    width, height = SIZES[size]
    context = browser.new_context(
        base_url=console.address, locale="en-GB", color_scheme=scheme, viewport={"width": width, "height": height}
    )
    page = context.new_page()
    for path in PAGES:
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        times = []
        for _ in range(3):
            page.reload()
            times.append(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0"))
        assert min(times) < 1000
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert ground == ("rgb(246, 247, 249)" if scheme == "light" else "rgb(16, 19, 24)")
    context.close()
