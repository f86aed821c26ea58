"""Latency: where the time of a message goes, stage by stage."""

from __future__ import annotations

from typing import Final

from deploy.grafana.panels import Dashboard, Panel
from deploy.grafana.promql import WORKER, mean, quantiles, rate

# What a message's latency is made of, in order; the batch's stages count for each of its messages alike.
_PARTS: Final = (
    ("hamgate_broker_age_seconds", "1 in the broker"),
    ("hamgate_queue_wait_seconds", "2 waiting for its batch"),
    ("hamgate_inference_seconds", "3 judged"),
    ("hamgate_handover_seconds", "4 waiting for the writer"),
    ("hamgate_encode_seconds", "5 encoded"),
    ("hamgate_commit_seconds", "6 committed"),
)


def _stage(title: str, histogram: str, means: str, do: str) -> Panel:
    return Panel(title, "lines", "s", means, do, quantiles(histogram), is_log=True)


LATENCY: Final = Dashboard(
    "latency",
    "Latency",
    "Where does the time go? The highest band of the first panel is where to look.",
    [
        (
            "A message's time",
            [
                Panel(
                    "Mean latency by part",
                    "stack",
                    "s",
                    "The parts of a message's latency, in the order in which they come. The first is a message's mean, "
                    "the others are a batch's.",
                    "look at the widest: 1 the workers are too few or the sender's clock is wrong, 2 the batch waits for "
                    "the judge, 3 the model, 4 and 6 the broker's commits.",
                    [(mean(name), legend) for name, legend in _PARTS],
                    width=12,
                    height=9,
                ),
                Panel(
                    "Latency, all messages",
                    "heatmap",
                    "s",
                    "How many messages took how long from their record's timestamp to their verdict's commit.",
                    "two bands: two kinds of worker, or one that is slow; choose each above. A band at whole seconds: rebalances.",
                    [(rate("hamgate_end_to_end_latency_seconds_bucket", "le"), "{{le}}")],
                    width=12,
                    height=9,
                ),
            ],
        ),
        (
            "Stage by stage",
            [
                _stage(
                    "In the broker",
                    "hamgate_broker_age_seconds",
                    "A record's age when it was read.",
                    "high with lag: add replicas or partitions. High without lag: the sender's clock or its batching.",
                ),
                _stage(
                    "Waiting for its batch",
                    "hamgate_queue_wait_seconds",
                    "From the read until its batch goes to the model.",
                    "near HAMGATE_LATENCY_BUDGET under load: the judge is the limit. Lower the budget for shorter waits.",
                ),
                _stage(
                    "Decode and tokenise",
                    "hamgate_tokenize_seconds",
                    "One read's decoding, normalising, tokenising; a part of the wait.",
                    "above 20 ms: the processor is short; give the container more of it.",
                ),
                _stage(
                    "Judged",
                    "hamgate_inference_seconds",
                    "The model's time for a batch.",
                    "high on CPU: HAMGATE_TOKEN_BUDGET lower, more replicas, or a GPU.",
                ),
                _stage(
                    "Waiting for the writer",
                    "hamgate_handover_seconds",
                    "A judged batch's wait for the writer.",
                    "high: commits take longer than judging; look at the next panel.",
                ),
                _stage(
                    "Committed",
                    "hamgate_commit_seconds",
                    "Publishing and committing a batch.",
                    "above 100 ms: the brokers' disks or network, or too many transactions; see HamgateRollbacks.",
                ),
            ],
        ),
        (
            "Batches and stages",
            [
                Panel(
                    "Stages at work",
                    "lines",
                    "percentunit",
                    "Share of its time that each stage works, of the busiest worker.",
                    "the one near 100 % is the limit: read or write: more processor or replicas; judge: a faster engine.",
                    [
                        (
                            f"max by (stage) (rate(hamgate_stage_busy_seconds_total{{{WORKER}}}[$__rate_interval]))",
                            "{{stage}}",
                        )
                    ],
                    steps=(0.8, 0.95),
                    most=1,
                ),
                Panel(
                    "Batch size",
                    "lines",
                    "short",
                    "Messages and tokens of a batch, in the mean.",
                    "small batches under load: HAMGATE_LATENCY_BUDGET or HAMGATE_TOKEN_BUDGET hold them small.",
                    [
                        (mean("hamgate_batch_messages"), "messages"),
                        (mean("hamgate_batch_tokens"), "tokens"),
                    ],
                ),
                Panel(
                    "Batch fill",
                    "lines",
                    "percentunit",
                    "How full batches are when they go to the model.",
                    "near 100 % all the time: it runs at its limit; add capacity before the lag grows.",
                    [(mean("hamgate_batch_fill_ratio"), "mean")],
                    steps=(0.8, 0.95),
                    most=1,
                ),
            ],
        ),
    ],
)
