"""A bundle of the real layout, in half a megabyte: a Llama of one layer and random weights under a PEFT adapter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from peft import LoraConfig, TaskType, get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForSequenceClassification

from worker.model.bundle import Base, Bundle, Calibration, write

if TYPE_CHECKING:
    from pathlib import Path

WORDS = ("<s>", "<unk>", "win", "a", "prize", "number", "hello", "call")


def build(folder: Path) -> Path:
    parts = {name: folder.with_name(name) for name in ("base", "adapter", "tokenizer")}
    torch.manual_seed(1)
    shape = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=128,
        num_labels=2,
        pad_token_id=0,
        bos_token_id=0,
    )
    base = LlamaForSequenceClassification(shape)
    base.save_pretrained(parts["base"])
    lora = LoraConfig(task_type=TaskType.SEQ_CLS, r=2, target_modules=["q_proj", "v_proj"])
    get_peft_model(base, lora).save_pretrained(parts["adapter"])
    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token=WORDS[1]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    parts["tokenizer"].mkdir()
    tokenizer.save(str(parts["tokenizer"] / "tokenizer.json"))
    bundle = Bundle(
        name="tiny",
        base=Base(id="tiny", path="base"),
        labels=("ham", "spam"),
        threshold=0.5,
        calibration=Calibration(slope=1.0, intercept=0.0),
        max_tokens=64,
        recipe={},
        data_digest="",
        quality={},
        canaries=(),
        created_at="2026-01-01T00:00:00Z",
    )
    write(folder, bundle, parts)
    return folder
