"""`python -m tests.delivery.late`: one worker, one broker, and requests that come after their sender has given up.

Of every so many EndTxn requests the connection is reset and the request delivered later, when the worker has long sent
it again, or has begun the next transaction; TxnOffsetCommit requests are held for a moment now and then, so that the
late one more often meets a transaction that is half done. Prints one line of JSON; the exit status is 1 when a message
was lost or duplicated.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.kafka.cluster import Cluster
from deploy.kafka.node import scratch
from tests.delivery import answers, plants
from tests.delivery.frames import Api, FrameProxy, Harm, Rule
from tests.delivery.stage import Load, Stage
from tests.integration.parts import Parts
from tests.integration.tiny import build

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class LateCopies:
    """One EndTxn of `every` so many comes late by `delay` seconds; a share of the offsets is held up to `jitter`."""

    every: float = 12
    delay: tuple[float, float] = (0.02, 0.4)
    jitter: float = 0.25
    jitter_share: float = 0.5

    def rules(self) -> tuple[Rule, ...]:
        late = Rule(Api.END_TXN, Harm.LATE_COPY, self.every, self.delay)
        held = Rule(Api.TXN_OFFSET_COMMIT, Harm.DELAY, 1 / (self.jitter_share or 1), (0, self.jitter))
        return (late, held) if self.jitter_share and self.jitter else (late,)


def play(
    cluster: Cluster,
    frames: FrameProxy,
    bundle: Path,
    folder: Path,
    load: Load,
    fault: LateCopies,
    changes: tuple[Callable[[], None], ...] = (),
) -> dict[str, Any]:
    """Run it and return what it came to, by the names of the line that is printed."""
    with Stage(cluster, bundle, folder, load, {}, changes, parts=Parts()) as stage:
        stage.start("one")
        frames.strike(*fault.rules())
        stage.feed.start()
        stage.until(lambda: not stage.feed.is_flowing(), load.total / load.rate + 60, "all messages are sent")
        frames.strike()
        found = stage.finish()
        verdicts = sum(seen.topic == stage.place.verdicts for seen in stage.watch.records)
    return {
        "in": found["messages"],
        "verdicts": verdicts,
        "lost": found["lost"] + found["dead_letters_lost"],
        "duplicated": found["duplicated"] + found["dead_letters_duplicated"],
        "reordered": found["reordered"],
        "faults": answers.counts(frames),
        "worker_exits": found["ended_by_themselves"],
        "transactions": found["transactions"],
    }


def main() -> int:
    """Play, print, and return 0 when nothing was lost or duplicated."""
    parser = argparse.ArgumentParser(prog="python -m tests.delivery.late", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--transaction-version", type=int, choices=(1, 2), help="the cluster's; Kafka's choice is 2")
    parser.add_argument("--messages", type=int, default=9000)
    parser.add_argument("--rate", type=int, default=150, help="messages a second")
    parser.add_argument("--every", type=float, default=LateCopies.every, help="one EndTxn of so many comes late")
    parser.add_argument("--delay", type=float, nargs=2, default=LateCopies.delay, help="by so many seconds")
    parser.add_argument("--jitter", type=float, default=LateCopies.jitter, help="seconds that offsets are held at most")
    parser.add_argument("--jitter-share", type=float, default=LateCopies.jitter_share, help="of this share of them")
    parser.add_argument("--retry-end", action="store_true", help="plant the bug: EndTxn sent again under one epoch")
    options = parser.parse_args()
    fault = LateCopies(options.every, tuple(options.delay), options.jitter, options.jitter_share)
    with (
        tempfile.TemporaryDirectory() as made,
        scratch("late") as folder,
        FrameProxy(options.seed) as frames,
        Cluster(
            folder,
            proxied=True,
            brokers=1,
            transaction_version=options.transaction_version,
            in_front=frames.between,
        ) as cluster,
    ):
        bundle = build(Path(made) / "tiny")
        load = Load(total=options.messages, rate=options.rate)
        changes = (plants.sends_the_end_again,) if options.retry_end else ()
        found = play(cluster, frames, bundle, Path(made) / "run", load, fault, changes)
    print(json.dumps(found))
    return 1 if found["lost"] or found["duplicated"] else 0


if __name__ == "__main__":
    sys.exit(main())
