"""A word at a time is as a text at a time, whatever the text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from worker.model import words as pieces
from worker.model.normalise import normalise
from worker.model.words import Pieces
from worker.settings import SHIPPED_BUNDLE

if TYPE_CHECKING:
    from collections.abc import Sequence

UNKNOWN = "<unk>"
COLLECTION = Path(__file__).parents[2] / "data" / "uci" / "SMSSpamCollection"


def messages() -> list[str]:
    return [line.partition("\t")[2] for line in COLLECTION.read_text(encoding="utf-8").split("\n") if line]


def like_llama() -> Tokenizer:
    """SentencePiece's BPE as Llama's files have it: no splitting, spaces written as a mark, one put before."""
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN, byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()  # for training only, as SentencePiece splits there
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False)
    tokenizer.train_from_iterator(messages()[:1500], trainer)
    tokenizer.pre_tokenizer = None
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return tokenizer


def shipped() -> Tokenizer:
    return Tokenizer.from_file(str(SHIPPED_BUNDLE / "tokenizer" / "tokenizer.json"))


TOKENIZERS = {"llama's kind": like_llama(), "the shipped one": shipped()}
KNOWING = {name: Pieces(tokenizer) for name, tokenizer in TOKENIZERS.items()}
each_kind = pytest.mark.parametrize("kind", TOKENIZERS)

HOSTILE = st.sampled_from(
    [
        "<s>",
        "</s>",
        "<unk>",
        "a<s>b",
        "▁",
        "a▁b",
        "",
        " ",
        "  ",
        "\u200b",
        "é",
        "日本",
        "😀",
        "x" * 33,
        "x" * 99,
        "£1",
        "9.9",
    ]
)
texts = st.lists(st.one_of(HOSTILE, st.text(max_size=12)), max_size=12).map(" ".join)


def agree(kind: str, given: Sequence[str]) -> None:
    found = KNOWING[kind].encode(given)
    whole = TOKENIZERS[kind].encode_batch(list(given))
    assert [list(ids) for ids in found] == [cut.ids for cut in whole]


@each_kind
def test_every_message_of_the_collection_is_cut_as_the_tokenizer_cuts_it(kind: str) -> None:
    assert KNOWING[kind].is_wordwise
    agree(kind, messages())
    agree(kind, [normalise(text) for text in messages()])


@each_kind
@given(st.lists(texts, max_size=4))
def test_any_text_is_cut_as_the_tokenizer_cuts_it(kind: str, many: list[str]) -> None:
    agree(kind, many)


@each_kind
def test_forgetting_changes_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "_MOST", 50)

    for at in range(0, 400, 40):
        agree(kind, messages()[at : at + 40])
        assert len(KNOWING[kind]._known) < 1000


def test_memory_is_bounded_whatever_the_words() -> None:
    small = Pieces(shipped())

    small.encode([" ".join(f"{text}{at}" for at in range(2000)) for text in ("a", "b" * 40)])

    assert all(len(word) <= 32 for word in small._known)
    assert len(small._known) <= 1 << 16


def whitespace() -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel({UNKNOWN: 0, "a": 1}, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def across_words() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE({"▁": 0, "a": 1, "▁a": 2, "a▁": 3, "▁a▁": 4}, [("▁", "a"), ("▁a", "▁")]))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return tokenizer


@pytest.mark.parametrize("make", [whitespace, across_words])
def test_a_tokenizer_that_is_not_known_to_separate_words_is_asked_for_whole_texts(make: type) -> None:
    tokenizer = make()
    wary = Pieces(tokenizer)

    assert not wary.is_wordwise
    assert [list(ids) for ids in wary.encode(["a a", "a"])] == [tokenizer.encode(text).ids for text in ("a a", "a")]
    assert all(ids.dtype == np.int32 for ids in wary.encode(["a a"]))
