"""Which transaction version a cluster has, as its brokers say it."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
from kafka.protocol.metadata import ApiVersionsRequest, ApiVersionsResponse

from deploy.kafka.node import LOOPBACK, Node

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.broker


def finalized(port: int) -> dict[str, int]:
    """The features that all brokers of the cluster have agreed on, and their levels."""
    request = ApiVersionsRequest(version=3, client_software_name="hamgate-tests", client_software_version="1")
    request.with_header(correlation_id=1)
    with socket.create_connection((LOOPBACK, port), timeout=5) as connection, connection.makefile("rb") as stream:
        connection.sendall(request.encode(header=True, framed=True))
        size = stream.read(4)
        answer = ApiVersionsResponse.decode(size + stream.read(int.from_bytes(size)), 3, header=True, framed=True)
    return {feature.name: feature.max_version_level for feature in answer.finalized_features}


@pytest.mark.parametrize(("asked", "finalised"), [(1, 1), (2, 2), (None, 2)])
def test_a_cluster_has_the_transaction_version_that_it_was_made_with(
    tmp_path: Path, asked: int | None, finalised: int
) -> None:
    with Node(tmp_path, heap="256m", transaction_version=asked) as node:
        assert finalized(node.port)["transaction.version"] == finalised
