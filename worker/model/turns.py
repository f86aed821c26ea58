"""A lock whose waiters get it in their order, and that knows how long each thread has waited.

Python's own goes to whoever asks first after its release: a thread that judges without a pause would never let another
have its turn.
"""

from __future__ import annotations

import threading
import time
from collections import deque


class Turns:
    """One thread at a time, in the order of asking; not for a thread that has it already."""

    def __init__(self) -> None:
        self._state = threading.Lock()
        self._is_taken = False
        self._gates: deque[threading.Lock] = deque()
        self._of_thread = threading.local()

    def __enter__(self) -> None:
        """Wait for it."""
        with self._state:
            if not self._is_taken:
                self._is_taken = True
                return
            gate = threading.Lock()
            gate.acquire()
            self._gates.append(gate)
        began = time.monotonic()
        gate.acquire()
        self._of_thread.waited = self.waited() + time.monotonic() - began

    def __exit__(self, *_: object) -> None:
        """Hand it to the next in line."""
        with self._state:
            if self._gates:
                self._gates.popleft().release()
            else:
                self._is_taken = False

    def waited(self) -> float:
        """Seconds that this thread has waited for it, in all."""
        waited: float = getattr(self._of_thread, "waited", 0.0)
        return waited
