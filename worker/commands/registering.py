"""`hamgate registry`: put a checked sender registry into its topic, or show the one that is there."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from worker import app, broker
from worker.messages import rfc3339
from worker.policy.lists.entries import signature_fault
from worker.policy.registry import reading
from worker.policy.registry.following import header, last_of, record_of, registry_of
from worker.process import signals

if TYPE_CHECKING:
    import argparse

    from worker.messages import Record
    from worker.policy.registry.brands import Registry
    from worker.settings import Settings


def registry(settings: Settings, options: argparse.Namespace) -> int:
    """Do what is asked; 1 where it is refused or cannot be done, 2 for a wrong option."""
    topic = settings.registry_topic
    if topic is None:
        return _fail("HAMGATE_REGISTRY_TOPIC: not set; name the topic of the registry, as sms.registry", signals.USAGE)
    try:
        return _push(settings, topic, options) if options.change == "push" else _show(settings, topic)
    except (reading.RegistryError, broker.BrokerError, TimeoutError) as error:
        return _fail(str(error))


def _push(settings: Settings, topic: str, options: argparse.Namespace) -> int:
    author, reason = (options.author or "").strip(), (options.reason or "").strip()
    if wrong := signature_fault(author, reason):
        return _fail(wrong.replace("an entry", "a registry"), signals.USAGE)
    file = Path(options.file)
    content, is_csv = reading.content_of(file), reading.is_csv(file)
    found = reading.compiled(content, str(file), is_csv=is_csv)
    before = _read(settings, topic)
    with broker.Publisher(app.link(settings)) as publisher:
        publisher.publish(topic, [record_of(content, is_csv=is_csv, author=author, reason=reason)])
    print(f"{_counts(found)}; in force within 2 s on every worker")  # noqa: T201 the answer
    print(f"before: {_was(before)}")  # noqa: T201
    return signals.DONE


def _show(settings: Settings, topic: str) -> int:
    record = _read(settings, topic)
    if record is None or record.value is None:
        return _fail(f"no registry in {topic}; `hamgate registry push FILE` puts one there")
    said = (
        f"{_was(record)}; pushed {rfc3339(record.timestamp)} by {header(record, 'author')}: {header(record, 'reason')}"
    )
    print("".join(each if each.isprintable() else "?" for each in said), file=sys.stderr)  # noqa: T201
    print(record.value.decode(errors="replace"), end="")  # noqa: T201 the answer
    return signals.DONE


def _read(settings: Settings, topic: str) -> Record | None:
    with broker.Reader(app.link(settings), topic) as reader:
        return last_of(reader.to_end())


def _was(record: Record | None) -> str:
    try:
        return _counts(registry_of(record)) if record and record.value is not None else "none"
    except reading.RegistryError as error:
        return f"not usable ({error})"


def _counts(found: Registry) -> str:
    return f"{len(found.brands):,} brands, {found.senders:,} senders, {found.hosts:,} hosts"


def _fail(why: str, status: int = signals.FAILED) -> int:
    print(why, file=sys.stderr)  # noqa: T201 for the person who typed the command
    return status
