"""The engine's peers: the same weights in transformers, run the ways that people run them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForSequenceClassification

from benchmarks.tinyllama import CONFIG, SHAPE
from worker.engine import loading, nf4

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import nn

    from worker.model.bundle import Bundle


def tinyllama() -> nn.Module:
    """TinyLlama's true shape with random weights, in bfloat16 on the GPU."""
    config = LlamaConfig(**CONFIG, num_labels=SHAPE.labels, pad_token_id=0)
    with torch.device("cuda"):
        torch.set_default_dtype(torch.bfloat16)
        model = LlamaForSequenceClassification(config).eval()
        torch.set_default_dtype(torch.float32)
    return model


def recipe(model: nn.Module) -> nn.Module:
    """The model as the published recipe runs it: base in NF4 by bitsandbytes, LoRA r=16 on q and v beside it."""
    import bitsandbytes as bnb  # noqa: PLC0415 # heavy, and only here
    from peft import LoraConfig, TaskType, get_peft_model  # noqa: PLC0415

    for name, linear in list(model.named_modules()):
        if isinstance(linear, torch.nn.Linear) and name != "score":
            small = bnb.nn.Linear4bit(
                linear.in_features, linear.out_features, bias=False, compute_dtype=torch.bfloat16, quant_type="nf4"
            )
            small.weight = bnb.nn.Params4bit(linear.weight.data.cpu(), requires_grad=False, quant_type="nf4")
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, small.cuda())
    tuned: nn.Module = get_peft_model(
        model, LoraConfig(task_type=TaskType.SEQ_CLS, r=16, lora_alpha=32, target_modules=["q_proj", "v_proj"])
    )
    return tuned.eval().cuda()


def prepared(model: nn.Module) -> nn.Module:
    """The same as whoever follows PEFT's guide to QLoRA has it: norms, embeddings and what runs between in float32.

    `prepare_model_for_kbit_training` comes before training, and the model that was trained is the one that predicts.
    """
    from peft import prepare_model_for_kbit_training  # noqa: PLC0415 # heavy, and only here

    ready: nn.Module = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    return ready.eval()


def merged(bundle: Bundle) -> nn.Module:
    """A bundle as transformers and PEFT run it, in float32: the base that training saw, the adapter merged into it."""
    from peft import PeftModel  # noqa: PLC0415 # heavy, and only here

    quantised, double = loading.seen_through_nf4(bundle.recipe)
    base = LlamaForSequenceClassification.from_pretrained(
        loading.base_folder(bundle), num_labels=len(bundle.labels), pad_token_id=0, dtype=torch.float32
    )
    if quantised:
        for name, parameter in base.named_parameters():
            if "_proj" in name:
                parameter.data = nf4.round_trip(parameter.data, double=double)
    tuned: nn.Module = PeftModel.from_pretrained(base, str(bundle.adapter)).merge_and_unload()
    return tuned.eval()


def padded(model: nn.Module, tokens: Sequence[Sequence[int]], size: int) -> NDArray[np.float32]:
    """Logits by plain batches of `size` messages in the order given, padded to each batch's longest."""
    device = next(model.parameters()).device
    answers = []
    with torch.inference_mode():
        for first in range(0, len(tokens), size):
            rows = tokens[first : first + size]
            longest = max(map(len, rows))
            ids = np.zeros((len(rows), longest), dtype=np.int64)
            mask = np.zeros_like(ids)
            for place, row in enumerate(rows):
                ids[place, : len(row)], mask[place, : len(row)] = row, 1
            answer = model(input_ids=torch.from_numpy(ids).to(device), attention_mask=torch.from_numpy(mask).to(device))
            answers.append(answer.logits.float().cpu())
    return torch.cat(answers).numpy()


def messages_a_second(
    model: nn.Module, tokens: Sequence[Sequence[int]], size: int, *, is_sorted: bool = False
) -> float:
    """Messages a second of `padded`: the best of two rounds after a whole one to warm up, as each new length needs it.

    `is_sorted` puts messages of a length together first.
    """
    ordered = sorted(tokens, key=len) if is_sorted else tokens
    best = float("inf")
    for is_counted in (False, True, True):
        begun = time.perf_counter()
        padded(model, ordered, size)
        if is_counted:
            best = min(best, time.perf_counter() - begun)
    return len(ordered) / best
