"""A sink in a process of its own: transactions cost the interpreter of the reader and the judge nothing.

`SinkProcess` is what the worker holds, and it starts `sink_server` (`worker.process.child`). In msgpack the worker says
first what the sink is made of, a password among it, then what to prepare and to write; each write is answered. The
process must not outlive the worker: a new session under its name would fence the next worker.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

from worker.broker import incarnation
from worker.broker.link import BrokerError, KafkaLink
from worker.broker.sink import AtLeastOnceSink, ExactlyOnceSink
from worker.messages import Outgoing  # noqa: TC001 # a field's type
from worker.pipeline.ports import FencedError, RolledBackError
from worker.process.child import Child, ChildError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from worker.messages import Positions
    from worker.pipeline.ports import GroupMetadata, Sink

_SERVER: Final = "worker.broker.sink_server"
# A write ends by the transaction's timeout, and what may follow it by the link's patience, twice: nobody is to wait for
# a process that was stopped.
_PATIENCES, _LEEWAY = 2, 10.0
Identity: TypeAlias = tuple[str | None, int, str, str | None, str]
"""The part of group metadata that fences: group, generation, member, the static member's name; and the topic's id."""


class SinkProcessError(ChildError):
    """The sink process ended, failed, or could not be started. Says how, and never what it was given."""


class Terms(msgspec.Struct, frozen=True):
    """A sink's settings; exactly once where it has a transactional id, else at least once. Seconds."""

    verdict_topic: str
    dead_letter_topic: str
    transactional_id: str | None = None
    transaction_timeout: float = 0.0
    log_level: str = "info"
    log_format: str = "json"

    def sink(self, link: KafkaLink, rebuilding: Callable[[], object] = lambda: None) -> Sink:
        """Make it, in this process. Raises BrokerError."""
        topics = {"verdict_topic": self.verdict_topic, "dead_letter_topic": self.dead_letter_topic}
        if self.transactional_id is None:
            return AtLeastOnceSink(link, **topics)
        return ExactlyOnceSink(
            link,
            **topics,
            transactional_id=self.transactional_id,
            transaction_timeout=self.transaction_timeout,
            rebuilding=rebuilding,
        )


class Opening(msgspec.Struct, array_like=True, frozen=True):
    """A link's fields, paths as text; what is to be made; the id of the process that wants it."""

    link: dict[str, Any]
    terms: Terms
    worker: int


class Prepare(msgspec.Struct, array_like=True, frozen=True, tag=0):
    """To begin; it is not answered."""

    metadata: Identity


class Write(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """To write; `positions` are topic, partition and the next offset."""

    verdicts: list[Outgoing]
    dead_letters: list[Outgoing]
    positions: list[tuple[str, int, int]]
    metadata: Identity


class Written(msgspec.Struct, array_like=True, frozen=True, tag=0):
    """It is made, or written and committed."""

    transaction_version: int = 0


class Rebuilding(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """A transaction did not commit; another answer follows when the sink is ready again, or is not to be."""


class Rejected(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """The sink's exception: its kind and its text."""

    kind: str
    text: str


Request: TypeAlias = Prepare | Write
Answer: TypeAlias = Written | Rebuilding | Rejected

KINDS: Final[Mapping[str, type[Exception]]] = {
    each.__name__: each for each in (RolledBackError, FencedError, BrokerError)
}
"""Exceptions whose text is passed on: they name topics, groups and addresses, and never a message."""

_answer: Final[msgspec.msgpack.Decoder[Answer]] = msgspec.msgpack.Decoder(Written | Rebuilding | Rejected)
_encode: Final = msgspec.msgpack.Encoder().encode


class SinkProcess(Child):
    """A sink in a process of its own. Raises what it raises, and SinkProcessError.

    On Linux it ends with the thread that makes this, which is to be the one that the worker itself ends with.
    """

    def __init__(self, link: KafkaLink, terms: Terms) -> None:
        """Start it; it connects. Raises BrokerError."""
        self.is_rebuilding = False
        self.transaction_version = 0
        self._patience = terms.transaction_timeout + _PATIENCES * link.patience + _LEEWAY
        super().__init__(_SERVER, name="the sink process", error=SinkProcessError)
        try:
            with self.in_turn():
                self.send(_encode(Opening(msgspec.to_builtins(link, enc_hook=str), terms, os.getpid())))
                answer = self._next()
            self._require_done(answer)
        except BaseException:  # told to stop meanwhile, too
            self.close()
            raise

    def prepare(self, metadata: GroupMetadata) -> None:
        """As the sink in it does. That the process has ended is left to the write to say."""
        with contextlib.suppress(SinkProcessError), self.in_turn():
            self.send(_encode(Prepare(_identity(metadata))))

    def write(
        self,
        verdicts: Sequence[Outgoing],
        dead_letters: Sequence[Outgoing],
        positions: Positions,
        metadata: GroupMetadata,
    ) -> None:
        """As the sink in it does. Raises RolledBackError, FencedError, BrokerError."""
        at = [(topic, partition, offset) for (topic, partition), offset in positions.items()]
        request = _encode(Write([*verdicts], [*dead_letters], at, _identity(metadata)))
        try:
            with self.in_turn():
                self.send(request)
                while isinstance(answer := self._next(), Rebuilding):
                    self.is_rebuilding = True
        finally:
            self.is_rebuilding = False
        self._require_done(answer)

    def _next(self) -> Answer:
        return _answer.decode(self.next(self._patience))

    def _require_done(self, answer: Answer) -> None:
        if isinstance(answer, Rejected):
            if answer.kind in KINDS:
                raise KINDS[answer.kind](answer.text)
            message = f"the sink process failed: {answer.kind}"
            raise SinkProcessError(message)
        if isinstance(answer, Written):
            self.transaction_version = answer.transaction_version


def _identity(metadata: Any) -> Identity:  # noqa: ANN401 the client is untyped
    topic_id = incarnation.of(metadata)
    return metadata.group_id, metadata.generation_id, metadata.member_id, metadata.group_instance_id, topic_id
