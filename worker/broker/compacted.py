"""Compacted topics, read whole: what each is created with, and the commands that do it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from worker.broker.link import KafkaLink

CLEANUP: Final = "cleanup.policy"
_DAY: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class CompactedTopic:
    """Keeps the last record of each key, for `retention` milliseconds where that is given."""

    name: str
    is_written: bool = False
    """By workers."""
    retention: int | None = None
    partitions: int = 1

    @property
    def configs(self) -> dict[str, str]:
        """What it is created with."""
        if self.retention is None:
            return {CLEANUP: "compact"}
        return {CLEANUP: "compact,delete", "retention.ms": str(self.retention)}

    def creation(self, link: KafkaLink) -> str:
        """Return the command that creates it."""
        configs = " ".join(f"--config {name}={value}" for name, value in self.configs.items())
        begins = f"kafka-topics.sh --bootstrap-server {link.brokers} --create --topic {self.name}"
        return f"{begins} --partitions {self.partitions} {configs}"

    def correction(self, link: KafkaLink) -> str:
        """Return the command that gives it its configs. A value with a comma stands in brackets there."""
        configs = ",".join(
            f"{name}=[{value}]" if "," in value else f"{name}={value}" for name, value in self.configs.items()
        )
        return f"kafka-configs.sh --bootstrap-server {link.brokers} --alter --topic {self.name} --add-config {configs}"


def lists_topic(name: str) -> CompactedTopic:
    """Return the topic of lists: entries stay until they are removed."""
    return CompactedTopic(name)


def registry_topic(name: str) -> CompactedTopic:
    """Return the topic of the sender registry: the last one pushed stays."""
    return CompactedTopic(name)


def campaigns_topic(name: str) -> CompactedTopic:
    """Return the topic of campaigns: what a worker that never comes back has written goes after a week."""
    return CompactedTopic(name, is_written=True, retention=7 * _DAY)


def senders_topic(name: str) -> CompactedTopic:
    """Return the topic of senders: a snapshot says nothing any more after a day."""
    return CompactedTopic(name, is_written=True, retention=_DAY)


def feedback_decisions_topic(name: str) -> CompactedTopic:
    """Return the topic of what was decided of reports, by `hamgate feedback`."""
    return CompactedTopic(name, partitions=6)
