"""The CPU engine against the models that it must equal: transformers', and PEFT's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForSequenceClassification

from benchmarks.peers import merged
from benchmarks.texts import collection
from worker.engine import Kind, UnsupportedModelError, weights
from worker.engine.cpu import CpuEngine, _one_threaded
from worker.model.classifier import Classifier
from worker.settings import SHIPPED_BUNDLE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

POSITIONS = 300
YARN = {"rope_type": "yarn", "rope_theta": 500.0, "factor": 8.0, "original_max_position_embeddings": 64}


def llama(**changes: object) -> LlamaForSequenceClassification:
    torch.manual_seed(7)
    sizes = {"vocab_size": 101, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_labels": 2, "pad_token_id": 0}
    rest = {"max_position_embeddings": POSITIONS, "initializer_range": 0.3, "rms_norm_eps": 1e-5}
    model = LlamaForSequenceClassification(LlamaConfig(**{**sizes, **heads, **rest, **changes}))
    for name, parameter in model.named_parameters():
        if "norm" in name:  # ones would hide a norm that is forgotten
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
        if name.endswith("bias"):  # so would zeros a bias
            torch.nn.init.normal_(parameter)
    return model.eval()


def one_by_one(model: torch.nn.Module, messages: Sequence[Sequence[int]]) -> NDArray[np.float32]:
    with _one_threaded(), torch.inference_mode():  # on a busy machine, two threads wait for one another
        rows = [model(input_ids=torch.tensor([list(message)])).logits[0] for message in messages]
    return torch.stack(rows).numpy()


def messages(lengths: Sequence[int]) -> list[list[int]]:
    generator = np.random.default_rng(11)
    return [generator.integers(1, 101, length).tolist() for length in lengths]


def engine(model: LlamaForSequenceClassification, folder: Path) -> CpuEngine:
    model.save_pretrained(folder)
    return CpuEngine(weights.read(folder))


@pytest.mark.parametrize(
    "lengths",
    [[1], [POSITIONS], [9] * 40, [1, 1, 1], [5, 1, 300, 17, 17, 2, 64], [*range(1, 120)]],
    ids=["one token", "longest", "all equal", "single tokens", "mixed", "many chunks"],
)
def test_packed_logits_equal_single_message_logits(tmp_path: Path, lengths: list[int]) -> None:
    model = llama()
    batch = messages(lengths)

    logits = engine(model, tmp_path).logits(batch)

    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, one_by_one(model, batch), atol=1e-4)


@pytest.mark.parametrize(
    "changes",
    [
        {"num_key_value_heads": 4},
        {"num_key_value_heads": 1},
        {"num_hidden_layers": 1},
        {"head_dim": 20},
        {"num_labels": 3},
        {"vocab_size": 400_000, "hidden_size": 16, "intermediate_size": 16},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}},
        {
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 500.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            }
        },
        {"rope_parameters": YARN},
        {"rope_parameters": YARN | {"beta_fast": 4.0, "beta_slow": 2.0, "truncate": False, "attention_factor": 0.7}},
        {"rope_parameters": YARN | {"mscale": 2.0, "mscale_all_dim": 0.5}},
        {"attention_bias": True},
        {"mlp_bias": True},
        {"attention_bias": True, "mlp_bias": True, "rope_parameters": YARN, "num_hidden_layers": 1},
        {"attention_bias": True, "vocab_size": 400_000, "hidden_size": 16, "intermediate_size": 16},
    ],
    ids=[
        "no groups",
        "one key head",
        "one layer",
        "wide heads",
        "3 labels",
        "no table",
        "theta",
        "linear",
        "llama3",
        "yarn",
        "yarn's own",
        "yarn's scales",
        "attention_bias",
        "mlp_bias",
        "all of them",
        "bias, no table",
    ],
)
def test_every_llama_shape_equals_transformers(tmp_path: Path, changes: dict[str, object]) -> None:
    model = llama(**changes)
    batch = messages([3, 90, 41, 7, 7, 200])

    logits = engine(model, tmp_path).logits(batch)

    np.testing.assert_allclose(logits, one_by_one(model, batch), atol=1e-4)


def test_neither_order_nor_neighbours_change_an_answer(tmp_path: Path) -> None:
    running = engine(llama(), tmp_path)
    batch = messages([*range(1, 90), 250, 250])
    order = np.random.default_rng(3).permutation(len(batch))

    together = running.logits(batch)
    shuffled = running.logits([batch[row] for row in order])
    alone = np.concatenate([running.logits([message]) for message in batch])

    np.testing.assert_allclose(shuffled, together[order], atol=1e-5)
    np.testing.assert_allclose(alone, together, atol=1e-5)


def test_real_messages_by_the_shipped_model_equal_transformers_one_by_one_in_any_order() -> None:
    classifier = Classifier.load(SHIPPED_BUNDLE, Kind.CPU)
    reference = merged(classifier.bundle)
    tokens = [message.tokens for message in classifier.prepare(collection()[::28]) if not message.is_empty]
    order = np.random.default_rng(2).permutation(len(tokens))

    logits = classifier.engine.logits([tokens[row] for row in order])

    assert len(tokens) > 190
    np.testing.assert_allclose(logits, one_by_one(reference, [tokens[row].tolist() for row in order]), atol=1e-4)


def test_an_empty_batch_has_no_logits(tmp_path: Path) -> None:
    assert engine(llama(), tmp_path).logits([]).shape == (0, 2)


@pytest.mark.parametrize("bad", [[], [1] * (POSITIONS + 1)], ids=["no tokens", "too many tokens"])
def test_a_message_that_cannot_be_judged_is_an_error(tmp_path: Path, bad: list[int]) -> None:
    running = engine(llama(), tmp_path)

    with pytest.raises(ValueError, match="message"):
        running.logits([[1, 2], bad])


def test_a_non_finite_weight_shows_in_the_logits_of_its_message_alone(tmp_path: Path) -> None:
    model = llama()
    model.model.embed_tokens.weight.data[50] = float("inf")

    logits = engine(model, tmp_path).logits([[1, 2, 3, 4], [1, 50, 3], [7, 7]])

    assert np.isfinite(logits).all(axis=1).tolist() == [True, False, True]


def test_the_engine_says_what_it_is(tmp_path: Path) -> None:
    running = engine(llama(num_labels=3), tmp_path)

    assert (running.kind, running.labels) == (Kind.CPU, 3)
    assert running.token_budget > 0


@pytest.mark.parametrize(
    "changes",
    [{"hidden_act": "gelu"}, {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 500.0, "factor": 2.0}}],
    ids=["hidden_act", "rope_type"],
)
def test_a_base_that_would_be_run_otherwise_than_trained_is_refused_by_name(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    llama(**changes).save_pretrained(tmp_path)

    with pytest.raises(UnsupportedModelError, match=r"hidden_act|rope_type"):
        weights.read(tmp_path)
