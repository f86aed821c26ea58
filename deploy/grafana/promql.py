"""The few shapes of query that the dashboards are made of."""

from __future__ import annotations

from typing import Final

# Which deployments, by what Kubernetes' service discovery gives, and which of their workers.
DEPLOYMENT: Final = 'namespace=~"$namespace",job=~"$job"'
WORKER: Final = f'{DEPLOYMENT},instance=~"$instance"'


def rate(counter: str, by: str = "", only: str = "") -> str:
    """A counter's rate over the chosen workers, summed by some labels."""
    chosen = f"{WORKER},{only}" if only else WORKER
    return f"sum{f' by ({by})' if by else ''} (rate({counter}{{{chosen}}}[$__rate_interval]))"


def quantile(part: float, histogram: str) -> str:
    """A quantile of a histogram over the chosen workers."""
    return f"histogram_quantile({part}, {rate(f'{histogram}_bucket', 'le')})"


def mean(histogram: str) -> str:
    """The mean of a histogram over the chosen workers."""
    return f"{rate(f'{histogram}_sum')} / {rate(f'{histogram}_count')}"


def quantiles(histogram: str) -> list[tuple[str, str]]:
    """The three quantiles that a latency is judged by."""
    return [(quantile(part, histogram), f"p{round(part * 100)}") for part in (0.5, 0.95, 0.99)]


def gauge(how: str, name: str, by: str = "", only: str = "") -> str:
    """A gauge over the chosen workers, put together by `how`."""
    chosen = f"{WORKER},{only}" if only else WORKER
    return f"{how}{f' by ({by})' if by else ''} ({name}{{{chosen}}})"


def share(part: str, whole: str) -> str:
    """One over the other."""
    return f"{part} / {whole}"


def age(timestamp: str) -> str:
    """Seconds since a gauge's time, 0 being never: as of its scrape, so that a late scrape does not add to it."""
    return f"timestamp({timestamp}{{{WORKER}}}) - ({timestamp}{{{WORKER}}} > 0)"


def filled(expr: str, interval: str, instance: str = ".*") -> str:
    """The query that Grafana would send: with its variables' values in their places."""
    for variable in ("$namespace", "$job"):
        expr = expr.replace(variable, ".*")
    return expr.replace("$__rate_interval", interval).replace("$instance", instance)
