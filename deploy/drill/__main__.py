"""`python -m deploy.drill NAME`: provoke it, wait for its alerts, fix it, wait until they have ended."""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from deploy.drill.incidents import ALL
from deploy.drill.stage import Stage
from deploy.kafka.java import MissingError
from deploy.tools import MissingError as ToolMissingError

if TYPE_CHECKING:
    from collections.abc import Callable

    from deploy.drill.incidents import Incident

_SETTLE: Final = 30  # seconds of ordinary traffic first, so that there is an ordinary to differ from
_FIRES_WITHIN, _ENDS_WITHIN = 240, 480  # on top of the rules' own waits, which --hurry shortens
_LONGEST_RULE: Final = 1200  # seconds that the slowest of these alerts takes by its own rule


def main() -> int:
    """Hold a drill; the exit status is 0 when every alert fired and ended."""
    parser = argparse.ArgumentParser(prog="python -m deploy.drill", description=__doc__)
    parser.add_argument("name", nargs="?", choices=sorted(ALL), help="the incident to provoke")
    parser.add_argument("--list", action="store_true", help="list the incidents")
    parser.add_argument("--blind", action="store_true", help="provoke one without saying which")
    parser.add_argument("--hold", action="store_true", help="hold the incident until Enter")
    parser.add_argument(
        "--hurry", type=float, default=10, help="how many times shorter the rules' waits are (default 10)"
    )
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep logs and Prometheus' data there")
    options = parser.parse_args()
    if options.list or not (options.name or options.blind):
        for incident in ALL.values():
            print(f"{incident.name:<8} {incident.says}: {', '.join(sorted(incident.alerts))}")
        return 0
    incident = ALL[options.name or random.choice(sorted(ALL))]
    folder = options.keep or Path(tempfile.mkdtemp(prefix="hamgate-drill-"))
    try:
        return _hold(incident, folder, options)
    except (MissingError, ToolMissingError, TimeoutError) as problem:
        print(problem, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)


def _hold(incident: Incident, folder: Path, options: argparse.Namespace) -> int:
    started = time.monotonic()

    def say(what: str) -> None:
        print(f"{time.monotonic() - started:6.0f} s  {what}", flush=True)

    say("starting broker, workers, traffic, Prometheus")
    with Stage(folder, hurry=options.hurry, names=incident.names) as stage:
        stage.await_judging()
        say(f"all is well. Prometheus {stage.prometheus.address}/alerts, logs {folder}")
        for name, worker in stage.workers.items():
            say(f"worker {name}: http://127.0.0.1:{worker.port}, broker {stage.broker.bootstrap}")
        time.sleep(_SETTLE)
        say("something happens" if options.blind else f"provoked: {incident.says}")
        incident.provoke(stage)
        watch = _Watch(stage, say)
        patience = _LONGEST_RULE / options.hurry
        has_fired = watch.until(lambda: incident.alerts <= watch.seen, _FIRES_WITHIN + patience)
        if options.hold:
            input("Press Enter to fix it ")
        incident.fix(stage)
        say("fixed" if has_fired else f"fixed; these never fired: {sorted(incident.alerts - watch.seen)}")
        has_ended = watch.until(lambda: not watch.firing & incident.alerts, _ENDS_WITHIN + patience)
        say("over" if has_ended else f"these did not end: {sorted(watch.firing & incident.alerts)}")
        return 0 if has_fired and has_ended else 1


class _Watch:
    """Says what begins to fire and what ends."""

    def __init__(self, stage: Stage, say: Callable[[str], None]) -> None:
        self._stage, self._say = stage, say
        self.firing: set[str] = set()
        self.seen: set[str] = set()

    def until(self, what: Callable[[], bool], within: float) -> bool:
        """Whether it came about in time."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            now = self._stage.prometheus.firing()
            for name in sorted(now - self.firing):
                self._say(f"FIRING    {name}")
            for name in sorted(self.firing - now):
                self._say(f"resolved  {name}")
            self.firing = now
            self.seen |= now
            if what():
                return True
            time.sleep(1)
        return False


if __name__ == "__main__":
    sys.exit(main())
