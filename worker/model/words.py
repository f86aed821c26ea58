"""Texts to token ids, a word at a time: each word is cut once and remembered, at a tenth of the cost of cutting texts.

Exact, or not done: only where the tokenizer never joins a piece across a space, which is known of two kinds of them
(SentencePiece's as Llama has it, and Metaspace with a split), and tried on a few texts besides. Any other is asked
for whole texts.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray
    from tokenizers import Tokenizer

# Words remembered: as many as make 99 % of a carrier's traffic, in some 20 MB. All are forgotten when there are more.
_MOST: Final = 1 << 16
# A longer word is no word, and would be a way to fill the memory.
_LONGEST: Final = 32
_MARK: Final = "\u2581"
"""The character these tokenizers write for a space."""
_TRIALS: Final = (
    *("hello", "Hello, World!", "WIN £1000 cash", "call 0800-555 now...", "a b c", "it's <s> here"),
    *("\u2581odd", "naïve 日本語 \U0001f600"),
)


class Pieces:
    """A tokenizer with a memory for words. One thread at a time gains from it; more do no harm."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._known: dict[str, bytes] = {}
        description = json.loads(tokenizer.to_str())
        reserved = [token["content"] for token in description["added_tokens"]]
        # A reserved name within a text ends a stretch of it, with rules of its own for the spaces beside it.
        self._special = re.compile("|".join(map(re.escape, [_MARK, *reserved])))
        self._before, self._after = _frame(tokenizer)
        self.is_wordwise = _is_wordwise(description, reserved) and all(map(self._is_right, _TRIALS))

    def encode(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """Token ids of each text, in order, as the tokenizer itself has them; read-only."""
        if not self.is_wordwise:
            return self._whole(texts)
        split = [text.split(" ") for text in texts]
        self._learn(set().union(*split).difference(self._known))
        known, before, after, unsafe = self._known, self._before, self._after, []
        found: list[Any] = []
        for row, words in enumerate(split):
            try:
                found.append(np.frombuffer(before + b"".join([known[word] for word in words]) + after, dtype=np.int32))
            except KeyError:
                unsafe.append(row)
                found.append(None)
        for row, ids in zip(unsafe, self._whole([texts[row] for row in unsafe]), strict=True):
            found[row] = ids
        return found

    def _learn(self, words: Collection[str]) -> None:
        """Cut those that stand for themselves wherever they are."""
        new = [word for word in words if 0 < len(word) <= _LONGEST and not self._special.search(word)]
        if len(self._known) + len(new) > _MOST:
            self._known = {}  # what is forgotten of this call's words is read from whole texts once
        for word, cut in zip(new, self._tokenizer.encode_batch_fast(new, add_special_tokens=False), strict=True):
            self._known[word] = np.array(cut.ids, dtype=np.int32).tobytes()

    def _whole(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        return [np.array(cut.ids, dtype=np.int32) for cut in self._tokenizer.encode_batch_fast(list(texts))]

    def _is_right(self, text: str) -> bool:
        self.is_wordwise = True
        return bool(np.array_equal(self.encode([text])[0], self._whole([text])[0]))


def _frame(tokenizer: Tokenizer) -> tuple[bytes, bytes]:
    """Return the ids that the tokenizer puts before and after every text, as int32 bytes."""
    framed, bare = tokenizer.encode("a").ids, tokenizer.encode("a", add_special_tokens=False).ids
    at = next((at for at in range(len(framed)) if framed[at : at + len(bare)] == bare), 0)
    parts = framed[:at], framed[at + len(bare) :]
    return tuple(np.array(part, dtype=np.int32).tobytes() for part in parts)  # type: ignore[return-value] # two


def _is_wordwise(description: dict[str, Any], reserved: Sequence[str]) -> bool:
    """Whether no piece can reach over a space, by how the tokenizer is made."""
    model, normalizer, cutter = description["model"], description["normalizer"], description["pre_tokenizer"]
    if model["type"] != "BPE" or model.get("dropout") or any(re.search(r"\s", name) for name in reserved):
        return False
    if cutter is None:
        steps = normalizer["normalizers"] if normalizer and normalizer["type"] == "Sequence" else []
        made = [(step["type"], step.get("prepend") or step.get("pattern"), step.get("content")) for step in steps]
        # Then the whole text is one stretch, and the vocabulary alone separates its words.
        is_llama = made == [("Prepend", _MARK, None), ("Replace", {"String": " "}, _MARK)]
        return is_llama and not any(_MARK in piece.lstrip(_MARK) for piece in model["vocab"])
    first = cutter["pretokenizers"][0] if cutter["type"] == "Sequence" else cutter
    is_plain = normalizer is None or normalizer["type"] == "Lowercase"
    cuts = first["type"] == "Metaspace" and first["split"] and first["prepend_scheme"] == "always"
    return bool(is_plain and cuts and first["replacement"] == _MARK)
