"""Merging: what PEFT saves must give what PEFT gives, and NF4 what bitsandbytes leaves."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from bitsandbytes import functional as bnb
from peft import LoraConfig, TaskType, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForSequenceClassification

from worker.engine import UnsupportedModelError, nf4, weights
from worker.engine.cpu import CpuEngine

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import nn

BATCH = [[1, 5, 9, 40], [1], [3] * 30]
EVERY_LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def base(folder: Path) -> LlamaForSequenceClassification:
    torch.manual_seed(5)
    sizes = {"vocab_size": 50, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_labels": 2, "pad_token_id": 0}
    model = LlamaForSequenceClassification(LlamaConfig(**sizes, **heads, max_position_embeddings=64)).eval()
    model.save_pretrained(folder)
    return model


def adapted(model: nn.Module, **changes: object) -> nn.Module:
    """The model under an adapter whose B is not zero, as after training."""
    settings = {"r": 4, "lora_alpha": 12, "target_modules": EVERY_LINEAR, **changes}
    tuned = get_peft_model(model, LoraConfig(task_type=TaskType.SEQ_CLS, **settings)).eval()
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name or "modules_to_save" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return tuned


def logits(model: nn.Module) -> np.ndarray:
    with torch.inference_mode():
        return torch.stack([model(input_ids=torch.tensor([row])).logits[0] for row in BATCH]).numpy()


@pytest.mark.parametrize(
    "changes",
    [
        {"target_modules": ["q_proj", "v_proj"]},
        {},
        {"use_rslora": True},
        {"use_dora": True},
        {"layers_to_transform": [1]},
        {"modules_to_save": ["score"]},
        {"rank_pattern": {"q_proj": 2, "q_proj|up_proj": 6}, "alpha_pattern": {"layers.1.*": 3}},
        {"rank_pattern": {r"0\.mlp.*": 2}, "use_rslora": True},
        {"bias": "all"},
    ],
    ids=["as published", "all linear", "rslora", "dora", "one layer", "score named", "ranks", "rslora's ranks", "bias"],
)
def test_an_adapter_saved_by_peft_gives_the_logits_that_peft_gives(tmp_path: Path, changes: dict[str, object]) -> None:
    tuned = adapted(base(tmp_path / "base"), **changes)
    tuned.save_pretrained(tmp_path / "adapter")

    merged = CpuEngine(weights.read(tmp_path / "base", tmp_path / "adapter"))

    np.testing.assert_allclose(merged.logits(BATCH), logits(tuned), atol=1e-4)


def test_an_adapter_is_merged_into_what_nf4_left_of_the_base(tmp_path: Path) -> None:
    model = base(tmp_path / "base")
    for name, parameter in model.named_parameters():
        if name.endswith("proj.weight"):
            packed, state = bnb.quantize_4bit(parameter.data, quant_type="nf4")
            parameter.data = bnb.dequantize_4bit(packed, state)
    tuned = adapted(model)
    tuned.save_pretrained(tmp_path / "adapter")

    seen = CpuEngine(weights.read(tmp_path / "base", tmp_path / "adapter", quantised=True))
    unseen = CpuEngine(weights.read(tmp_path / "base", tmp_path / "adapter"))

    np.testing.assert_allclose(seen.logits(BATCH), logits(tuned), atol=1e-4)
    assert np.abs(unseen.logits(BATCH) - logits(tuned)).max() > 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
# Rows of whole blocks, or odd ones: others the library's own AVX-512 build gives the scales of a neighbour.
@pytest.mark.parametrize("shape", [(96, 128), (100, 7)], ids=["whole blocks", "a broken block"])
def test_nf4_leaves_what_bitsandbytes_leaves(shape: tuple[int, int], dtype: torch.dtype) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(2)).to(dtype) * 0.02
    packed, state = bnb.quantize_4bit(weight, quant_type="nf4")

    assert torch.equal(nf4.round_trip(weight, double=False), bnb.dequantize_4bit(packed, state))


def test_double_quantised_scales_are_those_of_bitsandbytes_or_their_neighbours() -> None:
    weight = torch.randn(512, 512, generator=torch.Generator().manual_seed(2)) * 0.02
    _, state = bnb.quantize_4bit(weight, quant_type="nf4", compress_statistics=True)
    theirs = bnb.dequantize_blockwise(state.absmax, state.state2) + state.offset

    _, ours = nf4.quantise(weight, double=True)

    off = (ours - theirs.view(-1)).abs() > 1e-7
    assert off.float().mean() < 0.005
    assert (ours - theirs.view(-1)).abs().max() < 0.01 * ours.max()


def test_the_nearest_level_is_what_a_search_over_the_middles_finds_at_every_edge() -> None:
    levels = torch.tensor(nf4.LEVELS)
    middles = (levels[:-1] + levels[1:]) / 2
    edges = torch.cat([middles, levels, torch.arange(-32, 33) / 32])
    values = torch.cat([edges, *(torch.nextafter(edges, torch.full_like(edges, to)) for to in (2.0, -2.0))]).clamp(
        -1, 1
    )

    assert torch.equal(nf4._level(values).int(), torch.bucketize(values, middles, out_int32=True))


def test_a_block_of_zeros_survives_nf4() -> None:
    assert torch.equal(nf4.round_trip(torch.zeros(2, 64), double=True), torch.zeros(2, 64))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("peft_type", "IA3"),
        ("task_type", "CAUSAL_LM"),
        ("rank_pattern", ["q_proj"]),
        ("alpha_pattern", {"(q_proj": 8}),
        ("init_lora_weights", "pissa_niter_4"),
        ("lora_bias", True),
        ("alora_invocation_tokens", [1]),
    ],
)
def test_an_adapter_that_would_be_merged_otherwise_than_trained_is_refused_by_name(
    tmp_path: Path, name: str, value: object
) -> None:
    adapted(base(tmp_path / "base")).save_pretrained(tmp_path / "adapter")
    config = tmp_path / "adapter" / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), name: value}))

    with pytest.raises(UnsupportedModelError, match=name):
        weights.read(tmp_path / "base", tmp_path / "adapter")


def test_an_adapter_tensor_without_a_place_is_refused_by_name(tmp_path: Path) -> None:
    adapted(base(tmp_path / "base")).save_pretrained(tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    save_file(load_file(file) | {"base_model.model.model.norm.weight": torch.ones(64)}, file)

    with pytest.raises(UnsupportedModelError, match=r"model\.norm\.weight"):
        weights.read(tmp_path / "base", tmp_path / "adapter")


@pytest.mark.filterwarnings("ignore:Setting .save_embedding_layers")
def test_an_adapted_embedding_is_refused_by_name(tmp_path: Path) -> None:
    adapted(base(tmp_path / "base"), target_modules=["q_proj", "embed_tokens"]).save_pretrained(tmp_path / "adapter")

    with pytest.raises(UnsupportedModelError, match="embed"):
        weights.read(tmp_path / "base", tmp_path / "adapter")


def test_a_model_without_a_score_head_is_refused(tmp_path: Path) -> None:
    base(tmp_path / "base")
    file = tmp_path / "base" / "model.safetensors"
    save_file({name: tensor for name, tensor in load_file(file).items() if name != "score.weight"}, file)

    with pytest.raises(UnsupportedModelError, match="score"):
        weights.read(tmp_path / "base")


def changed(file: Path, **values: object) -> None:
    """The same JSON with other values; None takes one away."""
    merged = {**json.loads(file.read_text()), **values}
    file.write_text(json.dumps({name: value for name, value in merged.items() if value is not None}))


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda at: (at / "base/config.json").write_text("{"), r"base/config\.json"),
        (lambda at: (at / "base/config.json").write_text("[]"), "not an object"),
        (lambda at: changed(at / "base/config.json", hidden_size=None), "hidden_size"),
        (lambda at: changed(at / "base/config.json", num_attention_heads=0), "num_attention_heads"),
        (lambda at: changed(at / "base/config.json", num_attention_heads=8), "q_proj"),
        (lambda at: changed(at / "base/config.json", num_hidden_layers=1), r"layers\.1.* no place"),
        (lambda at: changed(at / "base/config.json", num_hidden_layers=3), r"no tensor layers\.2"),
        (lambda at: changed(at / "base/config.json", vocab_size=49), r"embed_tokens\.weight is \[50, 64\]"),
        (lambda at: changed(at / "base/config.json", rms_norm_eps=None), "rms_norm_eps"),
        (lambda at: (at / "base/model.safetensors").write_bytes(b"weights"), r"base/model\.safetensors"),
        (lambda at: (at / "adapter/adapter_config.json").write_text("no"), r"adapter/adapter_config\.json"),
        (lambda at: changed(at / "adapter/adapter_config.json", r=None), "r = None"),
        (lambda at: changed(at / "adapter/adapter_config.json", r=0), "r = 0"),
        (lambda at: changed(at / "adapter/adapter_config.json", r=2), "rank 2"),
        (lambda at: (at / "adapter/adapter_model.safetensors").write_bytes(bytes(9)), r"adapter_model\.safetensors"),
    ],
    ids=range(15),
)
def test_files_that_do_not_fit_together_are_refused_by_name(
    tmp_path: Path, damage: Callable[[Path], object], named: str
) -> None:
    adapted(base(tmp_path / "base")).save_pretrained(tmp_path / "adapter")
    damage(tmp_path)

    with pytest.raises(UnsupportedModelError, match=named):
        weights.read(tmp_path / "base", tmp_path / "adapter")


def test_sharded_bases_are_read_whole(tmp_path: Path) -> None:
    model = base(tmp_path / "whole")
    model.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1

    sharded, whole = (CpuEngine(weights.read(tmp_path / name)) for name in ("shards", "whole"))

    np.testing.assert_array_equal(sharded.logits(BATCH), whole.logits(BATCH))
