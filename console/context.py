"""What the pages know beside verdicts: lists, campaigns, senders and the registry, as far as each is set."""

from __future__ import annotations

import dataclasses
import threading
from typing import TYPE_CHECKING, Any, Final

from console.following import Following, KnownCampaigns, KnownLists, KnownSenders
from worker import app
from worker.broker import Reader
from worker.broker.link import explained
from worker.commands.list_changes import Lists
from worker.policy.registry.reading import RegistryError
from worker.policy.registry.reading import read as read_registry
from worker.policy.registry.watching import state as state_of

if TYPE_CHECKING:
    from worker.broker import KafkaLink
    from worker.messages import Record
    from worker.policy.hashing import Hashing
    from worker.policy.registry.brands import Registry
    from worker.settings import Settings

_PATIENCE: Final = 10.0
"""Seconds that the brokers may take to answer somebody who waits."""
NO_LISTS: Final = (
    "HAMGATE_LISTS_TOPIC is not set: name the workers' topic of lists, as sms.lists, and in HAMGATE_HASH_KEY_FILE "
    "their file of keys."
)
NO_CAMPAIGNS: Final = "HAMGATE_CAMPAIGNS_TOPIC is not set: name the workers' topic of campaigns, as sms.campaigns."
NO_SENDERS: Final = (
    "HAMGATE_SENDERS_TOPIC is not set: name the workers' topic of senders, as sms.senders, and in "
    "HAMGATE_HASH_KEY_FILE their file of keys."
)
NO_REGISTRY: Final = "HAMGATE_REGISTRY is not set: name the workers' file of brands."


class ConsoleContext:
    """Followed topics, and what is read when somebody asks. What is not set is None, and its `why_not` names it."""

    def __init__(self, settings: Settings, link: KafkaLink) -> None:
        self._settings = settings
        self._link = dataclasses.replace(link, patience=_PATIENCE)
        self.hashing: Hashing | None = None
        self.lists: KnownLists | None = None
        self.senders: KnownSenders | None = None
        self.campaigns = KnownCampaigns() if settings.campaigns_topic else None
        self.why_no_keys = ""
        try:
            self.hashing = app.hashing(settings)
        except app.StartRefused as error:
            self.why_no_keys = str(error)
        else:
            self.lists = KnownLists(self.hashing) if settings.lists_topic else None
            self.senders = KnownSenders() if settings.senders_topic else None
        self.changing = threading.Lock()
        """Held by whoever changes lists: one at a time."""
        topics = {
            "lists": (settings.lists_topic, self.lists),
            "campaigns": (settings.campaigns_topic, self.campaigns),
            "senders": (settings.senders_topic, self.senders),
        }
        self.following = {
            name: Following(self._link, topic, content)
            for name, (topic, content) in topics.items()
            if topic and content is not None
        }
        self._registry: tuple[Any, Registry | None, str] = (None, None, NO_REGISTRY)
        self._looking = threading.Lock()

    @property
    def input_topic(self) -> str:
        """Where the messages of verdicts lie."""
        return self._settings.input_topic

    @property
    def max_event_bytes(self) -> int:
        """Of an event."""
        return self._settings.max_event_bytes

    @property
    def why_no_lists(self) -> str:
        """What to set so that there are lists; empty where there are."""
        if self.lists is not None:
            return ""
        return self.why_no_keys if self._settings.lists_topic else NO_LISTS

    @property
    def why_no_senders(self) -> str:
        """What to set so that snapshots of senders are read; empty where they are."""
        if self.senders is not None:
            return ""
        return self.why_no_keys if self._settings.senders_topic else NO_SENDERS

    def start(self) -> None:
        """Follow the topics from now on."""
        for each in self.following.values():
            each.start()

    def close(self) -> None:
        """Follow them no more."""
        for each in self.following.values():
            each.close()

    def state(self, name: str) -> dict[str, Any] | None:
        """Return how a topic is followed; None where it is not set."""
        found = self.following.get(name)
        return found.state() if found else None

    def changeable(self, now: float) -> Lists:
        """Return the lists, to be changed. Raises UsageError, StartRefused naming the setting that is missing."""
        return dataclasses.replace(Lists.of(self._settings, now), link=self._link)

    def event(self, partition: int, offset: int) -> Record | None:
        """Return one record of the input; None where it is gone. Raises BrokerError, TimeoutError."""
        topic = self.input_topic
        with explained(self._link), Reader(self._link, topic) as reader:
            if partition not in reader.partitions(topic):
                return None
            return reader.record_at(topic, partition, offset, within=_PATIENCE)

    def registry(self) -> tuple[Registry | None, str]:
        """Return the registry as its file is now, and what is wrong with it; the former one while the file is wrong."""
        if (file := self._settings.registry) is None:
            return None, NO_REGISTRY
        with self._looking:
            before, registry, _ = self._registry
            if (now := state_of(file)) != before:
                try:
                    self._registry = now, read_registry(file), ""
                except RegistryError as error:
                    self._registry = now, registry, str(error)
            return self._registry[1:]
