"""The simulated brokers' answers to the requests of a transaction, as they stand in Kafka's protocol."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from kafka import errors
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
from kafka.record.memory_records import MemoryRecords

from tests.simulation.cluster import OFFSETS
from worker.messages import Outgoing

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.cluster import Cluster

TRANSACTION_NODE: Final = 0
GROUP_NODE: Final = 1
LABELS: Final = {
    ApiVersionsRequest: "find",
    FindCoordinatorRequest: "find",
    InitProducerIdRequest: "init",
    AddPartitionsToTxnRequest: "add",
    AddOffsetsToTxnRequest: "add",
    TxnOffsetCommitRequest: "offsets",
    ProduceRequest: "produce",
    EndTxnRequest: "end",
}
"""The name of each request in schedules."""


def answer(cluster: Cluster, request: Any) -> Any:
    """Have a request take effect, and answer it."""
    return _ANSWERS[type(request)](cluster, request)


def _code(apply: Callable[[], Any]) -> int:
    try:
        apply()
    except errors.BrokerResponseError as error:
        return int(error.errno)
    return 0


def _features(cluster: Cluster, _: Any) -> Any:
    finalised = SimpleNamespace(name="transaction.version", max_version_level=cluster.transaction_version)
    return SimpleNamespace(error_code=0, finalized_features=[finalised])


def _find(_: Cluster, request: Any) -> Any:
    is_transaction = request.key_type == CoordinatorType.TRANSACTION.value
    return SimpleNamespace(coordinators=[], error_code=0, node_id=TRANSACTION_NODE if is_transaction else GROUP_NODE)


def _init(cluster: Cluster, request: Any) -> Any:
    name, timeout = request.transactional_id, request.transaction_timeout_ms / 1000
    code = _code(lambda: cluster.init_producer(name, timeout))
    return SimpleNamespace(error_code=code, producer_id=1, producer_epoch=cluster.writers[name].epoch)


def _add_partitions(cluster: Cluster, request: Any) -> Any:
    name, epoch = request.v3_and_below_transactional_id, request.v3_and_below_producer_epoch
    topic_of = AddPartitionsToTxnResponse.AddPartitionsToTxnTopicResult
    partition_of = topic_of.AddPartitionsToTxnPartitionResult
    results = [
        topic_of(
            name=topic.name,
            results_by_partition=[
                partition_of(
                    partition_index=index,
                    partition_error_code=_code(lambda place=(topic.name, index): cluster.add(name, epoch, place)),
                )
                for index in topic.partitions
            ],
        )
        for topic in request.v3_and_below_topics
    ]
    return AddPartitionsToTxnResponse(results_by_topic_v3_and_below=results)


def _add_offsets(cluster: Cluster, request: Any) -> Any:
    code = _code(lambda: cluster.add(request.transactional_id, request.producer_epoch, OFFSETS))
    return SimpleNamespace(error_code=code)


def _commit_offsets(cluster: Cluster, request: Any) -> Any:
    positions = {
        (topic.name, p.partition_index): p.committed_offset for topic in request.topics for p in topic.partitions
    }
    name, epoch = request.transactional_id, request.producer_epoch
    code = _code(lambda: cluster.commit_offsets(name, epoch, positions, request))
    topic_of = TxnOffsetCommitResponse.TxnOffsetCommitResponseTopic
    partition_of = topic_of.TxnOffsetCommitResponsePartition
    return TxnOffsetCommitResponse(
        topics=[
            topic_of(name=topic, partitions=[partition_of(partition_index=index, error_code=code)])
            for topic, index in positions
        ]
    )


def _produce(cluster: Cluster, request: Any) -> Any:
    return SimpleNamespace(
        responses=[
            SimpleNamespace(
                name=topic.name,
                partition_responses=[
                    SimpleNamespace(
                        index=each.index,
                        error_code=_append(cluster, request.transactional_id, (topic.name, each.index), each.records),
                        error_message=None,
                    )
                    for each in topic.partition_data
                ],
            )
            for topic in request.topic_data
        ]
    )


def _append(cluster: Cluster, name: str, partition: tuple[str, int], records: bytes) -> int:
    [batch] = iter(MemoryRecords(bytes(records)))
    outgoing = [Outgoing(record.key, record.value, tuple(record.headers)) for record in batch]
    return _code(lambda: cluster.produce(name, batch.producer_epoch, partition, outgoing, batch.base_sequence))


def _end(cluster: Cluster, request: Any) -> Any:
    name, epoch = request.transactional_id, request.producer_epoch
    code = _code(lambda: cluster.end(name, epoch, commit=request.committed))
    return SimpleNamespace(error_code=code, producer_id=1, producer_epoch=cluster.writers[name].epoch)


_ANSWERS: Final[dict[type, Callable[[Cluster, Any], Any]]] = {
    ApiVersionsRequest: _features,
    FindCoordinatorRequest: _find,
    InitProducerIdRequest: _init,
    AddPartitionsToTxnRequest: _add_partitions,
    AddOffsetsToTxnRequest: _add_offsets,
    TxnOffsetCommitRequest: _commit_offsets,
    ProduceRequest: _produce,
    EndTxnRequest: _end,
}
