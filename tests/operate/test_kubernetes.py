"""deploy/kubernetes: builds, fits the schemas, and says what the worker and its delivery need."""

from __future__ import annotations

import functools
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy import render, tools
from deploy.kafka.topics import PARTITIONS
from worker.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
OVERLAYS = ("base", "overlays/gpu", "overlays/keda")
AUDIT, FEEDBACK = "overlays/audit", "overlays/feedback"
COMPANIONS = {"hamgate-audit": AUDIT, "hamgate-feedback": FEEDBACK}
UV = ROOT / ".venv" / "bin" / "uv"
SCHEMAS = "kubernetes-validate==1.37.0"
READER = Path(__file__).with_name("custom_resources.py")
CUSTOM = ("cloudcoil-models-keda==2.16.1.0", "cloudcoil-models-prometheus-operator==0.80.1.0", "pyyaml")


@functools.cache
def built(overlay: str) -> str:
    try:
        kustomize = tools.tool("kustomize", fetch=False)
    except tools.MissingError as error:
        pytest.skip(str(error))
    said = subprocess.run([kustomize, "build", FOLDER / overlay], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    return said.stdout


def resource(overlay: str, kind: str) -> dict[str, Any]:
    [found] = [
        each
        for each in yaml.safe_load_all(built(overlay))
        if each["kind"] == kind and not each["metadata"]["name"].startswith("hamgate-dashboard-")
    ]
    return dict(found)


def of_companion(kind: str, name: str) -> dict[str, Any]:
    """A resource of a process beside the workers, from the overlay that adds it."""
    [found] = [
        each
        for each in yaml.safe_load_all(built(COMPANIONS[name]))
        if (each["kind"], each["metadata"]["name"]) == (kind, name)
    ]
    return dict(found)


def ours(*names: str) -> dict[str, Any]:
    return dict(yaml.safe_load(FOLDER.joinpath(*names).read_text()))


def test_every_file_of_the_base_is_part_of_it() -> None:
    listed = set(ours("base", "kustomization.yaml")["resources"])

    assert listed - {"../../grafana/dashboards"} == {path.name for path in (FOLDER / "base").glob("*.yaml")} - {
        "kustomization.yaml"
    }


@pytest.mark.parametrize(("overlay", "count"), [*((overlay, 11) for overlay in OVERLAYS), (AUDIT, 14), (FEEDBACK, 14)])
def test_it_builds_and_fits_the_schemas_of_kubernetes_strictly(overlay: str, count: int, tmp_path: Path) -> None:
    path = tmp_path / "built.yaml"
    path.write_text(built(overlay))

    said = subprocess.run(
        [UV, "tool", "run", "--from", SCHEMAS, "kubernetes-validate", "--strict", "--no-warn", path],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert said.returncode == 0, said.stdout + said.stderr
    assert (said.stdout + said.stderr).count("passed") == count  # the others are custom resources, below


@pytest.mark.parametrize("overlay", [*OVERLAYS, AUDIT, FEEDBACK])
def test_custom_resources_have_no_field_that_their_operators_do_not_know(overlay: str, tmp_path: Path) -> None:
    path = tmp_path / "built.yaml"
    path.write_text(built(overlay))
    additions = [word for package in CUSTOM for word in ("--with", package)]

    said = subprocess.run(
        [UV, "run", "--no-project", "--isolated", *additions, "python", READER, path],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert said.returncode == 0, said.stderr
    wanted = {"PrometheusRule", "ServiceMonitor", "PodMonitor"} | (
        {"ScaledObject"} if overlay.endswith("keda") else set()
    )
    assert set(said.stdout.split("\n")[:-1]) == wanted


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_worker_is_told_only_settings_that_exist(overlay: str) -> None:
    [worker] = resource(overlay, "Deployment")["spec"]["template"]["spec"]["containers"]
    names = {each["name"] for each in worker["env"]} | set(resource(overlay, "ConfigMap")["data"])

    assert {name.removeprefix("HAMGATE_").lower() for name in names} <= set(Settings.model_fields)


def test_kubernetes_own_service_variables_do_not_pass_for_settings() -> None:
    # A Service named hamgate would give every pod HAMGATE_SERVICE_HOST, an unknown name, which stops the start.
    assert ours("base", "deployment.yaml")["spec"]["template"]["spec"]["enableServiceLinks"] is False


def test_the_pod_may_do_nothing_that_it_need_not() -> None:
    pod = ours("base", "deployment.yaml")["spec"]["template"]["spec"]
    [worker] = pod["containers"]

    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    assert worker["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    mounts = {mount["mountPath"]: mount.get("readOnly", False) for mount in worker["volumeMounts"]}
    assert mounts == {"/tmp": False, "/var/cache/hamgate": False, "/etc/hamgate/hash": True}  # noqa: S108 the pod's own


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_peers_of_the_network_policy_are_asked_for_no_label_of_ours(overlay: str) -> None:
    policy = resource(overlay, "NetworkPolicy")["spec"]

    assert policy["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "hamgate"}
    for rule in policy["egress"]:
        for peer in rule["to"]:
            assert "app.kubernetes.io/name" not in peer.get("podSelector", {}).get("matchLabels", {})


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_everything_that_selects_pods_selects_these(overlay: str) -> None:
    labels = resource(overlay, "Deployment")["spec"]["template"]["metadata"]["labels"]

    for kind in ("Deployment", "PodDisruptionBudget"):
        assert resource(overlay, kind)["spec"]["selector"]["matchLabels"].items() <= labels.items()
    service = resource(overlay, "Service")
    assert service["spec"]["selector"].items() <= labels.items()
    assert (
        resource(overlay, "ServiceMonitor")["spec"]["selector"]["matchLabels"].items()
        <= service["metadata"]["labels"].items()
    )


@pytest.mark.parametrize("overlay", [*OVERLAYS, AUDIT, FEEDBACK])
def test_what_the_prometheus_operator_reads_has_the_label_that_its_stack_selects_by(overlay: str) -> None:
    kinds = {"ServiceMonitor", "PodMonitor", "PrometheusRule"}
    read = [each for each in yaml.safe_load_all(built(overlay)) if each["kind"] in kinds]

    assert len(read) >= 3
    assert {each["metadata"]["labels"].get("release") for each in read} == {"kube-prometheus-stack"}


def test_every_job_that_a_rule_names_is_made_here_and_in_compose() -> None:
    rules = "".join(path.read_text() for path in render.RULES.glob("*.yml"))
    named = set(re.findall(r'job="([a-z-]+)"', rules))
    monitors = [
        each
        for overlay in COMPANIONS.values()
        for each in yaml.safe_load_all(built(overlay))
        if each["kind"] in {"ServiceMonitor", "PodMonitor"}
    ]
    made = {
        relabelling["replacement"]
        for monitor in monitors
        for endpoint in monitor["spec"].get("endpoints", monitor["spec"].get("podMetricsEndpoints"))
        for relabelling in endpoint["relabelings"]
        if relabelling["targetLabel"] == "job"
    }
    scraped = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]

    assert named == made == {"hamgate", *COMPANIONS, "broker"}
    assert named <= {job["job_name"] for job in scraped}


def test_every_dashboard_is_a_configmap_that_grafanas_sidecar_finds() -> None:
    maps = [each for each in yaml.safe_load_all(built("base")) if each["metadata"]["name"].startswith("hamgate-dash")]

    assert {file for each in maps for file in each["data"]} == {
        path.name for path in (ROOT / "deploy" / "grafana" / "dashboards").glob("*.json")
    }
    for each in maps:
        assert each["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert sum(map(len, each["data"].values())) < 250_000  # kubectl apply keeps a copy in an annotation, of 256 KiB


@pytest.mark.parametrize("name", ["hamgate", *COMPANIONS])
def test_a_network_policy_lets_out_what_is_needed_wherever_it_is(name: str) -> None:
    [policy] = [
        each["spec"] for each in yaml.safe_load_all(built(COMPANIONS.get(name, "base")))
        if (each["kind"], each["metadata"]["name"]) == ("NetworkPolicy", name)
    ]  # fmt: skip
    to = {(rule["ports"][0]["port"], json.dumps(peer)) for rule in policy["egress"] for peer in rule["to"]}

    assert (53, json.dumps({"ipBlock": {"cidr": "169.254.20.10/32"}})) in to  # NodeLocal DNSCache
    assert (9092, json.dumps({"namespaceSelector": {}})) in to
    assert ((4317, json.dumps({"namespaceSelector": {}})) in to) == (name == "hamgate")  # the others have no traces


def test_keda_leaves_markers_alone_and_does_not_outgrow_the_partitions() -> None:
    spec = ours("overlays", "keda", "scaledobject.yaml")["spec"]
    [trigger] = spec["triggers"]

    assert int(trigger["metadata"]["activationLagThreshold"]) > PARTITIONS
    assert int(trigger["metadata"]["lagThreshold"]) > 100 * PARTITIONS
    assert trigger["metadata"]["excludePersistentLag"] == "true"
    assert spec["maxReplicaCount"] <= PARTITIONS
    assert spec["minReplicaCount"] >= 2
    assert "replicas" not in resource("overlays/keda", "Deployment")["spec"]


def test_a_gpu_worker_has_a_gpu_and_room_to_leave_it() -> None:
    spec = resource("overlays/gpu", "Deployment")["spec"]
    [worker] = spec["template"]["spec"]["containers"]

    assert worker["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert worker["image"] == "hamgate:gpu"
    assert resource("overlays/gpu", "ConfigMap")["data"]["HAMGATE_ENGINE"] == "cuda-bf16"


@pytest.mark.parametrize("name", COMPANIONS)
def test_what_runs_beside_the_workers_is_one_of_its_kind_and_told_what_they_are(name: str) -> None:
    spec = of_companion("Deployment", name)["spec"]
    [its] = spec["template"]["spec"]["containers"]
    workers = next(
        each
        for each in yaml.safe_load_all(built(COMPANIONS[name]))
        if (each["kind"], each["metadata"]["name"]) == ("Deployment", "hamgate")
    )

    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    assert its["args"] == [name.removeprefix("hamgate-")]
    assert its["envFrom"] == workers["spec"]["template"]["spec"]["containers"][0]["envFrom"]
    assert {each["name"].removeprefix("HAMGATE_").lower() for each in its.get("env", [])} <= set(Settings.model_fields)
    assert spec["template"]["spec"]["enableServiceLinks"] is False
    assert its["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip


@pytest.mark.parametrize("name", COMPANIONS)
def test_nothing_takes_what_runs_beside_the_workers_for_one_of_them(name: str) -> None:
    deployment, service = of_companion("Deployment", name)["spec"], of_companion("Service", name)
    labels = deployment["template"]["metadata"]["labels"]

    assert labels == {"app.kubernetes.io/name": name}
    assert deployment["selector"]["matchLabels"] == labels
    assert service["spec"]["selector"] == service["metadata"]["labels"] == labels
    assert of_companion("NetworkPolicy", name)["spec"]["podSelector"]["matchLabels"] == labels
    monitor = of_companion("ServiceMonitor", name)["spec"]
    assert monitor["selector"]["matchLabels"] == labels
    assert monitor["endpoints"][0]["relabelings"][0] == {"targetLabel": "job", "replacement": name}


def test_reporters_are_hashed_by_keys_of_a_secret_that_the_process_reads_only() -> None:
    pod = of_companion("Deployment", "hamgate-feedback")["spec"]["template"]["spec"]
    [its] = pod["containers"]
    [folder] = [each["secret"] for each in pod["volumes"] if "secret" in each]
    [mount] = [each for each in its["volumeMounts"] if each["name"] == "hash-key"]

    assert (folder["secretName"], oct(folder["defaultMode"]), mount["readOnly"]) == ("hamgate-hash-key", "0o440", True)
    assert {"name": "HAMGATE_HASH_KEY_FILE", "value": f"{mount['mountPath']}/hash.key"} in its["env"]


CONSOLE = "overlays/console"


def of_the_console(kind: str) -> dict[str, Any]:
    [found] = [
        each["spec"]
        for each in yaml.safe_load_all(built(CONSOLE))
        if (each["kind"], each["metadata"]["name"]) == (kind, "hamgate-console")
    ]
    return dict(found)


def test_the_console_is_one_writes_its_volume_alone_and_is_told_what_the_workers_are() -> None:
    spec = of_the_console("Deployment")
    pod = spec["template"]["spec"]
    [console] = pod["containers"]
    workers = next(
        each
        for each in yaml.safe_load_all(built(CONSOLE))
        if (each["kind"], each["metadata"]["name"]) == ("Deployment", "hamgate")
    )

    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    assert console["args"] == ["console"]
    assert console["envFrom"] == workers["spec"]["template"]["spec"]["containers"][0]["envFrom"]
    assert {each["name"].removeprefix("HAMGATE_").lower() for each in console["env"]} <= set(Settings.model_fields)
    assert pod["enableServiceLinks"] is pod["automountServiceAccountToken"] is False
    assert console["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    paths = {each["mountPath"] for each in console["volumeMounts"] if not each.get("readOnly")}
    assert paths == {"/tmp", "/var/lib/hamgate-console"}  # noqa: S108 the pod's own
    assert {console[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")} == {"/healthz"}


def test_its_files_of_users_and_keys_are_not_everybodys() -> None:
    mounted = [
        each["secret"] for each in of_the_console("Deployment")["template"]["spec"]["volumes"] if "secret" in each
    ]

    assert {each["secretName"]: each.get("optional", False) for each in mounted} == {
        "hamgate-console": False, "hamgate-hash-key": True,  # the second one for lists, where there are any
    }  # fmt: skip
    assert not any(each["defaultMode"] & 0o007 for each in mounted)  # else the console refuses them


def test_the_console_is_reached_by_its_proxy_alone_and_by_nothing_that_seeks_workers() -> None:
    policy, labels = of_the_console("NetworkPolicy"), {"app.kubernetes.io/name": "hamgate-console"}

    assert policy["podSelector"]["matchLabels"] == of_the_console("Service")["selector"] == labels
    [rule] = policy["ingress"]
    assert [each["port"] for each in rule["ports"]] == [9466]
    assert rule["from"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress-nginx"}}}]
