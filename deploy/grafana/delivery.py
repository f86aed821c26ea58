"""Delivery: transactions, the group, what could not be read, what waits where."""

from __future__ import annotations

from typing import Final

from deploy.grafana.panels import Dashboard, Panel
from deploy.grafana.promql import DEPLOYMENT, WORKER, age, gauge, quantiles, rate

DELIVERY: Final = Dashboard(
    "delivery",
    "Delivery",
    "Does every message come to one verdict, once? What refuses, what moves, what waits.",
    [
        (
            "Transactions",
            [
                Panel(
                    "Transactions",
                    "lines",
                    "ops",
                    "Batches written, by outcome.",
                    "rolled-back: HamgateRollbacks; judged again, published once. fenced: HamgateFenced, at once.",
                    [(rate("hamgate_transactions_total", "outcome"), "{{outcome}}")],
                    colored=("committed", "rolled-back", "fenced"),
                ),
                Panel(
                    "Time to commit",
                    "lines",
                    "s",
                    "Publishing and committing a batch.",
                    "rising on all workers: the brokers. On one: its network.",
                    quantiles("hamgate_commit_seconds"),
                    steps=(0.1, 1),
                    is_log=True,
                ),
                Panel(
                    "Since the last commit",
                    "lines",
                    "s",
                    "For each worker.",
                    "rising while messages wait: HamgateNoProgress. Rising without: nothing comes in.",
                    [(f"{age('hamgate_last_commit_timestamp_seconds')} < 86400", "{{instance}}")],
                ),
            ],
        ),
        (
            "Accounting",
            [
                Panel(
                    "Read, by outcome",
                    "stack",
                    "mps",
                    "Verdicts, dead letters, tombstones, and what was discarded to be read again; together, what was read.",
                    "much discarded: HamgateRebalanceStorm or HamgateRollbacks.",
                    [
                        (rate("hamgate_verdicts_total"), "verdicts"),
                        (rate("hamgate_dead_letters_total"), "dead letters"),
                        (rate("hamgate_tombstones_total"), "tombstones"),
                        (rate("hamgate_messages_let_go_total"), "discarded"),
                    ],
                ),
                Panel(
                    "Not accounted for",
                    "lines",
                    "percentunit",
                    "Share of what was read that is none of these, over 5 min and 1 h.",
                    "above 0.1 % over an hour: HamgateCorrectnessBudgetFast. A restart loses the count of a batch, not the batch.",
                    [
                        (f'max(hamgate:errors:ratio_5m{{slo="correctness",{DEPLOYMENT}}})', "5 min"),
                        (f'max(hamgate:errors:ratio_1h{{slo="correctness",{DEPLOYMENT}}})', "1 h"),
                    ],
                    steps=(0.001, 0.01),
                ),
                Panel(
                    "Dead letters",
                    "stack",
                    "mps",
                    "What could not be read, by reason.",
                    "HamgateDeadLetters: a letter holds the event itself, which shows whose it is; have the sender fixed, then `hamgate replay`.",
                    [(rate("hamgate_dead_letters_total", "reason"), "{{reason}}")],
                ),
            ],
        ),
        (
            "The group",
            [
                Panel(
                    "Rebalances",
                    "lines",
                    "none",
                    "Changes of the assignment in 5 minutes, by what they did.",
                    "more than a rollout explains: HamgateRebalanceStorm.",
                    [(f"sum by (kind) (increase(hamgate_rebalances_total{{{WORKER}}}[5m]))", "{{kind}}")],
                ),
                Panel(
                    "Partitions held",
                    "stack",
                    "none",
                    "By worker.",
                    "a worker with 0: more workers than partitions. The sum below the topic's partitions: another member is in the group.",
                    [(gauge("sum", "hamgate_assigned_partitions", "instance"), "{{instance}}")],
                ),
                Panel(
                    "Ready",
                    "lines",
                    "none",
                    "1 when a worker's /readyz says yes.",
                    "0 for long: HamgateNotReady.",
                    [(gauge("min", "hamgate_ready", "instance"), "{{instance}}")],
                    most=1,
                ),
            ],
        ),
        (
            "What waits",
            [
                Panel(
                    "In Kafka, by partition",
                    "lines",
                    "short",
                    "Records behind what was read.",
                    "one partition only: a hot key; a sender uses one key for all.",
                    [(gauge("sum", "hamgate_consumer_lag_messages", "topic, partition"), "{{topic}} {{partition}}")],
                ),
                Panel(
                    "In Kafka, in time",
                    "lines",
                    "s",
                    "Age of the last read record, while there are more behind it.",
                    "above 60 s it is stale and burns the freshness budget: add replicas.",
                    [(gauge("max", "hamgate_consumer_lag_seconds", "instance"), "{{instance}}")],
                    steps=(10, 60),
                ),
                Panel(
                    "In the worker",
                    "lines",
                    "short",
                    "Messages read that wait for their batch.",
                    "at two batches it is full: the reader then only keeps its membership.",
                    [(gauge("sum", "hamgate_inbox_messages", "instance"), "{{instance}}")],
                ),
                Panel(
                    "Oldest in the worker",
                    "lines",
                    "s",
                    "Age of the oldest message that was read and is not committed.",
                    "above 60 s: HamgateNoProgress; the next panel says which stage.",
                    [(gauge("max", "hamgate_oldest_message_seconds", "instance"), "{{instance}}")],
                    steps=(10, 60),
                ),
                Panel(
                    "How long a stage has been at it",
                    "lines",
                    "s",
                    "For each stage: time in its present step, 0 when it waits.",
                    "one that keeps climbing is stuck: read HamgateNoProgress, and take a stack by py-spy before it is restarted.",
                    [(gauge("max", "hamgate_stage_step_seconds", "instance, stage"), "{{stage}} {{instance}}")],
                    steps=(10, 60),
                ),
                Panel(
                    "Processor",
                    "lines",
                    "percentunit",
                    "Cores in use by each worker: 100 % is one.",
                    "at the container's limit: raise it, or add replicas.",
                    [(f'rate(process_cpu_seconds_total{{job="hamgate",{WORKER}}}[$__rate_interval])', "{{instance}}")],
                ),
            ],
        ),
    ],
)
