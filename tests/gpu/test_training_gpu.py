"""Training on a GPU: captured passes learn what launched ones learn, whatever attention and memory there is."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
import torch
from accelerate import Accelerator
from transformers import AutoModelForSequenceClassification, Gemma3TextConfig, LlamaConfig

from training.fit import model, packing, recipe
from training.fit.batches import Example
from training.fit.passes import MOST_TOKENS, Learner, NoRoomError
from worker.engine import weights
from worker.engine.cpu import CpuEngine

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")]
SEED = recipe.load(Path("seed"))
PLAIN = msgspec.structs.replace(SEED, lora=msgspec.structs.replace(SEED.lora, dropout=0.0))
SIZES = {"vocab_size": 512, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 4, "num_labels": 2}
HEADS = {"num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 64, "max_position_embeddings": 512}
CONFIGS = {
    "llama": LlamaConfig(**SIZES, **HEADS, pad_token_id=0),
    "gemma3": Gemma3TextConfig(**SIZES, **HEADS, pad_token_id=0, query_pre_attn_scalar=64),
}


@pytest.fixture(params=CONFIGS)
def base(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    torch.manual_seed(4)
    made: Any = AutoModelForSequenceClassification.from_config(CONFIGS[request.param])
    made.save_pretrained(tmp_path)
    return tmp_path


def messages(seed: int, count: int = 32, longest: int = 80) -> list[Example]:
    dice = random.Random(seed)
    return [
        Example([dice.randint(1, 511) for _ in range(dice.randint(1, longest))], dice.randint(0, 1))
        for _ in range(count)
    ]


def adapted(base: Path, chosen: recipe.Recipe = PLAIN) -> Any:
    torch.manual_seed(5)
    made: Any = model.build(chosen, base, ("ham", "spam"), 0)
    for name, parameter in made.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    return made.train()


def learn(learner: Learner, steps: Sequence[list[Example]]) -> list[torch.Tensor]:
    found = []
    for step in steps:
        learner.learn(step, total=len(step), places=len(step))
        found.append(learner.gradients.clone())
    return found


def close(one: torch.Tensor, other: torch.Tensor) -> float:
    return ((one - other).norm() / other.norm()).item()


def test_replayed_passes_give_the_gradients_of_launched_ones(base: Path) -> None:
    accelerator = Accelerator(mixed_precision="bf16")
    steps = [messages(seed) for seed in (1, 1, 1, 2, 2, 3, 1, 2)]

    launched = learn(Learner(adapted(base), accelerator, graphs=False), steps)
    learner = Learner(adapted(base), accelerator)
    replayed = learn(learner, steps)

    assert learner._graphs is not None
    assert len(learner._graphs._captured) >= 1
    for one, other in zip(replayed, launched, strict=True):
        assert close(one, other) < 0.01


def test_dropout_differs_from_replay_to_replay_and_follows_the_seed(base: Path) -> None:
    learner = Learner(adapted(base, SEED), Accelerator(mixed_precision="bf16"))
    learn(learner, [messages(1)] * 2)

    def replayed(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return learn(learner, [messages(1)])[0]

    one, two, again = replayed(1), replayed(2), replayed(1)

    assert close(one, again) < 0.001
    assert close(one, two) > 0.001


def test_the_rectangle_attends_as_flash_attention_does(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accelerator = Accelerator(mixed_precision="bf16")
    flash = learn(Learner(adapted(base), accelerator, graphs=False), [messages(1)])[0]
    monkeypatch.setattr(packing, "_FLASH", (99, 0))

    rectangle = learn(Learner(adapted(base), accelerator), [messages(1)] * 3)

    assert all(close(each, flash) < 0.02 for each in rectangle)


def test_little_memory_is_enough_and_gives_the_same_gradients(base: Path) -> None:
    accelerator = Accelerator(mixed_precision="bf16")
    steps = [messages(seed, 200) for seed in (1, 1, 2)]
    wanted = learn(Learner(adapted(base), accelerator), steps)
    learner = Learner(adapted(base), accelerator)
    torch.cuda.empty_cache()
    allow(torch.cuda.memory_reserved() + 200 * 2**20)

    try:
        found = learn(learner, steps)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)

    assert learner._most < MOST_TOKENS
    for one, other in zip(found, wanted, strict=True):
        assert close(one, other) < 0.02


def test_where_not_even_the_smallest_pass_fits_training_is_refused_and_says_what_would_help(base: Path) -> None:
    learner = Learner(adapted(base), Accelerator(mixed_precision="bf16"))
    torch._C._cuda_clearCublasWorkspaces()  # those of tests before this one, which making room would free
    torch.cuda.empty_cache()
    allow(torch.cuda.memory_reserved())

    try:
        taken = list(all_that_is_free())
        with pytest.raises(NoRoomError, match="at 256 tokens a pass, with gradient checkpointing: a smaller base"):
            learn(learner, [messages(3)])
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)

    assert taken
    assert learner._is_checkpointed


def allow(most: int) -> None:
    """Let this process reserve so many bytes."""
    torch.cuda.set_per_process_memory_fraction(most / torch.cuda.get_device_properties(0).total_memory)


def all_that_is_free() -> Iterator[torch.Tensor]:
    """What is left of the segments that are reserved, large blocks first; up to 1 MiB comes from others than more."""
    for size in (16 << 20, 2 << 20, (1 << 20) + 512, 1 << 16, 512):
        while True:
            try:
                yield torch.empty(size, dtype=torch.uint8, device="cuda")
            except torch.cuda.OutOfMemoryError:
                break


def test_dora_over_nf4_answers_on_the_engine_as_it_was_trained(tmp_path: Path) -> None:
    plain: Any = AutoModelForSequenceClassification.from_config(CONFIGS["llama"])
    plain.to(torch.bfloat16).save_pretrained(tmp_path / "base")
    dora = msgspec.structs.replace(PLAIN, lora=msgspec.structs.replace(PLAIN.lora, dora=True))
    made = adapted(tmp_path / "base", dora)
    made.save_pretrained(tmp_path / "adapter")
    examples = messages(1)

    with torch.autocast("cuda", torch.bfloat16):
        packed = packing.pack(examples)
        trained = model.logits(made, packed.on(packed.flat.cuda())).detach().float().cpu()
    read = weights.read(tmp_path / "base", tmp_path / "adapter", quantised=True, double=dora.double_quantisation)
    engine = torch.from_numpy(CpuEngine(read).logits([each.ids for each in examples]))

    assert close(engine, trained) < 0.02
