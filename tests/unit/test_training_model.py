"""The published recipe on TinyLlama's true shape, without its weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from transformers import LlamaConfig, LlamaForSequenceClassification

from training.fit import model, recipe
from training.fit.recipe import RecipeError

if TYPE_CHECKING:
    from typing import Any


def test_the_seed_recipe_is_the_published_one() -> None:
    seed = recipe.load(Path("seed"))

    assert seed.base.id == "TinyLlama/TinyLlama-1.1B-Chat-v1.0"
    assert (seed.quantisation, seed.lora.r, seed.lora.alpha, seed.lora.dropout) == ("nf4", 16, 32, 0.05)
    assert seed.lora.targets == ("q_proj", "v_proj")
    fit = seed.fit
    assert (fit.epochs, fit.learning_rate, fit.batch, fit.accumulation, fit.augment) == (3, 2e-4, 16, 2, False)


def test_on_tinyllama_it_trains_the_published_number_of_parameters() -> None:
    shape = LlamaConfig(
        vocab_size=32000, hidden_size=2048, intermediate_size=5632, num_hidden_layers=22, num_attention_heads=32,
        num_key_value_heads=4, max_position_embeddings=2048, num_labels=2, pad_token_id=2,
    )  # fmt: skip
    with torch.device("meta"):
        adapted = model.adapt(recipe.load(Path("seed")), LlamaForSequenceClassification(shape))

    assert model.trainable(adapted) == (2_256_896, 1_036_773_376)


def test_nano_sees_its_base_through_nf4_as_tinyllama_does() -> None:
    nano, seed = recipe.load(Path("nano")), recipe.load(Path("seed"))

    assert (nano.quantisation, nano.double_quantisation) == (seed.quantisation, seed.double_quantisation)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        pytest.param("name = 'x'", "base", id="missing"),
        pytest.param("nmae = 'x'", "nmae", id="unknown"),
        pytest.param("name = ", "Invalid", id="not-toml"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_refused_by_name(tmp_path: Path, text: str, named: str) -> None:
    (tmp_path / "bad.toml").write_text(text)

    with pytest.raises(RecipeError, match=named):
        recipe.load(tmp_path / "bad.toml")


@pytest.mark.parametrize(
    ("field", "wrong", "named"),
    [
        ("4e-4\nbatch = 64", "4e-4\nbatch = 0", r">= 1 - at `\$.fit.batch"),
        ("epochs = 1\n", "epochs = 0\n", r">= 1 - at `\$.fit.epochs"),
        ("learning_rate = 4e-4", "learning_rate = -1.0", r"> 0.0 - at `\$.fit.learning_rate"),
        ("learning_rate = 4e-4", "learning_rate = nan", "learning_rate"),
        ("warmup_steps = 20", "warmup_steps = -1", r">= 0 - at `\$.fit.warmup_steps"),
        ("max_tokens = 192", "max_tokens = 0", r">= 1 - at `\$.fit.max_tokens"),
        ("cuts = 0.05", "average = 1.0", r"< 1.0 - at `\$.fit.average"),
        ("dropout = 0.05", "dropout = 1.5", r"< 1.0 - at `\$.lora.dropout"),
        ("r = 16", "r = 0", r">= 1 - at `\$.lora.r"),
        ("vocabulary = 8192", "vocabulary = 10", r">= 260 - at `\$.pretraining.vocabulary"),
        ("\nheads = 6", "\nheads = 5", r"width is 192, which 5 heads do not share in even parts - at `\$.pretraining"),
        ("key_value_heads = 3", "key_value_heads = 4", "heads are 6, which 4 key_value_heads do not share evenly"),
    ],
)
def test_a_number_that_no_training_can_go_by_is_refused_by_name(
    tmp_path: Path, field: str, wrong: str, named: str
) -> None:
    text = (recipe.RECIPES / "nano.toml").read_text()
    assert field in text
    (tmp_path / "bad.toml").write_text(text.replace(field, wrong, 1))

    with pytest.raises(RecipeError, match=named):
        recipe.load(tmp_path / "bad.toml")


def test_a_recipe_that_is_not_utf_8_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_bytes("name = 'caf\xe9'".encode("latin-1"))

    with pytest.raises(RecipeError, match=r"bad\.toml: not UTF-8"):
        recipe.load(tmp_path / "bad.toml")


def test_a_base_of_another_family_is_refused(tmp_path: Path) -> None:
    from transformers import GPT2Config  # noqa: PLC0415

    config: Any = GPT2Config(n_embd=8, n_layer=1, n_head=1)
    config.save_pretrained(tmp_path)

    with pytest.raises(model.ModelError, match="gpt2"):
        model.build(recipe.load(Path("seed")), tmp_path, ("ham", "spam"), 0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU's kernels read such rows well")
def test_rows_that_a_cpu_would_read_by_the_wrong_scale_are_refused(tmp_path: Path) -> None:
    LlamaConfig(hidden_size=64, intermediate_size=96, num_attention_heads=4, vocab_size=8).save_pretrained(tmp_path)

    with pytest.raises(model.ModelError, match="96 values"):
        model.build(recipe.load(Path("seed")), tmp_path, ("ham", "spam"), 0)
