"""The output of `hamgate audit --once`: how far each partition is proven, and what was found."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from worker.audit.ledger import MismatchKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from worker.audit.ledger import Ledger


@dataclass(frozen=True, slots=True)
class AuditReport:
    """From which offset to which each partition was audited, and what that came to."""

    topic: str
    began: Mapping[int, int]
    ended: Mapping[int, int]
    ledger: Ledger

    @property
    def is_proven(self) -> bool:
        """Whether no mismatch was found."""
        return not self.ledger.mismatches.total()

    def as_json(self) -> str:
        """For programs."""
        spans = {partition: [self.began.get(partition, 0), end] for partition, end in sorted(self.ended.items())}
        found = {kind: self.ledger.mismatches[kind] for kind in MismatchKind}
        report = {"topic": self.topic, "offsets": spans, "proven": self.ledger.proven, "skipped": self.ledger.skipped}
        return json.dumps({**report, "mismatches": found, "is_proven": self.is_proven})

    def lines(self) -> Iterator[str]:
        """For people."""
        yield f"{'partition':>10} {'from':>14} {'to':>14}"
        for partition, end in sorted(self.ended.items()):
            yield f"{partition:>10} {self.began.get(partition, 0):>14,} {end:>14,}"
        yield f"{self.ledger.proven:>10,} messages of {self.topic} have one answer each, in order"
        if self.ledger.skipped:
            yield f"{self.ledger.skipped:>10,} offsets not audited: deleted before they were read"
        for kind in MismatchKind:
            yield f"{self.ledger.mismatches[kind]:>10,} {kind}"
