"""deploy/helm: the chart makes what the base and its overlays are, fits the schemas, and refuses wrong values."""

from __future__ import annotations

import functools
import json
import re
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from deploy import site, tools
from deploy.kubernetes import chart
from tests.operate.test_kubernetes import SCHEMAS, UV, built

VARIANTS: Final = {
    "base": (),
    "overlays/gpu": ("--values", "values-gpu.yaml"),
    "overlays/keda": ("--set", "autoscaling.enabled=true"),
    "overlays/audit": ("--set", "audit.enabled=true"),
    "overlays/feedback": ("--set", "feedback.enabled=true"),
    "overlays/console": ("--set", "console.enabled=true"),
}
CUSTOM: Final = {"ServiceMonitor", "PodMonitor", "PrometheusRule", "ScaledObject"}


def helm(*words: str) -> subprocess.CompletedProcess[str]:
    try:
        program = tools.tool("helm", fetch=False)
    except tools.MissingError as error:
        pytest.skip(str(error))
    return subprocess.run([program, *words], cwd=chart.CHART, capture_output=True, text=True, check=False)


@functools.cache
def templated(*words: str) -> str:
    said = helm("template", "hamgate", ".", "--namespace", "sms", "--kube-version", "1.34.0", *words)
    assert said.returncode == 0, said.stderr
    return said.stdout


def resources(text: str) -> dict[str, dict[str, Any]]:
    """By kind and name; kustomize gives a ConfigMap of settings a name with a digest of it."""
    text = re.sub(r"\bhamgate-settings-[a-z0-9]{10}\b", "hamgate-settings", text)
    found = [resource for resource in yaml.safe_load_all(text) if resource]
    return {f"{resource['kind']} {resource['metadata']['name']}": without_empty(resource) for resource in found}


def without_empty(value: Any) -> Any:
    """Without empty lists and objects that are the default of what they stand for, and without Helm's own checksum."""
    defaults = {"nodeSelector", "tolerations", "affinity", "imagePullSecrets"}
    if isinstance(value, dict):
        kept = {key: without_empty(each) for key, each in value.items() if key not in defaults or each}
        if set(kept.get("annotations", {})) == {"checksum/settings"}:
            del kept["annotations"]
        return kept
    return [without_empty(each) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize("overlay", VARIANTS)
def test_the_chart_makes_what_the_overlay_makes(overlay: str) -> None:
    ours, theirs = resources(templated(*VARIANTS[overlay])), resources(built(overlay))

    assert set(ours) == set(theirs)
    for name, resource in ours.items():
        assert resource == theirs[name], name


@pytest.mark.parametrize("overlay", VARIANTS)
@pytest.mark.parametrize("maker", ["helm", "kustomize"])
def test_it_fits_the_schemas_of_kubernetes_by_kubeconform(overlay: str, maker: str, schemas: Path) -> None:
    text = templated(*VARIANTS[overlay]) if maker == "helm" else built(overlay)
    try:
        kubeconform = tools.tool("kubeconform", fetch=False)
    except tools.MissingError as error:
        pytest.skip(str(error))
    where = f"{schemas}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"

    said = subprocess.run(
        [kubeconform, "-strict", "-summary", "-output", "json", "-skip", ",".join(CUSTOM), "-schema-location", where],
        input=text, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert said.returncode == 0, said.stdout + said.stderr
    summary = json.loads(said.stdout)["summary"]
    assert summary["valid"] >= 11
    assert summary["skipped"] == sum(name.partition(" ")[0] in CUSTOM for name in resources(text))


@pytest.fixture(scope="module")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kubernetes' schemas, from the package that has them, so that none is fetched; their references made relative."""
    where = "import kubernetes_validate as k; print(k.__file__)"
    said = subprocess.run(
        [UV, "run", "--no-project", "--with", SCHEMAS, "python", "-c", where],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    folder = tmp_path_factory.mktemp("schemas")
    package, version = Path(said.stdout.strip()).parent, SCHEMAS.partition("==")[2]
    release = package / "kubernetes-json-schema" / f"v{version}-local-strict"
    kinds = (
        *("ConfigMap", "Deployment", "NetworkPolicy", "PersistentVolumeClaim", "PodDisruptionBudget"),
        *("Service", "ServiceAccount"),
    )
    found = [path for kind in kinds for path in release.glob(f"{kind.lower()}*-v1.json")]
    for path in (release / "_definitions.json", *found):
        text = path.read_text().replace("/api/_definitions.json", "_definitions.json")
        schema = {key: value for key, value in json.loads(text).items() if key != "$id"}
        (folder / path.name).write_text(json.dumps(schema))
    return folder


def test_helm_finds_nothing_to_complain_of() -> None:
    said = helm("lint", ".", "--strict")

    assert said.returncode == 0, said.stdout


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ("replica=3", "replica"),
        ("replicas=two", "replicas"),
        ("settings.HAMGATE_THREADS=2", "HAMGATE_THREADS"),  # a number, where a ConfigMap takes strings
        ("settings.BROKERS=a:1", "BROKERS"),
        ("settings.HAMGATE_SASL_PASSWORD=x", "settings"),
        ("monitoring.runbook=docs/operations.md", "runbook"),
    ],
)
def test_a_wrong_value_is_refused_by_name(wrong: str, named: str) -> None:
    said = helm("template", "hamgate", ".", "--set", wrong)

    assert said.returncode != 0
    assert named in said.stderr


def test_a_number_of_a_values_file_stays_an_integer(tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text("autoscaling: {enabled: true, lag: 2500000}")

    made = resources(templated("--values", str(values)))

    [scaled] = [each for name, each in made.items() if name.startswith("ScaledObject")]
    assert scaled["spec"]["triggers"][0]["metadata"]["lagThreshold"] == "2500000"


def test_a_sites_own_release_and_runbook_reach_every_rule_and_monitor() -> None:
    runbook = "https://example.com/runbook"
    made = resources(
        templated("--set", f"monitoring.release=prom,monitoring.runbook={runbook}", "--set", "audit.enabled=true")
    )

    selected = [resource for name, resource in made.items() if name.partition(" ")[0] in CUSTOM]
    assert {resource["metadata"]["labels"]["release"] for resource in selected} == {"prom"}
    assert len(selected) == 4
    groups = made["PrometheusRule hamgate"]["spec"]["groups"]
    links = [rule["annotations"]["runbook_url"] for group in groups for rule in group["rules"] if "alert" in rule]
    assert all(link.startswith(f"{runbook}#hamgate") for link in links)
    assert site.load().runbook not in json.dumps(made)


def test_a_changed_setting_is_a_rollout() -> None:
    def annotation(*words: str) -> str:
        made = [each for each in yaml.safe_load_all(templated(*words)) if each and each["kind"] == "Deployment"]
        return str(made[0]["spec"]["template"]["metadata"]["annotations"]["checksum/settings"])

    assert annotation() != annotation("--set-string", "settings.HAMGATE_SHUTDOWN_GRACE=10")
