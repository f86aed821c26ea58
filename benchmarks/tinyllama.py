"""TinyLlama-1.1B's true shape with random weights, and the real messages as its tokeniser sees them.

Speed does not depend on what the weights are, quality does: nothing here says how well it judges. `tokens/uci.npz` has
the SMS Spam Collection in TinyLlama's token ids; `python -m benchmarks.tinyllama TOKENIZER.json` makes it anew.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from benchmarks.texts import collection
from worker.engine.weights import Layer, Shape, Weights

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

SHAPE: Final = Shape(
    vocabulary=32_000,
    width=2048,
    layers=22,
    heads=32,
    key_heads=4,
    head=64,
    inner=5632,
    labels=2,
    positions=2048,
    epsilon=1e-5,
)
TOKENS: Final = Path(__file__).parent / "tokens" / "uci.npz"
OPERATIONS_A_TOKEN: Final = 2 * SHAPE.products_a_token
"""2 x 968.9 M: what a token costs in a model that leaves nothing out."""


def tokens() -> list[NDArray[np.int32]]:
    """Every message of the collection in TinyLlama's ids, beginning-of-sequence included, in the file's order."""
    with np.load(TOKENS) as stored:
        return np.split(stored["ids"].astype(np.int32), stored["ends"][:-1])


def random_weights(device: str, seed: int = 0) -> Weights:
    """Random weights at the scale of a trained model's, made where they are needed."""
    generator = torch.Generator(device).manual_seed(seed)

    def random(rows: int, columns: int) -> Tensor:
        made = torch.randn(rows, columns, generator=generator, device=device, dtype=torch.bfloat16)
        return made.mul_(columns**-0.5)

    ones = torch.ones(SHAPE.width, device=device, dtype=torch.bfloat16)
    queries, keys = SHAPE.heads * SHAPE.head, SHAPE.key_heads * SHAPE.head
    layers = [
        Layer(
            before_attention=ones,
            qkv=random(queries + 2 * keys, SHAPE.width),
            out=random(SHAPE.width, queries),
            before_mlp=ones,
            gate_up=random(2 * SHAPE.inner, SHAPE.width),
            down=random(SHAPE.width, SHAPE.inner),
        )
        for _ in range(SHAPE.layers)
    ]
    frequencies = 10_000 ** -(torch.arange(0, SHAPE.head, 2) / SHAPE.head)
    return Weights(
        SHAPE, random(SHAPE.vocabulary, SHAPE.width), layers, ones, random(SHAPE.labels, SHAPE.width), frequencies
    )


def make_tokens(tokenizer: str) -> None:
    """Write `tokens/uci.npz`."""
    from tokenizers import Tokenizer  # noqa: PLC0415 # a GPU host may lack it

    encodings = Tokenizer.from_file(tokenizer).encode_batch([text.rstrip("\r\n") for text in collection()])
    ids = [np.array(encoding.ids, dtype=np.uint16) for encoding in encodings]
    TOKENS.parent.mkdir(exist_ok=True)
    np.savez_compressed(TOKENS, ids=np.concatenate(ids), ends=np.cumsum([len(row) for row in ids], dtype=np.int32))


if __name__ == "__main__":
    make_tokens(sys.argv[1])
