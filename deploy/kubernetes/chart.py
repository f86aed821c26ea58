"""The Helm chart's templates, made from the base and its overlays: their resources, with values where sites differ.

values.yaml, Chart.yaml and NOTES.txt in the chart are written by hand. A test holds the chart under its default values
equal to the base, and under values-gpu.yaml to the GPU overlay. Rules and dashboards are links to the only copy.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER: Final = Path(__file__).resolve().parent
CHART: Final = FOLDER.parent / "helm" / "hamgate"
_MADE: Final = "{{- /* Made by `python -m deploy.render` from deploy/kubernetes: change that. */ -}}\n"
# Of every resource, as the base's kustomization has it.
_LABELS: Final = {"app.kubernetes.io/name": "hamgate"}
_COMPANIONS: Final = ("audit", "feedback", "console")
# The value that names a Secret, by the volume that it is mounted as.
_SECRETS: Final = {"hash-key": "hashKey", "secrets": "secret"}


class Hole(str):
    """An expression of a template, in the place of a value: it is written as JSON, which is YAML."""

    __slots__ = ()


_CHECKSUM: Final = Hole(".Values.settings | toJson | sha256sum")  # a changed setting is a rollout
_BROKERS_FROM: Final = 9092  # the first port of the policy's rule for brokers
_WRITTEN_HOLE: Final = re.compile(r"!hole '((?:[^']|'')*)'")


def files(runbook: str) -> Iterator[tuple[Path, str]]:
    """Each template and what belongs in it; `runbook` is what the rules' links begin with."""
    for name, content in _templates(runbook):
        yield CHART / "templates" / f"{name}.yaml", _MADE + content


def _templates(runbook: str) -> Iterator[tuple[str, str]]:
    yield "settings", _written(_settings())
    yield "serviceaccount", _written(_one("base", "serviceaccount.yaml"))
    yield "service", _written(_one("base", "service.yaml"))
    yield "deployment", _deployment()
    yield "poddisruptionbudget", _written(_one("base", "poddisruptionbudget.yaml"))
    yield "networkpolicy", _only_if("networkPolicy.enabled", _policy(_one("base", "networkpolicy.yaml")))
    yield "servicemonitor", _only_if("monitoring.enabled", _monitor(_one("base", "servicemonitor.yaml")))
    yield "podmonitor", _only_if("monitoring.brokers", _monitor(_one("base", "podmonitor.yaml")))
    yield "scaledobject", _only_if("autoscaling.enabled", _scaled(_one("overlays", "keda", "scaledobject.yaml")))
    for name in _COMPANIONS:
        yield name, "".join(_companion(name))
    yield "prometheusrule", _rules(runbook)
    yield "dashboards", _DASHBOARDS


def _one(*names: str) -> dict[str, Any]:
    resource: dict[str, Any] = yaml.safe_load(FOLDER.joinpath(*names).read_text())
    resource["metadata"].setdefault("labels", {}).update(_LABELS)
    return resource


def _settings() -> dict[str, Any]:
    metadata = {"name": "hamgate-settings", "labels": dict(_LABELS)}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": Hole(".Values.settings")}


def _deployment() -> str:
    resource = _one("base", "deployment.yaml")
    spec = resource["spec"]
    spec["strategy"]["rollingUpdate"] = Hole(".Values.rollingUpdate")
    pod = spec["template"]
    pod["metadata"] = {"labels": dict(_LABELS), "annotations": {"checksum/settings": _CHECKSUM}}
    _placed(pod["spec"], "")
    _name_secrets(pod["spec"], "")
    [worker] = pod["spec"]["containers"]
    worker["startupProbe"]["failureThreshold"] = Hole(".Values.startupFailureThreshold")
    worker["resources"] = Hole(".Values.resources")
    # Left out where a scaler says how many there are.
    lines = _written(resource).splitlines(keepends=True)
    where = lines.index(f"  replicas: {spec['replicas']}\n")
    lines[where] = "{{- if not .Values.autoscaling.enabled }}\n  replicas: {{ .Values.replicas }}\n{{- end }}\n"
    return "".join(lines)


def _placed(pod: dict[str, Any], under: str) -> None:
    [container] = pod["containers"]
    container["image"] = Hole(f'printf "%s:%s" .Values.image.repository .Values{under}.image.tag')
    container["imagePullPolicy"] = Hole(".Values.image.pullPolicy")
    container["envFrom"][1]["secretRef"]["name"] = Hole(".Values.secret")
    pod["imagePullSecrets"] = Hole(".Values.image.pullSecrets")
    for name in ("nodeSelector", "tolerations", "affinity"):
        pod[name] = Hole(f".Values{under}.{name}")


def _name_secrets(pod: dict[str, Any], under: str) -> None:
    for volume in pod["volumes"]:
        if "secret" in volume:
            volume["secret"]["secretName"] = Hole(f".Values{under}.{_SECRETS[volume['name']]}")


def _policy(resource: dict[str, Any]) -> dict[str, Any]:
    resource["spec"]["ingress"][0]["from"] = Hole(".Values.networkPolicy.scrapers")
    for rule in resource["spec"]["egress"]:
        if rule["ports"][0]["port"] == _BROKERS_FROM:
            rule.update(to=Hole(".Values.networkPolicy.brokers.to"), ports=Hole(".Values.networkPolicy.brokers.ports"))
    return resource


def _monitor(resource: dict[str, Any]) -> dict[str, Any]:
    resource["metadata"]["labels"]["release"] = Hole(".Values.monitoring.release")
    return resource


def _scaled(resource: dict[str, Any]) -> dict[str, Any]:
    spec = resource["spec"]
    spec["minReplicaCount"], spec["maxReplicaCount"] = (
        Hole(".Values.autoscaling.least"),
        Hole(".Values.autoscaling.most"),
    )
    spec["fallback"]["replicas"] = Hole(".Values.autoscaling.most")
    metadata = spec["triggers"][0]["metadata"]
    metadata["bootstrapServers"] = Hole(".Values.settings.HAMGATE_BROKERS")
    metadata["consumerGroup"] = Hole('.Values.settings.HAMGATE_GROUP_ID | default "hamgate"')
    metadata["topic"] = Hole('.Values.settings.HAMGATE_INPUT_TOPIC | default "sms.events"')
    metadata["lagThreshold"] = Hole(".Values.autoscaling.lag | int64 | toString")
    return resource


def _companion(name: str) -> Iterator[str]:
    """A process of its own beside the workers, as its component has it; off unless its value says so."""
    path = FOLDER / "components" / name / f"{name}.yaml"
    for resource in yaml.safe_load_all(path.read_text()):
        resource["metadata"].setdefault("labels", {})["app.kubernetes.io/name"] = f"hamgate-{name}"
        switch = f"{name}.enabled"
        match resource["kind"]:
            case "Deployment":
                _its_pod(resource["spec"]["template"], name)
            case "NetworkPolicy":
                _policy(resource)
                if name == "console":
                    resource["spec"]["ingress"][0]["from"] = Hole(".Values.console.visitors")
                switch += " .Values.networkPolicy.enabled"
            case "PersistentVolumeClaim":
                resource["spec"]["resources"]["requests"]["storage"] = Hole(f".Values.{name}.storage")
            case "ServiceMonitor":
                _monitor(resource)
                switch += " .Values.monitoring.enabled"
        yield "---\n" + _only_if(switch, resource)


def _its_pod(pod: dict[str, Any], name: str) -> None:
    pod["metadata"]["annotations"] = {"checksum/settings": _CHECKSUM}
    _placed(pod["spec"], f".{name}")
    [container] = pod["spec"]["containers"]
    container["resources"] = Hole(f".Values.{name}.resources")
    _name_secrets(pod["spec"], f".{name}")
    for setting in container.get("env", []):
        if setting["name"] == "HAMGATE_FEEDBACK_TOPIC":
            setting["value"] = Hole(f".Values.{name}.topic")


def _rules(runbook: str) -> str:
    return f"""\
{{{{- if .Values.monitoring.rules }}}}
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: hamgate
  labels:
    app.kubernetes.io/name: hamgate
    release: {{{{ .Values.monitoring.release | toJson }}}}
spec:
  groups:
  {{{{- range list "workers" "slo" "causes" "runbooks" }}}}
  {{{{- $base := printf "%s#" $.Values.monitoring.runbook }}}}
  {{{{- $file := $.Files.Get (printf "rules/%s.yml" .) | replace "{runbook}#" $base }}}}
  {{{{- (fromYaml $file).groups | toYaml | nindent 2 }}}}
  {{{{- end }}}}
{{{{- end }}}}
"""


_DASHBOARDS: Final = """\
{{- if .Values.monitoring.dashboards }}
{{- range $path, $content := .Files.Glob "dashboards/*.json" }}
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: hamgate-dashboard-{{ base $path | trimSuffix ".json" }}
  labels:
    app.kubernetes.io/name: hamgate
    grafana_dashboard: "1"
  annotations:
    grafana_folder: hamgate
data:
  {{ base $path }}: {{ toString $content | toJson }}
{{- end }}
{{- end }}
"""


def _only_if(switch: str, resource: dict[str, Any]) -> str:
    condition = f"and .Values.{switch}" if " " in switch else f".Values.{switch}"
    return f"{{{{- if {condition} }}}}\n{_written(resource)}{{{{- end }}}}\n"


def _written(resource: dict[str, Any]) -> str:
    text = yaml.dump(resource, Dumper=_Dumper, sort_keys=False, width=1000)
    return _WRITTEN_HOLE.sub(lambda found: found[1].replace("''", "'"), text)


class _Dumper(yaml.SafeDumper):
    """Writes a hole as it stands, unquoted: what Helm puts there is JSON."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 PyYAML's own name
        """No anchors."""
        return True


def _hole(dumper: yaml.SafeDumper, hole: Hole) -> yaml.Node:
    return dumper.represent_scalar("!hole", f"{{{{ {hole} | toJson }}}}", style="'")


_Dumper.add_representer(Hole, _hole)
