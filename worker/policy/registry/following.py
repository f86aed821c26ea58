"""Takes up the registry of a topic: one record, a file as `hamgate registry push` has checked it.

A record that is wrong stops a start, by its place; a worker that runs refuses it, and what is in force stays, as it
does where the topic is made anew and holds nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Final

import structlog

from worker.messages import Outgoing
from worker.policy.following import TopicFollower
from worker.policy.registry.brands import Registry
from worker.policy.registry.reading import RegistryError, compiled
from worker.policy.registry.registered import RegisteredSenders

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from worker.messages import Record
    from worker.metrics import Metrics

KEY: Final = b"registry"
FORMATS: Final = ("toml", "csv")

log = structlog.get_logger()


def record_of(content: bytes, *, is_csv: bool, author: str, reason: str) -> Outgoing:
    """A file as the topic holds it; who pushed it, and why, go with it."""
    headers = {"format": FORMATS[is_csv], "author": author, "reason": reason}
    return Outgoing(KEY, content, tuple((name, text.encode()) for name, text in headers.items()))


def last_of(records: Iterable[Record]) -> Record | None:
    """The last record that is a registry, or ends it."""
    last = None
    for record in records:
        if record.key == KEY:
            last = record
    return last


def registry_of(record: Record) -> Registry:
    """The registry of a record; none of a tombstone. Raises RegistryError."""
    if record.value is None:
        return Registry(())
    where, form = f"{record.topic}:{record.partition}:{record.offset}", header(record, "format")
    if form not in FORMATS:
        message = f"{where}: has no format; push the file with `hamgate registry push`"
        raise RegistryError(message)
    return compiled(record.value, where, is_csv=form == "csv")


def header(record: Record, name: str) -> str:
    """What a record's header says; nothing where it has none."""
    return (dict(record.headers).get(name) or b"").decode(errors="replace")


@dataclass(slots=True)
class RegistryFollower(TopicFollower):
    """Keeps `rules` up to date. `plain` undoes a text's disguises. Raises RegistryError where a start reads none."""

    name: ClassVar[str] = "registry"
    metrics: Metrics
    plain: Callable[[str], str]
    clock: Callable[[], float] = time.time
    rules: RegisteredSenders = field(init=False)
    _seen: tuple[str, int] | None = field(init=False, default=None)
    """The record that has been dealt with, in force or refused: the topic's id, and its offset."""
    _is_begun: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        """Read all of it."""
        self.rules = RegisteredSenders(Registry(()), self.plain)
        TopicFollower.__post_init__(self)
        self.rules.begin()
        if self._seen is None:
            log.warning("no registry in its topic; `hamgate registry push` puts one there", topic=self.topic)
        self._is_begun = True

    def take(self, records: Iterable[Record], topic_id: str, *, is_anew: bool) -> None:
        """Take up the last record, unless it has been dealt with."""
        del is_anew
        record = last_of(records)
        if record and (place := (topic_id, record.offset)) != self._seen:
            self._put_in_force(record)
            self._seen = place
        self.metrics.registry_read.set(self.clock())

    def _put_in_force(self, record: Record) -> None:
        try:
            registry = registry_of(record)
        except RegistryError as error:
            if not self._is_begun:
                raise
            self.metrics.registry_refused.inc()
            log.error("registry refused; the one in force stays", cause=str(error))  # noqa: TRY400 the cause says all
            return
        self.rules.offer(registry)
        self.metrics.registry_brands.set(len(registry.brands))
        log.info("registry in force", brands=len(registry.brands), senders=registry.senders, hosts=registry.hosts)
