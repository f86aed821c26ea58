"""Every command line in docker-compose.yml, read by the program's own parser, or by its rules where it is not here.

Compose checks the file's shape, not what the programs make of it: one argument too long, and a container never starts.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from deploy import tools
from worker.__main__ import main

ROOT = Path(__file__).resolve().parents[2]
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
STARTED = {
    name: service.get("command", ["run"])
    for name, service in SERVICES.items()
    if service["image"].startswith("hamgate:")
}
PROBED = [name for name, service in SERVICES.items() if "test" in service.get("healthcheck", {})]

# `rpk redpanda start`, src/go/rpk/pkg/cli/redpanda/start.go: flags that take a value, and those that need none. What
# rpk does not know it hands to the broker, which exits. `--set` is not a flag of its parser: parseConfigKvs takes the
# two arguments `--set` and `key=value`, and leaves `--set=key=value` to the broker.
RPK_VALUES: Final = {
    "advertise-kafka-addr", "advertise-pandaproxy-addr", "advertise-rpc-addr", "config", "cpuset", "hugepages",
    "install-dir", "io-properties", "io-properties-file", "kafka-addr", "max-io-requests", "memory", "mode", "node-id",
    "num-io-queues", "pandaproxy-addr", "reserve-memory", "rpc-addr", "schema-registry-addr", "seeds", "smp", "timeout",
    "well-known-io",
}  # fmt: skip
RPK_SWITCHES: Final = {
    "check", "lock-memory", "mbind", "overprovisioned", "thread-affinity", "tune", "unsafe-bypass-fsync",
}  # fmt: skip
# `rpk topic create`, src/go/rpk/pkg/cli/topic/create.go, and the flags of every rpk command.
RPK_TOPIC: Final = {"-p": r"\d+", "-r": r"\d+", "-c": r"[a-z.]+=\S+", "-X": r"brokers=\S+"}
# conf/defaults.ini of Grafana: sections and keys. A variable that names no key is passed over without a word.
GRAFANA: Final[dict[str, set[str]]] = {
    "analytics": {"reporting_enabled", "check_for_updates", "check_for_plugin_updates", "feedback_links_enabled"},
    "auth": {"disable_login_form"},
    "auth.anonymous": {"enabled", "org_name", "org_role", "hide_version"},
    "dashboards": {"default_home_dashboard_path", "min_refresh_interval"},
    "news": {"news_feed_enabled"},
    "plugins": {
        "preinstall_disabled",
        "preinstall_auto_update",
        "plugin_admin_enabled",
        "public_key_retrieval_disabled",
    },
    "security": {"disable_initial_admin_creation", "disable_gravatar"},
    "snapshots": {"enabled", "external_enabled"},
}


def left_to_the_broker(arguments: list[str]) -> list[str]:
    """What rpk does not take for its own."""
    left, rest = [], list(arguments)
    while rest:
        argument = rest.pop(0)
        name, is_joined, _ = argument.removeprefix("--").partition("=")
        if argument == "--set":
            pair = rest.pop(0) if rest else ""
            left += [] if re.fullmatch(r"[a-z_]+\.[a-z_.]+=.+", pair) else [argument, pair]
        elif argument.startswith("--") and name in RPK_SWITCHES:
            pass
        elif argument.startswith("--") and name in RPK_VALUES:
            if not is_joined:
                rest.pop(0)
        else:
            left.append(argument)
    return left


def test_the_rules_for_rpk_know_the_fault_that_they_are_for() -> None:
    assert left_to_the_broker(["--smp=1", "--mode", "dev-container", "--set", "redpanda.a_b=true"]) == []
    assert left_to_the_broker(["--set=redpanda.a_b=true"]) == ["--set=redpanda.a_b=true"]
    assert left_to_the_broker(["--kafka-adress=x"]) == ["--kafka-adress=x"]


def test_the_broker_is_left_no_argument_that_it_does_not_know() -> None:
    program, action, *arguments = SERVICES["redpanda"]["command"]

    assert (program, action) == ("redpanda", "start")
    assert left_to_the_broker(arguments) == []


def test_the_topics_script_makes_each_topic_by_flags_that_rpk_has(tmp_path: Path) -> None:
    stub = tmp_path / "rpk"
    stub.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/said\n')
    stub.chmod(0o755)
    [script] = SERVICES["topics"]["command"]
    done = subprocess.run(
        [*SERVICES["topics"]["entrypoint"], script.replace("$$", "$")],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"}, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, "")
    made = [line.split() for line in (tmp_path / "said").read_text().splitlines()]
    assert {words[2] for words in made} == {
        *("sms.events", "sms.verdicts", "sms.shadow", "sms.dead-letters", "sms.lists", "sms.campaigns", "sms.senders"),
        *("sms.registry", "sms.feedback", "sms.feedback-decisions"),
    }
    for topic, action, _, *flags in made:
        assert (topic, action) == ("topic", "create")
        for flag, value in zip(flags[::2], flags[1::2], strict=True):
            assert re.fullmatch(RPK_TOPIC[flag], value), (flag, value)


def kubernetes() -> dict[str, list[str]]:
    """What every container of ours on Kubernetes is started with, by its file and name."""
    return {
        f"{path.name} {container['name']}": container["args"]
        for path in sorted((ROOT / "deploy" / "kubernetes").rglob("*.yaml"))
        for resource in yaml.safe_load_all(path.read_text())
        if resource and resource["kind"] == "Deployment"
        for container in resource["spec"]["template"]["spec"]["containers"]
    }


@pytest.mark.parametrize(
    "arguments", [pytest.param(words, id=name) for name, words in (STARTED | kubernetes()).items()]
)
def test_our_own_parser_takes_what_our_containers_are_started_with(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)  # no .env of the checkout

    assert main(["--print-settings", *arguments]) == 0
    assert "HAMGATE_BROKERS" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["prometheus", "alertmanager"])
def test_the_programs_own_parsers_take_what_they_are_started_with(name: str) -> None:
    try:
        program = tools.tool(name)
    except tools.MissingError as error:
        pytest.skip(str(error))

    def said(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([program, *arguments, "--version"], capture_output=True, text=True, check=False)

    taken = said(*SERVICES[name]["command"])
    assert taken.returncode == 0, taken.stderr
    assert said("--no-such-flag=1").returncode != 0  # --version does not stop it from reading the rest


def test_grafana_has_a_key_for_every_variable_that_it_is_given() -> None:
    keys = {
        f"GF_{section.replace('.', '_')}_{key}".upper(): f"[{section}] {key}"
        for section, known in GRAFANA.items()
        for key in known
    }

    assert set(SERVICES["grafana"]["environment"]) - set(keys) == set()


@pytest.mark.parametrize("name", PROBED)
def test_a_health_check_can_be_run_as_it_is_written(name: str) -> None:
    kind, program, *arguments = SERVICES[name]["healthcheck"]["test"]

    if kind == "CMD-SHELL":
        assert subprocess.run(["/bin/sh", "-n", "-c", program], check=False).returncode == 0
        assert not arguments
    elif program == "python":
        flag, code = arguments
        assert flag == "-c"
        compile(code, name, "exec")
    else:
        assert [program, *arguments[:-1]] == ["wget", "-q", "-O", "/dev/null"]  # busybox has these
