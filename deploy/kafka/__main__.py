"""`python3 -m deploy.kafka start|stop|status`: one broker in the background, for `make broker`."""

from __future__ import annotations

import argparse
import sys

from deploy.kafka import java, node

FOLDER = java.CACHE / "broker"
STOP = "make broker-stop"


def main() -> int:
    """Do what is asked; the exit status is 0 when the broker is then as asked for."""
    parser = argparse.ArgumentParser(prog="python3 -m deploy.kafka", description=__doc__)
    parser.add_argument("action", choices=("start", "stop", "status"))
    parser.add_argument("--port", type=int, default=9092, help="the port on loopback (default: 9092; 0: any free one)")
    parser.add_argument("--partitions", type=int, default=6, help="partitions of each topic (default: 6)")
    arguments = parser.parse_args()
    try:
        return {"start": _start, "stop": _stop, "status": _status}[arguments.action](arguments)
    except (java.MissingError, node.StartError) as problem:
        print(problem, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _start(arguments: argparse.Namespace) -> int:
    from deploy.kafka import topics  # noqa: PLC0415 stopping and asking need no client library

    found = node.running(FOLDER)
    if found is None:
        port = arguments.port or node.free_port()
        if node.listening(port):
            print(f"port {port} is taken; `--port 0` takes a free one", file=sys.stderr)
            return 1
        started = node.Node(FOLDER, port=port, owned=False).start()
        try:
            topics.create(started.bootstrap, partitions=arguments.partitions)
            topics.create_context(started.bootstrap)
        except BaseException:
            started.stop()
            raise
        found = node.running(FOLDER)
    return _say(found)


def _stop(_: argparse.Namespace) -> int:
    print("broker stopped" if node.stop_running(FOLDER) else "no broker was running")
    return 0


def _status(_: argparse.Namespace) -> int:
    return _say(node.running(FOLDER))


def _say(found: tuple[int, str] | None) -> int:
    if found is None:
        print("no broker is running; `make broker` starts one")
        return 1
    pid, address = found
    print(f"broker ready at {address} (pid {pid}, log {FOLDER / 'log'})\nstop it with: {STOP}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
