"""Decisions as tasks of Label Studio, and its annotations as corrections.

Its format is described at labelstud.io/guide/task_format: a list of tasks, each with `data`, `predictions` and
`annotations`; a choice is a result of the type `choices`. A file comes from a stranger's program: a task that is not as
it should be is left out and counted, by its number, never by what stands in it.
"""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from worker.commands import feeding
from worker.feedback.reports import DISMISS, HAM, SPAM, is_decision, placed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.feedback.records import FeedbackDecision
    from worker.feedback.reports import FeedbackReport

LABELS: Final = (SPAM, HAM, DISMISS)
MOST_TASKS: Final = 5000
"""Tasks of one file that is written, and of one part of a file that is read."""
_TEXT, _CHOICE = "text", "label"
"""Names of the two tags of the labelling interface."""
INTERFACE: Final = f"""<View>
  <Text name="{_TEXT}" value="${_TEXT}"/>
  <Choices name="{_CHOICE}" toName="{_TEXT}" choice="single">
{"".join(f'    <Choice value="{label}"/>{chr(10)}' for label in LABELS)}  </Choices>
</View>"""
_REASONS: Final = {DISMISS: "dismissed in Label Studio"}
_REASON: Final = "labelled in Label Studio"


class _Value(msgspec.Struct):
    choices: list[str] = []


class _Result(msgspec.Struct):
    type: str = ""
    value: _Value = msgspec.field(default_factory=_Value)


class _Annotation(msgspec.Struct):
    result: list[_Result] = []
    was_cancelled: bool = False


class _Data(msgspec.Struct):
    decision: str | None = None
    source: str | None = None
    id: str | int | None = None


class _Task(msgspec.Struct):
    data: _Data
    annotations: list[_Annotation] = []


class LeftOut(enum.StrEnum):
    """Why a task gives no correction: a closed set."""

    NOT_A_TASK = "not as Label Studio writes it"
    NAMED_TWICE = "names a message that an earlier task names"
    NO_MESSAGE = "names no message"
    NOT_ANNOTATED = "not annotated"
    DISAGREEING = "annotators disagree"
    OTHER_LABEL = "its label is none of spam, ham, dismiss"
    NO_PLACE = "its source is no topic:partition:offset"
    UNKNOWN = "names a decision that is not known here"
    OTHER_MESSAGE = "its decision is on another message here"


class _LeftOutError(ValueError):
    """A task that gives no correction."""

    def __init__(self, why: LeftOut) -> None:
        super().__init__(why.value)


_tasks: Final = msgspec.json.Decoder(list[msgspec.Raw])
_task: Final = msgspec.json.Decoder(_Task)


@dataclass(slots=True)
class ImportedTasks:
    """The corrections of a file, and how many of its tasks gave none, by why."""

    corrections: list[FeedbackReport] = field(default_factory=list)
    left: Counter[str] = field(default_factory=Counter)
    first_left: list[str] = field(default_factory=list)
    """Of the first twenty, which and why."""

    def as_json(self) -> dict[str, Any]:
        """What the page and the audit log say of it."""
        labels = Counter(each.label for each in self.corrections)
        return {"labels": dict(labels), "left": dict(self.left), "first_left": self.first_left}


def task(decision: FeedbackDecision, text: str | None) -> dict[str, Any]:
    """A decision as a task. Without a text it says so in the place where the text would be."""
    source, said = feeding.place(decision.source), decision.said
    none = f"No text is kept here: decision {decision.id}, message {source}"
    predictions = []
    if said and said.label and said.score is not None:
        predictions = [{
            "model_version": "verdict",
            "score": round(1 - said.score if said.label == HAM else said.score, 6),
            "result": [{
                "id": "verdict", "from_name": _CHOICE, "to_name": _TEXT, "type": "choices",
                "value": {"choices": [said.label]},
            }],
        }]  # fmt: skip
    return {
        "data": {
            _TEXT: none if text is None else text,
            "has_text": text is not None,
            "decision": decision.id,
            "source": source,
            "state": decision.state,
            "accepted_as": decision.label,
            "decided_by": decision.history[-1].by if decision.history else None,
            "votes_spam": decision.count(SPAM),
            "votes_ham": decision.count(HAM),
            "trust": round(decision.trusted, 3),
            "action": said.action if said else None,
            "score": said.score if said else None,
        },
        "predictions": predictions,
    }


def corrections(content: bytes, author: str, known: Mapping[str, FeedbackDecision]) -> ImportedTasks:
    """Read tasks. Raises ValueError where it is no list of tasks at all, or a longer one than may be."""
    try:
        tasks = _tasks.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        message = "This is no list of Label Studio's tasks. Export it there as JSON."
        raise ValueError(message) from None
    if len(tasks) > MOST_TASKS:
        message = f"{len(tasks):,} tasks; {MOST_TASKS:,} at most."
        raise ValueError(message)
    found = ImportedTasks()
    seen: set[str] = set()
    for number, each in enumerate(tasks, 1):
        try:
            made = _correction(each, author, known, seen)
        except _LeftOutError as why:
            found.left[str(why)] += 1
            if len(found.first_left) < 20:  # noqa: PLR2004 of a page
                found.first_left.append(f"task {number}: {why}")
        else:
            found.corrections.append(made)
    return found


def _correction(
    content: msgspec.Raw, author: str, known: Mapping[str, FeedbackDecision], seen: set[str]
) -> FeedbackReport:
    try:
        read = _task.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _LeftOutError(LeftOut.NOT_A_TASK) from None
    label, name = _label(read), _name(read.data, known)
    if name in seen:
        raise _LeftOutError(LeftOut.NAMED_TWICE)
    seen.add(name)
    try:
        return feeding.correction(name, label, author, _REASONS.get(label, _REASON))
    except ValueError:
        raise _LeftOutError(LeftOut.NO_MESSAGE) from None


def _label(read: _Task) -> str:
    """What the annotations say; those that were skipped say nothing."""
    said = {
        tuple(result.value.choices)
        for annotation in read.annotations
        if not annotation.was_cancelled
        for result in annotation.result
        if result.type == "choices"
    }
    if not said:
        raise _LeftOutError(LeftOut.NOT_ANNOTATED)
    if len(said) > 1:
        raise _LeftOutError(LeftOut.DISAGREEING)
    [choices] = said
    if len(choices) != 1 or choices[0] not in LABELS:
        raise _LeftOutError(LeftOut.OTHER_LABEL)
    return choices[0]


def _name(data: _Data, known: Mapping[str, FeedbackDecision]) -> str:
    """The decision that a task names, where it is on this message here; else its place; else its id."""
    if data.source and placed(data.source) is None:
        raise _LeftOutError(LeftOut.NO_PLACE)
    if data.decision:
        decision = known.get(data.decision) if is_decision(data.decision) else None
        if decision is None:
            raise _LeftOutError(LeftOut.UNKNOWN)
        if data.source and feeding.place(decision.source) != data.source:
            raise _LeftOutError(LeftOut.OTHER_MESSAGE)
        return data.decision
    name = data.source or str(data.id or "")
    if not name:
        raise _LeftOutError(LeftOut.NO_MESSAGE)
    return name
