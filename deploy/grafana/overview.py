"""Overview: is it well? What was promised, what is left of the budget, what flows, what waits, what is decided."""

from __future__ import annotations

from typing import Final

from deploy.grafana.panels import LINK, Dashboard, Panel
from deploy.grafana.promql import DEPLOYMENT, WORKER, gauge, quantiles, rate, share
from deploy.prometheus.slo import LEVELS

_FIRING: Final = 'ALERTS{alertstate="firing",alertname=~"Hamgate.*",namespace=~"$namespace"}'
_ALERTS = Panel(
    "Alerts firing",
    "table",
    "none",
    "What Prometheus holds to be wrong now, pages first. Empty is well.",
    "open the runbook at the link in its row.",
    [
        (
            _FIRING + " * on (alertname) group_left (runbook_url) hamgate:runbook:info",
            "",
        )
    ],
    width=24,
    height=5,
    names={"alertname": "alert", "severity": "severity", "instance": "worker", LINK: "runbook"},
    first="severity",
    empty="no alert fires",
)


def _budget(name: str, promise: str) -> Panel:
    chosen = f'slo="{name}",{DEPLOYMENT}'
    spent = (
        f'hamgate:errors:ratio_3d{{{chosen}}} / on (slo) group_left () (1 - hamgate:objective:ratio{{slo="{name}"}})'
    )
    # Known since between two and three days ago; a younger series says nothing of three days.
    known = f"count_over_time(hamgate:errors:ratio_5m{{{chosen}}}[1d] offset 2d)"
    left = f"min(1 - {spent} and {known})"
    return Panel(
        f"{name.capitalize()}: budget left over 3 days",
        "stat",
        "percentunit",
        f"Promised: {promise}. 100 % is no error in three days; at 0 % errors come as fast as a month can bear. Of "
        "several deployments, the worst. Until Prometheus has known one for two days there is nothing to say.",
        "below 0 % put off changes and look for what burns it on the Latency or the Delivery dashboard.",
        [(left, name)],
        steps=(0.25, 0.0),
        is_falling=True,
        least=None,
        most=1,
        decimals=1,
        height=5,
        empty="not enough data yet",
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
                    [(gauge("sum", "hamgate_ready"), "ready")],
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
                    steps=(0.2, 0.5),
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
                    colored=("deliver", "flag", "block", "unscored"),
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
                    is_log=True,
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
                    [
                        (
                            f"hamgate_build_info{{{WORKER}}} * on (namespace, job, instance) group_right (version, commit) hamgate_model_info",
                            "",
                        )
                    ],
                    width=16,
                    height=6,
                ),
                Panel(
                    "Processes",
                    "lines",
                    "bytes",
                    "Resident memory of each worker.",
                    "a steady climb: restart that worker, keep its log, and report it.",
                    [(f'process_resident_memory_bytes{{job="hamgate",{WORKER}}}', "{{instance}}")],
                    width=8,
                    height=6,
                ),
            ],
        ),
    ],
)
