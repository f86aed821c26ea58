"""How a worker is a member of its group: static or not, eager or cooperative."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor

_ASSIGNORS: Final = {"eager": RangePartitionAssignor, "cooperative": CooperativeStickyAssignor}


@dataclass(frozen=True, slots=True)
class Member:
    """A membership's terms; `static_name` makes it a static one, whose partitions wait for it until its session ends.

    `out_of_range`: what to do when the input no longer holds the next record (or does not yet, after a loss of data).
    `unreadable_batch`: what to do at a batch that its sender spoilt: a dead letter for each of its offsets, or stop.
    """

    rebalance: Literal["eager", "cooperative"] = "eager"
    static_name: str | None = None
    out_of_range: Literal["fail", "earliest", "latest"] = "fail"
    unreadable_batch: Literal["dead-letter", "fail"] = "dead-letter"

    def options(self) -> dict[str, Any]:
        """Return the client's options for it."""
        return {
            "group_instance_id": self.static_name,
            "partition_assignment_strategy": (_ASSIGNORS[self.rebalance],),
            # By its own choice the client would go back to the start without a word: everything judged again.
            "auto_offset_reset": "none",
        }
