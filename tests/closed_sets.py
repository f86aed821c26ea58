"""The allowed values of each label, none of which a message can choose; and messages that try."""

from __future__ import annotations

import json
import random
import re
from typing import TYPE_CHECKING, Final

from prometheus_client.openmetrics.parser import text_string_to_metric_families

from worker.feedback.records import HELD
from worker.feedback.reports import ReportOutcome
from worker.messages import Action, Decider, Flag, Outgoing, RuleKind, Unreadable, Unscored
from worker.metrics import LANGUAGES, LIST_ACTIONS, LISTED, PREDICTED, SNAPSHOTS
from worker.process.states import State
from worker.simulate.poison import ODD, UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Sequence

LABELS: Final = ("ham", "spam")
_NUMBERS: Final = re.compile(r"[0-9]+")
_ROLES: Final = {"primary", "canary", "shadow"}
_FREE: Final = re.compile(r"[A-Za-z0-9@._,+-]{0,80}")

CLOSED: Final[dict[tuple[str, str], set[str] | re.Pattern[str]]] = {
    ("hamgate_verdicts", "label"): {*LABELS, "none"},
    ("hamgate_verdicts", "action"): set(Action),
    ("hamgate_verdicts_by_flag", "flag"): set(Flag),
    ("hamgate_verdicts_by_flag", "action"): set(Action),
    ("hamgate_rule_matches", "decider"): set(Decider),
    ("hamgate_rule_matches", "rule"): set(RuleKind),
    ("hamgate_rule_matches", "action"): set(Action),
    ("hamgate_rule_matches", "dry_run"): {"false", "true"},
    ("hamgate_list_entries", "what"): set(LISTED),
    ("hamgate_list_entries", "action"): set(LIST_ACTIONS),
    ("hamgate_verdicts_by_language", "language"): {*LANGUAGES, "other", "none"},
    ("hamgate_verdicts_by_language", "action"): set(Action),
    ("hamgate_dead_letters", "reason"): set(Unreadable),
    ("hamgate_unscored", "reason"): set(Unscored),
    ("hamgate_sender_snapshots", "outcome"): set(SNAPSHOTS),
    ("hamgate_predict_requests", "outcome"): set(PREDICTED),
    ("hamgate_transactions", "outcome"): {"committed", "rolled-back", "fenced"},
    ("hamgate_state", "state"): set(State),
    ("hamgate_rebalances", "kind"): {"gained", "lost", "moved", "same"},
    ("hamgate_stage_busy_seconds", "stage"): {"read", "judge", "write"},
    ("hamgate_stage_step_seconds", "stage"): {"read", "judge", "write"},
    ("hamgate_drift_ratio", "signal"): {"outside", "tokens", "score"},
    ("hamgate_messages_judged", "label"): {*LABELS, "none"},
    ("hamgate_model_changes", "outcome"): {"swapped", "refused", "withdrawn"},
    ("hamgate_shadow_disagreements", "label"): set(LABELS),
    ("hamgate_shadow_disagreements", "shadow"): {*LABELS, "none"},
    ("hamgate_feedback_reports", "outcome"): set(ReportOutcome),
    ("hamgate_feedback_decisions", "state"): set(HELD),
    ("hamgate_gpu_memory_bytes", "kind"): {"used", "total", "allocated", "reserved"},
    ("hamgate_consumer_lag_messages", "partition"): _NUMBERS,
    ("hamgate_consumer_lag_seconds", "partition"): _NUMBERS,
    **{
        ("hamgate_model", name): _FREE for name in ("name", "digest", "engine", "labels")
    },  # the bundle's, not a message's
    **{("hamgate_build", name): _FREE for name in ("version", "commit")},
}
_EVERYWHERE: Final[dict[str, set[str] | re.Pattern[str]]] = {
    "le": re.compile(r"[0-9.e+]+|\+Inf"),
    "role": _ROLES,
    "generation": {"0", "1", "2"},
}


def strays(openmetrics: str, topic: str) -> list[str]:
    """Every label, of ours and of the process, that holds what it may not; an exemplar may hold a trace id alone."""
    found = []
    for family in text_string_to_metric_families(openmetrics):
        for sample in family.samples:
            for name, value in sample.labels.items():
                allowed = {topic} if name == "topic" else CLOSED.get((family.name, name), _EVERYWHERE.get(name, set()))
                is_allowed = value in allowed if isinstance(allowed, set) else allowed.fullmatch(value)
                if not is_allowed:
                    found.append(f"{sample.name}{{{name}={value!r}}}")
            if sample.exemplar and not (
                sample.exemplar.labels.keys() == {"trace_id"}
                and re.fullmatch(r"[0-9a-f]{32}", sample.exemplar.labels["trace_id"])
            ):
                found.append(f"{sample.name} exemplar {sample.exemplar.labels}")
    return found


_EVIL: Final = (
    'x"} 1\nhamgate_evil_total{label="',
    "+447700900123",
    "\x00\x1b]0;owned\x07",
    "{{.}}${jndi:ldap://x}",
    "a" * 300,
    "\u202e\u2028\ud7ff",
)


def hostile(count: int, seed: int = 1) -> Sequence[Outgoing]:
    """Events that try to get into a label by whatever a sender may choose: text, id, fields, key and headers."""
    dice = random.Random(seed)
    # The two that are long are rarer, so that a hundred thousand are not gigabytes.
    kinds = [kind for kind in UNREADABLE if kind not in {Unreadable.TOO_DEEP, Unreadable.TOO_LARGE}]
    return [_one(dice, kinds) for _ in range(count)]


def _one(dice: random.Random, kinds: Sequence[Unreadable]) -> Outgoing:
    evil = dice.choice(_EVIL)
    drawn = dice.random()
    value: bytes | None
    if drawn < 0.001:
        value = UNREADABLE[dice.choice((Unreadable.TOO_DEEP, Unreadable.TOO_LARGE))](dice)
    elif drawn < 0.35:
        value = UNREADABLE[dice.choice(kinds)](dice)
    elif drawn < 0.4:
        value = None
    elif drawn < 0.5:
        value = dice.randbytes(dice.randrange(60))
    else:
        text = dice.choice((evil, "WINNER!! claim your prize", "see you at seven", dice.choice(ODD)(dice)))[:400]
        value = json.dumps({"text": text, "id": f"{evil}{dice.random()}", "lang": evil, "network": evil}).encode()
    headers = (
        (dice.choice(("traceparent", "tracestate", evil[:20])), dice.choice((None, evil.encode(), b"\xff", b""))),
        ("traceparent", b"00-" + dice.randbytes(16).hex().encode() + b"-" + dice.randbytes(8).hex().encode() + b"-01"),
    )
    return Outgoing(evil.encode(), value, headers[dice.randrange(2) :])
