"""Faults of a single request: it comes late, its answer does, or its answer is lost.

Each function returns a fault's `strike`. They need a stage whose workers connect through a frame proxy.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Final

from tests.delivery.frames import Api, Harm, Rule
from tests.delivery.stage import TRANSACTION_TIMEOUT
from worker.broker.link import REQUEST_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.delivery.stage import Stage

# Requests that one strike harms.
_AT_ONCE: Final = 3
_ONE_OF: Final = 4
_LATE: Final = (Harm.LATE_COPY, Harm.DUPLICATE)
# How often a struck request is delivered without its sender.
_DELIVERIES: Final = {Harm.LATE_COPY: 1, Harm.DUPLICATE: 2, Harm.RESET: 1, Harm.DELAYED_ANSWER: 0}
# Transactions stay open for longer, so that what comes late meets one that is half done.
HELD_OFFSETS: Final = Rule(Api.TXN_OFFSET_COMMIT, Harm.DELAY, every=2, seconds=(0, 0.25))
_IN_EVERY_TRANSACTION: Final = (Api.PRODUCE, Api.TXN_OFFSET_COMMIT, Api.END_TXN)
_ONLY_BEFORE_VERSION_2: Final = (Api.ADD_PARTITIONS_TO_TXN, Api.ADD_OFFSETS_TO_TXN)


def late(api: Api, *beside: Rule) -> Callable[[Stage], None]:
    """Deliver some requests again, or only, when the worker has given them up; `beside` are more rules meanwhile."""

    def strike(stage: Stage) -> None:
        harm = _LATE[_turn(stage) % 2]
        _harm(stage, Rule(api, harm, every=_ONE_OF, times=_AT_ONCE), *beside)
        stage.flowing()

    return strike


def late_offsets(stage: Stage) -> None:
    """Deliver offsets during the next transaction, and kill the worker after that: its successor reads from them.

    The transaction after it would put the offsets right again, so the time of each step is chosen.
    """
    rule = Rule(Api.TXN_OFFSET_COMMIT, _LATE[_turn(stage) % 2], every=_ONE_OF, seconds=(0.6, 1.0), times=1)
    _harm(stage, rule, Rule(Api.END_TXN, Harm.DELAY, seconds=(0.4, 0.5)), after=_restart_when_next_has_ended)
    stage.flowing()


def late_init(stage: Stage) -> None:
    """Deliver an InitProducerId late: that of a worker that starts, and of one whose transaction failed, in turns."""
    turn = _turn(stage)
    slow_end = Rule(Api.END_TXN, Harm.DELAYED_ANSWER, seconds=(2 * TRANSACTION_TIMEOUT,) * 2, times=1)
    late_one = Rule(Api.INIT_PRODUCER_ID, _LATE[turn // 2 % 2], times=1)
    if turn % 2:
        _harm(stage, late_one, slow_end)
    else:
        _harm(stage, late_one, provoke=_restart)
    stage.flowing()


def delayed_answer(stage: Stage) -> None:
    """Hold an answer for longer than the worker waits for it: one of EndTxn, TxnOffsetCommit, Produce in turns."""
    api = (Api.END_TXN, Api.TXN_OFFSET_COMMIT, Api.PRODUCE)[_turn(stage) % 3]
    _harm(stage, Rule(api, Harm.DELAYED_ANSWER, every=_ONE_OF, seconds=(REQUEST_TIMEOUT + 2,) * 2, times=1))
    stage.flowing()


def reset_after_delivery(stage: Stage) -> None:
    """Reset the connection before the answer comes, to each kind of request in turns."""
    kinds = [*_IN_EVERY_TRANSACTION, Api.INIT_PRODUCER_ID]
    if stage.cluster.transaction_version == 1:
        kinds += _ONLY_BEFORE_VERSION_2
    api = kinds[_turn(stage) % len(kinds)]
    if api is Api.INIT_PRODUCER_ID:
        _harm(stage, Rule(api, Harm.RESET, times=1), provoke=_restart)
    else:
        _harm(stage, Rule(api, Harm.RESET, every=_ONE_OF, times=_AT_ONCE))
    stage.flowing()


def _turn(stage: Stage) -> int:
    return len(stage.struck)


def _harm(
    stage: Stage,
    rule: Rule,
    *beside: Rule,
    provoke: Callable[[Stage], None] = lambda _: None,
    after: Callable[[Stage], None] = lambda _: None,
) -> None:
    """Wait until the first rule has struck as often as it may and what it holds back is delivered; then heal.

    `provoke` makes its request happen; `after` is done before all is healed.
    """
    frames, kind, times = stage.frames, (rule.api, rule.harm), rule.times or 1
    struck, delivered = frames.struck[kind] + times, len(frames.late) + times * _DELIVERIES[rule.harm]
    stage.strike()
    frames.strike(rule, *beside)
    provoke(stage)
    stage.until(lambda: frames.struck[kind] >= struck, 60, f"{rule.api.name} was sent and struck")
    stage.until(lambda: len(frames.late) >= delivered, 10, f"{rule.api.name} was delivered")
    after(stage)
    frames.strike()


def _restart_when_next_has_ended(stage: Stage) -> None:
    stage.wait(0.45)
    _restart(stage)


def _restart(stage: Stage) -> None:
    stage.workers[stage.victim].send(signal.SIGKILL)
    stage.workers[stage.victim].ended()
    stage.start(stage.victim, ready=False)
