"""hamgate's topics, made on a broker of one's own."""

from __future__ import annotations

from typing import Final

from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import TopicAlreadyExistsError

EVENTS: Final = "sms.events"
VERDICTS: Final = "sms.verdicts"
SHADOW: Final = "sms.shadow"
DEAD_LETTERS: Final = "sms.dead-letters"
PARTITIONS: Final = 6
# A dead letter is its event and five headers: it must still fit where its event just fitted.
_ROOM: Final = {"max.message.bytes": str((1 << 20) + (64 << 10))}


def create_compacted(bootstrap: str, name: str) -> None:
    """Make a topic that keeps the last record of each key, in one partition, as lists are: read whole, and in order."""
    with KafkaAdminClient(bootstrap_servers=bootstrap, client_id="hamgate-topics") as admin:
        admin.create_topics([NewTopic(name, num_partitions=1, topic_configs={"cleanup.policy": "compact"})])
        admin.wait_for_topics([name])


def create(
    bootstrap: str, names: tuple[str, ...] = (EVENTS, VERDICTS, SHADOW, DEAD_LETTERS), partitions: int = PARTITIONS
) -> None:
    """Make the topics that are missing, replicated as the broker does by default, and wait for their leaders.

    The last is that of dead letters.
    """
    with KafkaAdminClient(bootstrap_servers=bootstrap, client_id="hamgate-topics") as admin:
        for name in names:
            topic = NewTopic(name, num_partitions=partitions, topic_configs=_ROOM if name == names[-1] else None)
            try:
                admin.create_topics([topic])
            except TopicAlreadyExistsError:
                continue
        admin.wait_for_topics(list(names))
