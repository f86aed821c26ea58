"""Packed messages give the loss and the gradients that padded ones give, whatever the family and the cut."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
import torch
from accelerate import Accelerator
from torch.nn.functional import cross_entropy
from transformers import AutoModelForSequenceClassification, Gemma3TextConfig, LlamaConfig

from training.fit import batches, model, packing, recipe
from training.fit.batches import IGNORED, NOT_TAUGHT, Example, collate
from training.fit.packing import pack
from training.fit.passes import Learner, cut

if TYPE_CHECKING:
    from typing import Any

SEED = recipe.load(Path("seed"))
PLAIN = msgspec.structs.replace(SEED, lora=msgspec.structs.replace(SEED.lora, dropout=0.0), quantisation="none")
SIZES = {"vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
MORE = {"num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 128, "num_labels": 2, "pad_token_id": 0}
CONFIGS = {
    "llama": LlamaConfig(**SIZES, **MORE),
    "gemma3": Gemma3TextConfig(**SIZES, **MORE, sliding_window=64, query_pre_attn_scalar=8),
}


def messages(count: int, seed: int = 0) -> list[Example]:
    dice = random.Random(seed)
    lengths = [1, 2, *(dice.randint(1, 40) for _ in range(count - 2))]
    return [Example([dice.randint(1, 96) for _ in range(length)], dice.randint(0, 1)) for length in lengths]


def adapted(config: Any, chosen: recipe.Recipe = PLAIN) -> Any:
    """The same weights for the same config, an adapter that does something in it."""
    torch.manual_seed(1)
    made: Any = AutoModelForSequenceClassification.from_config(config, attn_implementation=packing.ATTENTION)
    tuned = model.adapt(chosen, model.freeze(made))
    generator = torch.Generator().manual_seed(2)
    for name, weights in tuned.named_parameters():
        if "lora_B" in name or name.endswith("norm.weight"):
            weights.data.normal_(0.05, 0.2, generator=generator)
    return tuned


def gradients(tuned: Any) -> dict[str, torch.Tensor]:
    return {name: each.grad.clone() for name, each in tuned.named_parameters() if each.requires_grad}


def padded(tuned: Any, examples: list[Example], sizes: list[int]) -> tuple[float, dict[str, torch.Tensor]]:
    """The plain loop: transformers' own forward on padded batches, losses accumulated."""
    tuned.get_base_model().set_attn_implementation("sdpa")
    loss = 0.0
    for size in sizes:
        part, examples = examples[:size], examples[size:]
        batch = collate(part, pad=0)
        logits = tuned(input_ids=batch.ids, attention_mask=batch.mask).logits
        share = cross_entropy(logits.float(), batch.labels, reduction="sum") / sum(sizes)
        share.backward()
        loss += share.item()
    tuned.get_base_model().set_attn_implementation(packing.ATTENTION)
    return loss, gradients(tuned)


def learnt(tuned: Any, examples: list[Example], **how: Any) -> tuple[float, dict[str, torch.Tensor]]:
    learner = Learner(tuned, Accelerator(cpu=True))
    for name, value in how.items():
        setattr(learner, name, value)
    learner.learn(examples, total=len(examples), places=len(examples) + 1)
    return learner.gradients[-1].item(), gradients(tuned)


def test_guessing_states_counts_only_where_a_message_has_one_and_however_the_step_is_cut() -> None:
    seen = [replace(each, state=bytes([32, 224])) for each in messages(6)]
    unseen = messages(6)

    def step(examples: list[Example], *, most: int) -> tuple[float, dict[str, torch.Tensor]]:
        tuned = adapted(CONFIGS["llama"])
        model.guess_states(tuned.get_base_model(), 2)
        tuned.get_base_model().states.weight.data.zero_()
        tuned.get_base_model().states.bias.data.copy_(torch.tensor([1.0, 0.0]))
        learner = Learner(tuned, Accelerator(cpu=True), states=2.0)
        learner._most = most
        learner.learn(examples, total=len(examples), places=len(examples))
        return learner.gradients[-1].item(), gradients(tuned)

    none, _ = step([*unseen, *unseen], most=8192)
    half, whole = step([*unseen, *seen], most=8192)
    cut, in_parts = step([*unseen, *seen], most=60)

    assert none == pytest.approx(learnt(adapted(CONFIGS["llama"]), [*unseen, *unseen])[0], abs=1e-6)
    assert half == pytest.approx(none + 2.0 * 0.5 * 0.5, abs=1e-5)  # half of the messages, of them one value wrong by 1
    assert cut == pytest.approx(half, abs=1e-5)
    for name, each in whole.items():
        torch.testing.assert_close(in_parts[name], each, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize(
    "how",
    [
        pytest.param({}, id="one-pass"),
        pytest.param({"_most": 60}, id="several-passes"),
        pytest.param({"_grain": 16}, id="rounded-up"),
    ],
)
def test_packed_messages_give_the_padded_loops_loss_and_gradients(family: str, how: dict[str, int]) -> None:
    examples = messages(12)

    loss, wanted = padded(adapted(CONFIGS[family]), examples, [6, 6])
    packed_loss, found = learnt(adapted(CONFIGS[family]), examples, **how)

    assert packed_loss == pytest.approx(loss, abs=1e-6)
    assert len(wanted) == 13  # A and B of two projections in three layers, and the head
    for name, each in wanted.items():
        assert each.abs().max() > 0, name
        torch.testing.assert_close(found[name], each, rtol=1e-4, atol=1e-6, msg=name)


def test_a_messages_logits_do_not_depend_on_its_neighbours() -> None:
    tuned, examples = adapted(CONFIGS["llama"]), messages(9)

    together = model.logits(tuned, pack(examples))
    alone = torch.cat([model.logits(tuned, pack([example])) for example in examples])

    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-6)


def test_a_layout_says_where_each_message_lies() -> None:
    packed = pack([Example([5, 6, 7], 1), Example([8], 0), Example([9], 0, spam=0.75)], places=4, grain=8)

    assert packed.shape == (8, 4, 5, 8, 0)
    assert packed.ids.tolist() == [5, 6, 7, 8, 9, 0, 0, 0]
    assert packed.positions.tolist() == [0, 1, 2, 0, 0, 0, 1, 2]
    assert packed.bounds.tolist() == [0, 3, 4, 5, 5, 8]
    assert packed.ends.tolist() == [2, 3, 4, 0]
    assert packed.labels.tolist() == [1, 0, IGNORED, IGNORED]
    assert packed.spam.tolist() == [NOT_TAUGHT, NOT_TAUGHT, 0.75, NOT_TAUGHT]


def test_a_message_without_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="without tokens"):
        pack([Example([1], 0), Example([], 1)])


def test_a_message_longer_than_the_sliding_window_is_refused() -> None:
    with pytest.raises(ValueError, match="sliding window of 64"):
        model.logits(adapted(CONFIGS["gemma3"]), pack([Example([1] * 65, 0)]))


def test_passes_hold_every_message_once_and_no_more_tokens_than_they_may() -> None:
    examples = [*messages(20), Example([1] * 90, 0)]

    parts = cut(examples, 64)

    assert [example for part in parts for example in part] == examples
    assert all(len(part) == 1 or sum(len(example.ids) for example in part) <= 64 for part in parts)


def test_running_out_of_memory_makes_the_passes_smaller_and_the_gradients_stay_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, wanted = learnt(adapted(CONFIGS["llama"]), messages(12))
    real, sizes = model.ends, []

    def small_memory(tuned: Any, batch: packing.PackedRows, **more: Any) -> torch.Tensor:
        sizes.append(batch.total)
        if batch.total > 64:
            raise torch.cuda.OutOfMemoryError
        return real(tuned, batch, **more)

    monkeypatch.setattr("training.fit.passes.model.ends", small_memory)
    monkeypatch.setattr("training.fit.passes._LEAST_TOKENS", 32)

    _, found = learnt(adapted(CONFIGS["llama"]), messages(12))

    assert max(sizes) > 64
    for name, each in wanted.items():
        torch.testing.assert_close(found[name], each, rtol=1e-4, atol=1e-6, msg=name)


def test_no_room_even_for_the_smallest_pass_is_said_with_what_would_help(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: Any, **__: Any) -> torch.Tensor:
        raise torch.cuda.OutOfMemoryError

    monkeypatch.setattr("training.fit.passes.model.ends", no_memory)

    with pytest.raises(Exception, match="with gradient checkpointing: a smaller base"):
        learnt(adapted(CONFIGS["llama"]), messages(4))


def test_checkpointed_passes_give_the_same_gradients() -> None:
    _, wanted = learnt(adapted(CONFIGS["llama"]), messages(12))
    tuned = adapted(CONFIGS["llama"])
    tuned.train()
    tuned.get_base_model().gradient_checkpointing_enable({"use_reentrant": False})

    _, found = learnt(tuned, messages(12))

    for name, each in wanted.items():
        torch.testing.assert_close(found[name], each, rtol=1e-4, atol=1e-6, msg=name)


def test_a_probability_is_learnt_as_a_soft_label_beside_rows_that_have_a_label() -> None:
    logits = torch.tensor([[0.3, -0.2], [1.0, 2.0], [-0.5, 0.5]])
    found = batches.loss(logits, torch.tensor([1, IGNORED, IGNORED]), torch.tensor([NOT_TAUGHT, 0.25, NOT_TAUGHT]))
    soft = cross_entropy(logits[1:2], torch.tensor([[0.75, 0.25]]), reduction="sum")
    assert found.item() == pytest.approx((cross_entropy(logits[:1], torch.tensor([1]), reduction="sum") + soft).item())


def test_certain_probabilities_are_learnt_as_labels() -> None:
    some = messages(12)
    taught = [Example(each.ids, 1 - each.label, spam=float(each.label)) for each in some]
    tuned = adapted(CONFIGS["llama"])
    loss, by_label = learnt(tuned, some)
    other, by_probability = learnt(tuned, taught)
    assert other == pytest.approx(loss, abs=1e-5)
    for name, gradient in by_label.items():
        assert torch.allclose(gradient, by_probability[name], atol=1e-6), name
