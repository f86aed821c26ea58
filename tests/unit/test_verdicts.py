"""From scores to verdicts and dead letters."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.messages import Action, Fault, Record, Sms, Unreadable, Unscored
from worker.model.bundle import Calibration, Thresholds
from worker.model.classifier import UNSCORED, Classifier, Prepared, Scores
from worker.pipeline.batch import Batch, Waiting
from worker.pipeline.verdicts import Verdicts
from worker.policy.bands import Policy

NAN = float("nan")
LABELS = ("ham", "spam", "smishing")


def record(offset: int, value: bytes | None = b"{}") -> Record:
    return Record("in", 2, offset, 99.0, b"key-%d" % offset, value)


def message(offset: int, *, tokens: int = 4) -> Waiting:
    prepared = Prepared([1] * tokens, ("normalised",))
    return Waiting(record(offset), 100.0, Sms(f"m-{offset}", "x", 99.0), prepared, tokens=len(prepared))


def judged(items: list[Waiting], rows: list[int], labels: list[int], scores: list[float]) -> Batch:
    answers = Scores(np.array(scores), np.array(labels), np.array(labels) != UNSCORED)
    return Batch(0, object(), items, 100.5).begun(rows, 0.0, None).judged(answers, 100.75, 0.25)


@pytest.fixture
def verdicts() -> Verdicts:
    policy = Policy.make(0.5, flag_from=0.3, block_from=0.9, on_unscored="fail-open")
    return Verdicts(LABELS, policy, "nano@0123456789ab")


def test_a_message_of_which_a_character_was_lost_says_so(verdicts: Verdicts) -> None:
    item = msgspec.structs.replace(message(0), sms=Sms("m-0", "x", 99.0, is_repaired=True))

    outcome = verdicts.of(judged([item], [0], [0], [0.1]), now=101.0)

    [shown] = [json.loads(out.value or b"") for out in outcome.verdicts]
    assert shown["flags"] == ["repaired", "normalised"]
    assert outcome.flagged == {("repaired", Action.DELIVER): 1, ("normalised", Action.DELIVER): 1}


def test_every_message_has_its_verdict_in_order_under_its_own_key(verdicts: Verdicts) -> None:
    outcome = verdicts.of(
        judged([message(0), message(1), message(2)], [0, 1, 2], [0, 1, 2], [0.1, 0.6, 0.95]), now=101.0
    )

    shown = [json.loads(out.value or b"") for out in outcome.verdicts]
    assert [out.key for out in outcome.verdicts] == [b"key-0", b"key-1", b"key-2"]
    assert [(v["id"], v["label"], v["action"]) for v in shown] == [
        ("m-0", "ham", "deliver"), ("m-1", "spam", "flag"), ("m-2", "smishing", "block"),
    ]  # fmt: skip
    assert outcome.decisions == {
        ("ham", Action.DELIVER): 1, ("spam", Action.FLAG): 1, ("smishing", Action.BLOCK): 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("flag", "action"), [("one-time-code", "flag"), ("notice", "flag"), ("outside", "flag"), ("truncated", "block")]
)
def test_what_limits_the_action_leaves_label_and_score_the_models(verdicts: Verdicts, flag: str, action: str) -> None:
    item = msgspec.structs.replace(message(0), prepared=Prepared([1] * 4, (flag,), language="sw"))

    outcome = verdicts.of(judged([item], [0], [1], [0.95]), now=101.0)

    shown = json.loads(outcome.verdicts[0].value or b"")
    assert (shown["label"], shown["score"], shown["action"]) == ("spam", 0.95, action)
    assert (shown["flags"], shown["language"]) == ([flag], "sw")
    assert outcome.flagged == {(flag, action): 1}
    assert outcome.languages == {("sw", action): 1}


def test_a_verdict_gives_the_threshold_of_its_language() -> None:
    policy = Policy.make(
        0.5, flag_from=None, block_from=None, on_unscored="unscored",
        by_language={"hi": Thresholds(flag_from=0.6, threshold=0.7, block_from=0.9)},
    )  # fmt: skip
    items = [
        msgspec.structs.replace(message(at), prepared=Prepared([1], (), language=language))
        for at, language in enumerate(("hi", "en"))
    ]

    outcome = Verdicts(LABELS, policy, "nano@0123456789ab").of(judged(items, [0, 1], [0, 1], [0.65, 0.65]), now=101.0)

    shown = [json.loads(out.value or b"") for out in outcome.verdicts]
    assert [(v["threshold"], v["label"], v["action"]) for v in shown] == [(0.7, "ham", "flag"), (0.5, "spam", "block")]


def test_a_verdict_says_where_its_time_went(verdicts: Verdicts) -> None:
    outcome = verdicts.of(judged([message(7)], [0], [0], [0.1]), now=101.0)

    shown = json.loads(outcome.verdicts[0].value or b"")
    assert shown["latency_ms"] == {"broker": 1000.0, "queue": 500.0, "inference": 250.0, "total": 2000.0}
    assert shown["source"] == {"topic": "in", "partition": 2, "offset": 7, "timestamp": 99000}
    assert shown["scored_at"] == "1970-01-01T00:01:40.750Z"
    assert (shown["flags"], shown["model"], shown["threshold"]) == (["normalised"], "nano@0123456789ab", 0.5)


def test_clocks_that_differ_give_no_negative_latency(verdicts: Verdicts) -> None:
    outcome = verdicts.of(judged([message(7)], [0], [0], [0.1]), now=50.0)

    assert json.loads(outcome.verdicts[0].value or b"")["latency_ms"]["total"] == 0.0


@pytest.mark.parametrize(
    ("tokens", "rows", "labels", "scores", "reason"),
    [
        (0, [0], [UNSCORED], [NAN], Unscored.EMPTY_TEXT),
        (4, [0], [UNSCORED], [NAN], Unscored.NON_FINITE_SCORE),
        (4, [], [], [], Unscored.DEADLINE),
        (0, [], [], [], Unscored.EMPTY_TEXT),
    ],
)
def test_without_a_score_there_is_no_label_but_a_reason_and_the_operators_action(
    verdicts: Verdicts, tokens: int, rows: list[int], labels: list[int], scores: list[float], reason: Unscored
) -> None:
    outcome = verdicts.of(judged([message(0, tokens=tokens)], rows, labels, scores), now=101.0)

    shown = json.loads(outcome.verdicts[0].value or b"")
    assert (shown["label"], shown["score"], shown["reason"], shown["action"]) == (None, None, reason, "deliver")
    assert outcome.unscored == {reason: 1}
    assert outcome.decisions == {(None, Action.DELIVER): 1}


def test_the_unreadable_become_dead_letters_and_tombstones_nothing(verdicts: Verdicts) -> None:
    items = [
        Waiting(record(0, b"?"), 100.0, unreadable=Fault(Unreadable.INVALID_JSON, None, 0)),
        message(1),
        Waiting(record(2, None), 100.0),
    ]

    outcome = verdicts.of(judged(items, [1], [0], [0.1]), now=101.0)

    assert [json.loads(out.value or b"")["id"] for out in outcome.verdicts] == ["m-1"]
    [letter] = outcome.dead_letters
    assert (letter.key, letter.value, dict(letter.headers)["reason"]) == (b"key-0", b"?", b"invalid-json")


def test_no_verdict_holds_the_text_or_a_number(verdicts: Verdicts) -> None:
    private = "call +447946000000 now"
    item = Waiting(
        record(0, json.dumps({"text": private}).encode()), 100.0, Sms("in:2:0", private, 99.0), Prepared([1]), tokens=1
    )

    outcome = verdicts.of(judged([item], [0], [1], [0.99]), now=101.0)

    assert b"447946" not in (outcome.verdicts[0].value or b"")


@given(st.floats(0.001, 0.999), st.floats(-2e-6, 2e-6))
def test_a_verdicts_score_and_threshold_give_its_label_and_its_action(score: float, beside: float) -> None:
    """Also where the score is nearer to the threshold than the digits that are published."""
    threshold = score + beside
    logits = np.array([[0.0, math.log(score / (1 - score))]])
    plain: Any = SimpleNamespace(bundle=SimpleNamespace(calibration=Calibration(slope=1, intercept=0)))
    scores = Classifier.read(plain, logits, threshold)
    policy = Policy.make(threshold, flag_from=None, block_from=None, on_unscored="unscored")

    outcome = Verdicts(LABELS, policy, "nano@0").of(
        Batch(0, object(), [message(0)], 100.5).begun([0], 0.0, None).judged(scores, 100.75, 0.25), now=101.0
    )

    shown = json.loads(outcome.verdicts[0].value or b"")
    is_spam = shown["score"] >= shown["threshold"]
    assert (shown["label"], shown["action"]) == (("spam", "block") if is_spam else ("ham", "deliver"))
    assert shown["score"] == pytest.approx(score, abs=1e-6)
