"""Overview: is it well? What was promised, what is left of the budget, what flows, what waits, what is decided."""

from __future__ import annotations

from typing import Final

from deploy.grafana.panels import Dashboard, Panel
from deploy.grafana.promql import gauge, quantiles, rate, share
from deploy.prometheus.slo import LEVELS

_ALERTS = Panel(
    "Alerts firing",
    "table",
    "none",
    "What Prometheus holds to be wrong now, pages first. Empty is well.",
    "open docs/operations.md at the alert's name, in small letters.",
    [('ALERTS{alertstate="firing",alertname=~"Hamgate.*"}', "")],
    width=24,
    height=5,
    names={"alertname": "alert", "severity": "severity", "instance": "worker"},
    first="severity",
)


def _budget(name: str, promise: str) -> Panel:
    left = f'1 - hamgate:errors:ratio_3d{{slo="{name}"}} / on (slo) group_left () (1 - hamgate:objective:ratio{{slo="{name}"}})'
    return Panel(
        f"{name.capitalize()}: budget left over 3 days",
        "stat",
        "percentunit",
        f"Promised: {promise}. 100 % is no error in three days; at 0 % errors come as fast as a month can bear.",
        "below 0 % put off changes and look for what burns it on the Latency or the Delivery dashboard.",
        [(left, name)],
        steps=(0.25, 0.0),
        is_falling=True,
        least=None,
        most=1,
        decimals=1,
        height=5,
    )


OVERVIEW: Final = Dashboard(
    "overview",
    "Overview",
    "Is it well? Red numbers come with what to do: hover over a panel's i.",
    [
        ("Is it well?", [_ALERTS, *(_budget(level.name, level.promise) for level in LEVELS)]),
        (
            "Now",
            [
                Panel(
                    "Workers ready",
                    "stat",
                    "none",
                    "Workers whose /readyz says yes.",
                    "fewer than you run: HamgateNotReady in docs/operations.md; none: HamgateNobodyReady.",
                    [("sum(hamgate_ready)", "ready")],
                    steps=(2, 1),
                    is_falling=True,
                    width=4,
                    height=5,
                    decimals=0,
                ),
                Panel(
                    "Messages a second",
                    "stat",
                    "mps",
                    "Verdicts committed.",
                    "0 while lag is not 0: HamgateNoProgress. 0 with no lag: nothing comes in; ask the senders.",
                    [(rate("hamgate_verdicts_total"), "verdicts")],
                    width=4,
                    height=5,
                ),
                Panel(
                    "Latency p99",
                    "stat",
                    "s",
                    "From the record's timestamp to its verdict's commit.",
                    "above 250 ms: the Latency dashboard shows which stage takes it.",
                    [quantiles("hamgate_end_to_end_latency_seconds")[2]],
                    steps=(0.25, 1),
                    width=4,
                    height=5,
                ),
                Panel(
                    "Oldest message",
                    "stat",
                    "s",
                    "Age of the oldest message that was read and is not committed.",
                    "above 60 s: HamgateNoProgress.",
                    [(gauge("max", "hamgate_oldest_message_seconds"), "oldest")],
                    steps=(1, 60),
                    width=4,
                    height=5,
                ),
                Panel(
                    "Messages waiting",
                    "stat",
                    "short",
                    "Records in Kafka behind what was read, of all partitions.",
                    "growing: HamgateLagGrowing; the section on capacity says what to add.",
                    [(gauge("sum", "hamgate_consumer_lag_messages"), "lag")],
                    steps=(10_000, 100_000),
                    width=4,
                    height=5,
                    decimals=0,
                ),
                Panel(
                    "Not delivered",
                    "stat",
                    "percentunit",
                    "Share of verdicts that flag or block.",
                    "a jump: HamgateVerdictShift. A campaign shows in the scores too, a bad model only here.",
                    [
                        (
                            share(
                                rate("hamgate_verdicts_total", only='action=~"flag|block"'),
                                rate("hamgate_verdicts_total"),
                            ),
                            "share",
                        )
                    ],
                    width=4,
                    height=5,
                    decimals=1,
                ),
            ],
        ),
        (
            "Flow",
            [
                Panel(
                    "In and out",
                    "lines",
                    "mps",
                    "Messages read, and messages answered by a verdict or a dead letter.",
                    "in above out for long: the lag grows. Out without in: dead letters are replayed, or a rollback is read again.",
                    [
                        (rate("hamgate_messages_consumed_total"), "read"),
                        (rate("hamgate_verdicts_total"), "verdicts"),
                        (rate("hamgate_dead_letters_total"), "dead letters"),
                    ],
                    width=12,
                ),
                Panel(
                    "Verdicts by action",
                    "stack",
                    "mps",
                    "What the carrier is told to do.",
                    "`unscored` growing: HamgateUnscored.",
                    [(rate("hamgate_verdicts_total", "action"), "{{action}}")],
                    width=12,
                ),
                Panel(
                    "Latency",
                    "lines",
                    "s",
                    "From the record's timestamp to its verdict's commit.",
                    "p50 and p99 rising together: load or broker. p99 alone: rebalances, or one slow worker.",
                    quantiles("hamgate_end_to_end_latency_seconds"),
                    steps=(0.25, 1),
                    width=12,
                ),
                Panel(
                    "Waiting",
                    "lines",
                    "short",
                    "Records in Kafka behind what was read, for each worker.",
                    "one worker only: its partitions are hot, or it is slow. All: add replicas up to the number of partitions.",
                    [(gauge("sum", "hamgate_consumer_lag_messages", "instance"), "{{instance}}")],
                    width=12,
                ),
            ],
        ),
        (
            "What runs",
            [
                Panel(
                    "Build and model",
                    "table",
                    "none",
                    "Version, commit and bundle of each worker.",
                    "different digests for more than a rollout's time: HamgateModelsDiffer.",
                    [("hamgate_build_info * on (job, instance) group_right (version, commit) hamgate_model_info", "")],
                    width=16,
                    height=6,
                ),
                Panel(
                    "Processes",
                    "lines",
                    "bytes",
                    "Resident memory of each worker.",
                    "a steady climb: restart that worker, keep its log, and report it.",
                    [('process_resident_memory_bytes{job="hamgate",instance=~"$instance"}', "{{instance}}")],
                    width=8,
                    height=6,
                ),
            ],
        ),
    ],
)
