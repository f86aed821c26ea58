"""The console's lists on a real broker: written, read back, and a verdict's sender hashed where its message lies."""

from __future__ import annotations

import json
import urllib.error
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("uvicorn", reason="the console needs the extra `console`")

from deploy.kafka import topics
from tests.consoles import judged
from tests.integration.harness import until
from tests.running_console import running, settings
from worker.broker import Publisher, Reader
from worker.messages import Outgoing, RecordSource
from worker.policy.lists.entries import decode

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Place

CAMPAIGN = "67fafdfa4dbe71a6"
REASON = {"reason": "a test"}


def test_what_the_console_lists_is_on_the_topic_and_a_topic_that_is_missing_stops_nothing(
    place: Place, tmp_path: Path
) -> None:
    lists, key = f"{place.input}.lists", tmp_path / "hash.key"
    key.write_text("0123456789abcdef0123456789abcdef\n")
    topics.create_compacted(place.link.brokers, lists)
    event = json.dumps({"id": "e-1", "text": "hello", "sender": "+447700900123"}).encode()
    with Publisher(place.link) as publisher:
        publisher.publish(place.input, [Outgoing(b"k", event)])
    with Reader(place.link, place.input) as reader:
        [record] = reader.to_end()
    source = RecordSource(place.input, record.partition, record.offset, round(record.timestamp * 1000))
    lost = RecordSource(place.input, record.partition, record.offset + 5, 0)
    with Publisher(place.link) as publisher:
        for number, each in enumerate((source, lost)):
            verdict = judged(number, id="e-1", source=each)[0]
            publisher.publish(place.verdicts, [Outgoing(b"k", verdict.value)])
    made = settings(
        place, tmp_path / "console", lists_topic=lists, hash_key_file=key,
        campaigns_topic=f"{place.input}.nowhere",
    )  # fmt: skip

    with running(made) as console:
        until(lambda: console.page("/history").count(">e-1<") == 2, within=30)
        blocked = console.ask("/api/lists/add", {"action": "block", "what": "campaign", "value": CAMPAIGN, **REASON})
        assert blocked["rule"] in console.page("/lists")
        assert "nowhere cannot be read since" in console.page("/campaigns")
        with Reader(place.link, place.verdicts) as reader:
            first, second = reader.to_end()
        asked = {"partition": first.partition, "action": "block", **REASON}
        sender = console.ask("/api/lists/sender-of-verdict", asked | {"offset": first.offset})
        assert sender["rule"] in console.page(f"/lists?rule={sender['rule']}")
        with pytest.raises(urllib.error.HTTPError, match="422"):
            console.ask("/api/lists/sender-of-verdict", asked | {"offset": second.offset})
        console.ask("/api/lists/remove", {"rule": blocked["rule"], **REASON})
        assert blocked["rule"] not in console.page("/lists")

    with Reader(place.link, lists) as reader:
        records = list(reader.to_end())
    entries = [decode(each.key, each.value) if each.value else None for each in records]
    assert [entry.rule if entry else None for entry in entries] == [blocked["rule"], sender["rule"], None]
    kept = [each.value or b"" for each in records] + [path.read_bytes() for path in (tmp_path / "console").iterdir()]
    assert b"900123" not in b"".join(kept)
