"""Dead letters that their topic takes: whole where it can be, else cut; no event of a sender's stops a partition.

An event fitted into the input as its sender had compressed it. Its dead letter need not fit as we compress it, and what
its topic takes is a right of its own to ask. So it is learnt from the broker's refusals.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog
from kafka import errors

from worker.broker.batches import BATCH_BYTES, packed_size, raw_size
from worker.messages import truncate_dead_letter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.messages import Outgoing

_TOO_LARGE: Final = (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError)
# After so many refusals the next size to try is below the last by more than a byte: a sender chooses the sizes.
_EXACT: Final = 4
_STEP: Final = 0.75

log = structlog.get_logger()


class Burial:
    """What the topic of dead letters has refused as too large, and the letters that are cut by it."""

    def __init__(self, topic: str) -> None:
        self._topic, self._refusals = topic, 0
        self._bound: float | None = None

    def fit(self, letters: Sequence[Outgoing]) -> Sequence[Outgoing]:
        """Return the letters, those that are known to be too large cut."""
        return (
            letters
            if self._bound is None
            else [self._cut(each) if self._is_too_large(each) else each for each in letters]
        )

    def refused(self, error: BaseException, letters: Sequence[Outgoing]) -> bool:
        """Learn from a refusal. False when it is of another kind, of another topic, or no letter can be its cause."""
        if not isinstance(error, _TOO_LARGE) or getattr(error, "topic", None) != self._topic:
            return False
        sizes = [packed_size(each) for each in letters if raw_size(each) > BATCH_BYTES and not self._is_too_large(each)]
        if not sizes:
            return False
        self._refusals += 1
        largest = max(sizes) if self._refusals <= _EXACT else max(sizes) * _STEP
        self._bound = max(largest, 1.0)
        log.warning("dead letter too large", topic=self._topic, bytes=max(sizes), cause=str(error))
        return True

    def _is_too_large(self, letter: Outgoing) -> bool:
        # What fits a batch with others is smaller than any topic's limit need be, else nothing would be written at all.
        return self._bound is not None and raw_size(letter) > BATCH_BYTES and packed_size(letter) >= self._bound

    def _cut(self, letter: Outgoing) -> Outgoing:
        added = {name: (value or b"").decode(errors="replace") for name, value in letter.headers[-5:]}
        log.warning(
            "dead letter truncated",
            topic=added.get("source-topic"),
            partition=added.get("source-partition"),
            offset=added.get("source-offset"),
            bytes=len(letter.value or b""),
        )
        return truncate_dead_letter(letter)
