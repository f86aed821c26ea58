"""Every series and its meaning: the only package that imports prometheus_client.

    histogram   a histogram that takes a batch at once, with exemplars
    gpu         what the device says of itself when it is asked
    server      /metrics, /livez and /readyz
    audit       the series of `hamgate audit`, which shows no others; feedback: those of `hamgate feedback`

Base units, closed label sets: no id, no number, no offset, no text. tests/unit/test_metrics.py freezes the names, and
docs/metrics.md says what each is for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, GCCollector, Info, disable_created_metrics
from prometheus_client.process_collector import ProcessCollector

from worker.messages import KINDS, Action, Flag, Unreadable, Unscored
from worker.metrics.audit import AuditMetrics
from worker.metrics.companion import CompanionMetrics
from worker.metrics.feedback import FeedbackMetrics
from worker.metrics.gpu import GpuCollector
from worker.metrics.histogram import BulkHistogram
from worker.metrics.server import Health, MetricsServer, Shown
from worker.process.states import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from worker.engine.device import GpuState

__all__ = [
    "AuditMetrics",
    "BulkHistogram",
    "CompanionMetrics",
    "FeedbackMetrics",
    "Gauge",
    "Health",
    "Metrics",
    "MetricsServer",
    "Shown",
]

# The SLO bounds of docs/operations.md are among these exactly: 20 ms, 60 ms, 100 ms, 250 ms, 1 s.
SECONDS: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.15, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0),
)
MESSAGES: Final = tuple(float(2**n) for n in range(14))
TOKENS: Final = tuple(float(2**n) for n in range(4, 19))
RATIOS: Final = (0.01, 0.02, 0.05, *(round(0.1 * n, 1) for n in range(1, 11)))
SCORES: Final = (0.01, *(round(0.05 * n, 2) for n in range(1, 20)), 0.99, 1.0)

STAGES: Final = ("read", "judge", "write")
OUTCOMES: Final = ("committed", "rolled-back", "fenced")
REBALANCES: Final = ("gained", "lost", "moved", "same")
ROLES: Final = ("primary", "canary", "shadow")
PREDICTED: Final = ("answered", "invalid", "full", "unavailable")
LISTED: Final = ("sender", "recipient", "campaign", "link-host", "number")
LIST_ACTIONS: Final = ("allow", "block", "flag")
SNAPSHOTS: Final = ("published", "dropped", "read", "unread", "unsound")
CHANGES: Final = ("swapped", "refused", "withdrawn")
NO_LABEL: Final = "none"
"""The label of a verdict without one, and the language of a text where it is not known."""
LANGUAGES: Final = (
    "ar", "bn", "cs", "de", "el", "en", "es", "fa", "fr", "he", "hi", "hu", "id", "it", "ja", "ko", "ms", "nl", "pl",
    "pt", "ro", "ru", "sv", "sw", "ta", "th", "tl", "tr", "uk", "ur", "vi", "zh",
)  # fmt: skip
"""Those with series of their own, so that the set is closed; all others count together."""
OTHER_LANGUAGE: Final = "other"


class Metrics:
    """The worker's series. Counters and histograms are bumped by the stage that knows, batch by batch."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call] # a series of its own for each counter's birth tells nobody anything here
        self.registry = registry = registry or CollectorRegistry()
        ProcessCollector(registry=registry)
        GCCollector(registry=registry)
        self._delivery()
        self._time_budget()
        self._backlog()
        self._model()
        self._shadow()
        self._predict()
        self._lists()
        self._context()
        self._campaigns()
        self._senders()
        self.state = self._gauge(
            "state", "1 for what the worker is doing, 0 for all else that it may.", "state", known=_each(tuple(State))
        )
        self.ready = self._gauge("ready", "1 when /readyz says yes.")
        self.alive = self._gauge("alive", "1 when /livez says yes.")
        self.log_lines_dropped = self._counter("log_lines_dropped_total", "Log lines that could not be written.")
        self.build_info = Info("build", "What is running.", namespace="hamgate", registry=registry)

    def _delivery(self) -> None:
        self.messages_consumed = self._counter("messages_consumed_total", "Records polled, redelivered ones each time.")
        self.messages_let_go = self._counter(
            "messages_let_go_total", "Records polled, then discarded as partition ownership was lost; read again."
        )
        self.messages_undated = self._counter(
            "messages_undated_total", "Records polled whose timestamp cannot be a time; their latency is from the poll."
        )
        self.tombstones = self._counter("tombstones_total", "Records without a value, skipped.")
        self.verdicts = self._counter("verdicts_total", "Verdicts committed.", "label", "action")
        self.flagged = self._counter(
            "verdicts_by_flag_total", "Verdicts committed, by each of their flags.", "flag", "action",
            known=[(flag, action) for flag in Flag for action in Action],
        )  # fmt: skip
        self.ruled = self._counter(
            "rule_matches_total", "Verdicts that a rule decided, or in dry run would have, by the action.",
            "decider", "rule", "action", "dry_run",
            known=[(each, kind, action, dry_run) for each, kinds in KINDS.items() for kind in kinds
                   for action in Action for dry_run in ("false", "true")],
        )  # fmt: skip
        self.languages = self._counter(
            "verdicts_by_language_total", "Verdicts committed, by the text's language.", "language", "action",
            known=[(name, action) for name in (*LANGUAGES, OTHER_LANGUAGE, NO_LABEL) for action in Action],
        )  # fmt: skip
        self.dead_letters = self._counter(
            "dead_letters_total", "Dead letters committed.", "reason", known=[(reason,) for reason in Unreadable]
        )
        self.unscored = self._counter(
            "unscored_total", "Verdicts committed without a score.", "reason", known=[(reason,) for reason in Unscored]
        )
        self.tokens = self._counter("tokens_total", "Tokens judged and committed.")
        self.transactions = self._counter(
            "transactions_total", "Batches written, by what became of them.", "outcome", known=_each(OUTCOMES)
        )
        self.transaction_version = self._gauge(
            "transaction_version", "Version of Kafka's transactions in force: 1 or 2 (KIP-890); 0 when at least once."
        )
        self.rebalances = self._counter(
            "rebalances_total", "Changes of the assignment, by what they did.", "kind", known=_each(REBALANCES)
        )
        self.assigned_partitions = self._gauge("assigned_partitions", "Partitions this worker holds.")
        self.last_commit = self._gauge("last_commit_timestamp_seconds", "When a batch was last committed.")

    def _time_budget(self) -> None:
        # Of one message: broker_age + queue_wait + inference + handover + encode + commit = end_to_end_latency.
        self.end_to_end_latency = self._histogram(
            "end_to_end_latency_seconds", "From the record's timestamp to its verdict's commit.", SECONDS
        )
        self.broker_age = self._histogram("broker_age_seconds", "A record's age when it was polled.", SECONDS)
        self.queue_wait = self._histogram("queue_wait_seconds", "From the poll to its batch's leaving.", SECONDS)
        self.tokenize = self._histogram(
            "tokenize_seconds", "Decoding, normalising and tokenising one slice of a poll; within queue_wait.", SECONDS
        )
        self.inference = self._histogram("inference_seconds", "The model's time for one batch.", SECONDS)
        self.handover = self._histogram("handover_seconds", "A judged batch's wait for the writer.", SECONDS)
        self.encode = self._histogram("encode_seconds", "Deciding and encoding one batch's verdicts.", SECONDS)
        self.commit = self._histogram("commit_seconds", "Publishing and committing one batch.", SECONDS)
        self.batch_messages = self._histogram("batch_messages", "Messages in a batch.", MESSAGES)
        self.batch_tokens = self._histogram("batch_tokens", "Tokens in a batch.", TOKENS)
        self.batch_fill = self._histogram(
            "batch_fill_ratio", "How full a batch left: its tokens or its messages over what it may have.", RATIOS
        )
        self.stage_busy = self._counter(
            "stage_busy_seconds_total", "Time a stage was at work, not waiting.", "stage", known=_each(STAGES)
        )
        self.stage_step = self._gauge(
            "stage_step_seconds", "How long a stage has been at what it is at; 0 when it waits.", "stage",
            known=_each(STAGES),
        )  # fmt: skip
        self.token_budget = self._gauge("token_budget", "Tokens that a batch may have.")

    def _backlog(self) -> None:
        self.lag = self._gauge(
            "consumer_lag_messages", "Records between the last polled and the end.", "topic", "partition"
        )
        self.lag_seconds = self._gauge(
            "consumer_lag_seconds", "Age of the last polled record, while there are more behind it.", "topic",
            "partition",
        )  # fmt: skip
        self.oldest_message = self._gauge(
            "oldest_message_seconds", "Age of the oldest message polled and not committed; 0 when there is none."
        )
        self.inbox_messages = self._gauge("inbox_messages", "Messages that wait for their batch.")
        self.inbox_tokens = self._gauge("inbox_tokens", "Tokens that wait for their batch.")

    def _model(self) -> None:
        self.score = self._histogram("score", "Calibrated probability of not being ham.", SCORES)
        self.drift = self._gauge(
            "drift_ratio", "What recent texts show of a signal, as a multiple of the bundle's evaluation.", "role",
            "signal",
        )  # fmt: skip
        self.judged = self._counter("messages_judged_total", "Messages judged and committed.", "role", "label")
        self.model_info = Info("model", "The bundles in force.", ["role"], namespace="hamgate", registry=self.registry)
        self.model_share = self._gauge("model_share_ratio", "Share of the messages that goes to a bundle.", "role")
        self.model_loaded = self._gauge("model_loaded_timestamp_seconds", "When a bundle came into force.", "role")
        self.model_refused = self._gauge(
            "model_refused", "1 while a bundle lies there that was refused; the one before is in force.", "role",
            known=_each(ROLES),
        )  # fmt: skip
        self.model_changes = self._counter(
            "model_changes_total", "Bundles that came into force, were refused, or were taken away.", "role", "outcome",
            known=[(role, outcome) for role in ROLES for outcome in CHANGES],
        )  # fmt: skip
        self.model_load = self._histogram("model_load_seconds", "Verifying, loading and warming up a bundle.", SECONDS)
        self.model_swap = self._histogram(
            "model_swap_seconds", "From a bundle's coming into force to the first batch that it judged.", SECONDS
        )

    def _shadow(self) -> None:
        self.shadow_disagreements = self._counter(
            "shadow_disagreements_total", "Messages that the shadow labels otherwise.", "label", "shadow"
        )
        self.shadow_skipped = self._counter(
            "shadow_skipped_total", "Messages of its share that the shadow was too slow to judge."
        )
        self.shadow_difference = self._histogram(
            "shadow_score_difference", "Difference between the two scores of a message.", SCORES
        )

    def _predict(self) -> None:
        self.predict_requests = self._counter(
            "predict_requests_total", "Requests of /predict, by what became of them.", "outcome", known=_each(PREDICTED)
        )
        self.predict_texts = self._counter("predict_texts_total", "Texts judged for /predict.")
        self.predict_seconds = self._histogram("predict_seconds", "From a request of /predict to its answer.", SECONDS)
        self.predict_busy = self._counter("predict_busy_seconds_total", "Time that /predict has worked.")
        self.predict_waiting = self._gauge("predict_waiting_texts", "Texts that wait for /predict.")

    def _lists(self) -> None:
        self.list_entries = self._gauge(
            "list_entries", "Entries of lists in force, by what they match and what is done.", "what", "action",
            known=[(what, action) for what in LISTED for action in LIST_ACTIONS],
        )  # fmt: skip
        self.lists_unreadable = self._counter(
            "lists_unreadable_total", "Records of the lists' topic that are no entries, skipped."
        )
        self.lists_read = self._gauge(
            "lists_read_timestamp_seconds", "When the lists' topic was last read to its end; 0 without lists."
        )

    def _context(self) -> None:
        self.registry_brands = self._gauge("registry_brands", "Brands of the sender registry in force.")
        self.registry_refused = self._counter(
            "registry_refused_total", "Changes of the sender registry that were refused; the one before stays."
        )
        self.registry_read = self._gauge(
            "registry_read_timestamp_seconds", "When the registry's topic was last read to its end; 0 without one."
        )

    def _campaigns(self) -> None:
        self.campaigns = self._gauge("campaigns", "Campaigns held: wordings of two messages or more.")
        self.campaign_messages = self._counter("campaign_messages_total", "Messages that belong to a campaign.")
        self.campaigns_forgotten = self._counter(
            "campaigns_forgotten_total", "Campaigns that made room for newer ones."
        )
        self.campaign_topic_failures = self._counter(
            "campaign_topic_failures_total", "Failures to read the campaigns' topic, a record of it, or to publish."
        )

    def _senders(self) -> None:
        self.senders = self._gauge("senders", "Senders whose behaviour is known here.")
        self.senders_forgotten = self._gauge("senders_forgotten", "Senders forgotten for others, since the start.")
        self.sender_snapshots = self._counter(
            "sender_snapshots_total", "Snapshots of senders; `unread` counts readings of the topic that failed.",
            "outcome", known=_each(SNAPSHOTS),
        )  # fmt: skip

    def know_labels(self, labels: Sequence[str]) -> None:
        """Show every series that a bundle's labels can give, from the start: a rate needs a zero to begin from."""
        for label in labels:
            self.judged.labels("primary", label)
            for other in labels:
                if other != label:
                    self.shadow_disagreements.labels(label, other)
        for label in (*labels, NO_LABEL):
            for action in Action:
                self.verdicts.labels(label, action)

    def follow(self, gauge: Gauge, read: Callable[[], float], *labels: str) -> None:
        """From now on the gauge says what `read` answers when it is asked, by the scraping thread."""
        (gauge.labels(*labels) if labels else gauge).set_function(read)

    def follow_gpu(self, read: Callable[[], GpuState | None]) -> None:
        """Show the GPU's series; without a GPU there are none."""
        GpuCollector(read, self.registry)

    def _counter(self, name: str, documentation: str, *labels: str, known: Iterable[tuple[str, ...]] = ()) -> Counter:
        made = Counter(name, documentation, labels, namespace="hamgate", registry=self.registry)
        for values in known:
            made.labels(*values)
        return made

    def _gauge(self, name: str, documentation: str, *labels: str, known: Iterable[tuple[str, ...]] = ()) -> Gauge:
        made = Gauge(name, documentation, labels, namespace="hamgate", registry=self.registry)
        for values in known:
            made.labels(*values)
        return made

    def _histogram(self, name: str, documentation: str, bounds: Sequence[float]) -> BulkHistogram:
        return BulkHistogram(f"hamgate_{name}", documentation, bounds, self.registry)


def _each(values: Iterable[str]) -> list[tuple[str]]:
    return [(value,) for value in values]
