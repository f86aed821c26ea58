"""What is decided of reports, and an analyst's word on its way: the console's side of `hamgate feedback`."""

from __future__ import annotations

import re
import threading
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from console.following import Following
from worker.commands import feeding
from worker.feedback.records import DecisionState
from worker.feedback.reports import is_decision
from worker.settings import decisions_topic

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from console.access import Visitor
    from worker.broker import KafkaLink
    from worker.feedback.records import FeedbackDecision
    from worker.feedback.reports import FeedbackReport
    from worker.messages import Record

DECIDED: Final = 20_000
"""Accepted and refused decisions that are known: the newest. Those that wait are bounded by `hamgate feedback`."""
WAITING: Final = (DecisionState.DISPUTED, DecisionState.OPEN)
SHOWN: Final[dict[str, tuple[DecisionState, ...]]] = {
    "waiting": WAITING,
    "accepted": (DecisionState.ACCEPTED,),
    "refused": (DecisionState.REFUSED,),
}
"""What a page may be asked for, and the states that it has then."""
_FOREIGN: Final = re.compile(r"[^A-Za-z0-9._-]+")


class AuthorError(ValueError):
    """The visitor's name cannot stand in the trail of a decision."""


class KnownDecisions(NamedTuple):
    """Decisions in the order of a page, how many there are of each state, and why they may be old."""

    decisions: list[FeedbackDecision]
    counts: Counter[DecisionState]
    cause: str
    is_whole: bool
    """Whether the topic has been read to its end."""


class ReviewQueue:
    """The decisions as they are now, and corrections to the topic of reports."""

    def __init__(self, link: KafkaLink, topic: str) -> None:
        self.topic = topic
        self._link = link
        self._lock = threading.Lock()
        self._known: dict[str, FeedbackDecision] = {}
        self._followed = Following(link, decisions_topic(topic), self)

    def known(self, states: Sequence[DecisionState]) -> KnownDecisions:
        """Return the decisions of these states: what waits by urgency, disputed first; what is decided newest first."""
        self._followed.catch_up()
        with self._lock:
            all_known = [each for each in self._known.values() if is_decision(each.id)]
        chosen = [each for each in all_known if each.state in states]
        if set(states) & set(WAITING):
            chosen.sort(key=lambda each: (each.state is not DecisionState.DISPUTED, *feeding.urgency(each)))
        else:
            chosen.sort(key=lambda each: -each.touched_at)
        counts = Counter(each.state for each in all_known)
        return KnownDecisions(chosen, counts, self.cause, self._followed.state()["read_at"] is not None)

    def snapshot(self) -> dict[str, FeedbackDecision]:
        """Return all of them by their ids."""
        self._followed.catch_up()
        with self._lock:
            return dict(self._known)

    def decision(self, name: str) -> FeedbackDecision | None:
        """Return one by its id."""
        self._followed.catch_up()
        with self._lock:
            return self._known.get(name)

    @property
    def cause(self) -> str:
        """Why the brokers do not give what is new; empty: they do."""
        return str(self._followed.state()["cause"])

    def start(self) -> None:
        """Read from now on."""
        self._followed.start()

    def send(self, corrections: Sequence[FeedbackReport]) -> None:
        """Send them on their way. Raises BrokerError."""
        feeding.send(self._link, self.topic, corrections)

    def close(self) -> None:
        """Read no more."""
        self._followed.close()

    def take(self, records: Iterable[Record], now: float) -> None:  # noqa: ARG002 the topic says what is over
        """Take up what was written."""
        for record in records:
            with self._lock:
                feeding.note(self._known, record.key, record.value)
                if len(self._known) > 2 * DECIDED:
                    self._trim()

    def forget(self) -> None:
        """Begin anew."""
        with self._lock:
            self._known.clear()

    def _trim(self) -> None:
        waiting = [each for each in self._known.values() if each.state in WAITING]
        decided = sorted(
            (each for each in self._known.values() if each.state not in WAITING), key=lambda each: each.touched_at
        )
        self._known = {each.id: each for each in (*decided[-DECIDED:], *waiting[-DECIDED:])}


def author_of(visitor: Visitor) -> str:
    """The visitor's name as a decision's trail takes it: `@` and the like become `-`. Raises AuthorError."""
    name = _FOREIGN.sub("-", visitor.name)[:64]
    try:
        feeding.correction("0-0", "ham", name, None)
    except ValueError:
        message = (
            "Your name cannot stand in the trail of a decision: it needs a letter, and no number of five digits. "
            "Ask for another user name."
        )
        raise AuthorError(message) from None
    return name
