"""Offset commits of at-least-once: to the coordinator of the moment, fenced by the metadata, refused by name."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from kafka import errors
from kafka.future import Future
from kafka.net.selector import NetworkSelector
from kafka.protocol.consumer import OffsetCommitRequest, OffsetCommitResponse

from worker.broker import KafkaLink, offsets
from worker.broker.client import network

if TYPE_CHECKING:
    from collections.abc import Iterator

POSITIONS = {("sms.events", 0): 7, ("sms.events", 2): 9}
METADATA: Any = SimpleNamespace(group_id="hamgate", generation_id=4, member_id="m", group_instance_id=None)
_TOPIC = OffsetCommitResponse.OffsetCommitResponseTopic


class Group:
    """Its coordinator is one broker after the other of `nodes`, and answers with each of `codes` in turn."""

    cluster: Any

    def __init__(self, nodes: list[int], codes: list[tuple[int, int]]) -> None:
        self.nodes, self.codes = nodes, codes
        self.asked: list[tuple[int | None, Any]] = []

    def least_loaded_node(self) -> None: ...

    def get_connection(self, node: int | None) -> Any:
        return SimpleNamespace(closed=False, paused=False, send_request=lambda request: self.send(request, node))

    def send(self, request: Any, node_id: int | None) -> Future:
        if not isinstance(request, OffsetCommitRequest):
            return Future().success(SimpleNamespace(coordinators=[], error_code=0, node_id=self.nodes.pop(0)))
        self.asked.append((node_id, request))
        codes = self.codes.pop(0) if len(self.codes) > 1 else self.codes[0]
        parts = [_TOPIC.OffsetCommitResponsePartition(index, code) for index, code in zip((0, 2), codes, strict=True)]
        return Future().success(OffsetCommitResponse(topics=[_TOPIC(name="sms.events", partitions=parts)]))


@pytest.fixture
def net() -> Iterator[NetworkSelector]:
    net = NetworkSelector()
    yield net
    net.close()


def commit(net: NetworkSelector, group: Group, monkeypatch: pytest.MonkeyPatch, within: float = 5.0) -> None:
    async def refresh() -> None: ...

    cluster = SimpleNamespace(refresh_metadata=refresh, broker_metadata=lambda _: SimpleNamespace())
    group.cluster = cluster
    client = SimpleNamespace(_manager=group, _net=net)
    monkeypatch.setattr(network, "_bootstrapped", lambda **_: client)
    monkeypatch.setattr(KafkaLink, "connect", lambda _, make, **options: make(**options))
    offsets.Offsets(KafkaLink("none:1")).commit(POSITIONS, METADATA, until=time.monotonic() + within)


def test_all_positions_are_committed_in_the_name_of_the_member(
    net: NetworkSelector, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = Group([1], [(0, 0)])

    commit(net, group, monkeypatch)

    [(node, request)] = group.asked
    assert node == 1
    assert (request.group_id, request.generation_id_or_member_epoch, request.member_id) == ("hamgate", 4, "m")
    assert [
        (topic.name, each.partition_index, each.committed_offset)
        for topic in request.topics
        for each in topic.partitions
    ] == [("sms.events", 0, 7), ("sms.events", 2, 9)]


def test_a_coordinator_that_has_moved_is_looked_for_anew(net: NetworkSelector, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = errors.NotCoordinatorError.errno
    group = Group([1, 2], [(moved, moved), (0, 0)])

    commit(net, group, monkeypatch)

    assert [node for node, _ in group.asked] == [1, 2]


def test_one_that_is_loading_is_asked_again_and_named_when_it_has_not_done_by_the_deadline(
    net: NetworkSelector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offsets, "REQUEST_TIMEOUT", 0.1)
    loading = errors.CoordinatorLoadInProgressError.errno
    group = Group([1], [(loading, loading)])

    with pytest.raises(errors.CoordinatorLoadInProgressError):
        commit(net, group, monkeypatch, within=0.3)

    assert len(group.asked) > 1


def test_what_is_published_is_committed_even_when_that_took_all_the_time_there_was(
    net: NetworkSelector, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = Group([1], [(0, 0)])

    commit(net, group, monkeypatch, within=0.0)

    assert len(group.asked) == 1


@pytest.mark.parametrize(
    "refusal",
    [errors.IllegalGenerationError, errors.UnknownMemberIdError, errors.RebalanceInProgressError],
    ids=lambda error: error.__name__,
)
def test_metadata_that_is_stale_for_one_partition_is_refused_at_once(
    net: NetworkSelector, monkeypatch: pytest.MonkeyPatch, refusal: type[Any]
) -> None:
    group = Group([1], [(0, refusal.errno)])

    with pytest.raises(refusal):
        commit(net, group, monkeypatch)

    assert len(group.asked) == 1
