"""What is known beside the text, all of it on: topics with entries of every kind, some of which the traffic matches."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Final

from deploy.kafka import topics
from tests.delivery.traffic import RECIPIENTS, SENDERS, host, number_to_call
from tests.listed import listed
from worker.broker import KafkaLink, Publisher
from worker.messages import Outgoing
from worker.policy.hashing import Hashing
from worker.policy.lists.entries import encode
from worker.policy.registry.following import record_of

if TYPE_CHECKING:
    from worker.policy.lists.entries import ListEntry

LISTS, REGISTRY, CAMPAIGNS, SENDERS_TOPIC = "km.lists", "km.registry", "km.campaigns", "km.senders"
_REGISTRY: Final = Path(__file__).parents[2] / "deploy" / "registry.toml"
_STRANGERS: Final = 200
"""Entries of each kind that nothing matches."""


class ContextOn:
    """The settings that turn all of it on, and what the topics must hold before a worker starts."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._key = folder / "hash.key"
        self._key.write_text(f"{secrets.token_hex(32)}\n")
        self.settings = {
            "lists_topic": LISTS,
            "registry_topic": REGISTRY,
            "campaigns_topic": CAMPAIGNS,
            "campaigns_rule": "on",
            "senders_topic": SENDERS_TOPIC,
            "senders_rule": "on",
            "hash_key_file": str(self._key),
        }

    def make(self, brokers: str) -> None:
        """Make the topics, and write the entries and the registry."""
        for topic in (LISTS, REGISTRY, CAMPAIGNS, SENDERS_TOPIC):
            topics.create_compacted(brokers, topic)
        lists = [Outgoing(*encode(each)) for each in entries(Hashing.read(self._key))]
        registry = record_of(_REGISTRY.read_bytes(), is_csv=False, author="ana", reason="a test")
        with Publisher(KafkaLink(brokers, client_id="kill-matrix-context")) as publisher:
            publisher.publish(LISTS, lists)
            publisher.publish(REGISTRY, [registry])


def entries(hashing: Hashing) -> list[ListEntry]:
    """Entries of every kind and match: a few that the traffic matches, with every action, and many that it does not."""
    matching = [
        ("allow", "sender", SENDERS[0], "exact"),
        ("flag", "sender", SENDERS[1][:8], "prefix"),
        ("block", "sender", SENDERS[2], "suffix"),
        ("block", "recipient", RECIPIENTS[0], "exact"),
        ("flag", "recipient", RECIPIENTS[1][:11], "prefix"),
        ("block", "campaign", "00000000000000c1", "exact"),
        ("block", "link-host", host(0), "exact"),
        ("flag", "link-host", "evil.example", "suffix"),
        ("block", "number", number_to_call(0), "exact"),
        ("flag", "number", "+44 9061", "prefix"),
    ]
    strangers = [
        each
        for number in range(_STRANGERS)
        for each in (
            ("block", "sender", f"Nobody{number}", "exact"),
            ("block", "recipient", f"+4478{number:08}", "exact"),
            ("block", "campaign", f"{number:015x}f", "exact"),
            ("block", "link-host", f"nobody{number}.example", "suffix"),
            ("block", "number", f"+4479{number:08}", "exact"),
        )
    ]
    return [
        listed(action, what, value, match, hashing=hashing, dry_run=index % 7 == 6)
        for index, (action, what, value, match) in enumerate([*matching, *strangers])
    ]
