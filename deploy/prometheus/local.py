"""A Prometheus of one's own on loopback, with the project's rules: for tests, drills and a look at the dashboards."""

from __future__ import annotations

import json
import re
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import yaml

from deploy import tools
from deploy.kafka.node import LOOPBACK, die_with_parent, free_port

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

RULES: Final = Path(__file__).with_name("rules")
# A window, the step of a subquery, an offset.
_DURATION: Final = re.compile(r"(?P<before>\[|:|offset )(?P<number>\d+)(?P<unit>[smhd])\b")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_READY_WITHIN: Final = 30


@dataclass
class LocalPrometheus:
    """Scrapes `targets` (a job's name to its host:port list) and evaluates the rules, in `folder`.

    With `hurry` all windows and waits of the rules are that many times shorter: a drill takes minutes, not half a day.
    """

    folder: Path
    targets: Mapping[str, Sequence[str]]
    scrape: float = 1.0
    hurry: float = 1.0
    port: int = field(default_factory=free_port)

    @property
    def address(self) -> str:
        """The URL of its pages."""
        return f"http://{LOOPBACK}:{self.port}"

    def start(self) -> Self:
        """Start it and return when it answers. Raises tools.MissingError."""
        program = tools.tool("prometheus")
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in RULES.glob("*.yml"):
            content = yaml.safe_load(path.read_text())
            (self.folder / path.name).write_text(yaml.safe_dump(hurried(content, self.hurry, self.scrape)))
        (self.folder / "settings.yml").write_text(json.dumps(self._settings()))  # JSON is YAML
        with (self.folder / "log").open("ab") as output:
            self._process = subprocess.Popen(
                [
                    program, f"--config.file={self.folder}/settings.yml", f"--storage.tsdb.path={self.folder}/data",
                    f"--web.listen-address={LOOPBACK}:{self.port}", "--enable-feature=exemplar-storage",
                    "--log.level=warn",
                ],
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent(),  # noqa: PLW1509 one prctl, made ready before the fork
            )  # fmt: skip
        deadline = time.monotonic() + _READY_WITHIN
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                message = f"Prometheus did not start: {(self.folder / 'log').read_text()[-2000:]}"
                raise RuntimeError(message)
            time.sleep(0.1)
        return self

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        """Start it."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """End it."""
        self.stop()

    def query(self, expr: str) -> list[dict[str, Any]]:
        """Ask for the value now: a list of {"metric", "value"}. Raises RuntimeError with what is wrong with it."""
        result: list[dict[str, Any]] = self._ask("query", query=expr)["result"]
        return result

    def range(self, expr: str, start: float, end: float, step: float) -> list[dict[str, Any]]:
        """Ask for the values over a time: a list of {"metric", "values"}."""
        result: list[dict[str, Any]] = self._ask("query_range", query=expr, start=start, end=end, step=step)["result"]
        return result

    def firing(self) -> set[str]:
        """The names of the alerts that fire now."""
        alerts = self._ask("alerts")["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    def _ask(self, what: str, **parameters: object) -> dict[str, Any]:
        url = f"{self.address}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 its own server
                content: dict[str, Any] = json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            message = f"{parameters.get('query', what)}: {json.load(error).get('error', error)}"
            raise RuntimeError(message) from None
        return content

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.address}/-/ready", timeout=1) as answer:  # noqa: S310
                return bool(answer.status == 200)  # noqa: PLR2004 HTTP's OK
        except OSError:
            return False

    def _settings(self) -> dict[str, Any]:
        every = f"{round(self.scrape * 1000)}ms"
        return {
            "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
            "rule_files": [str(self.folder / path.name) for path in sorted(RULES.glob("*.yml"))],
            "scrape_configs": [
                {"job_name": job, "static_configs": [{"targets": list(targets)}]}
                for job, targets in self.targets.items()
            ],
        }


def hurried(content: dict[str, Any], factor: float, least: float) -> dict[str, Any]:
    """Rules with all windows and waits `factor` times shorter, no window below four scrapes of `least` seconds."""
    if factor == 1:
        return content

    def shorter(number: str, unit: str) -> str:
        return f"{round(max(int(number) * _SECONDS[unit] / factor, 4 * least) * 1000)}ms"

    def in_expression(expr: str) -> str:
        return _DURATION.sub(lambda found: found["before"] + shorter(found["number"], found["unit"]), expr)

    for group in content["groups"]:
        group.pop("interval", None)
        for rule in group["rules"]:
            rule["expr"] = in_expression(rule["expr"])
            if "for" in rule:
                rule["for"] = f"{round(int(rule['for'][:-1]) * _SECONDS[rule['for'][-1]] / factor * 1000)}ms"
    return content
