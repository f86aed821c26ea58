"""The dashboards there are, in the order in which an operator opens them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.grafana.delivery import DELIVERY
from deploy.grafana.gpu import GPU
from deploy.grafana.latency import LATENCY
from deploy.grafana.model import MODEL
from deploy.grafana.overview import OVERVIEW

if TYPE_CHECKING:
    from collections.abc import Iterator

ALL: Final = (OVERVIEW, LATENCY, MODEL, DELIVERY, GPU)


def rendered() -> Iterator[tuple[str, str]]:
    """Each dashboard's name and its JSON, as Grafana reads it."""
    for dashboard in ALL:
        yield dashboard.name, encoded(dashboard.build()) + "\n"


def encoded(dashboard: object) -> str:
    """A dashboard of the library's as JSON."""
    return JSONEncoder(sort_keys=True, indent=2).encode(dashboard)
