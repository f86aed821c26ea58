"""What would be refused when a run is exported is refused before its first step, and named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Gemma3TextConfig, LlamaConfig

from tests.unit.test_training_reference import MORE, SIZES, rows
from training.bundle import export
from training.data import split as data
from training.fit import model, pretrain, recipe, servable, train
from training.fit import published as reference
from training.fit.model import ModelError
from training.fit.published import ReferenceEngine
from worker.engine.cpu import CpuEngine

if TYPE_CHECKING:
    from collections.abc import Callable

LABELS = ("ham", "spam")
YARN = {"rope_type": "yarn", "rope_theta": 500.0, "factor": 8.0, "original_max_position_embeddings": 64}


def based(folder: Path, config: Any) -> Path:
    """A base as a hub has it, with biases that are not zero."""
    from transformers import AutoModelForCausalLM  # noqa: PLC0415 seconds

    torch.manual_seed(0)
    tokenizer = pretrain.make_tokenizer([row.text for row in rows(50, 0)], 400)
    config.vocab_size = len(tokenizer)
    made: Any = AutoModelForCausalLM.from_config(config)
    for name, parameter in made.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.3)
    made.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def chosen(base: Path, **changes: Any) -> recipe.Recipe:
    asked = recipe.load(Path("tinyllama"))
    fit = msgspec.structs.replace(
        asked.fit, epochs=3, learning_rate=5e-3, warmup_steps=0, augment=False, average=0.0, max_tokens=128
    )
    base_ = recipe.RecipeBase(str(base))
    return msgspec.structs.replace(asked, **{"base": base_, "fit": fit, "quantisation": "none", **changes})


def said(folder: Path, name: str = "config.json", **changes: Any) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def without(folder: Path, part: str) -> None:
    file = folder / "model.safetensors"
    save_file({name: tensor for name, tensor in load_file(file).items() if part not in name}, file, {"format": "pt"})


def with_more(folder: Path) -> None:
    file = folder / "model.safetensors"
    save_file(load_file(file) | {"model.layers.0.self_attn.q_norm.weight": torch.ones(16)}, file, {"format": "pt"})


def bits(**kind: Any) -> dict[str, Any]:
    return {"quantization_config": {"quant_method": "bitsandbytes", **kind}}


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda at: said(at, hidden_act="gelu"), "hidden_act = 'gelu'"),
        (lambda at: said(at, rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}), "rope_type"),
        (lambda at: said(at, auto_map={"AutoModel": "mine.Llama"}), "auto_map asks for remote code"),
        (lambda at: said(at, "tokenizer_config.json", auto_map={"AutoTokenizer": ["mine.T", None]}), "auto_map"),
        (lambda at: said(at, max_position_embeddings=100), "max_tokens is 128, .* 100 positions"),
        (lambda at: said(at, **bits(load_in_4bit=True, bnb_4bit_quant_type="nf4")), "quantised already .*nf4"),
        (lambda at: said(at, **bits(load_in_4bit=True, bnb_4bit_quant_type="fp4")), "quantised already .*fp4"),
        (lambda at: said(at, **bits(load_in_8bit=True)), "quantised already .*int8"),
        (lambda at: said(at, quantization_config={"quant_method": "gptq", "bits": 4}), "quantised already .*gptq"),
        (lambda at: without(at, "layers.1.mlp.up_proj"), r"no tensor layers\.1\.mlp\.up_proj\.weight"),
        (lambda at: without(at, "embed_tokens"), r"no tensor embed_tokens"),
        (lambda at: said(at, attention_bias=True), r"no tensor layers\.0\.self_attn\.q_proj\.bias"),
        (with_more, r"q_norm\.weight, which has no place"),
        (lambda at: said(at, transformers_weights="adapter_model.safetensors"), "transformers_weights"),
    ],
    ids=range(14),
)  # fmt: skip
def test_a_base_that_no_bundle_can_be_made_of_is_refused_before_the_first_step(
    spoil: Callable[[Path], None], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = based(tmp_path / "base", LlamaConfig(**SIZES, **MORE))
    spoil(base)
    monkeypatch.setattr(model, "build", lambda *_: pytest.fail("it would be trained"))

    with pytest.raises(ModelError, match=named):
        train.fit(chosen(base), rows(120, 1), tmp_path / "run", seed=0, progress=lambda *_: None)


def test_a_base_that_is_not_served_and_lacks_a_tensor_is_not_trained_on_what_is_made_up(tmp_path: Path) -> None:
    base = based(tmp_path / "base", Gemma3TextConfig(**SIZES, **MORE, query_pre_attn_scalar=16))
    without(base, "layers.1.mlp.up_proj")

    with pytest.raises(ModelError, match=r"no tensor model\.layers\.1\.mlp\.up_proj\.weight"):
        train.fit(chosen(base), rows(120, 1), tmp_path / "run", seed=0, progress=lambda *_: None)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"name": "my recipe"}, r"name must be letters.*\(it is 'my recipe'"),
        ({"fit": {"max_tokens": 513}}, "max_tokens is 513, .* 512 positions"),
    ],
)
def test_a_recipe_that_no_bundle_can_be_made_by_is_refused_before_its_base_is_made(
    changes: dict[str, Any], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nano = recipe.load(Path("nano"))
    if "fit" in changes:
        changes = {"fit": msgspec.structs.replace(nano.fit, **changes["fit"])}
    monkeypatch.setattr(pretrain, "make_base", lambda *_, **__: pytest.fail("it would be trained"))

    with pytest.raises(ModelError, match=named):
        train.fit(msgspec.structs.replace(nano, **changes), rows(120, 1), tmp_path, seed=0, progress=lambda *_: None)


def test_labels_that_no_bundle_can_have_are_refused_too() -> None:
    with pytest.raises(ModelError, match="labels must be 'ham'"):
        servable.check_recipe(recipe.load(Path("nano")), ("spam", "ham"))


@pytest.mark.parametrize(
    "changes",
    [{"attention_bias": True}, pytest.param({"mlp_bias": True}, marks=pytest.mark.long), {"rope_parameters": YARN}],
    ids=["attention_bias", "mlp_bias", "yarn"],
)
def test_a_base_with_biases_or_yarn_is_trained_exported_and_answers_as_transformers_does(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    base = based(tmp_path / "base", LlamaConfig(**SIZES, **MORE, **changes))
    train.fit(chosen(base), rows(120, 1), tmp_path / "run", seed=0, progress=lambda *_: None)

    bundle = export.export(tmp_path / "run", rows(60, 2), "digest", tmp_path / "bundle")

    served = reference.classifier(bundle.folder)
    tokens = [message.tokens for message in served.prepare([row.text for row in rows(40, 5)])]
    assert isinstance(served.engine, CpuEngine)
    wanted = ReferenceEngine(bundle).logits(tokens)
    np.testing.assert_allclose(served.engine.logits(tokens), wanted, rtol=1e-3, atol=1e-3)
    assert bundle.labels == data.LABELS
