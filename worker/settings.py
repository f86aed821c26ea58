"""Every setting, frozen and checked at start: flags, then HAMGATE_* variables, then .env, then defaults.

Durations are in seconds. A bad value or an unknown HAMGATE_ name stops the start with its name and what is allowed.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import socket
import types
import typing
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from dotenv import dotenv_values
from pydantic import Field, FilePath, PositiveFloat, SecretStr, StringConstraints, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

from worker import pem
from worker.env_file import misunderstood
from worker.process import cores

PREFIX: Final = "HAMGATE_"
_WORKER: Final = Path(__file__).resolve().parent
_INSTALLED: Final = _WORKER / "shipped" / "nano"
SHIPPED_BUNDLE: Final = _INSTALLED if _INSTALLED.is_dir() else _WORKER.parent / "models" / "nano"
"""In an installed package, else in the checkout."""

MAX_POLL_INTERVAL: Final = 300
"""Seconds after which a stuck worker leaves the group, and its /livez fails: longer than any batch takes."""

REMOVED: Final = {
    "audit_group_id": "always the worker's group and `.audit`",
    "bundle_watch": "fixed at 2 s",
    "max_batch_messages": "fixed at 2048; HAMGATE_TOKEN_BUDGET bounds a batch",
    "max_event_depth": "fixed at 32",
    "max_event_headers": "fixed at 64",
    "max_poll_interval": "fixed at 300 s",
    "max_tokens": "always the bundle's",
    "sink_process": "one beside a GPU with more than two cores, else none",
    "tokenizer_processes": "beside a GPU one with more than two cores, two from eight on; else none",
}
"""Former settings, and what holds now: one that is still set stops the start."""

# Kafka's own rule for names: Topic.validate in its sources.
_NAME: Final = r"^[a-zA-Z0-9._-]{1,249}$"
# A port of five digits is at most 65535; an address of IPv6 stands in brackets, as it has colons itself.
_PORT: Final = r"(6553[0-5]|655[0-2]\d|65[0-4]\d{2}|6[0-4]\d{3}|[1-5]\d{4}|[1-9]\d{0,3})"
_HOST_PORT: Final = rf"([^\s,:\[\]]+|\[[0-9a-fA-F:.]+(%[^\s,\[\]]+)?\]):{_PORT}"
_HOST_PORTS: Final = rf"^{_HOST_PORT}(,{_HOST_PORT})*$"
_OWN_GROUPS: Final = (".replay", ".audit", ".feedback")
TopicName = Annotated[str, StringConstraints(pattern=_NAME)]
# Over plain HTTP only to this host: the secret goes with it.
_ENDPOINT: Final = rf"^(https://[^\s/?#@]+|http://(127\.0\.0\.1|localhost|\[::1\])(:{_PORT})?)(/[^\s#]*)?$"
TokenEndpoint = Annotated[str, StringConstraints(pattern=_ENDPOINT)]
HostPorts = Annotated[str, StringConstraints(pattern=_HOST_PORTS)]
Probability = Annotated[float, Field(gt=0, lt=1)]
_HEADER: Final = r"^[A-Za-z0-9-]{1,64}$"
_GROUP_ROLE: Final = r"[^,=]+=(viewer|analyst|operator)"
_GROUP_ROLES: Final = rf"^{_GROUP_ROLE}(,{_GROUP_ROLE})*$"
_NETWORKS: Final = r"^[0-9A-Fa-f:./]+(, ?[0-9A-Fa-f:./]+)*$"
HeaderName = Annotated[str, StringConstraints(pattern=_HEADER)]
GroupRoles = Annotated[str, StringConstraints(pattern=_GROUP_ROLES)]
Networks = Annotated[str, StringConstraints(pattern=_NETWORKS)]
_BOUNDS: Final = ((">=", "ge"), (">", "gt"), ("<=", "le"), ("<", "lt"))
_ALLOWED: Final = {
    _NAME: "1 to 249 of letters, digits, '.', '_' and '-'",
    _ENDPOINT: "an https:// address, or http:// on loopback",
    _HEADER: "the name of a header: letters, digits and '-'",
    _GROUP_ROLES: "group=role, several joined by commas; a role is viewer, analyst or operator; the group * is all",
    _NETWORKS: "addresses and networks, as 10.0.0.7 or 10.0.0.0/24, several joined by commas",
    _HOST_PORTS: "host:port, several joined by commas; ports from 1 to 65535, [address]:port for IPv6",
}


class SettingsError(ValueError):
    """The settings do not hold: one line for each that is wrong, with its name and what is allowed."""


class Settings(BaseSettings):
    """What one worker needs to know; parts get the values they need, never the whole."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        str_strip_whitespace=True,
    )

    # What is judged, and how.
    bundle: Path = Field(SHIPPED_BUNDLE, description="folder of the model bundle")
    canary: Path | None = Field(None, description="folder of a bundle that judges a share of the keys instead")
    canary_share: float = Field(0.05, ge=0, le=1, description="share of the keys that the canary judges")
    shadow: Path | None = Field(None, description="folder of a bundle that also judges; its verdicts are not published")
    shadow_share: float = Field(1, ge=0, le=1, description="share of the keys that the shadow judges")
    engine: Literal["auto", "cpu", "cuda-bf16", "cuda-fp8", "cuda-nf4"] = Field("auto", description="how models run")
    threads: int = Field(cores.available(), ge=1, le=1024, description="CPU threads of the model")
    token_budget: int | None = Field(None, ge=64, le=1_048_576, description="tokens a batch; none: the engine's own")
    gpu_share: float = Field(
        1,
        gt=0,
        le=1,
        description="of the GPU's memory, and under MPS of its multiprocessors: for workers that share it",
    )
    latency_budget: PositiveFloat = Field(0.1, le=60, description="age a message may reach before its batch is judged")

    # What is done with a score.
    threshold: Probability | None = Field(None, description="score from which it is spam; none: the bundle's own")
    flag_from: Probability | None = Field(
        None, description="score from which to flag; none: the bundle's, or the threshold"
    )
    block_from: float | None = Field(
        None, gt=0, le=1, description="score from which to block; 1: never; none: the bundle's, or the threshold"
    )
    on_outside: Literal["flag", "as-scored", "deliver"] = Field(
        "flag", description="the most that is done with a text that the bundle's evaluation does not cover"
    )
    on_unscored: Literal["unscored", "fail-open", "fail-closed"] = Field(
        "unscored", description="action of a verdict without a score; its reason is always given"
    )
    deadline: PositiveFloat | None = Field(
        None, le=86_400, description="age from which a message is not scored; none: never"
    )
    max_event_bytes: int = Field(
        65_536, ge=256, le=16_777_216, description="an event whose value and key are longer is a dead letter"
    )

    # The stream.
    brokers: HostPorts = Field("127.0.0.1:9092", description="bootstrap servers")
    input_topic: TopicName = Field("sms.events", description="topic of events")
    verdict_topic: TopicName = Field("sms.verdicts", description="topic of verdicts")
    dead_letter_topic: TopicName = Field("sms.dead-letters", description="topic of events that could not be read")
    shadow_topic: TopicName = Field("sms.shadow", description="topic of messages that a shadow judges differently")
    group_id: TopicName = Field("hamgate", description="consumer group")
    instance_id: TopicName = Field(
        default_factory=socket.gethostname, description="unique name of this worker, the same after a restart"
    )
    delivery: Literal["exactly-once", "at-least-once"] = Field("exactly-once", description="delivery guarantee")
    membership: Literal["dynamic", "static"] = Field(
        "dynamic", description="static: a worker restarted within its session keeps its partitions (see instance_id)"
    )
    rebalance: Literal["eager", "cooperative"] = Field(
        "eager", description="cooperative: partitions that stay are worked on meanwhile; one value for a whole group"
    )
    offset_out_of_range: Literal["fail", "earliest", "latest"] = Field(
        "fail",
        description="when the next record, or the position in the input, is gone: stop, or go on from there",
    )
    unreadable_batch: Literal["dead-letter", "fail"] = Field(
        "dead-letter", description="what becomes of a batch that cannot be decompressed: a letter an offset, or a stop"
    )
    compression: Literal["none", "gzip", "lz4", "zstd", "snappy"] = Field(
        "gzip", description="codec of what is written, in batches of 4 KiB and more; every Kafka client reads gzip"
    )
    transaction_timeout: float = Field(10, ge=1, le=900, description="after which the broker aborts a transaction")
    session_timeout: float = Field(
        15, ge=1, lt=MAX_POLL_INTERVAL, description="after which a silent worker loses its partitions"
    )

    # What is known beside the text.
    hash_key_file: FilePath | None = Field(
        None, description="file of the keys that numbers are hashed by, one a line, the one in force first"
    )
    lists_topic: TopicName | None = Field(
        None, description="compacted topic of allow, flag and block lists, as sms.lists; none: no lists"
    )

    registry: FilePath | None = Field(
        None, description="file of the sender registry, TOML or CSV, read again when it changes; none: no registry"
    )
    registry_topic: TopicName | None = Field(
        None, description="compacted topic of the sender registry, as sms.registry, in the file's place; none: the file"
    )
    campaigns_topic: TopicName | None = Field(
        None, description="compacted topic that workers share campaigns by, as sms.campaigns; none: no campaigns"
    )
    campaigns_rule: Literal["off", "dry-run", "on"] = Field(
        "dry-run", description="whether a campaign's next variant is stopped where the score stopped nearly all before"
    )

    senders_topic: TopicName | None = Field(
        None, description="compacted topic of how senders behave, for the next owner of a partition; none: unwatched"
    )
    senders_burst: float = Field(
        15, gt=0, le=10_000, description="messages a minute from which on a sender is flagged as burst"
    )
    senders_fan_out: int = Field(
        20, ge=2, le=200, description="distinct recipients within an hour from which on a sender is flagged as fan-out"
    )
    senders_rule: Literal["off", "dry-run", "on"] = Field(
        "dry-run", description="whether first contact with fan-out or a burst raises the score"
    )
    feedback_topic: TopicName | None = Field(
        None, description="topic of reports by subscribers and analysts; decisions go to it and `-decisions`; none: off"
    )
    feedback_window: int = Field(
        1_000_000,
        ge=1000,
        le=100_000_000,
        description="messages in which `hamgate feedback` finds a text or an id, 54 bytes each",
    )

    # The audit.
    audit_window: int = Field(
        1_000_000, ge=1000, le=1_000_000_000, description="input offsets that the audit holds at most, ten bytes each"
    )

    # The link's security.
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="protocol of the connections to the brokers"
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] | None = Field(
        None, description="mechanism"
    )
    sasl_username: str | None = Field(None, min_length=1, description="SASL user; for sasl_oauth_url the client's id")
    sasl_password: SecretStr | None = Field(
        None, min_length=1, description="SASL password; for sasl_oauth_url the client's secret"
    )
    sasl_oauth_command: str | None = Field(
        None, min_length=1, description="command that prints an access token, run without a shell, for OAUTHBEARER"
    )
    sasl_oauth_url: TokenEndpoint | None = Field(
        None, description="token endpoint that gives one for client credentials, in the command's place"
    )
    sasl_oauth_scope: str | None = Field(None, min_length=1, description="scope to ask it for")
    tls_ca: FilePath | None = Field(None, description="PEM file of the authority that signed the brokers' certificates")
    tls_certificate: FilePath | None = Field(None, description="PEM file of this client's certificate")
    tls_key: FilePath | None = Field(None, description="PEM file of this client's key")

    # The console.
    console_host: str = Field("127.0.0.1", min_length=1, description="address of the console's pages")
    console_port: int = Field(9466, ge=0, le=65_535, description="their port; 0: any free one, named at the start")
    console_users: FilePath | None = Field(
        None, description="file of the console's users; none: no log-in, and loopback only"
    )
    console_candidates: Path | None = Field(
        None, description="folder of bundles that the console's page Model compares and puts in force; none: no such"
    )
    console_folder: Path = Field(
        Path(".run/console"), description="folder of the console's window on the topics, and of its audit log"
    )
    console_database: SecretStr | None = Field(
        None, description="postgresql:// URL of a database for the console's window; none: a file in its folder"
    )
    console_text_key_file: FilePath | None = Field(
        None, description="file of keys, the one in force first, to keep texts encrypted in the console; none: no text"
    )
    console_text_days: float = Field(7, gt=0, le=30, description="days that texts are kept")
    console_text_share: float = Field(1, gt=0, le=1, description="share of the messages whose text is kept")
    console_proxies: Networks | None = Field(
        None, description="addresses and networks of proxies that log the console's users in, and are believed"
    )
    console_user_header: HeaderName | None = Field(None, description="header in which they name the user")
    console_groups_header: HeaderName | None = Field(None, description="header with the user's groups; commas between")
    console_roles: GroupRoles | None = Field(
        None, description="which group has which role in the console; * is everybody whom a proxy names"
    )

    # What the operator sees.
    metrics_host: str = Field("127.0.0.1", min_length=1, description="address of /metrics, /livez and /readyz")
    metrics_port: int = Field(9464, ge=0, le=65_535, description="their port; 0: any free one, named in the log")
    predict_port: int | None = Field(
        None, ge=0, le=65_535, description="port of POST /predict, which judges texts without Kafka; none: closed"
    )
    predict_host: str = Field("127.0.0.1", min_length=1, description="its address; it has no password")
    predict_share: float = Field(
        0.2, gt=0, le=0.5, description="of the model's time that /predict may take from the stream"
    )
    tracing: Literal["off", "otlp"] = Field("off", description="spans by OTLP, whose own settings are OTEL_* variables")
    shutdown_grace: PositiveFloat = Field(20, le=3600, description="time to finish what is in flight on SIGTERM")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="lowest level that is logged")
    log_format: Literal["auto", "json", "console"] = Field("auto", description="auto: console on a terminal, else JSON")

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        """Raise ValueError naming the settings that do not go together, and how they would."""
        if not self.transaction_timeout < self.session_timeout:
            _refuse(
                "transaction_timeout",
                f"must be below session_timeout: now {self.transaction_timeout:g} and {self.session_timeout:g}",
            )
        if len({self.input_topic, self.verdict_topic, self.dead_letter_topic, self.shadow_topic}) < 4:  # noqa: PLR2004
            _refuse("verdict_topic", "input_topic, verdict_topic, dead_letter_topic and shadow_topic must differ")
        self._require_context_to_fit()
        if self.group_id.endswith(_OWN_GROUPS):
            _refuse(
                "group_id", f"must not end with {' or '.join(_OWN_GROUPS)}, the groups of replay, audit and feedback"
            )
        if self.flag_from and self.block_from and self.flag_from > self.block_from:
            _refuse("flag_from", f"must not be above block_from: now {self.flag_from:g} and {self.block_from:g}")
        self._require_sasl_to_fit()
        self._require_console_to_fit()
        if (self.tls_certificate is None) != (self.tls_key is None):
            _refuse("tls_certificate", "tls_certificate and tls_key go together")
        if self.security_protocol not in ("SSL", "SASL_SSL") and (self.tls_ca or self.tls_certificate):
            _refuse("tls_ca", "TLS settings need security_protocol SSL or SASL_SSL")
        if fault := pem.fault(self.tls_ca, self.tls_certificate, self.tls_key):
            _refuse(*fault)
        return self

    def _require_context_to_fit(self) -> None:
        """Topics of their own, and a key where something personal is hashed."""
        taken = {self.input_topic, self.verdict_topic, self.dead_letter_topic, self.shadow_topic}
        hashed = {"lists_topic": "numbers in lists", "senders_topic": "senders"}
        if self.registry and self.registry_topic:
            _refuse("registry_topic", "the registry is a file or a topic: set one of registry and registry_topic")
        for name in ("lists_topic", "registry_topic", "senders_topic", "campaigns_topic", "feedback_topic"):
            topic = getattr(self, name)
            if topic is None:
                continue
            if name in hashed and self.hash_key_file is None:
                _refuse(name, f"needs hash_key_file: {hashed[name]} are kept as keyed hashes")
            mine = {topic, decisions_topic(topic)} if name == "feedback_topic" else {topic}
            if mine & taken:
                _refuse(name, f"{' and '.join(sorted(mine))}: each topic has one use; name another")
            taken |= mine
        for rule, topic in (("senders_rule", "senders_topic"), ("campaigns_rule", "campaigns_topic")):
            if getattr(self, rule) == "on" and getattr(self, topic) is None:
                _refuse(rule, f"on needs {topic}: without it there is nothing to go by")

    def _require_console_to_fit(self) -> None:
        """Who is believed, in which header, and as what: none without the others."""
        if (url := self.console_database) and not url.get_secret_value().startswith(("postgresql://", "postgres://")):
            _refuse("console_database", "must begin with postgresql://")
        if self.console_proxies is None:
            if self.console_user_header or self.console_groups_header or self.console_roles:
                _refuse("console_proxies", "console_user_header, _groups_header and _roles need the proxies' addresses")
            return
        for each in self.console_proxies.split(","):
            try:
                network = ipaddress.ip_network(each.strip())
            except ValueError as error:
                _refuse("console_proxies", f"{each.strip()}: {error}")
            if network.prefixlen == 0:
                _refuse("console_proxies", f"{each.strip()} is everybody: name the proxies' own addresses")
        if not (self.console_user_header and self.console_roles):
            _refuse("console_proxies", "needs console_user_header and console_roles")

    def _require_sasl_to_fit(self) -> None:
        user = (self.sasl_username, self.sasl_password)
        oauth = (self.sasl_oauth_command, self.sasl_oauth_url, self.sasl_oauth_scope)
        is_sasl, is_oauth = self.security_protocol.startswith("SASL"), self.sasl_mechanism == "OAUTHBEARER"
        if is_sasl and (self.sasl_mechanism is None or (None in user and not is_oauth)):
            _refuse("security_protocol", f"{self.security_protocol} needs sasl_mechanism, sasl_username, sasl_password")
        if not is_sasl and any((self.sasl_mechanism, *user, *oauth)):
            _refuse("sasl_mechanism", "SASL settings need security_protocol SASL_SSL or SASL_PLAINTEXT")
        if not is_oauth and any(oauth):
            _refuse("sasl_mechanism", "sasl_oauth_command, _url and _scope need OAUTHBEARER")
        if is_oauth and (self.sasl_oauth_command is None) == (self.sasl_oauth_url is None):
            _refuse("sasl_mechanism", "OAUTHBEARER needs one of sasl_oauth_command and sasl_oauth_url")
        if self.sasl_oauth_command and any((*user, self.sasl_oauth_scope)):
            _refuse("sasl_oauth_command", "sasl_username, sasl_password and sasl_oauth_scope are for sasl_oauth_url")
        if self.sasl_oauth_url and None in user:
            _refuse("sasl_oauth_url", "needs sasl_username and sasl_password: the client's id and secret")


def decisions_topic(reports: str) -> str:
    """The topic of what is decided of the reports on a topic."""
    return f"{reports}-decisions"


def load(flags: dict[str, str] | None = None) -> Settings:
    """Read the settings of this process. Raises SettingsError naming everything that is wrong."""
    _require_understood(Path(".env"))
    problems = [*_removed_names(flags or {}), *_unknown_names()]
    try:
        settings = Settings(**(flags or {}))  # type: ignore[arg-type]
    except ValidationError as error:
        problems += [_explain(problem) for problem in error.errors()]
        raise SettingsError("\n".join(problems)) from None
    if problems:
        raise SettingsError("\n".join(problems))
    return settings


def _require_understood(file: Path) -> None:
    try:
        content = file.read_bytes().decode()
    except (FileNotFoundError, IsADirectoryError):  # as if there were none, to whoever reads it
        return
    except OSError as error:
        message = f"{file}: cannot be read ({error.strerror})"
        raise SettingsError(message) from None
    except UnicodeDecodeError as error:
        message = f"{file}: not UTF-8, from byte {error.start} on; write it anew as UTF-8"
        raise SettingsError(message) from None
    found = misunderstood(content, PREFIX, os.environ, lambda name: _misspelt(name) or _odd(name))
    if lines := [f"{file} line {line}: {what}" for line, what in found]:
        raise SettingsError("\n".join(lines))


def in_force(settings: Settings, flags: dict[str, str] | None = None) -> list[tuple[str, str, str, str]]:
    """For each setting: its variable's name, its value with secrets masked, where it came from, what it does."""
    places = (("flag", set(flags or {})), *_places())

    def origin(field: str) -> str:
        return next((place for place, names in places if field in names), "default")

    return [
        (variable(field), _shown(getattr(settings, field)), origin(field), described.description or "")
        for field, described in Settings.model_fields.items()
    ]


def variable(field: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + field.upper()


def allowed(field: FieldInfo) -> str:
    """What a setting takes, in words, from its type and bounds."""
    annotation, metadata, optional = field.annotation, list(field.metadata), False
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        members = typing.get_args(annotation)
        optional = type(None) in members
        annotation = next(member for member in members if member is not type(None))
    while typing.get_origin(annotation) is Annotated:
        annotation, *more = typing.get_args(annotation)
        for item in more:
            metadata += item.metadata if isinstance(item, FieldInfo) else [item]
    return _in_words(annotation, metadata) + (", or unset" if optional else "")


def values(field: FieldInfo) -> list[str]:
    """The values of a setting that takes one of a few; of any other none."""
    kinds = (field.annotation, *typing.get_args(field.annotation))
    return [value for kind in kinds if typing.get_origin(kind) is Literal for value in typing.get_args(kind)]


def _in_words(annotation: object, metadata: list[Any]) -> str:
    if typing.get_origin(annotation) is Literal:
        return "one of " + ", ".join(typing.get_args(annotation))
    if annotation in (int, float):
        bounds = [
            f"{mark} {getattr(item, name):,}" for item in metadata for mark, name in _BOUNDS if hasattr(item, name)
        ]
        return " ".join(["a whole number" if annotation is int else "a number", " and ".join(bounds)]).strip()
    if annotation is Path:
        is_file = any(type(item).__name__ == "PathType" for item in metadata)
        return "the path of an existing file" if is_file else "a path"
    for item in metadata:
        pattern = getattr(item, "pattern", None)
        if pattern in _ALLOWED:
            return _ALLOWED[pattern]
    return "a text, not empty"


def _removed_names(flags: dict[str, str]) -> typing.Iterator[str]:
    for place, names in (("flag", set(flags)), *_places()):
        for name in sorted(names & set(REMOVED)):
            yield f"{variable(name)} ({place}): no longer a setting; {REMOVED[name]}"


def _unknown_names() -> typing.Iterator[str]:
    known = set(Settings.model_fields)
    for place, names in _places():
        for name in sorted(names - known - set(REMOVED)):
            nearest = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {variable(nearest[0])}?" if nearest else ""
            yield f"{variable(name)} ({place}): no such setting{hint} `hamgate print-settings` lists them all"
    for name in sorted(os.environ):
        if meant := _misspelt(name):
            yield f"{name} (environment): {meant}"


def _misspelt(name: str) -> str | None:
    """Of a name with the letters of a setting's, as HAMGATE-GROUP-ID: which is meant."""
    if name.upper().startswith(PREFIX):
        return None
    return next(
        (
            f"no such setting; did you mean {variable(field)}?"
            for field in Settings.model_fields
            if _letters(name) == _letters(variable(field))
        ),
        None,
    )


def _odd(name: str) -> str | None:
    """Of a name that no program could ask for, as $env:HAMGATE_GROUP_ID, and that has ours in it: the same."""
    if name.isidentifier() or (at := _letters(name).find(_letters(PREFIX))) < 0:
        return None
    return _misspelt(_letters(name)[at:]) or "no such setting; `hamgate print-settings` lists them all"


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _places() -> tuple[tuple[str, set[str]], ...]:
    """Where settings are named beside the command line, and which."""
    return ("environment", _names(os.environ)), (".env", _names(dotenv_values(".env")))


def _names(variables: typing.Iterable[str]) -> set[str]:
    """Settings named among variables; their case does not matter, as pydantic-settings reads them."""
    return {name[len(PREFIX) :].lower() for name in variables if name.upper().startswith(PREFIX)}


def _explain(problem: Any) -> str:  # noqa: ANN401 pydantic's ErrorDetails is not importable at run time from a stable place
    if not problem["loc"]:  # settings that do not go together: _refuse has named them
        return str(problem["ctx"]["error"])
    name = str(problem["loc"][0])
    if name not in Settings.model_fields:
        return f"{variable(name)}: no such setting"
    field = Settings.model_fields[name]
    given = "" if "SecretStr" in str(field.annotation) else f" {str(problem['input'])[:80]!r}"
    return f"{variable(name)}:{given} is not allowed; allowed: {allowed(field)}"


def _refuse(field: str, why: str) -> typing.NoReturn:
    message = f"{variable(field)}: {why}"
    raise ValueError(message)


def _shown(value: object) -> str:
    return "" if value is None else str(value)
