"""The worker, with a judge that stands still for as long as the file named by DRILL_HOLD exists: a hung GPU."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from worker.__main__ import main
from worker.classifier import Classifier

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.classifier import Prepared, Scores

HOLD: Final = "DRILL_HOLD"


def install(hold: Path) -> None:
    """Put the wait before each batch's judging."""
    judge = Classifier.judge

    def held(self: Classifier, prepared: Sequence[Prepared]) -> Scores:
        while hold.exists():
            time.sleep(0.1)
        return judge(self, prepared)

    Classifier.judge = held  # type: ignore[method-assign]


if __name__ == "__main__":
    install(Path(os.environ[HOLD]))
    sys.exit(main())
