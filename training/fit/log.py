"""A run's log, kept in its folder: seconds, tokens, the GPU's memory, the losses."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import torch

from training.fit import model

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import Tensor


class Log:
    """Counts from now on: what was loaded before is not training, what is captured or warmed up from here on is.

    Memory is the most that was allocated since the process began, or since its peak was last reset: loading is in it.
    """

    def __init__(self, adapted: Any, accelerator: Accelerator, done: int, steps: int) -> None:  # noqa: ANN401 peft is untyped
        self._trainable, self._parameters = model.trainable(adapted)
        self._accelerator, self._done = accelerator, done
        self._losses = torch.zeros(steps, device=accelerator.device)
        self._added = self._read = done
        self._tokens = 0
        self.last = math.nan
        self._since = time.perf_counter()

    def add(self, step: int, loss: Tensor, tokens: int) -> None:
        """One step more; its loss stays where it is until it is asked for."""
        self._losses[step] = loss
        self._added = step + 1
        self._tokens += tokens

    def losses(self) -> list[float]:
        """Those of the steps that were added since this was last asked for; waits for the GPU."""
        found: list[float] = self._losses[self._read : self._added].tolist()
        self._read = self._added
        self.last = found[-1]
        return found

    def summary(self) -> dict[str, Any]:
        """Everything, as plain values. Of a resumed run: the steps after it was taken up again."""
        device = self._accelerator.device
        if is_gpu := device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds = time.perf_counter() - self._since
        return {
            "steps": self._added - self._done,
            "resumed_at_step": self._done,
            "seconds": round(seconds, 3),
            "tokens": self._tokens,
            "tokens_per_second": round(self._tokens / seconds, 1),
            "trainable_parameters": self._trainable,
            "parameters": self._parameters,
            "processes": self._accelerator.num_processes,
            "device": torch.cuda.get_device_name(device) if is_gpu else "cpu",
            "compute_type": str(model.compute_type()).removeprefix("torch."),
            "peak_gib": round(torch.cuda.max_memory_allocated(device) / 2**30, 3) if is_gpu else None,
            "peak_reserved_gib": round(torch.cuda.max_memory_reserved(device) / 2**30, 3) if is_gpu else None,
            "losses": [round(loss, 5) for loss in self._losses[self._done : self._added].tolist()],
        }
