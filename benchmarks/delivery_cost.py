"""The cost of exactly-once against at-least-once: the same worker, broker and messages, in turns.

    python -m benchmarks.delivery_cost [--messages 100000] [--rounds 3] [--judge no-op|nano]

The judge costs nothing unless told otherwise, so that the cost of delivery is not hidden behind a model's. In each
round both work off a backlog, and both then take the same open load: half of what exactly-once has worked off.
"""

from __future__ import annotations

import argparse
import sys
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from benchmarks import end_to_end
from benchmarks.no_op_judge import Backlog
from training import results

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

MODES: Final = ("exactly-once", "at-least-once")
_QUANTILES: Final = (50, 95, 99)


def main() -> int:
    """Measure, print, record."""
    options = _options()
    rates: dict[str, list[float]] = {mode: [] for mode in MODES}
    waits: dict[str, list[NDArray[np.float64]]] = {mode: [] for mode in MODES}
    with end_to_end.broker(options) as (bootstrap, _):
        for number in range(options.rounds):
            # Whoever comes second finds the broker's page cache and the processor as the first has left them.
            for mode in MODES if number % 2 == 0 else MODES[::-1]:
                load = options.load or (median(rates[MODES[0]]) / 2 if rates[MODES[0]] else None)
                with _place(bootstrap, options, mode) as place:
                    rates[mode].append(place.work_off(options.messages))
                    waits[mode].append(place.trickle(load or rates[mode][-1] / 2, options.seconds).ms)
                p50, p99 = np.percentile(waits[mode][-1], (50, 99))
                print(f"{mode:<14} {rates[mode][-1]:,.0f} msg/s; p50 {p50:.1f} ms, p99 {p99:.1f} ms", flush=True)
    share = median(once / least for once, least in zip(*(rates[mode] for mode in MODES), strict=True))
    print(f"exactly-once over at-least-once: {share:.3f}; {_record(options, rates, waits, share)}")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.delivery_cost", description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000, help="backlog of each run")
    parser.add_argument("--rounds", type=int, default=3, help="of both; medians are recorded")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each latency run")
    parser.add_argument("--load", type=float, help="events a second of the latency runs; none: half of exactly-once")
    parser.add_argument("--judge", choices=("no-op", "nano"), default="no-op")
    parser.add_argument("--brokers", help="a broker that runs already; none: one of its own")
    parser.set_defaults(bundle=end_to_end.SHIPPED_BUNDLE, threads=1)
    return parser.parse_args()


def _place(bootstrap: str, options: argparse.Namespace, mode: str) -> end_to_end.Place:
    mine = argparse.Namespace(**vars(options) | {"delivery": mode})
    if options.judge == "no-op":
        return Backlog(bootstrap, mine, "tokenising")
    return end_to_end.Place(bootstrap, options.bundle.resolve(), "cpu", mine)


def _record(
    options: argparse.Namespace,
    rates: dict[str, list[float]],
    waits: dict[str, list[NDArray[np.float64]]],
    share: float,
) -> Path:
    extra: dict[str, Any] = {"judge": options.judge, "messages": options.messages, "rounds": options.rounds}
    extra["messages_per_second"] = {mode: [round(rate) for rate in found] for mode, found in rates.items()}
    latency = {
        mode: {f"p{q}_ms": round(median(float(np.percentile(one, q)) for one in found), 2) for q in _QUANTILES}
        for mode, found in waits.items()
    }
    shares = [once / least for once, least in zip(*(rates[mode] for mode in MODES), strict=True)]
    entries = [
        results.Entry("delivery/exactly-once-share", "ratio", round(share, 4),
                      f"{min(shares):.3f} to {max(shares):.3f}", extra | {"latency": latency}),
        *(results.Entry(f"delivery/{mode}/half-load-{quantile}-ms", "ms", latency[mode][f"{quantile}_ms"])
          for mode in MODES for quantile in ("p50", "p99")),
    ]  # fmt: skip
    return results.record(f"delivery_cost-{options.judge}", entries)


if __name__ == "__main__":
    sys.exit(main())
