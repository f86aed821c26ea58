"""The settings that each command takes as flags, in groups, as `--help` shows them.

A setting that a command does not use is refused by it as a flag. As a variable or a line of .env it may be there: these
are shared by all commands. tests/unit/test_command_line.py holds the table to the code.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, Final, NoReturn

import shtab

from worker import settings as knobs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

GROUPS: Final = {
    "model": (
        *("bundle", "canary", "canary_share", "shadow", "shadow_share", "engine", "threads", "token_budget"),
        *("gpu_share", "latency_budget"),
    ),
    "decision": ("threshold", "flag_from", "block_from", "on_outside", "on_unscored", "deadline", "max_event_bytes"),
    "context": (
        "hash_key_file",
        "lists_topic",
        "registry",
        "registry_topic",
        "campaigns_topic",
        "campaigns_rule",
        "senders_topic",
        "senders_burst",
        "senders_fan_out",
        "senders_rule",
        "feedback_topic",
        "feedback_window",
    ),
    "stream": (
        *("brokers", "input_topic", "verdict_topic", "dead_letter_topic", "shadow_topic", "group_id", "instance_id"),
        *("delivery", "membership", "rebalance", "offset_out_of_range", "unreadable_batch"),
        *("compression", "transaction_timeout"),
        *("session_timeout", "audit_window"),
    ),
    "console": (
        *("console_host", "console_port", "console_users", "console_folder", "console_database", "console_candidates"),
        *("console_text_key_file", "console_text_days", "console_text_share"),
        *("console_proxies", "console_user_header", "console_groups_header", "console_roles"),
    ),
    "security": (
        *("security_protocol", "sasl_mechanism", "sasl_username", "sasl_password"),
        *("sasl_oauth_command", "sasl_oauth_url", "sasl_oauth_scope"),
        *("tls_ca", "tls_certificate", "tls_key"),
    ),
    "operation": (
        *("metrics_host", "metrics_port", "predict_port", "predict_host", "predict_share"),
        *("tracing", "shutdown_grace", "log_level", "log_format"),
    ),
}
"""Every setting, once."""

_FOLDERS: Final = ("bundle", "canary", "shadow", "console_folder", "console_candidates")
_ALL: Final = frozenset(knobs.Settings.model_fields)
_LOG: Final = frozenset({"log_level", "log_format"})
_MODEL: Final = _LOG | {
    *("bundle", "engine", "threads", "token_budget", "gpu_share"),
    *("threshold", "flag_from", "block_from", "on_outside", "on_unscored"),
}
_LINK: Final = _LOG | {*GROUPS["security"], "brokers", "group_id", "instance_id", "compression"}
_FEEDBACK: Final = {"feedback_topic", "feedback_window"}
_CONSOLE: Final = frozenset(GROUPS["console"])
_RUN: Final = _ALL - {"audit_window"} - _FEEDBACK - _CONSOLE

USED_BY: Final = {
    "run": _RUN,
    "predict": _MODEL,
    "check": _RUN | {"feedback_topic"},  # it says what would keep the worker from starting, and `hamgate feedback`
    "replay": _LINK | {"input_topic", "dead_letter_topic"},
    "simulate": _LINK | {"input_topic"},
    "bench": _MODEL | {"latency_budget"},
    "calibrate": _MODEL,
    "use": _MODEL,
    "back": _MODEL,
    "compare": _LINK | {"shadow_topic"},
    "campaigns": _LINK | {"campaigns_topic"},
    "registry": _LINK | {"registry_topic"},
    "audit": _LINK
    | {*("input_topic", "verdict_topic", "dead_letter_topic", "delivery", "max_event_bytes"), "audit_window"}
    | {"metrics_host", "metrics_port"},
    "feedback": _LINK
    | _FEEDBACK
    | {*("input_topic", "verdict_topic", "max_event_bytes", "hash_key_file"), "metrics_host", "metrics_port"},
    "tail": _LINK | {"verdict_topic", "dead_letter_topic"},
    "lists": _LINK | {"input_topic", "max_event_bytes", "hash_key_file", "lists_topic"},
    "console": _MODEL
    | _LINK
    | _CONSOLE
    | {"input_topic", "verdict_topic", "dead_letter_topic", "max_event_bytes", "hash_key_file", "registry"}
    | {"lists_topic", "campaigns_topic", "senders_topic", "shadow_topic", "feedback_topic"},
    "completion": frozenset[str](),
    "print-settings": _ALL,
}
"""For each command what it uses."""


def add(parser: argparse.ArgumentParser, command: str, *, completing: bool = False) -> None:
    """Give a command's parser its settings, in groups; whatever else is a setting is refused by its name.

    A parser for `completing` names their values, too; one that parses leaves it to the settings to refuse a value.
    """
    used = USED_BY[command]
    for title, names in GROUPS.items():
        if shown := [name for name in names if name in used]:
            group = parser.add_argument_group(f"settings: {title}", _said_of_secrets(shown))
            for name in shown:
                _add_flag(group, name, completing=completing)
    for name in sorted(_ALL - used):
        if not is_secret(name):
            parser.add_argument(flag(name), action=_NotUsed, dest=name, default=argparse.SUPPRESS)
    _add_removed(parser)


def add_hidden(parser: argparse.ArgumentParser) -> None:
    """Give a parser every setting, without a word in its help: for flags before the command."""
    for name in knobs.Settings.model_fields:
        if not is_secret(name):
            parser.add_argument(flag(name), dest=name, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    _add_removed(parser)


def complete(action: argparse.Action, kind: dict[str, Any]) -> None:
    """Have a shell complete an option by files or folders."""
    action.complete = kind  # type: ignore[attr-defined] # where shtab looks for it


def flag(name: str) -> str:
    """A setting's flag."""
    return f"--{name.replace('_', '-')}"


def is_secret(name: str) -> bool:
    """Whether a setting must not stand on a command line, which everybody can read in the list of processes."""
    return "Secret" in str(knobs.Settings.model_fields[name].annotation)


def _add_flag(group: Any, name: str, *, completing: bool) -> None:  # noqa: ANN401 argparse's groups have no public type
    if is_secret(name):
        return
    field = knobs.Settings.model_fields[name]
    notes = "; ".join([knobs.allowed(field), *_default(name, field)])
    summary = f"{field.description} ({notes})".replace("%", "%%")
    action = group.add_argument(flag(name), dest=name, default=argparse.SUPPRESS, metavar="VALUE", help=summary)
    if completing and (values := knobs.values(field)):
        action.choices = values
    elif name in _FOLDERS:
        complete(action, shtab.DIRECTORY)
    elif name.startswith("tls_") or name == "registry":
        complete(action, shtab.FILE)


def _default(name: str, field: FieldInfo) -> Iterator[str]:
    """What holds unless it is set; nothing of a setting that is unset then."""
    words = {"bundle": "the shipped one", "instance_id": "this host's name", "threads": "the cores at hand"}
    if name in words:
        yield f"default: {words[name]}"
    elif field.default is not None:
        yield f"default: {field.default}"


def _said_of_secrets(names: list[str]) -> str | None:
    found = [knobs.variable(name) for name in names if is_secret(name)]
    return f"{', '.join(found)}: by the environment or .env only, never as a flag" if found else None


def _add_removed(parser: argparse.ArgumentParser) -> None:
    for name in knobs.REMOVED:  # to be refused by name
        parser.add_argument(flag(name), dest=name, default=argparse.SUPPRESS, help=argparse.SUPPRESS)


class _NotUsed(argparse.Action):
    """A setting of other commands."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 argparse's own
        super().__init__(**options, help=argparse.SUPPRESS)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        """End with 2, as for any wrong option."""
        users = ", ".join(name for name, used in USED_BY.items() if self.dest in used)
        parser.error(f"{flag(self.dest)} is not used here; it is a setting of {users}")
