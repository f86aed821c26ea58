"""Reads manifests into the models of the Prometheus operator and KEDA, and says what these do not know.

Run by test_kubernetes in an environment of its own, which has those models.
"""

import sys
from pathlib import Path

import yaml
from cloudcoil.models.keda.v1alpha1 import ScaledObject
from cloudcoil.models.prometheus_operator.v1 import PodMonitor, PrometheusRule, ServiceMonitor

KNOWN = {
    "ScaledObject": ScaledObject,
    "PrometheusRule": PrometheusRule,
    "ServiceMonitor": ServiceMonitor,
    "PodMonitor": PodMonitor,
}


def unknown(given: object, read: object, path: str) -> list[str]:
    """Paths of fields that were given and not read: the models drop fields that they do not have."""
    if isinstance(given, dict):
        if not isinstance(read, dict):
            return [path]
        missing = [f"{path}.{key}" for key in given if key not in read]
        return missing + [x for key in given if key in read for x in unknown(given[key], read[key], f"{path}.{key}")]
    if isinstance(given, list) and isinstance(read, list):
        return [
            x for number, pair in enumerate(zip(given, read, strict=True)) for x in unknown(*pair, f"{path}[{number}]")
        ]
    return []


if __name__ == "__main__":
    for resource in yaml.safe_load_all(Path(sys.argv[1]).read_text()):
        if resource["kind"] in KNOWN:
            read = KNOWN[resource["kind"]].model_validate(resource)
            lost = unknown(resource, read.model_dump(by_alias=True, exclude_unset=True, mode="json"), resource["kind"])
            print(resource["kind"], *lost)  # noqa: T201 the answer  # noqa: T201 the answer
