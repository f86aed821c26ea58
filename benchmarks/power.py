"""Watts of the first NVIDIA GPU, sampled by nvidia-smi while something runs."""

from __future__ import annotations

import statistics
import subprocess
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

_COMMAND = ("nvidia-smi", "--id=0", "--query-gpu=power.draw", "--format=csv,noheader,nounits", "--loop-ms=50")


class Power:
    """Samples from entry to exit; `watts` is their mean afterwards, the ramp of the first ones left out."""

    watts: float = float("nan")

    def __enter__(self) -> Self:
        """Begin to sample."""
        self._sampling = subprocess.Popen(_COMMAND, stdout=subprocess.PIPE, text=True)  # noqa: S603 # ours
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Stop, and take the mean."""
        self._sampling.terminate()
        output, _ = self._sampling.communicate()
        samples = [float(line) for line in output.splitlines() if line.strip().replace(".", "", 1).isdigit()]
        if kept := samples[len(samples) // 4 :]:
            self.watts = statistics.fmean(kept)
