"""A Llama-family base with LoRA and a head on top, quantised as the recipe says: the same path for every size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model, prepare_model_for_kbit_training
from transformers import AutoConfig, AutoTokenizer, BitsAndBytesConfig, LlamaForSequenceClassification

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase

    from training.recipe import Recipe

_FAMILY: Final = "llama"
# Values that share a scale in NF4. On AVX-512, bitsandbytes gives a row of broken blocks its neighbour's scales.
_BLOCK: Final = 64


class ModelError(ValueError):
    """A base that this recipe cannot be used with; the text says why."""


def compute_type() -> torch.dtype:
    """What products are computed in: bf16 where the hardware has it, fp16 on older GPUs (a T4), float32 on a CPU."""
    if not torch.cuda.is_available():
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def load_tokenizer(base: str | Path, revision: str | None = None) -> PreTrainedTokenizerBase:
    """Load the base's tokenizer, padding as its end-of-sequence token when it has none."""
    tokenizer: Any = AutoTokenizer.from_pretrained(str(base), revision=revision, trust_remote_code=False)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return tokenizer  # type: ignore[no-any-return]


def build(recipe: Recipe, base: str | Path, labels: Sequence[str], pad_token_id: int) -> PeftModel:
    """Load the base, quantise it, and put a fresh adapter and head on it. Raises ModelError."""
    config = _configured(base, recipe.base.revision, labels, pad_token_id)
    if recipe.quantisation == "nf4" and not torch.cuda.is_available():
        _check_rows(config, base)
    load: Any = LlamaForSequenceClassification.from_pretrained
    model = load(
        str(base),
        config=config,
        revision=recipe.base.revision,
        quantization_config=_quantisation(recipe),
        dtype=compute_type(),
        device_map={"": torch.cuda.current_device()} if torch.cuda.is_available() else "cpu",
        use_safetensors=True,
        trust_remote_code=False,
    )
    if recipe.quantisation == "nf4":
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    return adapt(recipe, model)


def adapt(recipe: Recipe, model: Any) -> PeftModel:  # noqa: ANN401 any of transformers' classifiers
    """Put a fresh adapter on a model; its head is trained along with it."""
    lora = LoraConfig(
        task_type=TaskType.SEQ_CLS,
        r=recipe.lora.r,
        lora_alpha=recipe.lora.alpha,
        lora_dropout=recipe.lora.dropout,
        target_modules=list(recipe.lora.targets),
    )
    adapted: PeftModel = get_peft_model(model, lora)
    return adapted


def trainable(model: PeftModel) -> tuple[int, int]:
    """Trainable parameters, and all of them, four-bit ones counted one by one."""
    few, all_ = model.get_nb_trainable_parameters()
    return few, all_


def _configured(base: str | Path, revision: str | None, labels: Sequence[str], pad_token_id: int) -> Any:  # noqa: ANN401
    config = AutoConfig.from_pretrained(
        str(base),
        revision=revision,
        num_labels=len(labels),
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
        pad_token_id=pad_token_id,
        trust_remote_code=False,
    )
    if config.model_type != _FAMILY:
        message = f"{base}: a {config.model_type} model; hamgate trains and serves the {_FAMILY} family"
        raise ModelError(message)
    return config


def _check_rows(config: Any, base: str | Path) -> None:  # noqa: ANN401 transformers' configurations are untyped
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    rows = (config.hidden_size, config.intermediate_size, head * config.num_attention_heads)
    if broken := [row for row in rows if row % _BLOCK]:
        message = (
            f"{base}: rows of {broken[0]} values are not whole NF4 blocks of {_BLOCK}, which bitsandbytes misreads on "
            'a CPU with AVX-512; train it on a GPU, or with quantisation = "none"'
        )
        raise ModelError(message)


def _quantisation(recipe: Recipe) -> BitsAndBytesConfig | None:
    if recipe.quantisation == "none":
        return None
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=recipe.double_quantisation,
        bnb_4bit_compute_dtype=compute_type(),
        bnb_4bit_quant_storage=torch.uint8,
        llm_int8_skip_modules=["score"],
    )
