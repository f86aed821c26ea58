"""hamgate's topics, made on a broker of one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import TopicAlreadyExistsError

from worker.broker.compacted import (
    campaigns_topic,
    feedback_decisions_topic,
    lists_topic,
    registry_topic,
    senders_topic,
)
from worker.settings import decisions_topic

if TYPE_CHECKING:
    from worker.broker.compacted import CompactedTopic

EVENTS: Final = "sms.events"
VERDICTS: Final = "sms.verdicts"
SHADOW: Final = "sms.shadow"
DEAD_LETTERS: Final = "sms.dead-letters"
FEEDBACK: Final = "sms.feedback"
PARTITIONS: Final = 6
# A dead letter is its event and five headers: it must still fit where its event just fitted.
_ROOM: Final = {"max.message.bytes": str((1 << 20) + (64 << 10))}


def create_compacted(bootstrap: str, name: str) -> None:
    """Make a topic that keeps the last record of each key, in one partition, as lists are: read whole, and in order."""
    _create(bootstrap, [_described(lists_topic(name))])


def delete(bootstrap: str, name: str) -> None:
    """Delete a topic."""
    with KafkaAdminClient(bootstrap_servers=bootstrap, client_id="hamgate-topics") as admin:
        admin.delete_topics([name])


def create_context(bootstrap: str) -> None:
    """Make the topics of what is known beside the text, by the names in docs/operations.md, where they are missing."""
    described = [
        lists_topic("sms.lists"),
        registry_topic("sms.registry"),
        campaigns_topic("sms.campaigns"),
        senders_topic("sms.senders"),
    ]
    decisions = feedback_decisions_topic(decisions_topic(FEEDBACK))
    reports = NewTopic(FEEDBACK, num_partitions=decisions.partitions)
    _create(bootstrap, [*map(_described, described), _described(decisions), reports])


def create(
    bootstrap: str, names: tuple[str, ...] = (EVENTS, VERDICTS, SHADOW, DEAD_LETTERS), partitions: int = PARTITIONS
) -> None:
    """Make the topics that are missing, replicated as the broker does by default, and wait for their leaders.

    The last is that of dead letters.
    """
    made = [
        NewTopic(name, num_partitions=partitions, topic_configs=_ROOM if name == names[-1] else None) for name in names
    ]
    _create(bootstrap, made)


def _described(topic: CompactedTopic) -> NewTopic:
    return NewTopic(topic.name, num_partitions=topic.partitions, topic_configs=topic.configs)


def _create(bootstrap: str, topics: list[NewTopic]) -> None:
    with KafkaAdminClient(bootstrap_servers=bootstrap, client_id="hamgate-topics") as admin:
        for topic in topics:
            try:
                admin.create_topics([topic])
            except TopicAlreadyExistsError:
                continue
        admin.wait_for_topics([topic.name for topic in topics])
