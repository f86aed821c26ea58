"""No two writers that are not the same have one transactional id: the later would fence the earlier."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from worker import app
from worker.broker import Replayed, transactional_id
from worker.settings import Settings, SettingsError, load

if TYPE_CHECKING:
    from argparse import Namespace

PARTS = ("a", "b", "a.b", "b.c", "a.b.c", "replay", "b.replay", ".", "a.", ".a", "..", "2e", "72eplay", "audit")


def replay_id(group: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name under which `hamgate replay` writes for this group."""
    names: list[str] = []
    monkeypatch.setattr(app.broker, "replay", lambda *_, name, **__: names.append(name) or Replayed())
    options: Namespace = _options()
    app.replay_dead_letters(Settings.model_construct(**(Settings().model_dump() | {"group_id": group})), options)
    return names[0]


def _options() -> Namespace:
    from argparse import Namespace  # noqa: PLC0415

    names = ("since", "until", "partition", "from_offset", "to_offset")
    return Namespace(reason=[], again=False, dry_run=True, **dict.fromkeys(names))


def test_two_workers_have_one_name_only_if_they_are_the_same() -> None:
    pairs = list(itertools.product(PARTS, PARTS))

    assert len({transactional_id(*pair) for pair in pairs}) == len(pairs)


def test_no_worker_has_the_name_of_a_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    workers = {transactional_id(*pair) for pair in itertools.product(PARTS, PARTS)}

    assert not workers & {replay_id(group, monkeypatch) for group in PARTS}


@pytest.mark.parametrize(("group", "instance"), [("hamgate", "worker-0"), ("sms.filter", "host_1")])
def test_a_name_without_a_dot_is_what_it_has_always_been(group: str, instance: str) -> None:
    assert transactional_id(group, instance) == f"{group}.{instance}"


@pytest.mark.parametrize("group", ["hamgate.example", "hamgate", "a.b"])
def test_a_right_on_the_groups_prefix_is_enough(group: str) -> None:
    for instance in PARTS:
        assert transactional_id(group, instance).startswith(f"{group}.")


@pytest.mark.parametrize("ending", ["replay", "audit"])
def test_a_group_that_is_named_as_one_of_hamgates_own_is_refused(ending: str) -> None:
    with pytest.raises(SettingsError, match=f"HAMGATE_GROUP_ID.*{ending}"):
        load({"group_id": f"hamgate.{ending}"})
