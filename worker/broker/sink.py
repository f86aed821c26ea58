"""Verdicts and dead letters out, and the offsets they answer committed: in one transaction, or at least once."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, Final, NoReturn

import structlog
from kafka import errors

from worker.broker.burying import Burial
from worker.broker.link import BrokerError, explain, explained, named
from worker.broker.offsets import Offsets
from worker.broker.producer import Producer
from worker.broker.refusals import Fate, fate, is_of_a_rebalance, lasting
from worker.broker.transactions import Transactions
from worker.pipeline.ports import FencedError, RolledBackError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from worker.broker.link import KafkaLink
    from worker.messages import Outgoing, Positions
    from worker.pipeline.ports import GroupMetadata

_NAME_TAKEN: Final = errors.FencedInstanceIdError  # the static member's
# After a rollback that follows another, so that a lasting trouble makes no storm; doubled each time up to the longest.
_PAUSE, _LONGEST_PAUSE = 0.05, 2.0

log = structlog.get_logger()


class ExactlyOnceSink:
    """Each write is one transaction, fenced by the transactional id and by the metadata (KIP-447)."""

    is_rebuilding = False
    has_ended = False  # it is part of this process

    def __init__(  # noqa: PLR0913 plain values, each a setting, and whom to tell
        self,
        link: KafkaLink,
        *,
        verdict_topic: str,
        dead_letter_topic: str,
        transactional_id: str,
        transaction_timeout: float,
        rebuilding: Callable[[], object] = lambda: None,
    ) -> None:
        """Connect, fencing whoever wrote under this transactional id; `rebuilding` is called as that begins anew.

        Raises BrokerError.
        """
        self._tell_rebuilding = rebuilding
        self._link, self._name, self._timeout = link, transactional_id, transaction_timeout
        self._topics, self._burial = (verdict_topic, dead_letter_topic), Burial(dead_letter_topic)
        self._rolled_back, self._failing_since, self._failed_at = 0, 0.0, 0.0
        self._first_refusal: BaseException | None = None
        self._began: float | None = None
        self._stray_inits = 0
        with explained(link):
            self._transactions = self._connect()

    @property
    def transaction_version(self) -> int:
        """The transaction version in force (KIP-890): 1 or 2."""
        return self._transactions.version

    def prepare(self, metadata: Any) -> None:  # noqa: ANN401 the client is untyped
        """Have the coordinator asked for a transaction while its records are still being made."""
        if _is_member(metadata):
            self._began = time.monotonic()
            self._transactions.prepare(metadata.group_id)

    def write(
        self,
        verdicts: Sequence[Outgoing],
        dead_letters: Sequence[Outgoing],
        positions: Positions,
        metadata: GroupMetadata,
    ) -> None:
        """Publish all and commit `positions` with them, in one transaction.

        Raises RolledBackError, FencedError or BrokerError. When only the answer to the commit was lost, the
        transaction may stand although it is called rolled back; the rewind then finds it committed, and all is well.
        """
        _require_membership(metadata)
        began, self._began = self._began or time.monotonic(), None
        until = began + self._timeout  # beyond it the broker aborts by itself
        letters = self._burial.fit(dead_letters)
        messages = dict(zip(self._topics, (verdicts, letters), strict=True))
        try:
            self._transactions.send(messages, positions, metadata, until=until)
            self._transactions.commit(until=until)
        except errors.KafkaError as error:
            is_fitting = self._burial.refused(error, letters)  # the next time, it will
            self._recover(error, elapsed=time.monotonic() - began, is_over=is_fitting)
        self._rolled_back = 0

    def close(self) -> None:
        """Close the connections; the broker aborts an open transaction."""
        self._transactions.close()

    def _connect(self) -> Transactions:
        made = Transactions(self._link, self._name, self._timeout)
        self._stray_inits += made.stray_inits
        return made

    def _is_fenced_by_another(self, cause: BaseException, elapsed: float) -> bool:
        """Whether a newer instance has taken over, and not the broker or a late request of our own."""
        if isinstance(cause, _NAME_TAKEN):
            return True
        if fate(cause) is not Fate.FENCING or elapsed >= self._timeout:  # the broker aborts what outlives its timeout
            return False
        if self._stray_inits:
            self._stray_inits -= 1
            return False
        return True

    def _recover(self, cause: BaseException, *, elapsed: float, is_over: bool) -> NoReturn:
        """Make a new session under the same name: the open transaction is aborted, and late requests are fenced.

        `is_over`: what was refused for good will not be written again.
        """
        self.is_rebuilding = True
        self._tell_rebuilding()
        self._transactions.close()
        if self._is_fenced_by_another(cause, elapsed):
            message = f"another instance has taken over {self._name}"
            raise FencedError(message) from cause
        if lasting(cause) is Fate.PERMANENT and not is_over:
            raise BrokerError(explain(cause, self._link)) from cause
        now = time.monotonic()
        if now - elapsed - self._failed_at > self._link.patience:
            self._rolled_back = 0  # the last is long ago: since then there was nothing to write
        self._failing_since = self._failing_since if self._rolled_back else now
        if not self._rolled_back:
            self._first_refusal = cause
            # Now: what follows may last, and fail by an error that does not say why. That a broker is away is logged.
            if getattr(cause, "errno", None) is not None and not is_of_a_rebalance(cause):
                log.warning("transaction refused", cause=named(cause))
        first = self._first_refusal
        if now - self._failing_since > self._link.patience:
            message = f"no transaction has succeeded for {self._link.patience:g} s; last: {explain(cause, self._link)}"
            if first is not None and type(first) is not type(cause):
                message += f"; first: {explain(first, self._link)}"
            raise BrokerError(message) from cause
        if self._rolled_back:
            time.sleep(min(_PAUSE * 2**self._rolled_back, _LONGEST_PAUSE))
        self._rolled_back += 1
        with explained(self._link, before=first):
            self._transactions = self._connect()
        self.is_rebuilding = False
        self._failed_at = time.monotonic()
        raise RolledBackError(named(cause)) from cause


class AtLeastOnceSink:
    """Each write is published and acknowledged, then its offsets are committed, fenced by the metadata."""

    transaction_version = 0
    is_rebuilding = False  # it has nothing to roll back
    has_ended = False

    def __init__(self, link: KafkaLink, *, verdict_topic: str, dead_letter_topic: str) -> None:
        """Connect. A write may last as long as the link's patience. Raises BrokerError."""
        self._topics, self._link = (verdict_topic, dead_letter_topic), link
        self._burial = Burial(dead_letter_topic)
        with explained(link), contextlib.ExitStack() as half_made:
            self._producer = Producer(link)
            half_made.callback(self._producer.close)
            self._offsets = Offsets(link)
            half_made.pop_all()

    def prepare(self, metadata: GroupMetadata) -> None:
        """Nothing: there is nothing to begin."""

    def write(
        self,
        verdicts: Sequence[Outgoing],
        dead_letters: Sequence[Outgoing],
        positions: Positions,
        metadata: GroupMetadata,
    ) -> None:
        """Publish all, then commit `positions`. Raises RolledBackError when the metadata is stale, or BrokerError."""
        _require_membership(metadata)
        until = time.monotonic() + self._link.patience
        letters = self._burial.fit(dead_letters)
        try:
            self._producer.publish(dict(zip(self._topics, (verdicts, letters), strict=True)), until=until)
            self._offsets.commit(positions, metadata, until=until)
        except (errors.IllegalGenerationError, errors.UnknownMemberIdError, errors.RebalanceInProgressError) as error:
            raise RolledBackError(named(error)) from error
        except _NAME_TAKEN as error:
            message = f"another worker has joined the group as {_static_name(metadata)}"
            raise FencedError(message) from error
        except errors.KafkaError as error:
            if self._burial.refused(error, letters):
                raise RolledBackError(named(error)) from error
            raise BrokerError(explain(error, self._link)) from error

    def close(self) -> None:
        """Close the connections."""
        self._producer.close()
        self._offsets.close()


def _is_member(metadata: Any) -> bool:  # noqa: ANN401 the client is untyped
    """Whether group metadata fences anything: offsets of a transaction without a member are not checked."""
    return metadata.generation_id >= 0 and bool(metadata.member_id)


def _static_name(metadata: Any) -> str | None:  # noqa: ANN401 the client is untyped
    name: str | None = metadata.group_instance_id
    return name


def _require_membership(metadata: Any) -> None:  # noqa: ANN401 the client is untyped
    if not _is_member(metadata):
        message = "polled by no member of the group"
        raise RolledBackError(message)
