"""Wrong settings stop the start, by name and with what is allowed; right ones are what is in force."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest

from worker import app, settings
from worker.__main__ import main
from worker.messages import MAX_DEPTH, MAX_HEADERS
from worker.pipeline.batching import MAX_MESSAGES


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.upper().startswith(settings.PREFIX)]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


HOST_PORTS = "host:port, several joined by commas; ports from 1 to 65535, [address]:port for IPv6"
WRONG = [
    ("HAMGATE_ENGINE", "gpu", "one of auto, cpu, cuda-bf16, cuda-fp8, cuda-nf4"),
    ("HAMGATE_TOKEN_BUDGET", "many", "a whole number >= 64 and <= 1,048,576, or unset"),
    ("HAMGATE_TOKEN_BUDGET", "12.5", "a whole number >= 64 and <= 1,048,576, or unset"),
    ("HAMGATE_LATENCY_BUDGET", "-0.1", "a number <= 60 and > 0"),
    ("HAMGATE_LATENCY_BUDGET", "nan", "a number <= 60 and > 0"),
    ("HAMGATE_DEADLINE", "inf", "a number <= 86,400 and > 0, or unset"),
    ("HAMGATE_THRESHOLD", "50", "a number > 0 and < 1, or unset"),
    ("HAMGATE_BROKERS", "localhost", HOST_PORTS),
    ("HAMGATE_BROKERS", "a:9092,b:99999", HOST_PORTS),
    ("HAMGATE_BROKERS", "a:0", HOST_PORTS),
    ("HAMGATE_BROKERS", "::1:9092", HOST_PORTS),
    ("HAMGATE_BROKERS", "[::1]", HOST_PORTS),
    ("HAMGATE_INPUT_TOPIC", "sms events", "1 to 249 of letters, digits, '.', '_' and '-'"),
    ("HAMGATE_DELIVERY", "at-most-once", "one of exactly-once, at-least-once"),
    ("HAMGATE_ON_UNSCORED", "drop", "one of unscored, fail-open, fail-closed"),
    ("HAMGATE_METRICS_PORT", "http", "a whole number >= 0 and <= 65,535"),
    ("HAMGATE_THREADS", "0", "a whole number >= 1 and <= 1,024"),
    ("HAMGATE_SESSION_TIMEOUT", "300", "a number >= 1 and < 300"),
    ("HAMGATE_TLS_CA", "/no/such/file.pem", "the path of an existing file, or unset"),
    ("HAMGATE_LOG_LEVEL", "loud", "one of debug, info, warning, error"),
]


@pytest.mark.parametrize(("name", "value", "allowed"), WRONG)
def test_a_bad_value_stops_the_start_by_name_and_with_what_is_allowed(
    name: str, value: str, allowed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)

    status = main(["run"])

    assert status == 2
    assert capsys.readouterr().err == f"{name}: {value!r} is not allowed; allowed: {allowed}\n"


@pytest.mark.parametrize("brokers", ["[::1]:9092", "a.example:1,[fe80::1%eth0]:65535", "10.0.0.1:9092"])
def test_brokers_are_named_by_host_or_by_address_of_either_kind(brokers: str) -> None:
    assert settings.load({"brokers": brokers}).brokers == brokers


TOGETHER = [
    ({"transaction_timeout": "20"}, "HAMGATE_TRANSACTION_TIMEOUT: must be below session_timeout"),
    (
        {"verdict_topic": "sms.events"},
        "HAMGATE_VERDICT_TOPIC: input_topic, verdict_topic, dead_letter_topic and shadow_topic",
    ),
    ({"flag_from": "0.9", "block_from": "0.5"}, "HAMGATE_FLAG_FROM: must not be above block_from: now 0.9 and 0.5"),
    ({"security_protocol": "SASL_SSL"}, "HAMGATE_SECURITY_PROTOCOL: SASL_SSL needs sasl_mechanism"),
    ({"sasl_username": "me"}, "HAMGATE_SASL_MECHANISM: SASL settings need security_protocol"),
    ({"tls_certificate": __file__, "security_protocol": "SSL"}, "HAMGATE_TLS_CERTIFICATE: tls_certificate and tls_key"),
    ({"tls_ca": __file__}, "HAMGATE_TLS_CA: TLS settings need security_protocol SSL or SASL_SSL"),
    ({"senders_rule": "on"}, "HAMGATE_SENDERS_RULE: on needs senders_topic"),
    ({"campaigns_rule": "on"}, "HAMGATE_CAMPAIGNS_RULE: on needs campaigns_topic"),
    ({"registry": __file__, "registry_topic": "sms.registry"}, "HAMGATE_REGISTRY_TOPIC: the registry is a file or a"),
    ({"registry_topic": "sms.events"}, "HAMGATE_REGISTRY_TOPIC: sms.events: each topic has one use"),
    ({"feedback_topic": "sms.events"}, "HAMGATE_FEEDBACK_TOPIC: sms.events and sms.events-decisions: each topic has"),
    ({"feedback_topic": "a", "shadow_topic": "a-decisions"}, "HAMGATE_FEEDBACK_TOPIC: a and a-decisions: each topic"),
]


@pytest.mark.parametrize(("flags", "complaint"), TOGETHER)
def test_settings_that_do_not_go_together_are_named(flags: dict[str, str], complaint: str) -> None:
    with pytest.raises(settings.SettingsError) as caught:
        settings.load(flags)

    assert str(caught.value).startswith(complaint)


def test_all_that_is_wrong_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAMGATE_TOKN_BUDGET", "100")
    monkeypatch.setenv("HAMGATE_ENGINE", "gpu")

    with pytest.raises(settings.SettingsError) as caught:
        settings.load({"threads": "0"})

    lines = str(caught.value).splitlines()
    assert lines[0].startswith("HAMGATE_TOKN_BUDGET (environment): no such setting; did you mean HAMGATE_TOKEN_BUDGET?")
    assert {line.split(":")[0] for line in lines[1:]} == {"HAMGATE_ENGINE", "HAMGATE_THREADS"}


def test_an_unknown_name_in_the_env_file_is_refused_too(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("HAMGATE_THREDS=2\nOTHER=1\n")

    with pytest.raises(settings.SettingsError, match=r"HAMGATE_THREDS \(\.env\): no such setting; did you mean HAM"):
        settings.load()


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("HAMGATE_GROUP_ID: s3cret", "write NAME=value"),
        ("HAMGATE_GROUP_ID:s3cret", "write NAME=value"),
        ("HAMGATE_GROUP_ID s3cret", "write NAME=value"),
        ("HAMGATE_GROUP_ID", "write NAME=value"),
        ("b:9092,s3cret", "write NAME=value"),
        ("set HAMGATE_GROUP_ID=s3cret", "write NAME=value"),
        ("setx HAMGATE_GROUP_ID s3cret", "write NAME=value"),
        ("=s3cret", "write NAME=value"),
        ('HAMGATE_SASL_PASSWORD="s3cret', "a quote that is not closed"),
        ("HAMGATE_SASL_PASSWORD='s3cret", "a quote that is not closed"),
        ('OTHER="s3cret\nHAMGATE_THREADS=2\nMORE="', "a quote that is not closed"),
        ('HAMGATE_SASL_PASSWORD="s3cret" more', "write NAME=value"),
        ("HAMGATE-GROUP-ID=s3cret", "did you mean HAMGATE_GROUP_ID?"),
        ("HAMGATE.GROUP.ID=s3cret", "did you mean HAMGATE_GROUP_ID?"),
        ("hamgateGroupId=s3cret", "did you mean HAMGATE_GROUP_ID?"),
        ("HAMGATE-GRUOP-ID=s3cret", "no such setting"),
        ("$env:HAMGATE_GROUP_ID=s3cret", "did you mean HAMGATE_GROUP_ID?"),
        ("HAMGATE_SASL_PASSWORD=a${s3cret}c", "a ${...} without a value"),
    ],
)
def test_a_line_of_the_env_file_that_is_not_understood_stops_the_start_by_its_number(
    line: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".env").write_text(f"# hamgate\n\nOTHER=1\n\n\n{line}\n")

    assert main(["print-settings"]) == 2

    [said] = capsys.readouterr().err.splitlines()
    assert said.startswith(".env line 6: ")
    assert why in said
    assert "s3cret" not in said


def test_all_lines_that_are_not_understood_are_said_at_once(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("one two\nHAMGATE_THREADS=2\n\nHAMGATE-THREADS=3\n")

    with pytest.raises(settings.SettingsError) as caught:
        settings.load()

    assert [line.partition(":")[0] for line in str(caught.value).splitlines()] == [".env line 1", ".env line 4"]


def test_whatever_else_an_env_file_may_hold_is_none_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOST", "a")
    (tmp_path / ".env").write_text(
        "\ufeffHAMGATE_THREADS=2  # two\r\nexport HAMGATE_GROUP_ID = 'prod'\r\nEMPTY=\r\n"
        'HAMGATE_BROKERS=${HOST}:9092,${PORT:-b}:9092\nPROD_HAMGATE_BROKERS=x\nPEM="one\ntwo"\nPASSWORD=a${b}c\n'
    )

    found = settings.load()

    assert (found.threads, found.group_id, found.brokers) == (2, "prod", "a:9092,b:9092")


def test_a_name_in_the_environment_that_only_spells_a_setting_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAMGATE-GROUP-ID", "prod")
    monkeypatch.setenv("BASH_FUNC_hamgate%%", "() { :; }")

    with pytest.raises(settings.SettingsError) as caught:
        settings.load()

    assert str(caught.value) == "HAMGATE-GROUP-ID (environment): no such setting; did you mean HAMGATE_GROUP_ID?"


@pytest.mark.parametrize("name", settings.REMOVED)
def test_a_former_setting_that_is_still_set_stops_the_start_with_what_holds_now(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    variable, holds = settings.variable(name), settings.REMOVED[name]
    (tmp_path / ".env").write_text(f"{variable}=1\n")
    monkeypatch.setenv(variable, "1")

    status = main(["run", f"--{name.replace('_', '-')}", "1"])

    assert status == 2
    assert capsys.readouterr().err.splitlines() == [
        f"{variable} ({place}): no longer a setting; {holds}" for place in ("flag", "environment", ".env")
    ]


def test_what_holds_now_is_what_the_code_does() -> None:
    assert settings.REMOVED["bundle_watch"] == f"fixed at {app.BUNDLE_WATCH:g} s"
    assert settings.REMOVED["max_batch_messages"].startswith(f"fixed at {MAX_MESSAGES};")
    assert settings.REMOVED["max_event_depth"] == f"fixed at {MAX_DEPTH}"
    assert settings.REMOVED["max_event_headers"] == f"fixed at {MAX_HEADERS}"
    assert settings.REMOVED["max_poll_interval"] == f"fixed at {settings.MAX_POLL_INTERVAL:g} s"


def test_no_setting_is_both_in_force_and_removed_and_help_shows_no_former_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["run", "--help"])

    shown = capsys.readouterr().out
    assert not set(settings.REMOVED) & set(settings.Settings.model_fields)
    assert [name for name in settings.REMOVED if f"--{name.replace('_', '-')}" in shown] == []
    assert "--token-budget" in shown


@pytest.mark.parametrize(
    "content", [b"HAMGATE_THREADS=2\nHAMGATE_SASL_USERNAME=J\xf6rg\n", "HAMGATE_THREADS=2".encode("utf-16")]
)
def test_an_env_file_that_is_not_utf_8_is_refused_by_name(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".env").write_bytes(content)

    assert main(["print-settings"]) == 2

    assert capsys.readouterr().err.startswith(".env: not UTF-8, from byte ")


def test_an_env_file_that_cannot_be_read_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").touch()
    monkeypatch.setattr(Path, "read_bytes", Mock(side_effect=PermissionError(13, "Permission denied")))

    with pytest.raises(settings.SettingsError, match=r"^\.env: cannot be read \(Permission denied\)"):
        settings.load()


def test_a_flag_beats_the_environment_which_beats_the_env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("HAMGATE_THREADS=3\nHAMGATE_GROUP_ID=file\nHAMGATE_INPUT_TOPIC=file\n")
    monkeypatch.setenv("HAMGATE_GROUP_ID", "environment")
    monkeypatch.setenv("HAMGATE_INPUT_TOPIC", "environment")
    flags = {"input_topic": "flag"}

    found = settings.load(flags)

    assert (found.threads, found.group_id, found.input_topic) == (3, "environment", "flag")
    origins = {name: origin for name, _, origin, _ in settings.in_force(found, flags)}
    assert origins["HAMGATE_THREADS"] == ".env"
    assert origins["HAMGATE_GROUP_ID"] == "environment"
    assert origins["HAMGATE_INPUT_TOPIC"] == "flag"
    assert origins["HAMGATE_ENGINE"] == "default"


def test_a_secret_is_never_shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name, value in {
        "SECURITY_PROTOCOL": "SASL_PLAINTEXT", "SASL_MECHANISM": "PLAIN",
        "SASL_USERNAME": "hamgate", "SASL_PASSWORD": "open-sesame",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"HAMGATE_{name}", value)

    assert main(["print-settings"]) == 0
    shown = capsys.readouterr().out
    monkeypatch.setenv("HAMGATE_TRANSACTION_TIMEOUT", "500")
    assert main(["run"]) == 2
    shown += capsys.readouterr().err

    assert "HAMGATE_SASL_PASSWORD=**********" in shown
    assert "open-sesame" not in shown


def test_settings_cannot_be_changed_once_read() -> None:
    with pytest.raises(ValueError, match="frozen"):
        settings.load().threads = 5  # type: ignore[misc]


def test_every_setting_says_what_it_does_and_what_it_takes() -> None:
    for name, field in settings.Settings.model_fields.items():
        assert field.description, name
        assert settings.allowed(field), name


def test_the_settings_shown_can_be_read_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["print-settings", "--threads", "7", "--deadline", "2.5"])
    (tmp_path / ".env").write_text(capsys.readouterr().out)

    again = settings.load()

    assert (again.threads, again.deadline, again.flag_from) == (7, 2.5, None)


@pytest.mark.parametrize(
    "module", ["worker.messages", "worker.pipeline.batching", "worker.settings", "worker.__main__"]
)
def test_light_modules_load_none_of_the_heavy_ones(module: str) -> None:
    program = f"import sys, {module}; print({{'torch', 'kafka', 'prometheus_client'}} & set(sys.modules))"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == "set()\n"


def test_what_judges_loads_none_of_what_trains(tmp_path: Path) -> None:
    """Seconds of a start, and their warnings: a worker is this and the Kafka client."""
    program = (
        "import sys, worker.app; from worker.__main__ import main; main(['predict', 'hello']);"
        "print({'transformers', 'peft', 'bitsandbytes', 'accelerate', 'datasets'} & set(sys.modules))"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path)

    assert done.stdout.splitlines()[-1] == "set()"
    assert done.stderr == ""
