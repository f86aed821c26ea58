"""A link to the brokers before it is connected."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from worker.broker import KafkaLink


def test_ctrl_c_while_a_client_is_made_is_not_replaced_by_what_its_closing_raises() -> None:
    def cut_short(*, kafka_client: Any, **options: Any) -> None:
        kafka_client(**options)._net._io_thread = threading.Thread()  # made, and never started: it cannot be joined
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        KafkaLink("127.0.0.1:1").connect(cut_short)
