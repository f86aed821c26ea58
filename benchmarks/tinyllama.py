"""TinyLlama-1.1B's true shape with random weights, and the real messages as its tokeniser sees them.

Speed does not depend on what the weights are, quality does: nothing here says how well it judges. `tokens/uci.npz` has
the SMS Spam Collection in TinyLlama's token ids; `python -m benchmarks.tinyllama TOKENIZER.json` makes it anew.
"""

from __future__ import annotations

import itertools
import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from safetensors.torch import save_file

from benchmarks.texts import collection
from worker.engine.weights import Layer, Shape, Weights
from worker.model.bundle import Base, Bundle, Calibration, write

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
CONFIG: Final = {
    "vocab_size": SHAPE.vocabulary, "hidden_size": SHAPE.width, "intermediate_size": SHAPE.inner,
    "num_hidden_layers": SHAPE.layers, "num_attention_heads": SHAPE.heads, "num_key_value_heads": SHAPE.key_heads,
    "head_dim": SHAPE.head, "max_position_embeddings": SHAPE.positions, "rms_norm_eps": SHAPE.epsilon,
    "hidden_act": "silu", "rope_theta": 10_000.0,
}  # fmt: skip
"""The same as transformers wants it said: config.json's, and LlamaConfig's arguments."""
FIRST: Final = 1
"""The token that its tokeniser puts before every text."""
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


def bundle(folder: Path, tokenizer: Path) -> Path:
    """A bundle of that shape with random weights and its own tokeniser, for measuring the whole way."""
    parts = {name: folder.with_name(f"{folder.name}-{name}") for name in ("base", "adapter", "tokenizer")}
    for part in parts.values():
        part.mkdir(parents=True)
    made = random_weights("cuda" if torch.cuda.is_available() else "cpu")
    save_base(made, parts["base"])
    targets = {"q_proj": SHAPE.heads * SHAPE.head, "v_proj": SHAPE.key_heads * SHAPE.head}
    adapter = {"base_model.model.score.weight": made.score.float().cpu()}
    for layer, (name, rows) in itertools.product(range(SHAPE.layers), targets.items()):
        at = f"base_model.model.model.layers.{layer}.self_attn.{name}"
        adapter[f"{at}.lora_A.weight"] = torch.randn(16, SHAPE.width) * 0.02
        adapter[f"{at}.lora_B.weight"] = torch.zeros(rows, 16)
    save_file(adapter, parts["adapter"] / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "task_type": "SEQ_CLS", "r": 16, "lora_alpha": 32, "target_modules": list(targets)}
    (parts["adapter"] / "adapter_config.json").write_text(json.dumps(config))
    shutil.copy(tokenizer, parts["tokenizer"] / "tokenizer.json")
    described = Bundle(
        name="tinyllama-random", base=Base("random", path="base"), labels=("ham", "spam"), threshold=0.5,
        calibration=Calibration(1.0, 0.0), max_tokens=256, recipe={}, data_digest="", quality={}, canaries=(),
        created_at="2026-01-01T00:00:00Z",
    )  # fmt: skip
    write(folder, described, parts)
    for part in parts.values():
        shutil.rmtree(part)
    return folder


def save_base(made: Weights, folder: Path) -> None:
    """Write it as a hub has it: config.json and bfloat16 weights, without a head."""
    queries, keys = SHAPE.heads * SHAPE.head, SHAPE.key_heads * SHAPE.head
    tensors = {"model.embed_tokens.weight": made.embedding, "model.norm.weight": made.norm.clone()}
    for index, layer in enumerate(made.layers):
        query, key, value = layer.qkv.split([queries, keys, keys])
        gate, up = layer.gate_up.chunk(2)
        parts = {
            "self_attn.q_proj": query, "self_attn.k_proj": key, "self_attn.v_proj": value,
            "self_attn.o_proj": layer.out, "mlp.gate_proj": gate, "mlp.up_proj": up, "mlp.down_proj": layer.down,
            "input_layernorm": layer.before_attention, "post_attention_layernorm": layer.before_mlp,
        }  # fmt: skip
        tensors |= {f"model.layers.{index}.{name}.weight": part for name, part in parts.items()}
    save_file({name: tensor.cpu().clone() for name, tensor in tensors.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG | {"model_type": "llama"}))


def make_tokens(tokenizer: str) -> None:
    """Write `tokens/uci.npz`."""
    from tokenizers import Tokenizer  # noqa: PLC0415 # a GPU host may lack it

    encodings = Tokenizer.from_file(tokenizer).encode_batch([text.rstrip("\r\n") for text in collection()])
    ids = [np.array(encoding.ids, dtype=np.uint16) for encoding in encodings]
    TOKENS.parent.mkdir(exist_ok=True)
    np.savez_compressed(TOKENS, ids=np.concatenate(ids), ends=np.cumsum([len(row) for row in ids], dtype=np.int32))


if __name__ == "__main__":
    make_tokens(sys.argv[1])
