"""The honest split is the same in every process: what one trains on, another never judges by."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import pytest

from training.data import split as data

# Split 0's test messages, in order. models/nano is made of the others: when this changes, make it anew.
SPLIT_0 = "6cfd8bd37845"
PRINT = (
    "import hashlib; from training.data import split as data; rows = data.split(data.prepare().rows, 0).test; "
    "print(hashlib.sha256('\\n'.join(row.text for row in rows).encode()).hexdigest()[:12])"
)


@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_the_split_does_not_depend_on_how_this_process_orders_its_sets(hash_seed: str) -> None:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    said = subprocess.run([sys.executable, "-c", PRINT], env=environment, capture_output=True, text=True, check=True)

    assert said.stdout.strip() == SPLIT_0


def test_this_process_splits_as_any_other() -> None:
    rows = data.split(data.prepare().rows, 0).test

    assert hashlib.sha256("\n".join(row.text for row in rows).encode()).hexdigest()[:12] == SPLIT_0


def test_a_cluster_is_named_by_its_first_member() -> None:
    keys = ["win a prize now call 0800", "hello there my friend", "win a prize now call 0900", "win a prize now call 1"]

    assert data.cluster(keys) == [0, 1, 0, 0]
