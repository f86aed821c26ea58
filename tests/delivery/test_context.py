"""The kill matrix with lists in force: its traffic matches some entries of each kind that a text or an address has."""

from __future__ import annotations

import json

from tests.delivery import traffic
from tests.delivery.context import entries
from tests.listed import HASHING, NOW, message
from worker.policy.lists.entries import MATCHES, What
from worker.policy.lists.matching import Snapshot


def test_its_lists_have_entries_of_every_kind_and_the_traffic_matches_some_of_each_but_campaigns() -> None:
    made = entries(HASHING)
    snapshot = Snapshot(HASHING).changed((), made)
    events = [json.loads(traffic.value(number) or b"{}") for number in range(3, 40) if not traffic.is_poison(number)]

    matched = {
        (entry.what, entry.match, entry.action)
        for each in events
        if each
        for entry in snapshot.matching(message(each["text"], sender=each["sender"], recipient=each["recipient"]), NOW)
    }

    assert {(each.what, each.match) for each in made} == {(what, match) for what in MATCHES for match in MATCHES[what]}
    assert {what for what, _, _ in matched} == set(What) - {What.CAMPAIGN}
    assert {action for _, _, action in matched} == {"allow", "flag", "block"}
    assert len(matched) < len({each.name for each in made}) / 10
