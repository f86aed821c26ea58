"""The requests of a producer: built, and their answers read. Their versions depend on the transaction version.

Transaction version 1 (KIP-98): partitions and the group's offsets are added to a transaction by requests of their own.
Transaction version 2 (KIP-890): Produce v12 and TxnOffsetCommit v5 add them, and EndTxn v5 returns the next epoch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from kafka import errors
from kafka.protocol.consumer import OffsetCommitRequest, OffsetCommitResponse
from kafka.protocol.metadata import ApiVersionsRequest, CoordinatorType, FindCoordinatorRequest
from kafka.protocol.producer import (
    AddOffsetsToTxnRequest,
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponse,
    EndTxnRequest,
    InitProducerIdRequest,
    ProduceRequest,
    TxnOffsetCommitRequest,
    TxnOffsetCommitResponse,
)

from worker.broker import incarnation
from worker.broker.link import REQUEST_TIMEOUT, milliseconds
from worker.broker.refusals import fate

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from kafka import TopicPartition

    from worker.messages import Positions

# The lowest and highest version of each request by transaction version. Version 1: what a broker since 2.5 knows, the
# member's generation in TxnOffsetCommit included (KIP-447). Version 2: exactly those, since older ones add nothing.
_PRODUCE: Final = {1: (3, 9), 2: (12, 12)}
_TXN_OFFSET_COMMIT: Final = {1: (3, 3), 2: (5, 5)}
_END_TXN: Final = {1: (0, 3), 2: (5, 5)}
_NEWEST_ADD: Final = 3
_NEWEST_INIT: Final = 3
_NEWEST_COMMIT: Final = 8
_FEATURE: Final = "transaction.version"
_ALL_REPLICAS: Final = -1
RETRIABLE: Final = (errors.RetriableError, errors.UnknownBrokerIdError)
"""Refusals that may be over soon: ask again, of whichever broker is in charge by then."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A producer: its id and epoch, under a transactional id or, outside transactions, under none."""

    transactional_id: str | None
    producer_id: int = -1
    epoch: int = -1
    version: int = 1
    """The transaction version, 1 or 2."""

    def fields(self) -> dict[str, Any]:
        """As most requests have it."""
        return {
            "transactional_id": self.transactional_id,
            "producer_id": self.producer_id,
            "producer_epoch": self.epoch,
        }


def find(kind: CoordinatorType, key: str) -> FindCoordinatorRequest:
    """Ask for the coordinator of a group, or of a transactional id."""
    return FindCoordinatorRequest(key=key, key_type=kind.value, coordinator_keys=[key])


def found(answer: Any) -> int:  # noqa: ANN401 the client is untyped
    """Return the coordinator's node. Raises the answer's error."""
    answer = answer.coordinators[0] if answer.coordinators else answer  # KIP-699
    require(answer.error_code)
    node: int = answer.node_id
    return node


def features() -> ApiVersionsRequest:
    """Ask a broker what the cluster has finalised (KIP-584)."""
    return ApiVersionsRequest(client_software_name="hamgate", client_software_version="1")


def transaction_version(answer: Any) -> int:  # noqa: ANN401 the client is untyped
    """Return 2 where the cluster has finalised it, else 1. That a broker knows the requests is not enough (KIP-890)."""
    finalised = {feature.name: feature.max_version_level for feature in answer.finalized_features or ()}
    return 2 if finalised.get(_FEATURE, 0) >= 2 else 1  # noqa: PLR2004


def init(identity: Identity, timeout: float) -> InitProducerIdRequest:
    """Fence every earlier producer of this transactional id and abort its open transaction; without one: a new id."""
    return InitProducerIdRequest(
        transactional_id=identity.transactional_id,
        transaction_timeout_ms=milliseconds(timeout),
        producer_id=-1,
        producer_epoch=-1,
        max_version=_NEWEST_INIT,
    )


def add_offsets(identity: Identity, group_id: str) -> AddOffsetsToTxnRequest:
    """Make the group's offsets part of the transaction (version 1)."""
    return AddOffsetsToTxnRequest(**identity.fields(), group_id=group_id, max_version=_NEWEST_ADD)


def add_partitions(identity: Identity, partitions: Iterable[TopicPartition]) -> AddPartitionsToTxnRequest:
    """Make partitions part of the transaction (version 1)."""
    topic = AddPartitionsToTxnRequest.AddPartitionsToTxnTopic
    return AddPartitionsToTxnRequest(
        **{f"v3_and_below_{name}": value for name, value in identity.fields().items()},
        v3_and_below_topics=[topic(name=name, partitions=each) for name, each in _by_topic(partitions).items()],
        max_version=_NEWEST_ADD,
    )


def produce(identity: Identity, batches: Mapping[TopicPartition, bytearray]) -> ProduceRequest:
    """Have a leader append a batch to each of these, and answer when all replicas in sync have it."""
    topic, (lowest, highest) = ProduceRequest.TopicProduceData, _PRODUCE[identity.version]
    return ProduceRequest(
        transactional_id=identity.transactional_id,
        acks=_ALL_REPLICAS,
        timeout_ms=milliseconds(REQUEST_TIMEOUT),
        topic_data=[
            topic(
                name=name,
                partition_data=[
                    topic.PartitionProduceData(index=partition, records=batches[name, partition])
                    for partition in partitions
                ],
            )
            for name, partitions in _by_topic(batches).items()
        ],
        min_version=lowest,
        max_version=highest,
    )


def commit_offsets(
    identity: Identity,
    positions: Positions,
    metadata: Any,  # noqa: ANN401 the client is untyped
    notes: Mapping[tuple[str, int], str],
) -> TxnOffsetCommitRequest:
    """Write the group's offsets, fenced by the metadata (KIP-447); without `notes` with the id of the topic polled."""
    notes = notes or _noted(positions, metadata)
    topic, (lowest, highest) = TxnOffsetCommitRequest.TxnOffsetCommitRequestTopic, _TXN_OFFSET_COMMIT[identity.version]
    return TxnOffsetCommitRequest(
        **identity.fields(),
        generation_id=metadata.generation_id,
        **_member(metadata),
        topics=_offsets(topic, topic.TxnOffsetCommitRequestPartition, positions, notes),
        min_version=lowest,
        max_version=highest,
    )


def commit(positions: Positions, metadata: Any) -> OffsetCommitRequest:  # noqa: ANN401 the client is untyped
    """Write the group's offsets, fenced by the metadata, in no transaction; with the id of the topic polled."""
    topic = OffsetCommitRequest.OffsetCommitRequestTopic
    return OffsetCommitRequest(
        generation_id_or_member_epoch=metadata.generation_id,
        **_member(metadata),
        topics=_offsets(topic, topic.OffsetCommitRequestPartition, positions, _noted(positions, metadata)),
        max_version=_NEWEST_COMMIT,
    )


def end(identity: Identity, *, is_commit: bool) -> EndTxnRequest:
    """Commit or abort."""
    lowest, highest = _END_TXN[identity.version]
    return EndTxnRequest(**identity.fields(), committed=is_commit, min_version=lowest, max_version=highest)


def require(code: int, *what: object) -> None:
    """Raise the error of this code, where there is one."""
    if code:
        raise errors.for_code(code)(*what)


def require_all(answer: Any) -> None:  # noqa: ANN401 the client is untyped
    """Raise the worst error of an answer to any request but `find` and `produce`."""
    if isinstance(answer, AddPartitionsToTxnResponse):
        topics = answer.results_by_topic_v3_and_below
        codes = [
            (f"{t.name}:{each.partition_index}", each.partition_error_code)
            for t in topics
            for each in t.results_by_partition
        ]
    elif isinstance(answer, OffsetCommitResponse | TxnOffsetCommitResponse):
        codes = [(f"{t.name}:{each.partition_index}", each.error_code) for t in answer.topics for each in t.partitions]
    else:
        require(answer.error_code)
        return
    raise_worst([errors.for_code(code)(where) for where, code in codes if code])


def raise_worst(refusals: Sequence[BaseException]) -> None:
    """Raise the gravest, if any, and a reason before `not attempted`."""
    if refusals:
        raise min(refusals, key=lambda e: (isinstance(e, errors.OperationNotAttemptedError), fate(e).value))


def _member(metadata: Any) -> dict[str, Any]:  # noqa: ANN401 the client is untyped
    return {
        "group_id": metadata.group_id,
        "member_id": metadata.member_id,
        "group_instance_id": metadata.group_instance_id,
    }


def _noted(positions: Positions, metadata: Any) -> dict[tuple[str, int], str]:  # noqa: ANN401 the client is untyped
    return dict.fromkeys(positions, incarnation.note(incarnation.of(metadata)))


def _offsets(topic: Any, part: Any, positions: Positions, notes: Mapping[tuple[str, int], str]) -> list[Any]:  # noqa: ANN401
    return [
        topic(
            name=name,
            partitions=[
                part(
                    partition_index=partition,
                    committed_offset=positions[name, partition],
                    committed_leader_epoch=-1,
                    committed_metadata=notes.get((name, partition), ""),
                )
                for partition in partitions
            ],
        )
        for name, partitions in _by_topic(positions).items()
    ]


def _by_topic(partitions: Iterable[tuple[str, int]]) -> dict[str, list[int]]:
    by_topic: dict[str, list[int]] = {}
    for topic, partition in partitions:
        by_topic.setdefault(topic, []).append(partition)
    return by_topic
