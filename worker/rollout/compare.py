"""`hamgate compare`: reads the shadow's topic to its end and counts where it would have judged differently."""

from __future__ import annotations

import datetime as dt
import math
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from worker.rollout.shadow import Disagreement, Summary, decode_report

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_EXAMPLES: Final = 10
_Z: Final = 1.96


@dataclass(slots=True)
class Comparison:
    """Two models over the messages that both have judged."""

    primary: str
    shadow: str
    judged: int = 0
    skipped: int = 0
    labels: Counter[tuple[str, str]] = field(default_factory=Counter)
    examples: dict[tuple[str, str], list[Disagreement]] = field(default_factory=lambda: defaultdict(list))

    @property
    def differing(self) -> int:
        """Messages that the two label differently."""
        return sum(count for (said, other), count in self.labels.items() if said != other)

    def as_json(self) -> dict[str, Any]:
        """All of it, for programs."""
        low, high = interval(self.differing, self.judged)
        return {
            "primary": self.primary,
            "shadow": self.shadow,
            "judged": self.judged,
            "skipped": self.skipped,
            "differing": self.differing,
            "differing_share": self.differing / self.judged if self.judged else None,
            "differing_share_interval": [low, high],
            "labels": [
                {"primary": said, "shadow": other, "messages": count}
                for (said, other), count in sorted(self.labels.items())
            ],
            "examples": [msgspec.to_builtins(each) for found in self.examples.values() for each in found],
        }

    def lines(self) -> Iterator[str]:
        """All of it, for people."""
        low, high = interval(self.differing, self.judged)
        yield f"{self.primary} in force, {self.shadow} in its shadow"
        share = f"{self.differing / self.judged:.3%} ({low:.3%} to {high:.3%})" if self.judged else "-"
        yield f"  {self.judged:,} judged by both, {self.differing:,} differ: {share}; {self.skipped:,} missed"
        for (said, other), count in sorted(self.labels.items()):
            yield f"  {said:>10} -> {other:<10} {count:>12,}" + (
                "" if said == other else f"  {count / self.judged:.3%}"
            )
        for (said, other), found in sorted(self.examples.items()):
            yield f"  largest differences, {said} -> {other}:"
            for each in found:
                yield f"    {each.id}  {_score(each.primary.score)} -> {_score(each.shadow.score)}"


def compare(values: Iterable[bytes | None], *, since: float | None = None) -> list[Comparison]:
    """Sum up the reports of each pair of models, in the order they first came; what is no report is passed over.

    `since` is Unix seconds: earlier reports are left out.
    """
    found: dict[tuple[str, str], Comparison] = {}
    for value in values:
        add(found, value, since=since)
    return list(found.values())


def add(found: dict[tuple[str, str], Comparison], value: bytes | None, *, since: float | None = None) -> None:
    """Count one report; what is none is passed over."""
    try:
        report = decode_report(value or b"")
    except msgspec.DecodeError:
        return
    at = report.until if isinstance(report, Summary) else report.at
    if since is None or _moment(at) >= since:
        _add(found, report)


def _add(found: dict[tuple[str, str], Comparison], report: Disagreement | Summary) -> None:
    if isinstance(report, Summary):
        pair = (report.primary, report.shadow)
        its = found.setdefault(pair, Comparison(*pair))
        its.judged += report.judged
        its.skipped += report.skipped
        for said, others in report.labels.items():
            for other, count in others.items():
                its.labels[said, other] += count
        return
    pair = (report.primary.model, report.shadow.model)
    its = found.setdefault(pair, Comparison(*pair))
    examples = its.examples[report.primary.label or "none", report.shadow.label or "none"]
    examples.append(report)
    examples.sort(key=_score_difference, reverse=True)
    del examples[_EXAMPLES:]


def _score_difference(report: Disagreement) -> float:
    if report.primary.score is None or report.shadow.score is None:
        return math.inf
    return abs(report.primary.score - report.shadow.score)


def interval(count: int, of: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    if not of:
        return 0.0, 1.0
    share = count / of
    middle = share + _Z**2 / (2 * of)
    spread = _Z * math.sqrt(share * (1 - share) / of + _Z**2 / (4 * of**2))
    return max(0.0, (middle - spread) / (1 + _Z**2 / of)), min(1.0, (middle + spread) / (1 + _Z**2 / of))


def _moment(text: str) -> float:
    return dt.datetime.fromisoformat(text).timestamp()


def _score(score: float | None) -> str:
    return "-" if score is None else f"{score:.3f}"
