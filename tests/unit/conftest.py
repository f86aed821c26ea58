"""Property tests are bounded by examples, not by time: a busy machine is no defect of the code."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

settings.register_profile("hamgate", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("hamgate")


@pytest.fixture(autouse=True)
def _windows_are_closed() -> Iterator[None]:
    """A window that is asked again, as that of a whole module, opens its file anew."""
    yield
    if consoles := sys.modules.get("tests.consoles"):
        consoles.close_windows()
