"""From files to one merged model: base, then NF4 as training saw it, then the adapter, in float32 on the CPU.

A base is a Llama-family folder (config.json, safetensors); an adapter is a folder as PEFT saves it. What is not run as
it was trained is refused by name: every entry of a config that would change the answer is looked at, and every tensor
of the adapter must find its place.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import torch
from torch import Tensor

from worker.engine import files, nf4
from worker.engine.kinds import UnsupportedModelError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a Llama. `width` is its hidden size, `inner` its MLP's, `head` one attention head's."""

    vocabulary: int
    width: int
    layers: int
    heads: int
    key_heads: int
    head: int
    inner: int
    labels: int
    positions: int
    epsilon: float

    @property
    def products_a_token(self) -> int:
        """Weights that each token is multiplied with: embedding and score not counted. Twice this is its operations."""
        attention = self.width * self.head * (2 * self.heads + 2 * self.key_heads)
        return self.layers * (attention + 3 * self.width * self.inner)


Update: TypeAlias = tuple[Tensor, Tensor]


@dataclass(slots=True)
class Layer:
    """One block. `qkv` and `gate_up` are theirs laid one below the other, so that each is one product.

    `biases` are what is added to their products by name, where the model has any. `updates` are what is to be added to
    them by name, when the adapter was not merged: (low [r, in], high [out, r]).
    """

    before_attention: Tensor
    qkv: Tensor
    out: Tensor
    before_mlp: Tensor
    gate_up: Tensor
    down: Tensor
    biases: dict[str, Tensor] = field(default_factory=dict)
    updates: dict[str, Update] = field(default_factory=dict)


@dataclass(slots=True)
class Weights:
    """A merged model. `frequencies` are the rotary ones, [head / 2], in float32."""

    shape: Shape
    embedding: Tensor
    layers: list[Layer]
    norm: Tensor
    score: Tensor
    frequencies: Tensor


# The linear layers of a block, by their names in the files: what NF4 quantises and LoRA adapts.
_LINEAR: Final = (
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
)
_FUSED: Final = {"qkv": _LINEAR[:3], "out": _LINEAR[3:4], "gate_up": _LINEAR[4:6], "down": _LINEAR[6:]}
_BIASED: Final = {"attention_bias": ("qkv", "out"), "mlp_bias": ("gate_up", "down")}
"""Settings of a config that give products a bias, and to which."""
_ROOT: Final = "base_model.model."
_SCORE: Final = "score.weight"


def read(
    base: Path,
    adapter: Path | None = None,
    *,
    quantised: bool = False,
    double: bool = False,
    separate_adapter: bool = False,
) -> Weights:
    """Read a base and merge an adapter into it.

    `quantised` says that training saw the base through NF4, `double` that its scales were quantised too: then the
    adapter is merged into what NF4 left. With `separate_adapter` the base stays as it is, and the adapter becomes its
    layers' updates.
    Raises UnsupportedModelError.
    """
    config = files.config(base / "config.json")
    _check_base(config)
    tensors = _ours(files.read(base))
    if quantised and not separate_adapter:
        for name in filter(is_linear, list(tensors)):
            tensors[name] = nf4.round_trip(tensors[name], double=double)
    updates: dict[str, Update] = {}
    if adapter is not None:
        _merge(tensors, adapter, updates if separate_adapter else None)
    return _assemble(config, tensors, updates)


def check(base: Path, labels: int) -> Shape:
    """Return the sizes of a base under a head of so many labels, by its files' descriptions alone.

    Raises UnsupportedModelError where `read` would.
    """
    config = files.config(base / files.CONFIG)
    _check_base(config)
    tensors = _ours(files.shapes(base))
    tensors[_SCORE] = torch.empty(labels, files.size(config, "hidden_size"), device="meta")
    return _assemble(config, tensors, {}).shape


def _check_base(config: dict[str, Any]) -> None:
    refused = {
        "model_type": config.get("model_type") != "llama",
        "hidden_act": config.get("hidden_act", "silu") != "silu",
        "quantization_config": "quantization_config" in config,
        "transformers_weights": bool(config.get("transformers_weights")),
    }
    for name, is_refused in refused.items():
        if is_refused:
            message = f"{name} = {config.get(name)!r} in the base's config.json"
            raise UnsupportedModelError(message)


def _ours(read: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Every tensor of a base by its name less the leading `model.`; a language model's head left out."""
    return {name.removeprefix("model."): tensor for name, tensor in read.items() if name != "lm_head.weight"}


def _merge(tensors: dict[str, Tensor], folder: Path, updates: dict[str, Update] | None) -> None:
    """Merge the adapter into the tensors, or put its low-rank updates into `updates`, by the same names."""
    config = files.config(folder / "adapter_config.json")
    _check_adapter(config)
    read = files.tensors(folder / "adapter_model.safetensors")
    adapter = {name.removeprefix(_ROOT): tensor for name, tensor in read.items()}
    for target in sorted(name.removesuffix(".lora_A.weight") for name in adapter if name.endswith(".lora_A.weight")):
        name = f"{target.removeprefix('model.')}.weight"
        if not target.endswith(_LINEAR) or name not in tensors:
            message = f"the adapter adapts {target}, which this engine does not"
            raise UnsupportedModelError(message)
        rank = files.size(_by_name(config, "r", target), "r")
        alpha = files.number(_by_name(config, "lora_alpha", target), "lora_alpha")
        scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
        low, high = adapter.pop(f"{target}.lora_A.weight"), adapter.pop(f"{target}.lora_B.weight", None)
        rows, columns = tensors[name].shape
        if high is None or (low.shape, high.shape) != ((rank, columns), (rows, rank)):
            message = f"the adapter's {target} is not of rank {rank} for a matrix of {rows} x {columns}"
            raise UnsupportedModelError(message)
        high = scale * high
        if updates is not None:
            updates[name] = (low, high)
            continue
        merged = tensors[name] + high @ low
        if config.get("use_dora"):
            magnitude = adapter.pop(f"{target}.lora_magnitude_vector")
            merged *= (magnitude / torch.linalg.vector_norm(merged, dim=1))[:, None]
        tensors[name] = merged
    if updates is not None and config.get("use_dora"):
        message = "use_dora = True in adapter_config.json, which cannot be kept separate from its base"
        raise UnsupportedModelError(message)
    if _SCORE in adapter:
        tensors[_SCORE] = adapter.pop(_SCORE)
    if adapter:
        message = f"the adapter holds {min(adapter)}, which has no place in this engine"
        raise UnsupportedModelError(message)


def _by_name(config: Mapping[str, Any], setting: str, target: str) -> Mapping[str, Any]:
    """The config with what its `<setting>_pattern` says of a matrix: the first expression that fits its name's end."""
    pattern = {"r": "rank_pattern", "lora_alpha": "alpha_pattern"}[setting]
    expressions = config.get(pattern) or {}
    try:
        fitting = [value for key, value in expressions.items() if re.match(rf"(.*\.)?({key})$", target)]
    except (AttributeError, re.error) as error:
        message = f"{pattern} = {expressions!r} in adapter_config.json ({error})"
        raise UnsupportedModelError(message) from None
    return {**config, setting: fitting[0]} if fitting else config


def takes(config: Mapping[str, Any], names: Iterable[str]) -> bool:
    """Whether `read` merges an adapter of this config and these tensors: LoRA on linear layers, and a head."""

    def has_place(name: str) -> bool:
        target = next((name.removesuffix(end) for end in _LORA if name.endswith(end)), "")
        return name == _SCORE or target.endswith(_LINEAR)

    return _unserved(config) is None and all(has_place(name.removeprefix(_ROOT)) for name in names)


def is_linear(name: str) -> bool:
    """Whether it names what NF4 quantises."""
    return name.removesuffix(".weight").endswith(_LINEAR)


def moves_base(start: object) -> bool:
    """Whether LoRA that is started so (init_lora_weights) changes the base as well.

    Merging it into the base as it was would give another model.
    """
    return isinstance(start, str) and start.lower().startswith(_MOVES_BASE)


_LORA: Final = (".lora_A.weight", ".lora_B.weight", ".lora_magnitude_vector")
_MOVES_BASE: Final = ("pissa", "olora", "corda", "loftq", "lora_ga")
# Settings that make another arithmetic of LoRA's tensors, or of others. `fan_in_fan_out` does not, a Llama's linear
# layers lie as they should, nor does `bias`: one that was trained is a tensor without a place, and is merged elsewhere.
_OTHERWISE: Final = (
    "lora_bias", "layer_replication", "alora_invocation_tokens", "use_qalora", "use_bdlora", "arrow_config",
    "monteclora_config", "kasa_config", "target_parameters", "trainable_token_indices", "megatron_config",
)  # fmt: skip


def _check_adapter(config: Mapping[str, Any]) -> None:
    if (name := _unserved(config)) is not None:
        message = f"{name} = {config.get(name)!r} in adapter_config.json"
        raise UnsupportedModelError(message)


def _unserved(config: Mapping[str, Any]) -> str | None:
    """The first setting that this engine has no arithmetic for."""
    refused = {
        "peft_type": config.get("peft_type") != "LORA",
        "task_type": config.get("task_type") not in {"SEQ_CLS", None},
        "init_lora_weights": moves_base(config.get("init_lora_weights")),
        **{name: bool(config.get(name)) for name in _OTHERWISE},
    }
    return next((name for name, is_refused in refused.items() if is_refused), None)


def _assemble(config: dict[str, Any], tensors: dict[str, Tensor], updates: dict[str, Update]) -> Weights:
    if _SCORE not in tensors:
        message = "neither the base nor the adapter has a score head"
        raise UnsupportedModelError(message)
    shape, take = _shape(config, labels=len(tensors[_SCORE])), files.Checked(tensors)
    frequencies, factor = _rope(config, shape)
    if updates and factor != 1:
        message = "rope_type = 'yarn' with an adapter that is kept separate from its base"
        raise UnsupportedModelError(message)
    width, queries, keys = shape.width, shape.heads * shape.head, shape.key_heads * shape.head
    attention = ((queries, width), (keys, width), (keys, width), (width, queries))
    sizes = dict(
        zip(_LINEAR, (*attention, (shape.inner, width), (shape.inner, width), (width, shape.inner)), strict=True)
    )
    # Yarn multiplies what is rotated, queries and keys alike, by a factor: their rows may as well have it.
    factors = dict.fromkeys(_LINEAR[:2], factor)
    layers = []
    for index in range(shape.layers):
        root = f"layers.{index}"

        def stacked(product: str, kind: str, root: str = root) -> Tensor:
            return torch.cat(
                [
                    take(f"{root}.{name}.{kind}", *sizes[name][: 1 if kind == "bias" else 2]) * factors.get(name, 1.0)
                    for name in _FUSED[product]
                ]
            )

        biased = [name for setting, products in _BIASED.items() if config.get(setting) for name in products]
        layers.append(
            Layer(
                before_attention=take(f"{root}.input_layernorm.weight", width),
                before_mlp=take(f"{root}.post_attention_layernorm.weight", width),
                **{product: stacked(product, "weight") for product in _FUSED},
                biases={product: stacked(product, "bias") for product in biased},
                updates={
                    name: update
                    for name, parts in _FUSED.items()
                    if (update := _stacked([f"{root}.{part}.weight" for part in parts], tensors, updates))
                },
            )
        )
    embedding, norm = take("embed_tokens.weight", shape.vocabulary, width), take("norm.weight", width)
    score = take(_SCORE, shape.labels, width)
    take.require_all_asked()
    return Weights(shape, embedding, layers, norm, score, frequencies)


def _shape(config: dict[str, Any], labels: int) -> Shape:
    heads, width = files.size(config, "num_attention_heads"), files.size(config, "hidden_size")
    shape = Shape(
        vocabulary=files.size(config, "vocab_size"),
        width=width,
        layers=files.size(config, "num_hidden_layers"),
        heads=heads,
        key_heads=files.size(config, "num_key_value_heads", heads),
        head=files.size(config, "head_dim", width // heads),
        inner=files.size(config, "intermediate_size"),
        labels=labels,
        positions=files.size(config, "max_position_embeddings"),
        epsilon=files.number(config, "rms_norm_eps"),
    )
    if shape.heads % shape.key_heads or shape.head % 2:
        message = f"{shape.heads} heads of {shape.head}, {shape.key_heads} key heads: not a Llama that can be run"
        raise UnsupportedModelError(message)
    return shape


def _stacked(names: list[str], tensors: dict[str, Tensor], updates: dict[str, Update]) -> Update | None:
    """One update for matrices laid one below the other: their low halves stacked, each high half in its own corner."""
    adapted = [name for name in names if name in updates]
    if not adapted:
        return None
    low = torch.cat([updates[name][0] for name in adapted])
    rows = []
    for name in names:
        corners = [
            updates[other][1] if other == name else torch.zeros(len(tensors[name]), len(updates[other][0]))
            for other in adapted
        ]
        rows.append(torch.cat(corners, dim=1))
    return low, torch.cat(rows)


def _rope(config: dict[str, Any], shape: Shape) -> tuple[Tensor, float]:
    """Rotary frequencies, as both the old and the new form of a config give them; what the rotated is multiplied by."""
    rope: dict[str, Any] = {"rope_theta": 10000.0, "rope_type": "default"}
    rope |= {"rope_theta": config["rope_theta"]} if "rope_theta" in config else {}
    rope |= config.get("rope_scaling") or {}
    rope |= config.get("rope_parameters") or {}
    exponents = torch.arange(0, shape.head, 2, dtype=torch.float32) / shape.head
    frequencies = 1.0 / torch.pow(rope["rope_theta"], exponents)
    kind = rope.get("type", rope["rope_type"])
    if kind == "default":
        return frequencies, 1.0
    if kind == "linear":
        return frequencies / files.number(rope, "factor"), 1.0
    original = config.get("original_max_position_embeddings") or rope.get("original_max_position_embeddings")
    rope["original_max_position_embeddings"] = original or shape.positions
    if kind == "llama3":
        return _llama3(frequencies, rope), 1.0
    if kind == "yarn":
        return _yarn(frequencies, rope, shape)
    message = f"rope_type = {kind!r} in the base's config.json"
    raise UnsupportedModelError(message)


def _yarn(frequencies: Tensor, rope: dict[str, Any], shape: Shape) -> tuple[Tensor, float]:
    """YaRN (arXiv 2309.00071): frequencies between two numbers of turns are blended, attention is made sharper."""
    factor = (
        shape.positions / files.number(rope, "original_max_position_embeddings")
        if rope.get("factor") is None
        else files.number(rope, "factor")
    )

    def place(turns: float) -> float:
        """The frequency, by its index, that turns so often within the original context."""
        original, theta = files.number(rope, "original_max_position_embeddings"), files.number(rope, "rope_theta")
        return shape.head * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(theta))

    def sharper(scale: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * scale * math.log(factor) + 1.0

    low, high = place(float(rope.get("beta_fast") or 32)), place(float(rope.get("beta_slow") or 1))
    if rope.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, shape.head - 1)
    high += 0.001 * (low == high)
    divided = ((torch.arange(len(frequencies), dtype=torch.float32) - low) / (high - low)).clamp(0, 1)
    blended = frequencies / factor * divided + frequencies * (1 - divided)
    attention, scale, of_all = (rope.get(name) for name in ("attention_factor", "mscale", "mscale_all_dim"))
    if attention is None:
        attention = sharper(scale) / sharper(of_all) if scale and of_all else sharper(1)
    return blended, float(attention)


def _llama3(frequencies: Tensor, rope: dict[str, Any]) -> Tensor:
    """Llama 3's long context: low frequencies are divided by the factor, high ones kept, those between blended."""
    low, high = float(rope["low_freq_factor"]), float(rope["high_freq_factor"])
    turns = frequencies * (rope["original_max_position_embeddings"] / (2 * math.pi))
    blend = ((turns - low) / (high - low)).clamp(0, 1)
    blended: Tensor = frequencies * (blend + (1 - blend) / float(rope["factor"]))
    return blended
