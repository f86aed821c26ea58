"""make compose-smoke, on a Docker and a Grafana that are played: what passes, and that it always cleans up."""

from __future__ import annotations

import http.server
import json
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from deploy import smoke

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

WELL = [
    {"Service": "worker", "State": "running", "Health": "healthy", "ExitCode": 0},
    {"Service": "console", "State": "running", "Health": "", "ExitCode": 0},
    {"Service": "topics", "State": "exited", "Health": "", "ExitCode": 0},
]
BROKEN = {"Service": "redpanda", "State": "exited", "Health": "", "ExitCode": 1}
STARTING = {"Service": "grafana", "State": "running", "Health": "starting", "ExitCode": 0}


@pytest.fixture
def docker(tmp_path: Path) -> Callable[..., tuple[str, ...]]:
    """A Docker with these services; it notes what it is told."""

    def play(*services: dict[str, Any]) -> tuple[str, ...]:
        (tmp_path / "services").write_text("".join(json.dumps(service) + "\n" for service in services))
        script = tmp_path / "docker.py"
        script.write_text(
            "import os, pathlib, sys\n"
            f"place = pathlib.Path({str(tmp_path)!r})\n"
            "with (place / 'told').open('a') as told: told.write(' '.join(sys.argv[1:]) + '\\n')\n"
            "(place / 'settings').write_text(os.environ['COMPOSE_SETTINGS'])\n"
            "if sys.argv[1] == 'ps': print((place / 'services').read_text(), end='')\n"
            "if sys.argv[1] == 'logs': print('unrecognised option --set')\n"
        )
        return (sys.executable, str(script))

    return play


@pytest.fixture
def grafana() -> Iterator[Callable[[dict[str, Any]], str]]:
    """A Grafana that gives this answer to every query."""
    servers = []

    def play(result: dict[str, Any]) -> str:
        class Answers(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps({"results": {"A": result}}).encode())

            def log_message(self, *_: object) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield play
    for server in servers:
        server.shutdown()
        server.server_close()


def values(*numbers: float) -> dict[str, Any]:
    return {"status": 200, "frames": [{"data": {"values": [[0], [number]]}} for number in numbers]}


def told(tmp_path: Path) -> list[str]:
    return [line.split()[0] for line in (tmp_path / "told").read_text().splitlines()]


def test_a_stack_that_is_well_passes_and_is_taken_down(
    docker: Callable[..., tuple[str, ...]],
    grafana: Callable[[dict[str, Any]], str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    smoke.run(docker(*WELL), grafana(values(1000)))

    assert told(tmp_path) == ["up", "ps", "run", "down"]
    assert (tmp_path / "settings").read_text() == "deploy/compose/worker.env"  # never the operator's own brokers
    assert "every panel answers\n" in capsys.readouterr().out


def test_a_service_that_exits_is_named_with_its_last_lines_and_the_stack_is_taken_down(
    docker: Callable[..., tuple[str, ...]], grafana: Callable[[dict[str, Any]], str], tmp_path: Path
) -> None:
    with pytest.raises(smoke.SmokeError, match=r"(?s)redpanda has exited with 1.*unrecognised option"):
        smoke.run(docker(*WELL, BROKEN), grafana(values(1000)))

    assert told(tmp_path) == ["up", "ps", "logs", "down"]


def test_what_is_not_healthy_yet_is_waited_for_by_name(docker: Callable[..., tuple[str, ...]]) -> None:
    assert smoke.unwell(docker(*WELL, STARTING)) == "grafana is starting"
    with pytest.raises(smoke.SmokeError, match="after 0 s: grafana is starting"):
        smoke.until(lambda: smoke.unwell(docker(*WELL, STARTING)), within=0, pause=0)


def test_too_few_answers_are_counted(grafana: Callable[[dict[str, Any]], str]) -> None:
    assert smoke.unanswered(grafana(values(993))) == "993 of 1000 messages have an answer"
    assert smoke.unanswered(grafana({"frames": []})) == "0 of 1000 messages have an answer"


def test_a_query_that_is_refused_fails_by_name(grafana: Callable[[dict[str, Any]], str]) -> None:
    with pytest.raises(smoke.SmokeError, match=r"up\{: bad_data: unexpected end"):
        smoke.ask(grafana({"status": 400, "error": "bad_data: unexpected end"}), "up{")


def test_without_docker_it_says_so() -> None:
    with pytest.raises(smoke.SmokeError, match="docker is not installed"):
        smoke.unwell(("no-such-docker", "compose"))
