"""The requests of those who write, made; and their answers, read: None, or the error that they tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from kafka import errors
from kafka.protocol.consumer import OffsetCommitRequest, OffsetCommitResponse
from kafka.protocol.metadata import CoordinatorType, FindCoordinatorRequest
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

from worker.broker.link import REQUEST_TIMEOUT, milliseconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from kafka import TopicPartition

    from worker.messages import Positions

# The newest that need no transaction.version 2 of the brokers (KIP-890), and that a broker since 2.5 knows.
_NEWEST: Final = 3
_OLDEST_PRODUCE, _NEWEST_PRODUCE = 3, 9
_NEWEST_COMMIT: Final = 8
_ALL_REPLICAS: Final = -1
PASSING: Final = (errors.RetriableError, errors.UnknownBrokerIdError)
"""What passes: it is asked again, of whoever is in charge by then."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who writes: a transactional id, and the producer id and epoch that its coordinator has given it."""

    transactional_id: str
    producer_id: int = -1
    epoch: int = -1

    def fields(self) -> dict[str, Any]:
        """As most requests have it."""
        return {
            "transactional_id": self.transactional_id,
            "producer_id": self.producer_id,
            "producer_epoch": self.epoch,
        }


def find(kind: CoordinatorType, key: str) -> FindCoordinatorRequest:
    """Who coordinates a group, or a transactional id."""
    return FindCoordinatorRequest(key=key, key_type=kind.value, coordinator_keys=[key])


def found(answer: Any) -> int:  # noqa: ANN401 the client is untyped
    """Return the coordinator's node. Raises the answer's error."""
    answer = answer.coordinators[0] if answer.coordinators else answer  # KIP-699
    require(answer.error_code)
    node: int = answer.node_id
    return node


def init(identity: Identity, timeout: float) -> InitProducerIdRequest:
    """Fence who wrote under this name before, and abort what it left open."""
    return InitProducerIdRequest(**identity.fields(), transaction_timeout_ms=milliseconds(timeout), max_version=_NEWEST)


def add_offsets(identity: Identity, group_id: str) -> AddOffsetsToTxnRequest:
    """Make the group's offsets part of the transaction."""
    return AddOffsetsToTxnRequest(**identity.fields(), group_id=group_id, max_version=_NEWEST)


def add_partitions(identity: Identity, partitions: Iterable[TopicPartition]) -> AddPartitionsToTxnRequest:
    """Make partitions part of the transaction."""
    topic = AddPartitionsToTxnRequest.AddPartitionsToTxnTopic
    return AddPartitionsToTxnRequest(
        **{f"v3_and_below_{name}": value for name, value in identity.fields().items()},
        v3_and_below_topics=[topic(name=name, partitions=each) for name, each in _by_topic(partitions).items()],
        max_version=_NEWEST,
    )


def produce(identity: Identity, batches: Mapping[TopicPartition, bytearray]) -> ProduceRequest:
    """Have a leader append a batch to each of these, and answer when all replicas in sync have it."""
    topic = ProduceRequest.TopicProduceData
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
        min_version=_OLDEST_PRODUCE,
        max_version=_NEWEST_PRODUCE,
    )


def commit_offsets(
    identity: Identity,
    positions: Positions,
    claim: Any,  # noqa: ANN401 the client is untyped
    notes: Mapping[tuple[str, int], str],
) -> TxnOffsetCommitRequest:
    """Write the group's offsets, fenced by the claim (KIP-447)."""
    topic = TxnOffsetCommitRequest.TxnOffsetCommitRequestTopic
    return TxnOffsetCommitRequest(
        **identity.fields(),
        generation_id=claim.generation_id,
        **_member(claim),
        topics=_offsets(topic, topic.TxnOffsetCommitRequestPartition, positions, notes),
        max_version=_NEWEST,
    )


def commit(positions: Positions, claim: Any) -> OffsetCommitRequest:  # noqa: ANN401 the client is untyped
    """Write the group's offsets, fenced by the claim, in no transaction."""
    topic = OffsetCommitRequest.OffsetCommitRequestTopic
    return OffsetCommitRequest(
        generation_id_or_member_epoch=claim.generation_id,
        **_member(claim),
        topics=_offsets(topic, topic.OffsetCommitRequestPartition, positions, {}),
        max_version=_NEWEST_COMMIT,
    )


def end(identity: Identity, *, is_commit: bool) -> EndTxnRequest:
    """Decide."""
    return EndTxnRequest(**identity.fields(), committed=is_commit, max_version=_NEWEST)


def require(code: int, *what: object) -> None:
    """Raise the error of this code, where there is one."""
    if code:
        raise errors.for_code(code)(*what)


def require_all(answer: Any) -> None:  # noqa: ANN401 the client is untyped
    """Raise the worst error of an answer to any request but `find` and `produce`."""
    if isinstance(answer, AddPartitionsToTxnResponse):
        topics = answer.results_by_topic_v3_and_below
        codes = [(t.name, each.partition_error_code) for t in topics for each in t.results_by_partition]
    elif isinstance(answer, OffsetCommitResponse | TxnOffsetCommitResponse):
        codes = [(t.name, each.error_code) for t in answer.topics for each in t.partitions]
    else:
        require(answer.error_code)
        return
    raise_worst([errors.for_code(code)(topic) for topic, code in codes if code])


def raise_worst(refusals: Sequence[BaseException]) -> None:
    """Raise one, if any: what does not pass before what does, and a reason before `not attempted`."""
    if refusals:
        raise min(refusals, key=lambda e: (isinstance(e, errors.OperationNotAttemptedError), isinstance(e, PASSING)))


def _member(claim: Any) -> dict[str, Any]:  # noqa: ANN401 the client is untyped
    return {
        "group_id": claim.group_id,
        "member_id": claim.member_id,
        "group_instance_id": claim.group_instance_id,
    }


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
