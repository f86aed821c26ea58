"""A pretrained base with LoRA and a head on top, quantised as the recipe says: the same path for every size."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from bitsandbytes.nn.modules import Linear4bit
from huggingface_hub import hf_hub_download
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from safetensors import SafetensorError
from torch.nn.functional import rms_norm
from transformers import AutoConfig, AutoModelForSequenceClassification, BitsAndBytesConfig, PreTrainedTokenizerFast

from training.fit import packing
from worker.engine import files
from worker.model.tokenizer import parse

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tokenizers import Tokenizer
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from training.fit.packing import PackedRows
    from training.fit.recipe import Recipe

# Values that share a scale in NF4. On AVX-512, bitsandbytes gives a row of broken blocks its neighbour's scales.
_BLOCK: Final = 64
SERVED: Final = "llama"
"""The family that the worker's engines run."""
FAMILIES: Final = (SERVED, "gemma3_text")
"""Model types that can be trained; those that are not served are for comparison."""
TOKENIZER: Final = "tokenizer.json"
_PROBES: Final = (
    "Hey, are we still on for 7?",
    " two  spaces\nand\ta tab",
    "WIN \u00a31,000! http://a.b/c",
    "\u0414\u0430 \u4f60 \U0001f600",
    "",
)
"""Texts whose ids must be the same by a tokenizer's file and by its settings."""


class ModelError(ValueError):
    """A base that this recipe cannot be used with; the text says why."""


def compute_type() -> torch.dtype:
    """The number type of products: bf16 where the hardware has it, fp16 on older GPUs (a T4), float32 on a CPU."""
    if not torch.cuda.is_available():
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def load_tokenizer(base: str | Path, revision: str | None = None) -> PreTrainedTokenizerBase:
    """Load the base's tokenizer.json, padding as its end-of-sequence token when it has no pad. Raises ModelError.

    The class that tokenizer_config.json names is not used: transformers builds its own pieces for some of them, and
    the worker runs the file.
    """
    load: Any = PreTrainedTokenizerFast.from_pretrained
    try:
        plain = _tokenizer_file(base, revision)
        tokenizer: Any = load(str(base), revision=revision, trust_remote_code=False)
    except Exception as error:  # what the libraries raise for a missing or damaged file is of every kind
        message = f"{base}: no tokenizer can be read there ({_first_line(error)}); {TOKENIZER} belongs in it"
        raise ModelError(message) from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    _require_same_ids(base, tokenizer, plain)
    return tokenizer  # type: ignore[no-any-return]


def _tokenizer_file(base: str | Path, revision: str | None) -> Tokenizer:
    """The tokenizer of tokenizer.json alone, as the worker runs it."""
    local = Path(base)
    file = local / TOKENIZER if local.is_dir() else hf_hub_download(str(base), TOKENIZER, revision=revision)
    plain = parse(Path(file).read_bytes())
    plain.no_truncation()
    plain.no_padding()
    plain.encode_special_tokens = True
    return plain


def _require_same_ids(base: str | Path, tokenizer: Any, plain: Tokenizer) -> None:  # noqa: ANN401
    texts = [*_PROBES, *map(str, tokenizer.added_tokens_encoder)]
    if tokenizer(texts, split_special_tokens=True)["input_ids"] != [each.ids for each in plain.encode_batch(texts)]:
        message = (
            f"{base}: its tokenizer_config.json adds tokens, and so makes other ids than its {TOKENIZER}, which is "
            "what the worker runs; load it where it was trained, and save it again with save_pretrained"
        )
        raise ModelError(message)


def build(recipe: Recipe, base: str | Path, labels: Sequence[str], pad_token_id: int) -> PeftModel:
    """Load the base, quantise it, and put a fresh adapter and head on it. Raises ModelError."""
    return adapt(recipe, load(recipe, base, labels, pad_token_id))


def load(recipe: Recipe, base: str | Path, labels: Sequence[str], pad_token_id: int) -> Any:  # noqa: ANN401
    """Load the base as a classifier, quantised as the recipe says, attending to packed messages. Raises ModelError."""
    config = configured(base, recipe.base.revision, labels, pad_token_id)
    if recipe.quantisation == "nf4" and not torch.cuda.is_available():
        _check_rows(config, base)
    model = loaded(
        base,
        config=config,
        revision=recipe.base.revision,
        quantization_config=_quantisation(recipe),
        dtype=compute_type(),
        device_map={"": torch.cuda.current_device()} if torch.cuda.is_available() else "cpu",
        attn_implementation=packing.ATTENTION,
    )
    if torch.cuda.is_available():
        _fuse_norms(model)
        _unpack_scales(model)
        torch.cuda.empty_cache()
    return freeze(model)


def loaded(base: str | Path, **how: Any) -> Any:  # noqa: ANN401 transformers' own arguments, and its classifier
    """Read a base's weights from safetensors, all but the head's. Raises ModelError."""
    load: Any = AutoModelForSequenceClassification.from_pretrained
    try:
        read, said = load(str(base), use_safetensors=True, trust_remote_code=False, output_loading_info=True, **how)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        message = f"{base}: its weights cannot be read ({_first_line(error)}); fetch or save it again"
        raise ModelError(message) from error
    if missing := sorted(set(said["missing_keys"]) - {"score.weight"}):
        message = f"{base}: no tensor {missing[0]}, which its config.json asks for: it would be what chance makes it"
        raise ModelError(message)
    return read


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:200] or type(error).__name__


def freeze(model: Any) -> Any:  # noqa: ANN401 any of transformers' classifiers
    """Nothing of the base learns.

    In fp16, what is not quantised becomes float32, as PEFT prepares a model, for fp16 overflows in the residual
    stream; in bf16 it stays as it was stored, which halves what a pass must keep.
    """
    for weights in model.parameters():
        weights.requires_grad_(requires_grad=False)
        if weights.dtype == torch.float16:
            weights.data = weights.data.float()
    return model


def keep_layout(model: Any) -> None:  # noqa: ANN401 any of transformers' classifiers
    """Let no matrix be laid out anew when it is judged with, which bitsandbytes does on a CPU with AVX-512 BF16.

    It then computes in bfloat16, and PEFT's DoRA reads the new layout as if it were the old one.
    """
    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.train()  # what it asks before it does so; there is nothing else that this changes


def _fuse_norms(model: Any) -> None:  # noqa: ANN401
    """Let PyTorch's own kernel do each norm, and keep a number a row for the way back instead of a float32 copy."""

    def fused(module: Any) -> Callable[[Tensor], Tensor]:  # noqa: ANN401
        is_offset = type(module).__name__.startswith("Gemma")  # whose weights are what is added to 1
        epsilon = module.eps if is_offset else module.variance_epsilon

        def norm(hidden: Tensor) -> Tensor:
            weight = (1.0 + module.weight.float() if is_offset else module.weight).to(hidden.dtype)
            return rms_norm(hidden, weight.shape, weight, epsilon)

        return norm

    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = fused(module)


def _unpack_scales(model: Any) -> None:  # noqa: ANN401
    """Keep doubly quantised scales as what they stand for: every pass needs them twice, and they are few.

    The values are the same to the bit.
    """
    from bitsandbytes.functional import dequantize_blockwise  # noqa: PLC0415 -- where there is a GPU for it

    for weights in model.parameters():
        state = getattr(weights, "quant_state", None)
        if state is not None and state.nested:
            scales = dequantize_blockwise(state.absmax, state.state2) + state.offset
            state.absmax, state.nested, state.offset, state.state2 = scales.float(), False, None, None


def adapt(recipe: Recipe, model: Any) -> PeftModel:  # noqa: ANN401 any of transformers' classifiers
    """Put a fresh adapter on a model; its head is trained along with it. What learns is float32."""
    lora = LoraConfig(
        task_type=TaskType.SEQ_CLS,
        r=recipe.lora.r,
        lora_alpha=recipe.lora.alpha,
        lora_dropout=recipe.lora.dropout,
        target_modules=list(recipe.lora.targets),
        use_rslora=recipe.lora.rslora,
        use_dora=recipe.lora.dora,
    )
    adapted: PeftModel = get_peft_model(model, lora)
    for weights in adapted.parameters():
        if weights.requires_grad:
            weights.data = weights.data.float()
    return adapted


def guess_states(classifier: Any, values: int) -> None:  # noqa: ANN401 any of transformers' classifiers
    """Put a head of so many values beside the one that judges; it learns, and is not saved."""
    width = classifier.config.hidden_size
    classifier.states = torch.nn.Linear(width, values, device=classifier.score.weight.device)


def ends(adapted: PeftModel, batch: PackedRows) -> Tensor:
    """What the base makes of each packed message, at its end: [places, width], in float32."""
    classifier: Any = adapted.get_base_model()
    embedded = classifier.model.embed_tokens(batch.ids[None])
    hidden: Tensor = classifier.model(
        inputs_embeds=embedded, position_ids=batch.positions[None], use_cache=False, layout=batch
    ).last_hidden_state[0]
    return hidden[batch.ends].float()


def logits(adapted: PeftModel, batch: PackedRows) -> Tensor:
    """Judge packed messages: [places, labels], in float32. The head sees nothing but messages' ends."""
    classifier: Any = adapted.get_base_model()
    seen = ends(adapted, batch)
    with torch.autocast(seen.device.type, enabled=False):
        found: Tensor = classifier.score(seen)
    return found


def trainable(model: PeftModel) -> tuple[int, int]:
    """Trainable parameters, and all of them, four-bit ones counted one by one."""
    few, all_ = model.get_nb_trainable_parameters()
    return few, all_


def configured(base: str | Path, revision: str | None, labels: Sequence[str], pad_token_id: int | None) -> Any:  # noqa: ANN401
    """Read a base's configuration, for a classifier of these labels. Raises ModelError."""
    if (Path(base) / "adapter_config.json").is_file():
        message = f"{base}: holds adapter_config.json, and transformers would read the base that this names instead"
        raise ModelError(message)
    try:
        config = AutoConfig.from_pretrained(
            str(base),
            revision=revision,
            num_labels=len(labels),
            id2label=dict(enumerate(labels)),
            label2id={label: index for index, label in enumerate(labels)},
            pad_token_id=pad_token_id,
            trust_remote_code=False,
        )
    except Exception as error:  # no JSON, no object, no model: the library raises something else for each
        message = f"{base}: its config.json cannot be read ({_first_line(error)})"
        raise ModelError(message) from error
    if quantised := files.quantised_as(vars(config)):
        message = f"{base}: quantised already ({quantised}); take the base that it was quantised from"
        raise ModelError(message)
    if config.model_type not in FAMILIES:
        message = f"{base}: a {config.model_type} model; hamgate trains {', '.join(FAMILIES)}, and serves {SERVED}"
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
