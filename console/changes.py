"""The audit log: one JSON line for each change and each look at a sender's bytes. Never a text, number or password."""

from __future__ import annotations

import json
import os
import threading
import time
from typing import TYPE_CHECKING

from worker.messages import rfc3339

if TYPE_CHECKING:
    from pathlib import Path

    from console.access import Visitor


class AuditLog:
    """Appends to a file that its owner alone may read. Raises OSError where that cannot be done."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        self._append("")

    def write(self, visitor: Visitor | None, what: str, **fields: object) -> None:
        """Note who did what. What cannot be noted must not be done: raises OSError."""
        who = {"user": visitor.name, "role": visitor.role} if visitor else {"user": None, "role": None}
        self._append(json.dumps({"at": rfc3339(time.time()), **who, "what": what, **fields}) + "\n")

    def _append(self, line: str) -> None:
        with self._lock:
            file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(file, line.encode())
            finally:
                os.close(file)
