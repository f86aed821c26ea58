"""How many workers there should be, as a recorded series: what an alert on those that are gone compares with.

A worker that has left service discovery leaves no series behind, so no rule on its own series can see it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

EXPECTED: Final = "hamgate:workers:expected"


def an_hour_ago(job: str, only: str = "") -> str:
    """How many of a job were scraped all the time between an hour and half an hour ago: a rollout's surge is not."""
    return f'min_over_time((count by (namespace, job) (up{{job="{job}"{only}}}))[30m:1m] offset 30m)'


def rules(workers: Mapping[str, int]) -> dict[str, Any]:
    """Return the file of rules: the site's numbers, else Kubernetes' own, else what there was an hour ago."""
    others = f',namespace!~"{"|".join(sorted(workers))}"' if workers else ""
    told = f'kube_deployment_spec_replicas{{deployment="hamgate"{others}}}'
    known = f'sum by (namespace, job) (label_replace({told}, "job", "hamgate", "", ""))'
    recorded: list[dict[str, Any]] = [
        {"record": EXPECTED, "expr": f"vector({count})", "labels": {"namespace": namespace, "job": "hamgate"}}
        for namespace, count in sorted(workers.items())
    ]
    recorded.append({"record": EXPECTED, "expr": f"{known} or {an_hour_ago('hamgate', others)}"})
    return {"groups": [{"name": "hamgate-workers", "interval": "30s", "rules": recorded}]}
