"""deploy/kubernetes: builds, fits the schemas, and says what the worker and its delivery need."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy import tools
from deploy.kafka.topics import PARTITIONS
from worker.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
OVERLAYS = ("base", "overlays/gpu", "overlays/keda")
AUDIT = "overlays/audit"
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
    [found] = [each for each in yaml.safe_load_all(built(overlay)) if each["kind"] == kind]
    return dict(found)


def of_the_audit(kind: str) -> dict[str, Any]:
    [found] = [
        each
        for each in yaml.safe_load_all(built(AUDIT))
        if (each["kind"], each["metadata"]["name"]) == (kind, "hamgate-audit")
    ]
    return dict(found)


def ours(*names: str) -> dict[str, Any]:
    return dict(yaml.safe_load(FOLDER.joinpath(*names).read_text()))


def test_every_file_of_the_base_is_part_of_it() -> None:
    listed = set(ours("base", "kustomization.yaml")["resources"])

    assert listed == {path.name for path in (FOLDER / "base").glob("*.yaml")} - {"kustomization.yaml"}


@pytest.mark.parametrize(("overlay", "count"), [*((overlay, 6) for overlay in OVERLAYS), (AUDIT, 9)])
def test_it_builds_and_fits_the_schemas_of_kubernetes_strictly(overlay: str, count: int, tmp_path: Path) -> None:
    path = tmp_path / "built.yaml"
    path.write_text(built(overlay))

    said = subprocess.run(
        [UV, "tool", "run", "--from", SCHEMAS, "kubernetes-validate", "--strict", "--no-warn", path],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert said.returncode == 0, said.stdout + said.stderr
    assert (said.stdout + said.stderr).count("passed") == count  # the others are custom resources, below


@pytest.mark.parametrize("overlay", [*OVERLAYS, AUDIT])
def test_custom_resources_have_no_field_that_their_operators_do_not_know(overlay: str, tmp_path: Path) -> None:
    path = tmp_path / "built.yaml"
    path.write_text(built(overlay))
    additions = [word for package in CUSTOM for word in ("--with", package)]

    said = subprocess.run(
        [UV, "run", "--no-project", "--isolated", *additions, "python", READER, path],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert said.returncode == 0, said.stderr
    wanted = {"PrometheusRule", "ServiceMonitor"} | ({"ScaledObject"} if overlay.endswith("keda") else set())
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
    assert {mount["mountPath"] for mount in worker["volumeMounts"]} == {"/tmp", "/var/cache/hamgate"}  # noqa: S108 the pod's own


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


def test_the_audit_is_one_of_its_kind_and_told_what_the_workers_are() -> None:
    spec = of_the_audit("Deployment")["spec"]
    [audit] = spec["template"]["spec"]["containers"]
    workers = next(
        each
        for each in yaml.safe_load_all(built(AUDIT))
        if (each["kind"], each["metadata"]["name"]) == ("Deployment", "hamgate")
    )

    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    assert audit["args"] == ["audit"]
    assert audit["envFrom"] == workers["spec"]["template"]["spec"]["containers"][0]["envFrom"]
    assert spec["template"]["spec"]["enableServiceLinks"] is False
    assert audit["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip


def test_nothing_takes_the_audit_for_a_worker() -> None:
    labels = of_the_audit("Deployment")["spec"]["template"]["metadata"]["labels"]

    assert labels == {"app.kubernetes.io/name": "hamgate-audit"}
    assert of_the_audit("Deployment")["spec"]["selector"]["matchLabels"] == labels
    assert of_the_audit("Service")["spec"]["selector"] == of_the_audit("Service")["metadata"]["labels"] == labels
    assert of_the_audit("NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == labels
    monitor = of_the_audit("ServiceMonitor")["spec"]
    assert monitor["selector"]["matchLabels"] == labels
    assert monitor["endpoints"][0]["relabelings"][0] == {"targetLabel": "job", "replacement": "hamgate-audit"}
