"""Hands messages from the reading thread to the judging one: a batch grows until the judge is free to take it.

It stands in for a queue of length one between the two. A queue would fix a batch's size when it is put in; here a
batch that must wait for the judge anyway goes on filling, so that under load batches grow instead of multiplying.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from worker.pipeline.batch import Batch
from worker.pipeline.batching import Pace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from worker.messages import TopicPartition
    from worker.pipeline.batch import Held, Waiting
    from worker.pipeline.batching import MicroBatcher
    from worker.pipeline.ports import GroupMetadata

# Two batches: one to be taken at once when the judge is free, one to fill meanwhile.
_ROOM = 2


class Inbox:
    """A micro-batcher between two threads, and the partition ownership that tells fresh batches from stale ones.

    An ownership ends when the group takes partitions back: some in a rebalance, all when a transaction is refused. What
    was polled of them and is not committed will be delivered again, so all of it is discarded, wherever in the pipe it
    is. Partitions that were held without a break go on, under the group metadata that then holds.
    """

    def __init__(self, batcher: MicroBatcher[Waiting], clock: Callable[[], float]) -> None:
        self._batcher = batcher
        self._clock = clock
        self._pace = Pace()
        self._changed = threading.Condition()
        self._metadata: GroupMetadata | None = None
        self._is_more_at_hand = False
        self._is_closed = False
        self._not_rewound: Held | None = None  # None: nothing is to be rewound
        self.ownership = 0
        self._began: dict[TopicPartition, int] = {}  # the ownership since which a partition is held, where it is not:
        self._floor = 0

    @property
    def is_rewinding(self) -> bool:
        """Whether the reader has yet to go back to what is committed."""
        return self._not_rewound is not None

    def begin(self) -> tuple[int, Held | None]:
        """The ownership that the coming poll belongs to; and if the source must be rewound before it, except for what.

        Both are read under one lock: a poll of the old position must never count as one of the new ownership.
        """
        with self._changed:
            not_rewound, self._not_rewound = self._not_rewound, None
            return self.ownership, not_rewound

    def offer(self, items: Sequence[Waiting], *, ownership: int, metadata: GroupMetadata, more: bool = False) -> bool:
        """Add what a poll brought, in order; whether there is more at hand. False: stale, and not added."""
        with self._changed:
            if ownership < self._floor:
                return False
            for item in items:
                self._batcher.add(item)
            # The first group metadata of an ownership fences most.
            self._metadata = self._metadata or metadata
            self._is_more_at_hand = more
            self._changed.notify_all()
            return True

    def take(self, *, only_full: bool = False) -> Batch | None:
        """Wait for the next batch; None when closed. `only_full` waits for nothing: a whole batch, or None."""
        with self._changed:
            while not self._is_closed:
                if only_full and not self._batcher.is_full:
                    return None
                now = self._clock()
                hold = 0.0 if self._batcher.is_full else self._pace.hold(self._batcher.tokens, now)
                items = [] if hold else self._batcher.take(now, nothing_at_hand=not self._is_more_at_hand)
                if items and self._metadata is not None:
                    self._changed.notify_all()
                    return Batch(self.ownership, self._metadata, items, now)
                self._changed.wait(hold or self._batcher.wait(now))
            return None

    def judged(self, batch: Batch, seconds: float) -> None:
        """Tell that a batch now waits for the writer, and what judging it took."""
        with self._changed:
            self._pace.judged(batch.tokens, len(batch.items), seconds)

    def begin_writing(self, messages: int) -> None:
        """Tell that the writer has taken up so many, all that waited."""
        with self._changed:
            self._pace.began(messages, self._clock())
            self._changed.notify_all()

    def end_writing(self, messages: int, seconds: float) -> None:
        """Tell that the writer is free, and what they took."""
        with self._changed:
            self._pace.ended(messages, seconds)
            self._changed.notify_all()

    def still_owned(self, batch: Batch) -> Batch | None:
        """Return the part of a batch from partitions held without a break since its poll, under the present metadata.

        Held so, a partition can have been nobody else's: a newer metadata of ours covers it too (as Kafka Streams does
        it), but only together with the news of what was lost, hence both as one.
        """
        with self._changed:
            if batch.ownership == self.ownership or self._metadata is None:
                return batch if batch.ownership == self.ownership else None
            held = frozenset(p for p in batch.positions if self._began.get(p, self._floor) <= batch.ownership)
            return batch.only(held, self._metadata) if held else None

    def learn(self, tokens: int, seconds: float) -> None:
        """Tell the batcher what a batch has taken, from leaving to commit."""
        with self._changed:
            self._batcher.cost.observe(tokens, seconds)

    def has_room(self, wait: float) -> bool:
        """Whether another poll may be added, waiting up to `wait` seconds for that."""
        with self._changed:
            return self._changed.wait_for(lambda: self._is_closed or not self._is_brimming(), wait)

    def restart(self) -> int:
        """End the ownership of all partitions. Returns how many waiting messages were discarded, to be read again."""
        with self._changed:
            return self._end(kept=frozenset(), metadata=None)

    def move(self, kept: Held, metadata: GroupMetadata) -> int:
        """End the ownership of all partitions but those kept in a rebalance, which go on under the new metadata."""
        with self._changed:
            if self._not_rewound is not None:
                kept &= self._not_rewound  # a restart that the reader has not followed yet
            return self._end(kept, metadata if kept else None)

    def _end(self, kept: Held, metadata: GroupMetadata | None) -> int:
        waiting = len(self._batcher)
        self.ownership += 1
        self._began = {partition: self._began.get(partition, self._floor) for partition in kept}
        self._floor = self.ownership
        self._batcher.retain(lambda item: item.partition in kept)
        self._metadata = metadata
        self._is_more_at_hand = False
        self._not_rewound = kept
        self._changed.notify_all()
        return waiting - len(self._batcher)

    def close(self) -> None:
        """Hand out no more. What waits is not committed, so it goes to whoever reads next."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def fill(self, batch: Batch) -> float:
        """Return how full the batch is, 0 to 1: the larger of tokens and messages, each over its limit."""
        return max(batch.tokens / self._batcher.token_budget, len(batch.items) / self._batcher.max_messages)

    def waiting(self) -> tuple[int, int, float | None]:
        """Messages and tokens that wait, and the timestamp of the one that came first."""
        with self._changed:
            return len(self._batcher), self._batcher.tokens, self._batcher.oldest

    def _is_brimming(self) -> bool:
        batcher = self._batcher
        return batcher.tokens >= _ROOM * batcher.token_budget or len(batcher) >= _ROOM * batcher.max_messages
