"""The hardware that a figure was made on, by name: the GPU where there is one, or the processor and how much of it."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def device() -> str:
    """Name of the GPU, or of the processor where there is none."""
    import torch  # noqa: PLC0415 -- seconds, and the processor's name needs none of it

    return torch.cuda.get_device_name() if torch.cuda.is_available() else processor()


def processor() -> str:
    """The processor's name and how many cores this process may use, as `AMD EPYC, 2 cores`."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} cores"
