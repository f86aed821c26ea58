"""Property tests are bounded by examples, not by time: a busy machine is no defect of the code."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("hamgate", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("hamgate")
