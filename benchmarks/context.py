"""The cost of what is known beside the text: the whole way with lists, registry, senders and campaigns, and without.

    python -m benchmarks.context [--messages 40000] [--rounds 3] [--brokers HOST:PORT]

The real worker with the shipped bundle on the CPU works off a backlog that was there before it, exactly once, on a
broker of its own on the same cores. Every event has a sender and a recipient; one in five belongs to a campaign. The
lists hold 1,000 entries, of which some match.
"""

from __future__ import annotations

import argparse
import json
import random
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

from benchmarks import end_to_end, texts
from deploy.kafka import topics
from training import results
from worker.broker import Publisher
from worker.messages import Outgoing
from worker.settings import PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT: Final = Path(__file__).resolve().parents[1]
_SENDERS, _RECIPIENTS, _CAMPAIGNS = 5_000, 20_000, 20
_IN_CAMPAIGN: Final = 0.2
_ENTRIES: Final = 1_000
_GOAL: Final = 0.85
_PARTS: Final = {"none": (), "no-campaigns": ("lists", "senders"), "all": ("lists", "senders", "campaigns")}
_KINDS: Final = tuple(_PARTS)


def main() -> int:
    """Measure by turns, print, record."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.context", description=__doc__)
    parser.add_argument("--messages", type=int, default=40_000, help="backlog of each run")
    parser.add_argument("--rounds", type=int, default=3, help="of each kind; the median is recorded")
    parser.add_argument("--brokers", help="a broker that runs already; none: one of its own")
    parser.add_argument("--bundle", type=Path, default=end_to_end.SHIPPED_BUNDLE)
    options = parser.parse_args()
    options.threads, options.delivery = 2, "exactly-once"
    rates: dict[str, list[float]] = {kind: [] for kind in _KINDS}
    with tempfile.TemporaryDirectory() as folder, end_to_end.broker(options) as (bootstrap, _):
        key = Path(folder) / "keys"
        key.write_text(secrets.token_hex(32) + "\n")
        for _ in range(options.rounds):
            for kind, found in rates.items():
                with Informed(bootstrap, options, key, kind) as place:
                    found.append(place.work_off(options.messages))
                    encode = place.stages({})["encode"]
                print(f"{kind}: {found[-1]:,.0f} msg/s, encode {encode} ms", flush=True)
    alone = median(rates["none"])
    extra = {"messages": options.messages, "entries": _ENTRIES, "messages_a_second": rates, "wanted": _GOAL}
    made = []
    for kind in _KINDS[1:]:
        kept = median(rates[kind]) / alone
        print(f"{kind}: {kept:.3f} of the throughput without; wanted: {_GOAL}")
        made.append(results.Entry(f"worker/context/{kind}/share-of-throughput", "ratio", round(kept, 4), extra=extra))
    print(results.record("context", made))
    return 0


class Informed(end_to_end.Place):
    """A worker with all that it can know beside the text; `kind` says how much of it."""

    def __init__(self, bootstrap: str, options: argparse.Namespace, key: Path, kind: str) -> None:
        super().__init__(bootstrap, options.bundle.resolve(), "cpu", options)
        self._is_on, self._key = kind != "none", key
        self._more = {part: f"{self.name}.{part}" for part in _PARTS[kind]}

    def environment(self) -> dict[str, str]:
        """And the settings that turn it on."""
        mine = super().environment()
        if not self._is_on:
            return mine
        named = {f"{PREFIX}{part.upper()}_TOPIC": topic for part, topic in self._more.items()}
        return mine | named | {
            f"{PREFIX}HASH_KEY_FILE": str(self._key),
            f"{PREFIX}REGISTRY": str(_ROOT / "deploy" / "registry.toml"),
            f"{PREFIX}SENDERS_RULE": "on",
        }  # fmt: skip

    def fill(self, messages: int) -> None:
        """Make the backlog, and what the lists hold."""
        dice = random.Random(0)
        if self._is_on:
            self._prepare()
        with Publisher(self.link) as publisher:
            batch: list[Outgoing] = []
            for each in _events(messages, dice):
                batch.append(each)
                if len(batch) == 2048:  # noqa: PLR2004
                    publisher.publish(self.topics[0], batch)
                    batch = []
            publisher.publish(self.topics[0], batch)
        self.published = messages

    def _prepare(self) -> None:
        """Make the compacted topics, and fill the lists."""
        for name in self._more.values():
            topics.create_compacted(self.link.brokers, name)
        with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
            file.write("action,what,match,value,author,reason\n")
            for number in range(_ENTRIES):
                what = "link-host,suffix,shop-{}.example" if number % 2 else "sender,exact,+4477009{:05}"
                file.write(f"block,{what.format(number)},benchmark,one of many\n")
            file.flush()
            command = [sys.executable, "-m", "worker", "lists", "import", file.name, "--max-share", "0.5"]
            subprocess.run(command, env=self.environment(), check=True, stdout=subprocess.DEVNULL)  # noqa: S603 our own


def _events(messages: int, dice: random.Random) -> Iterator[Outgoing]:
    """Texts of the stream, one in five of them a variant of a campaign's."""
    wordings = [f"Your parcel {each} waits for a fee of {{}} at post-{{}}.example" for each in range(_CAMPAIGNS)]
    for number, text in enumerate(texts.stream(messages)):
        sender, recipient = dice.randrange(_SENDERS), dice.randrange(_RECIPIENTS)
        if dice.random() < _IN_CAMPAIGN:
            text = dice.choice(wordings).format(dice.randrange(9999), dice.randrange(99))  # noqa: PLW2901
        event = {
            "id": str(number), "text": text,
            "sender": f"+4477009{sender:05}", "recipient": f"+4477018{recipient:05}",
        }  # fmt: skip
        yield Outgoing(f"+{sender}".encode(), json.dumps(event).encode())


if __name__ == "__main__":
    sys.exit(main())
