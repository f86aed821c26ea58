"""The brokers' answers to late requests: how many of each API were accepted, and by which error others were refused."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from kafka import errors
from kafka.protocol import producer

from tests.delivery.frames import Api

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.delivery.frames import Delivered, FrameProxy

_ANSWERS: Final = {
    Api.PRODUCE: producer.ProduceResponse,
    Api.INIT_PRODUCER_ID: producer.InitProducerIdResponse,
    Api.ADD_PARTITIONS_TO_TXN: producer.AddPartitionsToTxnResponse,
    Api.ADD_OFFSETS_TO_TXN: producer.AddOffsetsToTxnResponse,
    Api.END_TXN: producer.EndTxnResponse,
    Api.TXN_OFFSET_COMMIT: producer.TxnOffsetCommitResponse,
}


def outcome(delivered: Delivered) -> str:
    """Return `taken`, `not answered`, or the names of the errors in the answer."""
    if delivered.answer is None:
        return "not answered"
    answer = _ANSWERS[delivered.api].decode(delivered.answer, version=delivered.version, header=True, framed=True)
    names = {errors.for_code(code).__name__ for code in _codes(answer.to_dict()) if code}
    return ", ".join(sorted(names)) or "taken"


def outcomes(late: Iterable[Delivered]) -> dict[str, int]:
    """Count them, as `END_TXN late copy: InvalidProducerEpochError`."""
    return dict(sorted(Counter(f"{each.api.name} {each.harm}: {outcome(each)}" for each in late).items()))


def counts(proxy: FrameProxy) -> dict[str, dict[str, int]]:
    """Count the requests that were struck, and the answers to those that were delivered without their sender."""
    struck = {f"{api.name} {harm}": count for (api, harm), count in sorted(proxy.struck.items())}
    return {"struck": struck, "delivered": outcomes(proxy.late)}


def _codes(answer: Any) -> Iterator[int]:
    """Every error code in an answer, wherever it stands."""
    parts = answer.items() if isinstance(answer, dict) else enumerate(answer) if isinstance(answer, list) else ()
    for name, value in parts:
        if isinstance(name, str) and name.endswith("error_code"):
            yield value
        else:
            yield from _codes(value)
