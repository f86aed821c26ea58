"""Problems with the link, the topics or the rights, each with its remedy; before anything depends on them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from kafka import errors
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from kafka.protocol.metadata import CoordinatorType

from worker.broker import protocol as requests
from worker.broker.asking import Asker
from worker.broker.client.connecting import is_refusal
from worker.broker.client.network import Network
from worker.broker.compacted import CLEANUP, feedback_decisions_topic
from worker.broker.link import explain, explained, milliseconds

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

    from worker.broker.compacted import CompactedTopic
    from worker.broker.feedback import FeedbackNames
    from worker.broker.link import KafkaLink

_PATIENCE: Final = 10.0
_PAUSE: Final = 0.1
_NO_COORDINATOR: Final = (
    errors.CoordinatorNotAvailableError,
    errors.CoordinatorLoadInProgressError,
    errors.NotCoordinatorError,
)
_NOBODY: Final = (1 << 63) - 1  # no producer has this id
_LIMIT, _STAMPED = "max.message.bytes", "message.timestamp.type"
# How far a record's timestamp may be from the broker's clock; the last is that of brokers before 3.6 (KIP-937).
_AFTER, _BEFORE = "message.timestamp.after.max.ms", "message.timestamp.before.max.ms"
_DIFFERENCE: Final = "message.timestamp.difference.max.ms"
_STORED: Final = "compression.type"
_OR_WITHOUT: Final = "; or set HAMGATE_DELIVERY=at-least-once"
_CONFIGS: Final = (_LIMIT, CLEANUP, _STORED, _STAMPED, _AFTER, _BEFORE, _DIFFERENCE)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, and how to fix it."""

    problem: str
    remedy: str

    def __str__(self) -> str:
        """Both, in one line."""
        return f"{self.problem}; {self.remedy}"


def check(  # noqa: PLR0913 each a setting, and each a thing that may be wrong
    link: KafkaLink,
    *,
    input_topic: str,
    verdict_topic: str,
    dead_letter_topic: str,
    group_id: str,
    transactional_id: str | None,
    shadow_topic: str | None = None,
    largest_verdict: int = 0,
    compacted: Sequence[CompactedTopic] = (),
) -> list[Finding]:
    """Ask the brokers whether all exists that is needed and may be used. Nothing found: an empty list.

    `transactional_id` is None for at-least-once, `shadow_topic` without a shadow; `largest_verdict` is in
    bytes, its key included; `compacted` are topics that are read whole. Fences nobody, so it may be asked beside a
    running worker.
    """
    outputs = [verdict_topic, dead_letter_topic, *([shadow_topic] if shadow_topic else [])]
    rights = {input_topic: ["READ"]} | {topic: ["WRITE"] for topic in outputs}
    rights |= {topic.name: ["READ", "WRITE"] if topic.is_written else ["READ"] for topic in compacted}
    commands = {topic.name: topic.creation(link) for topic in compacted}

    def ask(client: Any) -> list[Finding]:  # noqa: ANN401 the client is untyped
        findings = list(_topics(client, rights, commands))
        findings += _group(client, group_id)
        findings += _transactions(link, transactional_id, _OR_WITHOUT) if transactional_id else []
        if not findings:
            configs = _configs(client, rights)
            findings += _sizes(configs, input_topic, dead_letter_topic, verdict_topic, largest_verdict)
            findings += _compacted(configs, outputs)
            findings += _uncompacted(configs, compacted, link)
            findings += _timestamps(configs, outputs, _clock_ahead(client))
        return findings

    return _asked_of_admin(link, ask)


def check_feedback(link: KafkaLink, names: FeedbackNames) -> list[Finding]:
    """Ask the same for `hamgate feedback`, of whoever asks: its topics, its group, and what it writes under."""
    decisions = feedback_decisions_topic(names.decisions)
    rights = {each: ["READ"] for each in (names.reports, names.events, names.verdicts)}
    rights[decisions.name] = ["READ", "WRITE"]

    def ask(client: Any) -> list[Finding]:  # noqa: ANN401 the client is untyped
        findings = list(_topics(client, rights, {decisions.name: decisions.creation(link)}))
        findings += _group(client, names.group)
        findings += _transactions(link, names.writer)
        if not findings:
            configs = _configs(client, rights)
            findings += _compacted(configs, [names.reports])
            findings += _uncompacted(configs, [decisions], link)
        return findings

    return _asked_of_admin(link, ask)


def _asked_of_admin(link: KafkaLink, ask: Callable[[Any], list[Finding]]) -> list[Finding]:
    """What is found with a client; again, with another one, while a broker is gone."""
    until = time.monotonic() + min(link.patience, _PATIENCE)
    timeout = milliseconds(min(link.patience, _PATIENCE))
    try:
        while True:
            try:
                with link.connect(KafkaAdminClient, bootstrap_timeout_ms=timeout) as client:
                    return ask(client)
            except errors.KafkaConnectionError as error:  # one of several that is gone: the next try asks another
                if is_refusal(error) or time.monotonic() > until:
                    raise
                time.sleep(_PAUSE)
    except errors.KafkaError as error:
        problem, _, remedy = explain(error, link).partition("; ")
        return [Finding(problem, remedy)]


def _topics(client: Any, rights: dict[str, list[str]], commands: dict[str, str]) -> Iterator[Finding]:  # noqa: ANN401 the client is untyped
    found = {topic["name"]: topic for topic in client.describe_topics(list(rights))}
    for name, needed in rights.items():
        topic = found[name]
        error = errors.for_code(topic["error_code"])
        missing = [right for right in needed if right not in (topic["authorized_operations"] or needed)]
        if error is errors.UnknownTopicOrPartitionError:
            how = f"create it ({commands[name]})" if name in commands else "create it"
            yield Finding(f"topic {name} does not exist", f"{how}, or name another one in its setting")
        elif error is errors.TopicAuthorizationFailedError or missing:
            lacking = " and ".join(missing or needed)
            problem = f"no {lacking} right on topic {name}"
            yield Finding(problem, f"grant this user {', '.join(missing or needed)} and DESCRIBE on topic {name}")
        elif error is not errors.NoError:
            yield Finding(f"topic {name}: {error.__name__}", "see the brokers' own log")
        elif any(partition["leader_id"] < 0 for partition in topic["partitions"]):
            yield Finding(f"topic {name} has partitions without a leader", "start the brokers that hold them")


def _group(client: Any, group_id: str) -> list[Finding]:  # noqa: ANN401 the client is untyped
    remedy = f"grant this user READ on group {group_id}"
    try:
        found = _once_awake(lambda: client.describe_groups([group_id]))[group_id]
    except errors.GroupAuthorizationFailedError:
        return [Finding(f"no right on consumer group {group_id}", remedy)]
    if "GroupAuthorizationFailed" in (found["error"] or "") or "READ" not in (
        found["authorized_operations"] or ["READ"]
    ):
        return [Finding(f"no READ right on consumer group {group_id}", remedy)]
    return []


def _transactions(link: KafkaLink, name: str, otherwise: str = "") -> list[Finding]:
    """Ask to abort the transaction of a producer that does not exist: the right is looked at first."""
    request = requests.end(requests.Identity(name, _NOBODY, 0), is_commit=False)
    try:
        _asked(link, lambda asker: asker.ask(CoordinatorType.TRANSACTION, name, request))
    except errors.TransactionalIdAuthorizationFailedError:
        remedy = f"grant this user WRITE on it, or on the prefix{otherwise}"
        return [Finding(f"no WRITE right on transactional id {name}", remedy)]
    except (errors.InvalidProducerIdMappingError, errors.InvalidTxnStateError, errors.InvalidProducerEpochError):
        pass  # it may be written under, and nothing was
    return []


def transaction_version(link: KafkaLink) -> int:
    """Return the version of transactions that the cluster has finalised (KIP-890): 1 or 2. Raises BrokerError."""
    with explained(link):
        return requests.transaction_version(_asked(link, lambda asker: asker.ask_any(requests.features())))


def _asked(link: KafkaLink, ask: Callable[[Asker], Awaitable[Any]]) -> Any:  # noqa: ANN401 the client is untyped
    network = Network(link)
    try:
        asker = Asker(network)
        until = time.monotonic() + min(link.patience, _PATIENCE)
        return asker.run(lambda: asker.insist(lambda: ask(asker), is_repeatable=True), until=until)
    finally:
        network.close()


def _configs(client: Any, topics: Iterable[str]) -> dict[str, dict[str, str]]:  # noqa: ANN401 the client is untyped
    """Return what is to be known of the topics, by topic; nothing without the right, which a worker does not need.

    A broker leaves out what it does not know.
    """
    try:
        found = client.describe_configs(
            [ConfigResource(ConfigResourceType.TOPIC, name, [*_CONFIGS]) for name in topics], config_filter="all"
        )["topic"]
    except (errors.KafkaError, KeyError):
        return {}
    return {
        topic: {name: str(config["value"]) for name, config in configs.items() if name in _CONFIGS}
        for topic, configs in found.items()
    }


def _sizes(
    configs: dict[str, dict[str, str]],
    input_topic: str,
    dead_letter_topic: str,
    verdict_topic: str,
    largest_verdict: int,
) -> Iterator[Finding]:
    """A dead letter is its event and five headers: where an event just fits, its letter must fit too; so must verdicts.

    A verdict that did not would be refused again after every restart; a letter is truncated. Both limits are of what is
    compressed, by the sender and by us: that an event fits does not say that its letter does.
    """
    try:
        events, letters, verdicts = (
            int(configs[topic][_LIMIT]) for topic in (input_topic, dead_letter_topic, verdict_topic)
        )
    except KeyError:
        return
    if letters <= events:
        problem = f"topic {dead_letter_topic} takes at most {letters:,} bytes, so the largest events of {input_topic} "
        yield Finding(problem + "would not fit as dead letters", f"set its {_LIMIT} to {events + (64 << 10)} or more")
    if configs[dead_letter_topic].get(_STORED) == "uncompressed":
        problem = f"topic {dead_letter_topic} is stored uncompressed: letters of events that came compressed may not "
        yield Finding(problem + "fit, and are then truncated", f"set its {_STORED} to producer")
    if verdicts < largest_verdict:
        problem = f"topic {verdict_topic} takes at most {verdicts:,} bytes, a verdict may have {largest_verdict:,}"
        yield Finding(problem, f"set its {_LIMIT} to {largest_verdict} or more, or HAMGATE_MAX_EVENT_BYTES lower")


def _compacted(configs: dict[str, dict[str, str]], outputs: Iterable[str]) -> Iterator[Finding]:
    """An event without a key has a verdict without one, which a compacted topic refuses, again after every restart."""
    for topic in outputs:
        if "compact" in configs.get(topic, {}).get(CLEANUP, ""):
            problem = f"topic {topic} is compacted: it refuses records without a key, and keeps one of each key"
            yield Finding(problem, f"set its {CLEANUP} to delete")


def _uncompacted(
    configs: dict[str, dict[str, str]], compacted: Iterable[CompactedTopic], link: KafkaLink
) -> Iterator[Finding]:
    """What is read whole at each start must be kept whole: the last record of each key."""
    for topic in compacted:
        policy = configs.get(topic.name, {}).get(CLEANUP)
        if policy is None:
            continue
        remedy = f"set its {CLEANUP} to {topic.configs[CLEANUP]} ({topic.correction(link)})"
        if "compact" not in policy:
            yield Finding(f"topic {topic.name} is not compacted (its {CLEANUP} is {policy})", remedy)
        elif "delete" in policy and topic.retention is None:
            yield Finding(f"topic {topic.name} deletes what it holds (its {CLEANUP} is {policy})", remedy)


def _timestamps(configs: dict[str, dict[str, str]], outputs: Iterable[str], ahead: float | None) -> Iterator[Finding]:
    """Compare this host's clock, by which records are stamped, with what the topics take; `ahead` in seconds."""
    for topic in outputs:
        config = configs.get(topic, {})
        if ahead is None or config.get(_STAMPED) == "LogAppendTime":
            continue
        limit = config.get(_AFTER if ahead > 0 else _BEFORE, config.get(_DIFFERENCE))
        if limit is not None and abs(ahead) > (seconds := int(limit) / 1000):
            how = "ahead of" if ahead > 0 else "behind"
            problem = (
                f"this host's clock is {abs(ahead):,.0f} s {how} the brokers', and topic {topic} takes records "
                f"that are at most {seconds:,.0f} s {how} theirs"
            )
            yield Finding(problem, "set the clocks by NTP, here and at the brokers")


def _clock_ahead(client: Any) -> float | None:  # noqa: ANN401 the client is untyped
    """Return by how many seconds this host's clock is ahead of the active controller's, or None.

    A controller says when each replica of the metadata had caught up with it: of itself, now (KIP-836). That takes the
    right to describe the cluster, which a worker does not need, and KRaft.
    """
    try:
        [topic] = client.describe_metadata_quorum()["topics"]
        now = time.time()
        [quorum] = topic["partitions"]
        [caught_up] = [
            each["last_caught_up_timestamp"]
            for each in quorum["current_voters"]
            if each["replica_id"] == quorum["leader_id"]
        ]
    except (errors.KafkaError, KeyError, ValueError):
        return None
    return now - caught_up / 1000 if caught_up > 0 else None


def _once_awake(ask: Callable[[], Any]) -> Any:  # noqa: ANN401 the client is untyped
    """Ask until a coordinator answers: a cluster that is just born, or electing, has none for a moment."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return ask()
        except _NO_COORDINATOR:
            if time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE)
