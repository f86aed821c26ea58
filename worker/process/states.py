"""The states of a worker, on one screen. A state is read off the parts that make it, so the two cannot disagree.

    state         entered when                                        left when
    joining       it starts; a rebalance takes all it had             the group gives partitions -> rolling-back
    running       the reader is back at what is committed             one of the below
    rebuilding    a transaction is refused, fails, or is too late     a producer of the same name stands, and with it
                                                                      what was left open is aborted -> rolling-back
    rolling-back  partitions came or went, or a transaction did not   the reader is back at the committed offsets of
                  commit: what is in the pipe of them is void         those (of all, after a transaction) -> running
    draining      it is told to stop: nothing more is polled          all in flight is committed, or grace is over
    stopped       it has drained; or a stage has ended: fenced by a   never: the process ends, and another goes on
                  newer instance, a right taken away, a bug, ...      from what is committed

Wherever it stops, what is not committed is read again by whoever gets the partition: no state needs to be remembered.
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """One of the above."""

    JOINING = "joining"
    RUNNING = "running"
    REBUILDING = "rebuilding"
    ROLLING_BACK = "rolling-back"
    DRAINING = "draining"
    STOPPED = "stopped"


def state(*, has_ended: bool, is_stopping: bool, is_rebuilding: bool, is_assigned: bool, is_rewinding: bool) -> State:
    """Return the state that these make: the first that holds, in this order."""
    holds = {
        State.STOPPED: has_ended,
        State.DRAINING: is_stopping,
        State.REBUILDING: is_rebuilding,
        State.JOINING: not is_assigned,
        State.ROLLING_BACK: is_rewinding,
    }
    return next((state for state, is_so in holds.items() if is_so), State.RUNNING)
