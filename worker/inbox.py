"""Where the reading thread hands over to the judging one: a batch that grows until the judge is free to take it.

It stands in for a queue of length one between the two. A queue would fix a batch's size when it is put in; here a
batch that must wait for the judge anyway goes on filling, so that under load batches grow instead of multiplying.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from worker.batching import Pace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from worker.batching import MicroBatcher
    from worker.classifier import Prepared
    from worker.messages import Positions, Record, Sms, Unreadable
    from worker.stream import Claim

# Two batches: one to be taken at once when the judge is free, one to fill meanwhile.
_ROOM = 2


class Waiting(msgspec.Struct, frozen=True, gc=False):
    """A record on its way: a message made ready, or the reason it is unreadable, or, with neither, a tombstone."""

    record: Record
    polled_at: float
    sms: Sms | None = None
    prepared: Prepared | None = None
    unreadable: Unreadable | None = None

    @property
    def tokens(self) -> int:
        """What it costs in a batch."""
        return len(self.prepared) if self.prepared else 0

    @property
    def timestamp(self) -> float:
        """The record's own."""
        return self.record.timestamp


@dataclass(frozen=True, slots=True)
class Batch:
    """What is judged, published and committed as one; `epoch` tells whether it still may be."""

    epoch: int
    claim: Claim
    items: list[Waiting]
    taken_at: float

    @property
    def positions(self) -> Positions:
        """What to commit with it."""
        # Kafka wants the next offset to read, not the last one read.
        return {(item.record.topic, item.record.partition): item.record.offset + 1 for item in self.items}

    @property
    def oldest(self) -> float:
        """The earliest timestamp in it."""
        return min(item.record.timestamp for item in self.items)

    @property
    def tokens(self) -> int:
        """What it costs the engine."""
        return sum(item.tokens for item in self.items)


class Inbox:
    """A micro-batcher between two threads, and the epoch that tells fresh batches from stale ones.

    An epoch ends when the group takes back what it gave: a rebalance, or a transaction refused. All that was polled
    in it and is not committed will be delivered again, so all of it must be let go, wherever in the pipe it is.
    """

    def __init__(self, batcher: MicroBatcher[Waiting], clock: Callable[[], float]) -> None:
        self._batcher = batcher
        self._clock = clock
        self._pace = Pace()
        self._changed = threading.Condition()
        self._claim: Claim | None = None
        self._is_last_poll_empty = True
        self._is_closed = False
        self._must_rewind = False
        self.epoch = 0

    def begin(self) -> tuple[int, bool]:
        """The epoch that the coming poll belongs to, and whether the source must be rewound before it.

        The two are read as one: a poll of the old position must never pass for one of the new epoch.
        """
        with self._changed:
            must_rewind, self._must_rewind = self._must_rewind, False
            return self.epoch, must_rewind

    def offer(self, items: Sequence[Waiting], *, epoch: int, claim: Claim) -> bool:
        """Add what a poll brought, in order; nothing tells that nothing more is at hand. False: stale, and let go."""
        with self._changed:
            if epoch != self.epoch:
                return False
            for item in items:
                self._batcher.add(item)
            # The first claim of an epoch is the one that can fence most.
            self._claim = self._claim or claim
            self._is_last_poll_empty = not items
            self._changed.notify_all()
            return True

    def take(self) -> Batch | None:
        """Wait for the next batch; None when closed."""
        with self._changed:
            while not self._is_closed:
                now = self._clock()
                hold = 0.0 if self._batcher.is_full else self._pace.hold(self._batcher.tokens, now)
                items = [] if hold else self._batcher.take(now, nothing_at_hand=self._is_last_poll_empty)
                if items and self._claim is not None:
                    self._changed.notify_all()
                    return Batch(self.epoch, self._claim, items, now)
                self._changed.wait(hold or self._batcher.wait(now))
            return None

    def judged(self, batch: Batch, seconds: float) -> None:
        """Tell that a batch now waits for the writer, and what judging it took."""
        with self._changed:
            self._pace.judged(batch.tokens, len(batch.items), seconds)

    def begin_writing(self, batch: Batch) -> None:
        """Tell that the writer has taken it up."""
        with self._changed:
            self._pace.began(len(batch.items), self._clock())
            self._changed.notify_all()

    def end_writing(self, batch: Batch, seconds: float) -> None:
        """Tell that the writer is free, and what it took."""
        with self._changed:
            self._pace.ended(len(batch.items), seconds)
            self._changed.notify_all()

    def learn(self, tokens: int, seconds: float) -> None:
        """Tell the batcher what a batch has taken, from leaving to commit."""
        with self._changed:
            self._batcher.cost.observe(tokens, seconds)

    def has_room(self, wait: float) -> bool:
        """Whether another poll may be added, waiting up to `wait` seconds for that."""
        with self._changed:
            return self._changed.wait_for(lambda: self._is_closed or not self._is_brimming(), wait)

    def restart(self) -> int:
        """End the epoch: let go of all that waits, and have it read again from what is committed. Returns how many."""
        with self._changed:
            waiting = len(self._batcher)
            self.epoch += 1
            self._batcher.clear()
            self._claim = None
            self._is_last_poll_empty = True
            self._must_rewind = True
            self._changed.notify_all()
            return waiting

    def close(self) -> None:
        """Hand out no more. What waits is not committed, so it goes to whoever reads next."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def fill(self, batch: Batch) -> float:
        """How full it left: its tokens, or its messages, over what it may have."""
        return max(batch.tokens / self._batcher.token_budget, len(batch.items) / self._batcher.max_messages)

    def waiting(self) -> tuple[int, int, float | None]:
        """Messages and tokens that wait, and the timestamp of the one that came first."""
        with self._changed:
            return len(self._batcher), self._batcher.tokens, self._batcher.oldest

    def _is_brimming(self) -> bool:
        batcher = self._batcher
        return batcher.tokens >= _ROOM * batcher.token_budget or len(batcher) >= _ROOM * batcher.max_messages
