"""Joining a group without forgetting a join, and knowing which generation was taken up."""

from __future__ import annotations

from typing import Any, Final

from kafka.coordinator.base import MemberState

# Java's `retry.backoff.ms`: how long a coordinator that is named and cannot be reached is not asked for again.
_LOOKUP_PAUSE: Final = 0.1


def keep_joining(consumer: Any) -> None:  # noqa: ANN401 the client is untyped
    """Let no join be forgotten while nobody waits in `poll`, as the client does in two ways when polls are short.

    An assignment that comes between two polls is thrown away and asked for anew, so that two members can keep each
    other rebalancing for ever. And a join made because partitions were added no longer counts as wanted once it is
    under way: it is never taken up, heartbeats stay off, and the member is out of the group without knowing.
    And a member that was put out of the group would still say that it owns what it had then (cooperative only).
    """
    coordinator = consumer._coordinator  # noqa: SLF001
    join = coordinator._do_join_and_sync_async  # noqa: SLF001
    answered: list[tuple[Any, Any]] = []

    async def join_once() -> Any:  # noqa: ANN401
        if answered and coordinator.state == MemberState.REBALANCING:
            generation, assignment = answered.pop()
            if generation is coordinator._generation:  # noqa: SLF001 neither lost nor overtaken
                return assignment
        answered.clear()
        coordinator.rejoin_needed = True  # until the client takes the answer up
        if coordinator._generation.is_lost():  # noqa: SLF001
            for assignor in coordinator._assignors.values():  # noqa: SLF001
                assignor.member_assignment = None
        assignment = await join()
        answered.append((coordinator._generation, assignment))  # noqa: SLF001
        return assignment

    coordinator._do_join_and_sync_async = join_once  # noqa: SLF001


def pause_lookups(consumer: Any) -> None:  # noqa: ANN401 the client is untyped
    """Wait before the coordinator is asked for again, where the one named by the brokers cannot be reached.

    The brokers name a killed coordinator until they notice. The client, which must not connect to it again yet, asks
    anew at once: hundreds of requests and log lines a second. Java's client sleeps here.
    """
    coordinator = consumer._coordinator  # noqa: SLF001
    ask = coordinator._send_group_coordinator_request  # noqa: SLF001

    async def ask_and_wait() -> Any:  # noqa: ANN401
        node = await ask()
        if coordinator.coordinator() is None:
            await coordinator._manager._net.sleep(_LOOKUP_PAUSE)  # noqa: SLF001
        return node

    coordinator._send_group_coordinator_request = ask_and_wait  # noqa: SLF001


def generations_taken_up(consumer: Any) -> list[Any]:  # noqa: ANN401 the client is untyped
    """Return a list that the group's metadata is added to whenever the client takes an assignment up.

    Afterwards it cannot be asked: within the poll that takes up a generation in which partitions were given away, the
    client sets out for the next, or reaches it. That one may have been taken up, or missed, would look the same.
    """
    coordinator, taken_up = consumer._coordinator, []  # noqa: SLF001
    complete = coordinator._on_join_complete_async  # noqa: SLF001

    async def complete_and_note(*generation: Any) -> None:  # noqa: ANN401
        metadata = consumer.group_metadata()
        await complete(*generation)
        taken_up.append(metadata)

    coordinator._on_join_complete_async = complete_and_note  # noqa: SLF001
    return taken_up


def is_joining(consumer: Any) -> bool:  # noqa: ANN401 the client is untyped
    """Whether it is between two generations, still holding what it had in the last."""
    coordinator = consumer._coordinator  # noqa: SLF001
    return bool(coordinator.state == MemberState.REBALANCING)


def is_fenced(consumer: Any) -> bool:  # noqa: ANN401 the client is untyped
    """Whether another has joined under this static name: the client then only falls silent."""
    coordinator = consumer._coordinator  # noqa: SLF001
    return bool(
        coordinator.group_instance_id and coordinator.state == MemberState.STABLE and not coordinator._heartbeat_enabled  # noqa: SLF001
    )
