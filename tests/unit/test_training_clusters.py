"""MinHash's clusters are the exact ones; labels and order of messages do not matter."""

from __future__ import annotations

import pytest

from training.data import clusters
from training.data import split as data


@pytest.fixture(scope="module")
def keys() -> list[str]:
    """The collection's, so that what is claimed is claimed of it."""
    return list(
        dict.fromkeys(data.key(data.repair(line.partition("\t")[2])) for line in data.UCI.read_text().splitlines())
    )


def test_minhash_finds_the_exact_clusters_of_the_collection(keys: list[str]) -> None:
    pairs = list(zip(clusters.exact(keys), clusters.by_minhash(keys), strict=True))

    assert sum(one == other for one, other in pairs) / len(pairs) >= 0.995


def test_many_messages_are_clustered_by_minhash_and_few_by_counting(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    monkeypatch.setattr(clusters, "EXACT_MOST", 3)

    few = clusters.cluster(["aaaaaa", "aaaaaaa", "b"], lambda phase, _done, _total: heard.append(phase))
    assert heard == []
    many = clusters.cluster(["aaaaaa", "aaaaaaa", "b", ""], lambda phase, _done, _total: heard.append(phase))

    assert few == [0, 0, 2]
    assert many == [0, 0, 2, 3]
    assert set(heard) == {"hashing", "linking near-duplicates"}
