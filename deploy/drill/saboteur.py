"""The worker, with a judge that stands still for as long as the file named by DRILL_HOLD exists: a hung GPU."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from worker.__main__ import main
from worker.model.classifier import Judging

if TYPE_CHECKING:
    from worker.model.classifier import Scores

HOLD: Final = "DRILL_HOLD"


def install(hold: Path) -> None:
    """Put the wait before each batch's scores."""
    scores = Judging.scores

    def held(self: Judging) -> Scores:
        while hold.exists():
            time.sleep(0.1)
        return scores(self)

    Judging.scores = held  # type: ignore[method-assign]


if __name__ == "__main__":
    install(Path(os.environ[HOLD]))
    sys.exit(main())
