"""Starts docker-compose.yml under a name of its own, sends 1,000 messages through it, asks every panel, and ends it.

    python -m deploy.smoke           needs Docker with Compose, and the file's ports; a stack that is up is left alone
    python -m deploy.smoke --keep    leave it running afterwards

It asks Grafana, as a browser would: so Grafana, its data source, Prometheus and the scrapes are tried as well.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from deploy.grafana import page
from deploy.grafana.promql import filled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT: Final = Path(__file__).resolve().parents[1]
DASHBOARDS: Final = ROOT / "deploy" / "grafana" / "dashboards"
GRAFANA: Final = "http://127.0.0.1:3000"
COMPOSE: Final = ("docker", "compose", "--project-name", "hamgate-smoke", "--file", str(ROOT / "docker-compose.yml"))
# Not the operator's compose.env, which may name brokers that made-up messages must not reach.
ALONE: Final = {"COMPOSE_SETTINGS": "deploy/compose/worker.env"}
MESSAGES: Final = 1000
SENT_WITHIN: Final = 300
HEALTHY_WITHIN: Final = 600
JUDGED_WITHIN: Final = 120
ANSWERED: Final = "sum(hamgate_verdicts_total) + (sum(hamgate_dead_letters_total) or vector(0))"
_BUILD_SECONDS: Final = 3600


class SmokeError(RuntimeError):
    """What is wrong with the stack; the text is for whoever ran it."""


def run(compose: tuple[str, ...] = COMPOSE, grafana: str = GRAFANA, *, keep: bool = False) -> None:
    """Bring the stack up, try it, and take it down. Raises SmokeError."""
    try:
        _compose(compose, "up", "--detach", "--build", within=_BUILD_SECONDS)
        until(lambda: unwell(compose), HEALTHY_WITHIN)
        say("every service is healthy")
        simulate = ("traffic", "simulate", "--messages", str(MESSAGES), "--rate", "200", "--poison", "0.01")
        _compose(compose, "run", "--rm", "--no-deps", "-T", *simulate, within=SENT_WITHIN)
        until(lambda: unanswered(grafana), JUDGED_WITHIN)
        say(f"{MESSAGES} messages have each a verdict or a dead letter")
        silent = [title for title, values in panels(grafana) if not values]
        say("every panel answers" + (f"; without data: {', '.join(silent)}" if silent else ""))
    finally:
        if not keep:
            _compose(compose, "down", "--volumes", "--remove-orphans", "--timeout", "40", within=HEALTHY_WITHIN)


def until(problem: Callable[[], str], within: float, pause: float = 2) -> None:
    """Wait until there is no problem left. Raises SmokeError with the last one."""
    ends = time.monotonic() + within
    while last := problem():
        if time.monotonic() > ends:
            message = f"after {within:g} s: {last}"
            raise SmokeError(message)
        time.sleep(pause)


def unwell(compose: tuple[str, ...] = COMPOSE) -> str:
    """Name the services that are not healthy yet; nothing when all are. Raises SmokeError for one that has failed."""
    waiting = []
    for line in _compose(compose, "ps", "--all", "--format", "json", within=60).splitlines():
        service = json.loads(line)
        name, state, health = service["Service"], service["State"], service.get("Health", "")
        if name == "topics" and state == "exited" and service["ExitCode"] == 0:
            continue
        if state == "exited" and service["ExitCode"]:
            said = _compose(compose, "logs", "--no-color", "--tail", "20", name, within=60)
            message = f"{name} has exited with {service['ExitCode']}; its last lines:\n{said}"
            raise SmokeError(message)
        if state != "running" or health not in {"", "healthy"}:
            waiting.append(f"{name} is {health or state}")
    return ", ".join(waiting)


def unanswered(grafana: str = GRAFANA) -> str:
    """Say how many messages have their answer, while that is too few."""
    try:
        values = ask(grafana, ANSWERED)
    except OSError as error:
        return f"Grafana does not answer: {error}"
    answered = int(values[0]) if values else 0
    return "" if answered >= MESSAGES else f"{answered} of {MESSAGES} messages have an answer"


def panels(grafana: str = GRAFANA) -> Iterator[tuple[str, list[float]]]:
    """Ask each panel's queries: its title and the values now. Raises SmokeError with the query that is refused."""
    for path in sorted(DASHBOARDS.glob("*.json")):
        board = json.loads(path.read_text())
        for panel in page.panels(board):
            values = [value for target in panel["targets"] for value in ask(grafana, target["expr"])]
            yield f"{path.stem}: {panel['title']}", values


def ask(grafana: str, expr: str) -> list[float]:
    """A query's values now, asked as Grafana's own panels ask. Raises SmokeError where the query is refused."""
    query = {
        "refId": "A", "datasource": {"uid": "prometheus"}, "expr": filled(expr, "30s"), "instant": True,
        "range": False, "format": "time_series",
    }  # fmt: skip
    content = json.dumps({"queries": [query], "from": "now-5m", "to": "now"}).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{grafana}/api/ds/query", content, headers)  # noqa: S310 the stack's own Grafana
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            result: dict[str, Any] = json.load(answer)["results"]["A"]
    except urllib.error.HTTPError as error:
        message = f"Grafana refuses {expr}: {error.read()[:400].decode(errors='replace')}"
        raise SmokeError(message) from None
    if "error" in result:
        message = f"{expr}: {result['error']}"
        raise SmokeError(message)
    return [frame["data"]["values"][1][-1] for frame in result.get("frames", []) if len(frame["data"]["values"]) > 1]


def say(text: str) -> None:
    """Tell how far it is."""
    print(text, flush=True)


def _compose(compose: tuple[str, ...], *words: str, within: float) -> str:
    try:
        done = subprocess.run(
            [*compose, *words],
            stdout=subprocess.PIPE, text=True, timeout=within, check=False, env={**os.environ, **ALONE},
        )  # fmt: skip
    except FileNotFoundError:
        message = 'docker is not installed here; docs/operations.md, "What was run" says what was tried without it'
        raise SmokeError(message) from None
    except subprocess.TimeoutExpired:
        message = f"docker compose {words[0]} did not end within {within:g} s"
        raise SmokeError(message) from None
    if done.returncode:
        message = f"docker compose {words[0]} ended with {done.returncode}:\n{done.stdout[-2000:]}"
        raise SmokeError(message)
    return done.stdout


def main() -> int:
    """Try the stack; the exit status is 0 when all of it holds."""
    parser = argparse.ArgumentParser(prog="python -m deploy.smoke", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the stack running")
    try:
        run(keep=parser.parse_args().keep)
    except SmokeError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
