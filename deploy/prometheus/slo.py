"""The service levels, as recording rules over seven windows and as alerts on how fast their error budgets burn.

Windows and factors are those of the SRE workbook (chapter 5) for a budget of 30 days: a page when 2 % of it is gone in
an hour or 5 % in six, a ticket when 10 % is gone in a day or in three; each also over a window a twelfth as long, so
that the alert ends soon after its cause.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from deploy.prometheus.workers import EXPECTED

WINDOWS: Final = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
# Each pace: how bad it is, a long and a short window with the factor that neither may exceed, and how long to wait.
PACES: Final = {
    "Fast": ("page", (("1h", "5m", 14.4), ("6h", "30m", 6.0)), "2m"),
    "Slow": ("ticket", (("1d", "2h", 3.0), ("3d", "6h", 1.0)), "15m"),
}

# What can become of a record that was read; what the group takes back is read again, and answered then.
ACCOUNTED: Final = (
    "hamgate_verdicts_total",
    "hamgate_dead_letters_total",
    "hamgate_tombstones_total",
    "hamgate_messages_let_go_total",
)
STALE_AFTER: Final = 60


@dataclass(frozen=True)
class Level:
    """A service level: the share of `objective` that must be good, and the share of errors over a window.

    `errors` has `$window` where the window goes. No traffic is no error, but no worker is one: see freshness.
    """

    name: str
    objective: float
    promise: str
    errors: str


def _share_late(histogram: str, bound: str) -> str:
    good = f'sum by (namespace, job) (rate({histogram}_bucket{{le="{bound}"}}[$window]))'
    return f"1 - {good} / (sum by (namespace, job) (rate({histogram}_count[$window])) > 0)"


_CONSUMED = "sum by (namespace, job) (rate(hamgate_messages_consumed_total[$window]))"
_ACCOUNTED = " + ".join(f"sum by (namespace, job) (rate({name}[$window]))" for name in ACCOUNTED)

LEVELS: Final = (
    Level(
        "latency",
        0.99,
        "99 % of messages are committed within 250 ms of their record's timestamp",
        _share_late("hamgate_end_to_end_latency_seconds", "0.25"),
    ),
    Level(
        "correctness",
        0.999,
        "99.9 % of what is read is accounted for: a verdict, a dead letter, a tombstone, or discarded to be read again",
        f"clamp_min(1 - ({_ACCOUNTED}) / ({_CONSUMED} > 0), 0)",
    ),
    Level(
        "freshness",
        0.999,
        "99.9 % of the time a ready worker keeps up: no message waits for more than a minute",
        "avg_over_time(hamgate:stale:bool[$window])",
    ),
)


def rules(runbook: str) -> dict[str, Any]:
    """Return the file of rules, ready to be written as YAML; each alert links to its section of `runbook`."""
    return {
        "groups": [
            {"name": "hamgate-stale", "interval": "15s", "rules": [_stale()]},
            {
                "name": "hamgate-levels",
                "interval": "30s",
                "rules": [rule for level in LEVELS for rule in _record(level)],
            },
            {"name": "hamgate-budgets", "rules": [_alert(level, pace, runbook) for level in LEVELS for pace in PACES]},
        ]
    }


def _stale() -> dict[str, Any]:
    # Nobody is ready; or a message that was read is old and not committed; or what comes next to be read is old.
    # A deployment that has left service discovery is one where nobody is ready.
    known = f'max by (namespace, job) (up{{job="hamgate"}}) * 0 or ({EXPECTED} > 0) * 0'
    nobody = f"(max by (namespace, job) (hamgate_ready) or {known}) < bool 1"
    old = [
        f"(max by (namespace, job) ({name}) > bool {STALE_AFTER} or ({nobody}) * 0)"
        for name in ("hamgate_oldest_message_seconds", "hamgate_consumer_lag_seconds")
    ]
    return {"record": "hamgate:stale:bool", "expr": f"clamp_max(({nobody}) + {' + '.join(old)}, 1)"}


def _record(level: Level) -> list[dict[str, Any]]:
    labels = {"slo": level.name}
    recorded: list[dict[str, Any]] = [
        {"record": "hamgate:objective:ratio", "expr": f"vector({level.objective})", "labels": labels}
    ]
    for window in WINDOWS:
        expr = level.errors.replace("$window", window)
        recorded.append({"record": f"hamgate:errors:ratio_{window}", "expr": expr, "labels": labels})
    return recorded


def _alert(level: Level, pace: str, runbook: str) -> dict[str, Any]:
    severity, pairs, wait = PACES[pace]
    budget = round(1 - level.objective, 6)
    name = f"Hamgate{level.name.capitalize()}Budget{pace}"

    def over(window: str, factor: float) -> str:
        return f'hamgate:errors:ratio_{window}{{slo="{level.name}"}} > {round(factor * budget, 6)}'

    return {
        "alert": name,
        "expr": " or ".join(f"({over(long, factor)} and {over(short, factor)})" for long, short, factor in pairs),
        "for": wait,
        "labels": {"severity": severity},
        "annotations": {
            "summary": f"The {level.name} budget burns {pace.lower()}: {{{{ $value | humanizePercentage }}}} errors.",
            "description": f"Promised: {level.promise}. At this pace the month's budget does not last the month.",
            "runbook_url": f"{runbook}#{name.lower()}",
        },
    }
