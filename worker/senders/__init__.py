"""How a sender behaves: how fast, to how many, to strangers or not; in bounded memory, in the writing thread.

behaviour.py   START HERE: the observer that counts a message and gives it its flags
table.py       what is kept of each sender: a table of fixed size
contacts.py    who has written to whom: a pair of Bloom filters
rules.py       what follows from the flags
snapshots.py   what other workers may take over: the topic, and the thread that reads and writes it
"""

from __future__ import annotations

from worker.senders.behaviour import Behaviour, SenderLimits
from worker.senders.rules import BehaviourRules
from worker.senders.snapshots import SenderSnapshots, SnapshotsAwayError

__all__ = ["Behaviour", "BehaviourRules", "SenderLimits", "SenderSnapshots", "SnapshotsAwayError"]
