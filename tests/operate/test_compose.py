"""docker-compose.yml and the image: valid, pinned, closed to the outside, and of files that exist."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from dotenv import dotenv_values

from deploy import tools
from worker.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
OURS = {name for name, service in SERVICES.items() if service["image"].startswith("hamgate:")}


def test_compose_itself_takes_the_file_with_every_profile() -> None:
    try:
        compose = tools.tool("compose", fetch=False)
    except tools.MissingError as error:
        pytest.skip(str(error))
    for profiles in ([], ["demo"], ["gpu"], ["audit"], ["feedback"], ["console"], ["demo", "gpu", "audit", "console"]):
        chosen = [word for profile in profiles for word in ("--profile", profile)]
        said = subprocess.run(
            [compose, *chosen, "config", "--format", "json"],
            cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, "COMMIT": "abc"},
        )  # fmt: skip
        assert said.returncode == 0, said.stderr
        config = json.loads(said.stdout)
        assert set(config["services"]) == {
            name for name, service in SERVICES.items() if set(service.get("profiles", profiles)) <= set(profiles)
        }
        assert config["services"]["worker"]["build"]["args"]["COMMIT"] == "abc"


@pytest.mark.parametrize("name", SERVICES)
def test_no_port_is_open_beyond_loopback(name: str) -> None:
    assert all(str(port).startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))
    assert "network_mode" not in SERVICES[name]


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_is_pinned_bounded_and_restarted(name: str) -> None:
    service = SERVICES[name]

    pinned = r"[a-z]+/[a-z]+:v?\d+\.\d+\.\d+(@sha256:[0-9a-f]{64})?"
    assert name in OURS or re.fullmatch(pinned, service["image"]), service["image"]
    assert service["mem_limit"]
    assert service["pids_limit"] >= 256
    assert re.fullmatch(r"[12]|\$\{WORKER_CPUS:-[24]\}", str(service["cpus"]))
    assert service["restart"] == ("no" if name == "topics" else "unless-stopped")
    assert service["logging"]["options"]["max-size"]


@pytest.mark.parametrize("name", sorted(set(SERVICES) - {"topics", "console", "traffic"}))
def test_each_service_that_others_lean_on_says_whether_it_is_well(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"]


def test_services_start_in_order() -> None:
    assert SERVICES["topics"]["depends_on"] == {"redpanda": {"condition": "service_healthy"}}
    for name in OURS:
        assert SERVICES[name]["depends_on"] == {"topics": {"condition": "service_completed_successfully"}}


@pytest.mark.parametrize("name", SERVICES)
def test_nothing_tells_its_maker_and_nothing_is_fetched_at_the_start(name: str) -> None:
    wanted = {
        "redpanda": {"redpanda.enable_metrics_reporter=false"},
        "console": {"ANALYTICS_ENABLED=false"},
        "grafana": {
            "GF_ANALYTICS_REPORTING_ENABLED=false", "GF_ANALYTICS_CHECK_FOR_UPDATES=false",
            "GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES=false", "GF_NEWS_NEWS_FEED_ENABLED=false",
            "GF_PLUGINS_PREINSTALL_DISABLED=true", "GF_PLUGINS_PUBLIC_KEY_RETRIEVAL_DISABLED=true",
        },
    }  # fmt: skip
    told = {f"{key}={value}" for key, value in SERVICES[name].get("environment", {}).items()}

    assert wanted.get(name, set()) <= told | set(SERVICES[name].get("command", []))


@pytest.mark.parametrize("name", sorted(set(SERVICES) - {"redpanda"}))  # rpk writes the broker's settings at its start
def test_each_service_but_the_broker_runs_on_a_root_it_cannot_write(name: str) -> None:
    assert SERVICES[name]["read_only"] is True
    assert SERVICES[name]["cap_drop"] == ["ALL"]
    assert SERVICES[name]["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("name", SERVICES)
def test_every_file_and_volume_that_is_mounted_exists(name: str) -> None:
    for mount in SERVICES[name].get("volumes", []):
        source, _, rest = mount.partition(":")
        if source.startswith("."):
            assert (ROOT / source).exists(), source
            assert rest.endswith(":ro"), mount
        else:
            assert source in COMPOSE["volumes"]


def test_the_worker_is_given_longer_than_its_grace() -> None:
    for name in OURS - {"traffic"}:
        assert int(SERVICES[name]["stop_grace_period"][:-1]) > Settings.model_fields["shutdown_grace"].default


@pytest.mark.parametrize("name", sorted(OURS))
def test_settings_come_from_files_that_name_only_settings_and_last_from_the_operators_own(name: str) -> None:
    *shipped, own = SERVICES[name]["env_file"]

    assert own == {"path": "${COMPOSE_SETTINGS:-compose.env}", "required": False}
    settings = [set(dotenv_values(ROOT / path)) for path in shipped]
    assert "HAMGATE_BROKERS" in settings[0]
    assert {each.removeprefix("HAMGATE_").lower() for each in set().union(*settings)} <= set(Settings.model_fields)
    assert "environment" not in SERVICES[name]  # it would overrule the operator's file without a word


def test_a_setting_of_the_host_does_not_reach_a_container_and_one_of_compose_env_holds(tmp_path: Path) -> None:
    for path in ("docker-compose.yml", *sorted((ROOT / "deploy" / "compose").glob("*.env"))):
        target = tmp_path / (ROOT / path).relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, target)
    (tmp_path / ".env").write_text("HAMGATE_BUNDLE=/me/mine\nHAMGATE_METRICS_HOST=127.0.0.1\nHAMGATE_BROKERS=b:1\n")
    alone = environments(tmp_path)
    (tmp_path / "compose.env").write_text("HAMGATE_GROUP_ID=trial\nHAMGATE_BROKERS=a:9092\n")
    told = environments(tmp_path)

    assert alone["worker"] == {"HAMGATE_BROKERS": "redpanda:9092"}
    assert told["worker"] == {"HAMGATE_BROKERS": "a:9092", "HAMGATE_GROUP_ID": "trial"}
    assert told["worker-gpu"] == {**told["worker"], "HAMGATE_ENGINE": "cuda-bf16"}
    assert told["traffic"] == told["audit"] == told["worker"]  # all of one deployment
    own = {"HAMGATE_FEEDBACK_TOPIC": "sms.feedback", "HAMGATE_HASH_KEY_FILE": "/run/secrets/hash_key"}
    assert told["feedback"] == {**told["worker"], **own}


def environments(folder: Path) -> dict[str, dict[str, str]]:
    """What each of our containers would find in its environment, by Compose's own reading."""
    try:
        compose = tools.tool("compose", fetch=False)
    except tools.MissingError as error:
        pytest.skip(str(error))
    shell = {"HOME": str(folder), "HAMGATE_BUNDLE": "/of/the/shell"}
    said = subprocess.run(
        [compose, "--profile", "*", "config", "--format", "json"],
        cwd=folder, capture_output=True, text=True, check=False, env=shell,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    return {name: each["environment"] for name, each in json.loads(said.stdout)["services"].items() if name in OURS}


def test_prometheus_scrapes_what_the_services_are_called() -> None:
    scraped = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())

    jobs = {job["job_name"]: job for job in scraped["scrape_configs"]}
    own_job = {"traffic", "audit", "feedback", "hamgate-console"}
    assert set(jobs["hamgate"]["dns_sd_configs"][0]["names"]) == OURS - own_job
    assert jobs["hamgate-audit"]["dns_sd_configs"][0]["names"] == ["audit"]
    assert jobs["hamgate-feedback"]["dns_sd_configs"][0]["names"] == ["feedback"]
    assert jobs["broker"]["static_configs"][0]["targets"] == ["redpanda:9644"]


def test_the_runbook_that_the_alerts_link_to_is_served_by_prometheus_unless_a_site_has_its_own() -> None:
    mounts = dict(mount.split(":")[:2][::-1] for mount in SERVICES["prometheus"]["volumes"])
    shown = yaml.safe_load((ROOT / "deploy" / "helm" / "hamgate" / "values.yaml").read_text())["monitoring"]["runbook"]

    assert "--web.user-assets=/docs" in SERVICES["prometheus"]["command"]
    assert (ROOT / mounts["/docs"] / shown.removeprefix("http://127.0.0.1:9090/user/")).is_file()


def test_grafana_is_given_the_dashboards_and_the_source_they_ask() -> None:
    provisioning = ROOT / "deploy" / "grafana" / "provisioning"
    [provider] = yaml.safe_load((provisioning / "dashboards" / "hamgate.yml").read_text())["providers"]
    [source] = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    mounts = dict(mount.split(":")[:2][::-1] for mount in SERVICES["grafana"]["volumes"])

    assert (ROOT / mounts[provider["options"]["path"]] / "overview.json").is_file()
    assert source["type"] == "prometheus"
    assert source["url"] == "http://prometheus:9090"


def test_the_dockerfile_is_clean() -> None:
    program = shutil.which("hadolint") or ROOT / ".venv" / "bin" / "hadolint"
    if not Path(program).exists():
        pytest.skip("hadolint has a wheel for Linux and a few others only")
    said = subprocess.run([program, ROOT / "deploy" / "Dockerfile"], capture_output=True, text=True, check=False)

    assert (said.returncode, said.stdout) == (0, "")


def test_the_image_is_built_from_what_exists_and_is_sent_to_the_builder() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    sent = [line[1:] for line in ignored if line.startswith("!")]

    for words in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE):
        for source in words.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert any(source == path or source.startswith(f"{path}/") for path in sent), source


@pytest.mark.parametrize("target", ["worker-cpu", "worker-gpu", "training"])
def test_each_image_ends_as_an_unprivileged_user(target: str) -> None:
    bodies = dict(re.findall(r"^FROM \S+ AS (\S+)\n(.*?)(?=^FROM|\Z)", DOCKERFILE, re.MULTILINE | re.DOTALL))
    parents = {name: parent for parent, name in re.findall(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, re.MULTILINE)}
    users = re.findall(r"^USER (\S+)$", bodies[parents[target]] + bodies[target], re.MULTILINE)

    assert users[-1] == "10001:10001"


def test_only_the_gpu_image_has_a_compiler() -> None:
    runtime = DOCKERFILE.partition(" AS runtime")[2]
    bodies = dict(
        re.findall(r"^FROM \S+ AS (\S+)\n(.*?)(?=^FROM|\Z)", "FROM x AS runtime" + runtime, re.MULTILINE | re.DOTALL)
    )

    assert {name for name, body in bodies.items() if "apt-get" in body} == {"worker-gpu"}


def test_the_workers_lock_holds_the_same_versions_as_the_projects_and_no_tool() -> None:
    def pins(path: str) -> dict[str, str]:
        return dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", (ROOT / path).read_text(), re.MULTILINE))

    worker, project = pins("deploy/worker.lock"), pins("requirements.lock")
    assert {name: version for name, version in worker.items() if project.get(name) != version} == {}
    assert set(worker) & {"pytest", "ruff", "mypy", "hypothesis", "matplotlib"} == set()
