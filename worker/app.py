"""From settings to a worker: the parts, each given what it needs, in the order they must stand."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import errno
import functools
import os
import sys
import time
from typing import TYPE_CHECKING, Final, Self

import structlog

from worker import broker, engine, loading, senders
from worker.broker import compacted
from worker.campaigns.rules import CampaignRules
from worker.campaigns.sharing import CampaignSharing
from worker.campaigns.watching import CampaignWatch
from worker.engine import Kind
from worker.messages import VERDICT_BYTES, Unreadable
from worker.metrics import STAGES, Metrics, MetricsServer
from worker.metrics.probes import Probes
from worker.model.engine_process import EngineProcessError
from worker.model.models_in_service import ModelsInService, Role
from worker.model.normalise import normalise
from worker.model.tokenizer_process import TokenizerProcessError
from worker.pipeline.accounts import Accounts
from worker.pipeline.batching import MAX_MESSAGES, MicroBatcher
from worker.pipeline.inbox import Inbox
from worker.pipeline.service import Service
from worker.pipeline.slices import Limits
from worker.pipeline.stages import Pipeline
from worker.pipeline.throughput import Throughput
from worker.policy import links
from worker.policy.hashing import Hashing, HashKeyError
from worker.policy.lists.following import ListFollower
from worker.policy.lists.matching import ListRules
from worker.policy.order import Context
from worker.policy.registry.following import RegistryFollower
from worker.policy.registry.reading import RegistryError
from worker.policy.registry.watching import RegistryWatch
from worker.predict.predictor import Predictor
from worker.predict.server import PredictServer
from worker.process import cores, signals, streams
from worker.process.ending import clean_up
from worker.process.states import State
from worker.rollout.changeover import Changeover, Place
from worker.rollout.compare import compare
from worker.rollout.shadow import Shadow
from worker.senders import SnapshotsAwayError
from worker.settings import MAX_POLL_INTERVAL
from worker.version import commit, version

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from worker.broker.compacted import CompactedTopic
    from worker.messages import Outgoing, Record, TopicPartition
    from worker.metrics import Shown
    from worker.model.models_in_service import Model
    from worker.pipeline.batch import Waiting
    from worker.pipeline.ports import Sink
    from worker.pipeline.service import Companion
    from worker.pipeline.tracing import Tracing
    from worker.policy.order import Observer, Rules
    from worker.rollout.compare import Comparison
    from worker.senders import Behaviour, BehaviourRules, SenderSnapshots
    from worker.settings import Settings

_DAY: Final = 86_400.0
# Of an address that cannot be used: that its port is in use, or for the privileged. All else is about the host.
_PORT_TROUBLES: Final = (errno.EADDRINUSE, errno.EACCES)
# How long reports may wait for the brokers before they are dropped.
_REPORT_PATIENCE: Final = 5.0
# As many are busy with the worker itself, and with the brokers' answers.
_BUSY_CORES: Final = 2
# With this many, another one can be spared.
_MANY_CORES: Final = 8
# Seconds between two looks at the bundles' folders.
BUNDLE_WATCH: Final = 2.0

log = structlog.get_logger()


class StartRefused(Exception):  # noqa: N818 it is the start that is refused; the text says why
    """The worker cannot start: one line for each thing that is wrong, with its fix."""


class UsageError(ValueError):
    """An option is wrong; says which."""


class Worker:
    """Everything that runs, once its parts have been found to work. Raises StartRefused, or what the model raises.

    /livez, /readyz and /metrics answer from the first moment; /readyz says yes once the model has judged its canaries
    and the group has given this worker partitions.
    """

    def __init__(self, settings: Settings) -> None:
        self._probes = Probes("loading the model")
        metrics = Metrics()
        streams.report_dropped(metrics.log_lines_dropped.inc)
        self._server = serve(settings, metrics, self._probes)
        try:
            model = _model(settings)
            registry = _registry(settings, metrics)
            self._probes.phase = "connecting to the brokers"
            _require_well(findings(settings))
            context, followers = _context(settings, metrics, registry, lambda: pipeline.assignment)
            pipeline = _pipeline(settings, model, metrics, context)
            self._tracing = pipeline.accounts.tracing
            predictor = _predictor(settings, metrics, pipeline)
            beside = [*_beside(settings, pipeline), *followers]
            self.service = Service(
                pipeline,
                grace=settings.shutdown_grace,
                stall=MAX_POLL_INTERVAL,
                beside=[*beside, predictor] if predictor else beside,
            )
            _follow(metrics, pipeline, self.service)
            self._predict_server = _predict_server(settings, metrics, predictor) if predictor else None
        except BaseException:
            self._server.close()
            raise
        _introduce(settings, metrics, pipeline, self._server)

    def __enter__(self) -> Self:
        """From now on the service answers for itself."""
        self._probes.service = self.service
        if self._predict_server:
            self._predict_server.start()
            log.info("answering texts", address=f"{self._predict_server.address}/predict")
        return self

    def __exit__(self, *_: object) -> None:
        """Answer no more, and send what traces there are, within what is left of the grace."""
        until = self.service.leave_by
        if self._predict_server:
            clean_up("predict", self._predict_server.close, until=until)
        clean_up("metrics", self._server.close, until=until)
        if self._tracing:
            clean_up("traces", self._tracing.close, until=until)


def _require_well(found: Iterator[tuple[str, str | None]]) -> None:
    if problems := [f"{name}: {trouble}" for name, trouble in found if trouble]:
        raise StartRefused("\n".join(problems))


def link(settings: Settings) -> broker.KafkaLink:
    """Return the connection settings of every Kafka client."""
    password = settings.sasl_password
    return broker.KafkaLink(
        brokers=settings.brokers,
        client_id=f"{settings.group_id}.{settings.instance_id}",
        security_protocol=settings.security_protocol,
        sasl_mechanism=settings.sasl_mechanism,
        sasl_username=settings.sasl_username,
        sasl_password=password.get_secret_value() if password else None,
        sasl_oauth_command=settings.sasl_oauth_command,
        sasl_oauth_url=settings.sasl_oauth_url,
        sasl_oauth_scope=settings.sasl_oauth_scope,
        tls_ca=settings.tls_ca,
        tls_certificate=settings.tls_certificate,
        tls_key=settings.tls_key,
        compression=settings.compression,
    )


def findings(settings: Settings) -> Iterator[tuple[str, str | None]]:
    """Check at the brokers all that this worker needs; yield a name and its problem, None where there is none."""
    if settings.hash_key_file:
        try:
            hashing(settings)
        except StartRefused as error:
            yield "hash key", str(error)
    is_exactly_once = settings.delivery == "exactly-once"
    writer = broker.transactional_id(settings.group_id, settings.instance_id)
    try:
        found = broker.check(
            link(settings),
            input_topic=settings.input_topic,
            verdict_topic=settings.verdict_topic,
            dead_letter_topic=settings.dead_letter_topic,
            group_id=settings.group_id,
            transactional_id=writer if is_exactly_once else None,
            shadow_topic=settings.shadow_topic if settings.shadow else None,
            largest_verdict=settings.max_event_bytes + VERDICT_BYTES,
            compacted=_compacted(settings),
        )
    except broker.BrokerError as error:
        yield "Kafka client", str(error)
        return
    yield from (("brokers " + settings.brokers, str(finding)) for finding in found)
    if not found:
        version = f"; transaction version {broker.transaction_version(link(settings))}" if is_exactly_once else ""
        yield f"brokers {settings.brokers}, topics, group and rights{version}", None


def _compacted(settings: Settings) -> list[CompactedTopic]:
    """Topics that this worker reads whole, where they are set."""
    found = (
        (compacted.lists_topic, settings.lists_topic),
        (compacted.registry_topic, settings.registry_topic),
        (compacted.campaigns_topic, settings.campaigns_topic),
        (compacted.senders_topic, settings.senders_topic),
    )
    return [described(name) for described, name in found if name]


def replay_dead_letters(settings: Settings, options: argparse.Namespace) -> int:
    """Send dead letters back to the input. Raises StartRefused, or ValueError naming a wrong option."""
    known = [str(reason) for reason in Unreadable if reason is not Unreadable.UNREADABLE_BATCH]
    wrong = sorted(set(options.reason) - set(known))
    if wrong:
        message = f"--reason {wrong[0]}: no such reason; allowed: {', '.join(known)}"
        raise ValueError(message)
    selection = broker.Selection(
        reasons=frozenset(map(Unreadable, options.reason)),
        since=moment("--since", options.since),
        until=moment("--until", options.until),
        partition=options.partition,
        from_offset=options.from_offset,
        to_offset=options.to_offset,
    )
    try:
        done = broker.replay(
            link(settings),
            selection,
            dead_letter_topic=settings.dead_letter_topic,
            input_topic=settings.input_topic,
            name=broker.replay_name(settings.group_id),
            again=options.again,
            dry_run=options.dry_run,
            say=lambda text: print(text, file=sys.stderr),  # noqa: T201 for whoever waits for it
        )
    except (broker.BrokerError, TimeoutError) as error:
        raise StartRefused(str(error)) from error
    verb = "would be sent" if options.dry_run else "sent"
    for reason, count in sorted(done.sent.items()):
        where = ""
        if options.dry_run:
            where = " (the last one: --partition {} --show {})".format(*done.last[reason])
        print(f"{count:>8,} {reason}{where}")  # noqa: T201 the answer
    print(f"{done.sent.total():>8,} {verb} back to {settings.input_topic}")  # noqa: T201 the answer
    if left := done.left.total():
        print(f"{left:>8,} left: sent back by an earlier replay; --again sends them once more")  # noqa: T201 the answer
    if truncated := done.truncated.total():
        print(f"{truncated:>8,} truncated: not sent; each names its event's place in the input")  # noqa: T201 the answer
    return 0


def dead_letter(settings: Settings, options: argparse.Namespace) -> broker.Letter:
    """Return the dead letter that `--show` names. Raises StartRefused, or ValueError naming a wrong option."""
    if options.partition is None:
        message = "--show needs --partition: offsets are counted in each partition by itself"
        raise ValueError(message)
    topic, partition, offset = settings.dead_letter_topic, options.partition, options.show
    try:
        letter = broker.letter_at(link(settings), topic, partition, offset)
    except (broker.BrokerError, TimeoutError) as error:
        raise StartRefused(str(error)) from error
    if letter is None:
        message = f"there is no dead letter at {topic}:{partition}:{offset}; `hamgate replay --dry-run` names some"
        raise StartRefused(message)
    return letter


def comparisons(settings: Settings, options: argparse.Namespace) -> list[Comparison]:
    """Read the shadow's topic to its end. Raises StartRefused, or ValueError naming a wrong option."""
    since = moment("--since", options.since)
    try:
        with broker.Reader(link(settings), settings.shadow_topic) as reader:
            return compare((record.value for record in reader.to_end()), since=since)
    except (broker.BrokerError, TimeoutError) as error:
        raise StartRefused(str(error)) from error


def simulate_traffic(settings: Settings, options: argparse.Namespace) -> int:
    """Send made-up traffic. Raises StartRefused, or UsageError naming a wrong option."""
    from worker import simulate  # noqa: PLC0415 for this command alone

    seed = options.seed if options.seed is not None else int.from_bytes(os.urandom(4))
    try:
        sending = simulate.plan(options, seed, starts_at=time.time() % _DAY if options.day == _DAY else 0.0)
    except (OSError, ValueError) as error:
        message = f"--texts: {error}"
        raise UsageError(message) from error
    log.info("simulating", topic=settings.input_topic, brokers=settings.brokers, rate=options.rate, seed=seed)
    try:
        with broker.Publisher(link(settings)) as publisher:
            signals.on_ending(lambda *_: sending.stop())
            sending.run(publisher, settings.input_topic, options.seconds, options.messages, simulate.say_on_terminal)
    except broker.BrokerError as error:
        raise StartRefused(str(error)) from error
    made = ", ".join(f"{kind} {count:,}" for kind, count in sorted(sending.stream.made.items()))
    print(f"{sending.sent:,} sent to {settings.input_topic}: {made}")  # noqa: T201 the answer
    return 0


def moment(option: str, given: str | None) -> float | None:
    """An option's time in Unix seconds. Raises ValueError naming the option."""
    if given is None:
        return None
    try:
        found = dt.datetime.fromisoformat(given)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        message = f"{option} {given}: allowed: an RFC 3339 time with its offset, as 2026-01-31T08:00:00Z"
        raise ValueError(message)
    return found.timestamp()


def serve(settings: Settings, metrics: Shown, probes: Probes) -> MetricsServer:
    """Answer /metrics, /livez and /readyz from now on. Raises StartRefused where the address cannot be used."""
    host, port = settings.metrics_host, settings.metrics_port
    with _bound("HAMGATE_METRICS", host, port):
        server = MetricsServer(metrics, probes, host=host, port=port)
    server.start()
    return server


def _predictor(settings: Settings, metrics: Metrics, pipeline: Pipeline) -> Predictor | None:
    """What answers /predict with the primary in service; None where no port is set."""
    if settings.predict_port is None:
        return None
    made = Predictor(lambda: pipeline.models.primary, metrics, share=settings.predict_share)
    metrics.follow(metrics.predict_waiting, made.waiting)
    return made


def _predict_server(settings: Settings, metrics: Metrics, predictor: Predictor) -> PredictServer:
    host, port = settings.predict_host, settings.predict_port or 0
    with _bound("HAMGATE_PREDICT", host, port):
        return PredictServer(predictor, metrics, host=host, port=port)


@contextlib.contextmanager
def _bound(prefix: str, host: str, port: int) -> Iterator[None]:
    """Turn the error of an address that cannot be used into what to set. Raises StartRefused."""
    try:
        yield
    except OSError as error:
        name, remedy = (
            ("PORT", "name a free port, or 0 for any")
            if error.errno in _PORT_TROUBLES
            else ("HOST", "name an address of this host; 0.0.0.0, or ::, for all of them")
        )
        message = f"{prefix}_{name}: {host} port {port} cannot be used ({error.strerror}); {remedy}"
        raise StartRefused(message) from error


def _model(settings: Settings, folder: Path | None = None, role: Role = Role.PRIMARY) -> Model:
    """Return a verified model to serve with, with processes of its own where that pays.

    Raises StartRefused, or what loading.model raises.
    """
    try:
        model = loading.model(settings, folder, role, apart=has_engine_process())
        if processes := tokenizer_processes(model.classifier.engine.kind):
            model.classifier.tokenise_in_processes(processes)
    except (EngineProcessError, TokenizerProcessError) as error:
        message = f"{error}; see Subprocesses in docs/operations.md"
        raise StartRefused(message) from error
    return model


def has_engine_process() -> bool:
    """Whether a model that is run on the CPU has a process of its own: its threads and these share no interpreter."""
    return cores.available() > 1


def tokenizer_processes(kind: Kind) -> int:
    """Number of tokenizer processes; 0 where the worker tokenises itself."""
    if not _pays_beside(kind):
        return 0
    return 2 if cores.available() >= _MANY_CORES else 1


def has_sink_process(kind: Kind) -> bool:
    """Whether transactions are written by a process of its own."""
    return _pays_beside(kind)


def _pays_beside(kind: Kind) -> bool:
    """Whether it pays to do work in other processes: where the interpreter is busy while others judge."""
    return kind is not Kind.CPU and cores.available() > _BUSY_CORES


def _pipeline(settings: Settings, model: Model, metrics: Metrics, context: Context | None = None) -> Pipeline:
    try:
        # The sink first: it fences the zombie of this instance before its partitions are asked for.
        sink = _sink(settings, model.classifier.engine.kind)
        source = broker.KafkaSource(
            link(settings),
            settings.input_topic,
            settings.group_id,
            session_timeout=settings.session_timeout,
            max_poll_interval=MAX_POLL_INTERVAL,
            member=broker.Member(
                rebalance=settings.rebalance,
                static_name=settings.instance_id if settings.membership == "static" else None,
                out_of_range=settings.offset_out_of_range,
                unreadable_batch=settings.unreadable_batch,
            ),
            verdict_topic=settings.verdict_topic,
            undated=metrics.messages_undated.inc,
        )
    except broker.BrokerError as error:
        raise StartRefused(str(error)) from error
    batcher: MicroBatcher[Waiting] = MicroBatcher(
        settings.token_budget or model.classifier.engine.token_budget,
        MAX_MESSAGES,
        settings.latency_budget,
    )
    limits = Limits(settings.max_event_bytes, settings.deadline)
    metrics.token_budget.set(batcher.token_budget)
    models, inbox = ModelsInService(model), Inbox(batcher, time.time)
    shadow = Shadow(Reports(link(settings), settings.shadow_topic), metrics) if settings.shadow else None
    accounts = Accounts(metrics, inbox, models, shadow, _tracing(settings))
    return Pipeline(source, sink, models, inbox, accounts, limits, beside=context)


def _context(
    settings: Settings,
    metrics: Metrics,
    registry: RegistryWatch | None,
    assignment: Callable[[], frozenset[TopicPartition]],
) -> tuple[Context | None, list[Companion]]:
    """What is known beside the text, and the companions that keep it up to date; None where nothing is configured.

    What must be read before the first message is read here. Raises StartRefused where it cannot be.
    """
    rules: list[Rules] = []
    observers: list[Observer] = []
    followers: list[Companion] = []
    if settings.lists_topic:
        lists = _lists(settings, settings.lists_topic, metrics)
        rules.append(ListRules(lambda: lists.snapshot))
        followers.append(lists)
    if known := _registry_of_topic(settings, metrics) or registry:
        rules.append(known.rules)
        followers.append(known)
    if campaigns := _campaigns(settings, metrics):
        observers.append(campaigns[0])
        followers.append(campaigns[1])
        if settings.campaigns_rule != "off":
            rules.append(CampaignRules(settings.campaigns_rule == "dry-run"))
    if watched := _senders(settings, metrics, assignment):
        behaviour, snapshots, rule = watched
        observers.append(behaviour)
        followers.append(snapshots)
        rules += [rule] if rule else []
    if not rules and not observers:
        return None, followers
    links.take_up()
    return Context(rules, observers), followers


def _lists(settings: Settings, topic: str, metrics: Metrics) -> ListFollower:
    try:
        return ListFollower(_connecting(settings, topic), topic, hashing(settings), metrics)
    except (broker.BrokerError, TimeoutError) as error:
        message = f"HAMGATE_LISTS_TOPIC {topic}: cannot be read, and a list that is not read blocks nothing: {error}"
        raise StartRefused(message) from error


def hashing(settings: Settings) -> Hashing:
    """The keys that numbers are hashed by. Raises StartRefused."""
    if settings.hash_key_file is None:
        message = "HAMGATE_HASH_KEY_FILE: name a file with a key; `openssl rand -hex 32` makes one"
        raise StartRefused(message)
    try:
        return Hashing.read(settings.hash_key_file)
    except HashKeyError as error:
        message = f"HAMGATE_HASH_KEY_FILE {error}"
        raise StartRefused(message) from error


def _tracing(settings: Settings) -> Tracing | None:
    if settings.tracing == "off":
        return None
    try:
        from worker.pipeline import tracing  # noqa: PLC0415 an extra, for those who ask for it
    except ModuleNotFoundError as error:
        message = (
            f"HAMGATE_TRACING: {settings.tracing} needs the extra `tracing` (pip install hamgate[tracing]): {error}"
        )
        raise StartRefused(message) from error
    names = tracing.Names(settings.input_topic, settings.verdict_topic, settings.group_id, settings.instance_id)
    return tracing.Tracing(names, version())


def _beside(settings: Settings, pipeline: Pipeline) -> list[Companion]:
    """Companions of the pipeline: what logs its throughput, the watch over the bundles, the shadow if there is one."""
    companions: list[Companion] = [Throughput(pipeline.accounts.tally, pipeline.oldest, pipeline.source.is_cut_off)]
    metrics, shadow = pipeline.accounts.metrics, pipeline.accounts.shadow
    places = [Place(Role.PRIMARY, settings.bundle, model=pipeline.models.primary)]
    if settings.canary:
        places.append(Place(Role.CANARY, settings.canary, settings.canary_share))
    if shadow and settings.shadow:
        places.append(Place(Role.SHADOW, settings.shadow, settings.shadow_share))
        companions.append(shadow)
    watch = Changeover(
        places,
        load=functools.partial(_model, settings),
        adopt=pipeline.adopt,
        shadow=shadow.use if shadow else None,
        metrics=metrics,
        every=BUNDLE_WATCH,
    )
    return [*companions, watch]


def _registry(settings: Settings, metrics: Metrics) -> RegistryWatch | None:
    """The sender registry: its rules, and the companion that takes up changes. Raises StartRefused."""
    if settings.registry is None:
        return None
    try:
        return RegistryWatch.of(settings.registry, metrics, normalise)
    except RegistryError as error:
        message = f"HAMGATE_REGISTRY: {error}"
        raise StartRefused(message) from error


def _registry_of_topic(settings: Settings, metrics: Metrics) -> RegistryFollower | None:
    """The same from a topic; None where none is set. Raises StartRefused."""
    topic = settings.registry_topic
    if topic is None:
        return None
    try:
        return RegistryFollower(_connecting(settings, topic), topic, metrics, normalise)
    except (RegistryError, broker.BrokerError, TimeoutError) as error:
        message = f"HAMGATE_REGISTRY_TOPIC {topic}: {error}"
        raise StartRefused(message) from error


def _connecting(settings: Settings, topic: str) -> Callable[[float], broker.Reader]:
    """What connects to a topic that is followed, with the patience given."""

    def connect(patience: float) -> broker.Reader:
        return broker.Reader(dataclasses.replace(link(settings), patience=patience), topic)

    return connect


def _campaigns(settings: Settings, metrics: Metrics) -> tuple[CampaignWatch, CampaignSharing] | None:
    """The observer of campaigns, and the companion that shares them; None where no topic is set."""
    topic = settings.campaigns_topic
    if topic is None:
        return None
    watch = CampaignWatch(metrics, settings.instance_id)
    watch.index.take_memory()
    brokers = dataclasses.replace(link(settings), patience=_REPORT_PATIENCE)
    mine = dataclasses.replace(brokers, client_id=f"{brokers.client_id}-campaigns")
    sharing = CampaignSharing(
        watch,
        topic,
        read=lambda: broker.Reader(mine, topic),
        publish=lambda: broker.Publisher(mine),
        outages=(broker.BrokerError, TimeoutError),
        failed=metrics.campaign_topic_failures.inc,
    )
    metrics.follow(metrics.campaigns, lambda: len(watch.index))
    return watch, sharing


def _senders(
    settings: Settings, metrics: Metrics, assignment: Callable[[], frozenset[TopicPartition]]
) -> tuple[Behaviour, SenderSnapshots, BehaviourRules | None] | None:
    """The observer of senders, its companion, and the rule unless it is off; None where no topic is set.

    Raises StartRefused.
    """
    if settings.senders_topic is None:
        return None
    keys = hashing(settings)
    limits = senders.SenderLimits(settings.senders_burst, settings.senders_fan_out)
    behaviour = senders.Behaviour(limits, keys, is_asked=settings.senders_rule != "off")
    behaviour.take_memory()
    metrics.follow(metrics.senders, lambda: behaviour.table.taken)
    metrics.follow(metrics.senders_forgotten, lambda: behaviour.table.evicted)
    topic = SnapshotTopic(link(settings), settings.senders_topic)
    companion = senders.SenderSnapshots(behaviour, assignment, topic, keys, metrics)
    rules = (
        None
        if settings.senders_rule == "off"
        else senders.BehaviourRules(behaviour, settings.senders_rule == "dry-run")
    )
    return behaviour, companion, rules


class _Republisher:
    """Publishes to a topic; connects when need be, and anew after an error."""

    def __init__(self, brokers: broker.KafkaLink, topic: str) -> None:
        self._link, self._topic = brokers, topic
        self._publisher: broker.Publisher | None = None

    def __call__(self, records: Sequence[Outgoing]) -> None:
        """Publish. Raises BrokerError."""
        try:
            self._publisher = self._publisher or broker.Publisher(self._link)
            self._publisher.publish(self._topic, records)
        except broker.BrokerError:
            if self._publisher:
                self._publisher.close()
            self._publisher = None
            raise


class SnapshotTopic:
    """The topic of senders, connected to when need be, and again after an error. Raises SnapshotsAwayError."""

    def __init__(self, brokers: broker.KafkaLink, name: str) -> None:
        self._link = dataclasses.replace(brokers, client_id=f"{brokers.client_id}-senders", patience=_REPORT_PATIENCE)
        self.name = name
        self._publish = _Republisher(self._link, name)

    def publish(self, records: Sequence[Outgoing]) -> None:
        """Write."""
        try:
            self._publish(records)
        except broker.BrokerError as error:
            raise SnapshotsAwayError(str(error)) from error

    def read(self) -> Iterator[Record]:
        """All that is there now."""
        try:
            with broker.Reader(self._link, self.name) as reader:
                yield from reader.to_end()
        except (broker.BrokerError, TimeoutError) as error:
            raise SnapshotsAwayError(str(error)) from error


class Reports:
    """A topic that is good to have: when the brokers do not take a report, it is dropped, and the log says so."""

    def __init__(self, brokers: broker.KafkaLink, topic: str) -> None:
        mine = dataclasses.replace(brokers, client_id=f"{brokers.client_id}-reports", patience=_REPORT_PATIENCE)
        self._publish = _Republisher(mine, topic)
        self._topic = topic

    def __call__(self, records: Sequence[Outgoing]) -> None:
        """Publish."""
        try:
            self._publish(records)
        except broker.BrokerError as error:
            log.warning("reports dropped", topic=self._topic, count=len(records), cause=str(error))


def _sink(settings: Settings, kind: Kind) -> Sink:
    is_exactly_once = settings.delivery == "exactly-once"
    terms = broker.Terms(
        verdict_topic=settings.verdict_topic,
        dead_letter_topic=settings.dead_letter_topic,
        transactional_id=broker.transactional_id(settings.group_id, settings.instance_id) if is_exactly_once else None,
        transaction_timeout=settings.transaction_timeout,
        log_level=settings.log_level,
        log_format=settings.log_format,
    )
    if not has_sink_process(kind):
        return terms.sink(link(settings))
    try:
        return broker.SinkProcess(link(settings), terms)
    except broker.SinkProcessError as error:
        message = f"{error}; see Subprocesses in docs/operations.md"
        raise StartRefused(message) from error


def _follow(metrics: Metrics, pipeline: Pipeline, service: Service) -> None:
    """Have the scraping thread ask for what changes while nothing is committed: a stall shows as it grows."""
    metrics.follow(metrics.oldest_message, pipeline.oldest)
    for state in State:
        metrics.follow(metrics.state, functools.partial(lambda each: service.state() == each, state), state)
    metrics.follow(metrics.transaction_version, lambda: pipeline.sink.transaction_version)
    metrics.follow(metrics.inbox_messages, lambda: pipeline.inbox.waiting()[0])
    metrics.follow(metrics.inbox_tokens, lambda: pipeline.inbox.waiting()[1])
    if pipeline.models.primary.classifier.engine.kind is not Kind.CPU:
        metrics.follow_gpu(engine.device_state(lambda: pipeline.models.primary.classifier.engine))
    for stage in STAGES:
        metrics.follow(metrics.stage_step, functools.partial(lambda name: service.steps()[name], stage), stage)


def _introduce(settings: Settings, metrics: Metrics, pipeline: Pipeline, server: MetricsServer) -> None:
    model, sink = pipeline.models.primary, pipeline.sink
    is_exactly_once = settings.delivery == "exactly-once"
    running = model.classifier.engine
    metrics.know_labels(model.classifier.labels)
    metrics.build_info.info({"version": version(), "commit": commit()})
    log.info(
        "started",
        version=version(),
        model=model.name,
        engine=str(running.kind),
        engine_process=running.pid,
        tokenizer_processes=list(model.classifier.tokenizer_pids),
        sink_process=sink.pid if isinstance(sink, broker.SinkProcess) else None,
        token_budget=settings.token_budget or running.token_budget,
        threshold=model.verdicts.policy.banded.threshold,
        delivery=settings.delivery,
        transaction_version=sink.transaction_version,
        brokers=settings.brokers,
        group=settings.group_id,
        instance=settings.instance_id,
        transactional_id=broker.transactional_id(settings.group_id, settings.instance_id) if is_exactly_once else None,
        metrics=f"{server.address}/metrics",
    )
