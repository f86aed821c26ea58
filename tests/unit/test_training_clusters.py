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


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param("😂😂", "🙏", id="emoji-alone"),
        pytest.param("👍🏼", "👍🏾", id="skin-tones"),
        pytest.param("दिन", "दीन", id="hindi-vowel-signs"),
        pytest.param("கொடு", "கெடு", id="tamil-vowel-signs"),
        pytest.param("كَتَبَ", "كُتِبَ", id="arabic-marks"),
        pytest.param("£££", "€€", id="money-alone"),
    ],
)
def test_messages_that_differ_in_what_a_reader_sees_have_keys_of_their_own(one: str, other: str) -> None:
    assert data.key(one) != data.key(other)
    assert data.key(one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param("WIN £900, now!", "win 900 now", id="signs-beside-words"),
        pytest.param("😂 😂!", "😂😂", id="spaces-between-emoji"),
        pytest.param("❤\ufe0f", "❤", id="variation-selectors"),
        pytest.param("cafe\u0301", "CAFÉ", id="composed"),
        pytest.param(":) ", ":-) :-)", id="smileys-of-punctuation"),
        pytest.param("ok 😂", "OK", id="emoji-beside-words"),
    ],
)
def test_messages_that_say_the_same_have_one_key(one: str, other: str) -> None:
    assert data.key(one) == data.key(other)


def test_a_vowel_sign_stays_in_its_word() -> None:
    assert data.key("आधार में") == "आधार में"


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
