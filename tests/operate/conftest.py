"""The fixtures of the integration tests, for what watches the same worker from outside."""

from tests.integration.conftest import bundle, start, traffic, watch

__all__ = ["bundle", "start", "traffic", "watch"]
