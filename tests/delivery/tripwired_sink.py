"""The sink's own process with tripwires: `python -m tests.delivery.tripwired_sink`, as `Tripwires` has it started."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tests.delivery.observed import TRIPWIRES, Tripwires
from worker.broker.sink_server import serve

if __name__ == "__main__":
    Tripwires(*map(Path, json.loads(os.environ[TRIPWIRES])))()
    serve()
