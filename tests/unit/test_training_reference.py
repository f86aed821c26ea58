"""Transformers' answers for a bundle: for families that are not served, and to hold the engine to."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma3TextConfig, LlamaConfig

from training.bundle import export
from training.data.split import Row
from training.fit import pretrain, recipe, train
from training.fit import published as reference
from training.fit.published import ReferenceEngine
from worker.model.classifier import Classifier

if TYPE_CHECKING:
    from typing import Any

    from worker.model.bundle import Bundle

SIZES = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 16}
MORE = {"num_key_value_heads": 2, "max_position_embeddings": 512, "pad_token_id": 3, "bos_token_id": 1}
HAM, SPAM = (
    ("see you at home", "call me later mum", "good night love"),
    ("free prize now", "win cash", "claim today"),
)


def rows(count: int, seed: int) -> list[Row]:
    dice = random.Random(seed)
    return [
        Row(f"{dice.choice(SPAM if i % 2 else HAM)} {dice.randrange(99)}", ("ham", "spam")[i % 2], i)
        for i in range(count)
    ]


def made_of(config: Any, folder: Path) -> Bundle:
    """A base as a hub has it, trained on for a few steps and exported."""
    torch.manual_seed(0)
    tokenizer = pretrain.make_tokenizer([row.text for row in rows(50, 0)], 400)
    config.vocab_size = len(tokenizer)
    model: Any = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    chosen = recipe.load(Path("tinyllama"))
    fit = msgspec.structs.replace(chosen.fit, epochs=5, learning_rate=5e-3, warmup_steps=0, augment=False, average=0.0)
    chosen = msgspec.structs.replace(chosen, base=recipe.RecipeBase(str(folder / "base")), fit=fit)
    train.fit(chosen, rows(120, 1), folder / "run", seed=0, progress=lambda *_: None)
    return export.export(folder / "run", rows(60, 2), "digest", folder / "bundle")


@pytest.mark.long
def test_a_family_that_is_not_served_is_trained_and_judged(tmp_path: Path) -> None:
    bundle = made_of(Gemma3TextConfig(**SIZES, **MORE, query_pre_attn_scalar=16), tmp_path)

    classifier = reference.classifier(bundle.folder)
    texts = [row.text for row in rows(40, 5)]
    scores = classifier.judge(classifier.prepare(texts))

    assert isinstance(classifier.engine, ReferenceEngine)
    assert [classifier.labels[label] for label in scores.label] == [row.label for row in rows(40, 5)]


@pytest.mark.long
def test_a_base_in_half_precision_is_judged_too_by_the_head_as_it_was_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = made_of(Gemma3TextConfig(**SIZES, **MORE, query_pre_attn_scalar=16), tmp_path)
    texts = [row.text for row in rows(40, 5)]
    whole = ReferenceEngine(bundle)
    tokens = [message.tokens for message in Classifier(bundle, whole).prepare(texts)]
    expected = whole.logits(tokens)

    monkeypatch.setattr("training.fit.model.compute_type", lambda: torch.bfloat16)
    halved = ReferenceEngine(bundle).logits(tokens)

    assert np.linalg.norm(halved - expected) < 0.1 * np.linalg.norm(expected)


def test_the_engine_answers_what_transformers_answers(tmp_path: Path) -> None:
    bundle = made_of(LlamaConfig(**SIZES, **MORE), tmp_path)

    served = reference.classifier(bundle.folder)
    tokens = [message.tokens for message in served.prepare([row.text for row in rows(40, 5)])]

    assert not isinstance(served.engine, ReferenceEngine)
    np.testing.assert_allclose(
        served.engine.logits(tokens), ReferenceEngine(bundle).logits(tokens), rtol=1e-3, atol=1e-4
    )


@pytest.mark.long
def test_a_base_by_path_goes_into_the_bundle_and_its_place_does_not(tmp_path: Path) -> None:
    bundle = made_of(LlamaConfig(**SIZES, **MORE), tmp_path)

    assert (bundle.base.id, bundle.base.path) == ("base", "base")
    assert str(tmp_path) not in (bundle.folder / "bundle.json").read_text()
    assert str(tmp_path) not in (bundle.adapter / "adapter_config.json").read_text()
    Classifier.load(bundle.folder).canaries()
