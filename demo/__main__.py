"""START HERE. hamgate at work on real messages, from start to end: `python -m demo`."""

from __future__ import annotations

import argparse
import contextlib
import logging
import math
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from demo import stream
from demo.children import ROOT, Broker, BusyError, ChildError, Worker, alone_in, check
from demo.flow import Reader, Sender, SendError
from demo.held_out import SHOWN, held_out, today
from demo.screen import console, screen
from demo.show import Show
from demo.summary import Run, report
from demo.tally import Tally, disagreements, sums
from deploy.kafka.java import MissingError
from deploy.kafka.node import StartError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from rich.console import Console

_RATE: Final = 300.0
_BURST: Final = 20_000
_COUNTS_WITHIN: Final = 2.0
"""The worker counts a batch once it is committed, which is when the reader may already have it."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, or being told to end."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; 0 when every event was answered once and in order, 1 when one was not or something broke."""
    options = _parser().parse_args(arguments)
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, _interrupt)
    page = console()
    try:
        with alone_in(options.folder):
            return _run(options, page)
    except Interrupted as stop:
        page.print(f"ended by {stop}; nothing is left running")
        return 128 + stop.signum
    except (BusyError, ChildError, MissingError, SendError, StartError) as problem:
        page.print(str(problem), style="red", markup=False, soft_wrap=True)
        return 1


def _run(options: argparse.Namespace, page: Console) -> int:
    # The Kafka client has much to say while brokers come and go; none of it belongs on the screen.
    logging.basicConfig(filename=options.folder / "demo.log", filemode="w", level=logging.WARNING)
    began = time.monotonic()
    page.print("broker: starting a Kafka of the demo's own ...")
    with Broker(options.folder / "broker") as broker:
        page.print(f"broker: process {broker.pid} answers at {broker.bootstrap}")
        with Worker(options.folder, broker.bootstrap) as worker:
            page.print(f"worker: process {worker.pid} loads its model ...")
            # Seconds, while the worker loads its model.
            events = stream.programme(held_out(), SHOWN, options.burst, today())
            paced, burst = stream.paced_and_burst(events)
            tally = Tally(events)
            worker.await_ready(broker)
            page.print(f"worker: ready, {time.monotonic() - began:.0f} s after the start")
            sender = Sender(broker.bootstrap, len(events))
            with sender, Reader(broker.bootstrap, sender.sent_at) as reader:
                with screen(page, tally, stream.parts(events)) as shown:
                    show = Show((broker, worker), sender, reader, tally, shown)
                    show.play(paced, options.rate)
                    burst_seconds = show.play(burst, rate=None)
                exposition = _counted(worker, tally)
                departure = [] if options.keep else _departure(worker)
                show.look_again()
            failures = [*tally.failures(), *disagreements(tally, sums(exposition)), *departure]
            url = f"{worker.address}/metrics"
            seconds = time.monotonic() - began
            report(page, Run(tally, reader.model, options.rate, burst_seconds, seconds, url, exposition, failures))
            if options.keep:
                _keep(page, broker, worker)
    return 1 if failures else 0


def _counted(worker: Worker, tally: Tally) -> str:
    """Return the text of /metrics, once it agrees with the reader or its time is up."""
    deadline = time.monotonic() + _COUNTS_WITHIN
    while True:
        _, exposition = worker.get("/metrics")
        if not disagreements(tally, sums(exposition)) or time.monotonic() > deadline:
            return exposition
        time.sleep(0.1)


def _departure(worker: Worker) -> list[str]:
    status = worker.stop()
    return [f"the worker left with exit status {status} when told to end; see {worker.log}"] if status else []


def _keep(page: Console, broker: Broker, worker: Worker) -> None:
    page.print(f"\nbroker {broker.bootstrap} and [bold]{worker.address}/metrics[/] stay until Ctrl-C")
    try:
        while True:
            check(broker, worker)
            time.sleep(0.5)
    except Interrupted:
        page.print("ending both")


def _interrupt(signum: int, _: FrameType | None) -> NoReturn:
    raise Interrupted(signum)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m demo",
        description="Stream held-out messages, their disguises and broken events through a broker and a worker of the "
        "demo's own; count what comes back.",
    )
    parser.add_argument("--keep", action="store_true", help="leave broker and worker running until Ctrl-C")
    parser.add_argument("--rate", type=_positive, default=_RATE, metavar="N", help="messages a second (default: 300)")
    parser.add_argument("--burst", type=_whole, default=_BURST, metavar="N", help="messages at once (default: 20000)")
    parser.add_argument(
        "--folder", type=Path, default=ROOT / ".run" / "demo", help="where logs and data go (default: .run/demo)"
    )
    return parser


def _positive(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < float(text) < math.inf:
            return float(text)
    message = f"{text!r} is not a number above 0"
    raise argparse.ArgumentTypeError(message)


def _whole(text: str) -> int:
    if text.isdecimal():
        return int(text)
    message = f"{text!r} is not a whole number"
    raise argparse.ArgumentTypeError(message)


if __name__ == "__main__":
    sys.exit(main())
