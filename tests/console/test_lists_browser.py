"""Campaigns and lists as their users have them: in Chromium, with a real worker and broker."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("uvicorn", reason="the console needs the extra `console`")

from deploy.kafka import topics
from tests.console import looks
from tests.integration.harness import until
from tests.running_console import running, settings
from worker.broker import Publisher, Reader
from worker.messages import Action, Outgoing, decode_verdict
from worker.senders.snapshots import KIND, SenderSnapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Place
    from tests.integration.harness import WorkerProcess
    from worker.messages import Verdict

pytestmark = [pytest.mark.timeout(900), pytest.mark.long]

TEXT = "Your parcel is held at our depot. Pay the fee of £{}.99 at https://{}.example/x7 to avoid return"
NUMBER = "+447700900123"
WITHIN = 5.0


def feed(place: Place, numbers: range) -> None:
    events = [
        {"id": f"c-{n}", "text": TEXT.format(n, f"host{n}"), "sender": f"+44770{n:06}", "recipient": NUMBER}
        for n in numbers
    ]
    with Publisher(place.link) as publisher:
        records = [Outgoing(b"+4477009%05d" % (n % 37), json.dumps(each).encode()) for n, each in enumerate(events)]
        publisher.publish(place.input, records)


def verdicts(place: Place) -> dict[str, Verdict]:
    with Reader(place.link, place.verdicts) as reader:
        return {each.id: each for each in (decode_verdict(record.value or b"") for record in reader.to_end())}


@pytest.fixture
def context(place: Place, tmp_path: Path) -> dict[str, str]:
    """Topics of lists, campaigns and senders, a key and a registry: settings of worker and console."""
    key, registry = tmp_path / "hash.key", tmp_path / "registry.toml"
    key.write_text("0123456789abcdef0123456789abcdef\n")
    registry.write_text((Path(__file__).parents[2] / "deploy" / "registry.toml").read_text())
    made = {f"{each}_topic": f"{place.input}.{each}" for each in ("lists", "campaigns", "senders")}
    for topic in made.values():
        topics.create_compacted(place.link.brokers, topic)
    return made | {"hash_key_file": str(key), "registry": str(registry)}


def tab_to(page: Any, wanted: str) -> None:
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement?.matches(selector)", wanted):
            return
    raise AssertionError(wanted)


@pytest.fixture
def campaign(
    browser: Any, place: Place, start: Callable[..., WorkerProcess], context: dict[str, str], tmp_path: Path
) -> Iterator[Any]:
    """The page of a campaign that a worker has told of, opened by the keyboard."""
    start(**context)
    feed(place, range(60))
    with running(settings(place, tmp_path / "console", **context)) as console:
        page = browser.new_context(base_url=console.address, locale="en-GB").new_page()
        page.set_default_timeout(60_000)
        page.goto("/campaigns")
        until(lambda: page.reload() and page.locator("tbody td.id a").count() == 1, within=90)
        tab_to(page, "tbody td.id a")
        page.keyboard.press("Enter")
        page.wait_for_selector("#decide")
        yield page
        page.context.close()


def test_a_campaign_is_blocked_on_its_page_and_its_next_variant_is_blocked_by_that_rule(
    campaign: Any, place: Place
) -> None:
    tab_to(campaign, "#decide [name=reason]")
    campaign.keyboard.type("parcel scam")
    tab_to(campaign, "#decide button.main")
    campaign.keyboard.press("Enter")
    campaign.wait_for_selector("#decide [data-said]:has-text('Written: block campaign exact')")
    written = time.monotonic()
    campaign.wait_for_selector("#fresh .badge.block")
    rule = campaign.locator("#fresh .rule").first.inner_text()
    for number in range(60, 80):
        feed(place, range(number, number + 1))
        until(lambda name=f"c-{number}": name in verdicts(place), within=30)  # type: ignore[misc] # mypy knows no type
        verdict = verdicts(place)[f"c-{number}"]
        if verdict.reason == "list":
            break
    took = time.monotonic() - written

    assert (verdict.action, verdict.reason, verdict.rule) == (Action.BLOCK, "list", rule)
    assert took < WITHIN
    print(f"the next variant was blocked {took:.1f} s after the entry was written")  # noqa: T201 a figure to report


def test_a_verdicts_sender_is_blocked_in_one_click_and_the_entry_removed_by_the_keyboard(campaign: Any) -> None:
    faults: list[str] = []
    campaign.on("console", lambda said: faults.append(said.text) if said.type in ("error", "warning") else None)
    campaign.on("pageerror", lambda error: faults.append(str(error)))
    campaign.goto("/history?id=c-7")
    until(lambda: campaign.reload() and campaign.locator("td.id a").count() == 1, within=60)
    campaign.click("td.id a")
    tab_to(campaign, "#sender button.main")
    campaign.keyboard.press("Enter")
    campaign.wait_for_selector("#sender [data-said]:has-text('Written: block sender exact hashed')")
    assert "44770000007" not in campaign.content()
    campaign.goto("/lists?what=sender")
    campaign.wait_for_selector("#fresh .entries .badge.block")
    tab_to(campaign, "#fresh summary")
    campaign.keyboard.press("Enter")
    tab_to(campaign, "#fresh [name=reason]")
    campaign.keyboard.type("a mistake")
    campaign.keyboard.press("Enter")
    campaign.wait_for_selector("#said:has-text('Removed: block sender')")
    campaign.wait_for_selector("#fresh tr.none")
    campaign.wait_for_function("() => document.activeElement.id === 'said'")
    assert faults == []
    _import_a_wrong_file(campaign)


def _import_a_wrong_file(page: Any) -> None:
    page.set_input_files("#import [name=text]", files=[{
        "name": "lists.csv", "mimeType": "text/csv",
        "buffer": b"action,what,value\nblock,link-host,evil.example\nblock,sender,*\n",
    }])  # fmt: skip
    page.fill("#import [name=reason]", "a file")
    page.click("#import button.main")
    page.wait_for_selector("#import [data-fault]:has-text('Line 3: wildcard')")


def fill_lists(place: Place, page: Any, context: dict[str, str], hashed: Callable[[str, str], str]) -> None:
    """Entries of all kinds, by the forms; and a sender's snapshot."""
    now = time.time()
    snapshot = SenderSnapshot(now - 40, now - 5400, 180.0, 31, 0.72, 50, 0.96, 64)
    with Publisher(place.link) as publisher:
        value = json.dumps({name: getattr(snapshot, name) for name in snapshot.__struct_fields__}).encode()
        publisher.publish(context["senders_topic"], [Outgoing(hashed(KIND, NUMBER[1:]).encode(), value)])
    page.goto("/lists")
    for action, what, match, value, reason in (
        ("block", "link-host", "suffix", "evil.example", "parcel scam, seen since Monday"),
        ("allow", "sender", "exact", "MyBank", "contract 7"),
        ("block", "number", "prefix", "+44 9061", "premium rate?"),
        ("flag", "sender", "exact", NUMBER, "asked by the desk"),
    ):
        for name, chosen in (("action", action), ("what", what), ("match", match)):
            page.select_option(f"#add [name={name}]", chosen)
        page.fill("#add [name=value]", value)
        page.fill("#add [name=reason]", reason)
        page.set_checked("#add [name=dry_run]", what == "number")
        page.click("#add button.main")
        page.wait_for_selector(f"#add [data-said]:has-text('Written: {action}')")
        page.wait_for_function("() => !document.querySelector('#add button').disabled")


@looks.needs_axe
def test_no_page_of_lists_and_campaigns_has_a_serious_fault_or_is_wider_than_its_window(
    browser: Any, place: Place, start: Callable[..., WorkerProcess], context: dict[str, str], tmp_path: Path
) -> None:
    start(**context)
    feed(place, range(80))
    with running(settings(place, tmp_path / "console", **context)) as console:
        hashing = console.console._context.hashing
        assert hashing
        first = browser.new_context(base_url=console.address, locale="en-GB").new_page()
        first.goto("/campaigns")
        until(lambda: first.reload() and first.locator("tbody td.id a").count() == 1, within=90)
        campaign = first.get_attribute("tbody td.id a", "href")
        first.goto(campaign)
        first.fill("#decide [name=reason]", "parcel scam")
        first.click("#decide button.main")
        first.wait_for_selector("#fresh .badge.block")
        fill_lists(place, first, context, hashing.of)
        first.goto("/history?campaign=" + campaign.rpartition("/")[2])
        verdict = first.get_attribute("td.id a >> nth=0", "href")
        first.context.close()
        found: dict[str, list[str]] = {}
        for window, page in looks.windows(browser, console.address):
            for name, path in (
                ("campaigns", "/campaigns"), ("campaign", campaign), ("lists", "/lists"),
                ("lists-add", "/lists#add-title"), ("registry", "/lists/registry"), ("sender", "/lists/senders"),
                ("verdict", verdict),
            ):  # fmt: skip
                page.goto(path)
                if name == "sender":
                    page.fill("[name=sender]", NUMBER)
                    page.press("[name=sender]", "Enter")
                    page.wait_for_selector("#found")
                if name == "lists":
                    page.click("#fresh summary >> nth=0")
                if wrong := looks.faults(page, f"{name}-{window}"):
                    found[f"{name}-{window}"] = wrong
        assert found == {}
