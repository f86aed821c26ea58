"""An adapter made elsewhere: what is wrong with it; and of a kind no engine runs, merged into its base by PEFT."""

from __future__ import annotations

import hashlib
import json
import warnings
from typing import TYPE_CHECKING, Any, Final

import peft
import torch
from peft import LoraConfig, PeftConfig, PeftModelForSequenceClassification, TaskType, get_peft_model
from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
from peft.utils import ModulesToSaveWrapper
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from training.fit import model
from worker.engine import files, nf4, weights

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

CONFIG: Final = "adapter_config.json"
WEIGHTS: Final = "adapter_model.safetensors"
_HEAD: Final = "score.weight"
_EMBEDDING: Final = "base_model.model.model.embed_tokens.weight"
_REPEATABLE: Final = ("pissa", "olora")
"""Ways to start LoRA that change the base by what PEFT works out again as it loads the adapter."""
_TOLERANCE: Final = 1e-3
"""How much logits may differ, relative to the largest if that is beyond 1: float32's rounding stays far below."""


class AdapterError(ValueError):
    """An adapter that no bundle can be made of; the text says what is wrong with it."""


def check(adapter: Path, base: Path) -> int:
    """Return how many labels its head has. Raises AdapterError unless it is of safetensors, and classifies sequences.

    The head may be the base's own, where the adapter brings none.
    """
    for name in (CONFIG, WEIGHTS):
        if not (adapter / name).is_file():
            pickled = (
                " (adapter_model.bin is a pickle, which is never loaded)" * (adapter / "adapter_model.bin").exists()
            )
            message = f"{adapter}: no {name}{pickled}"
            raise AdapterError(message)
    config, shapes = _config(adapter), _shapes(adapter / WEIGHTS)
    if config.get("task_type") != TaskType.SEQ_CLS:
        message = f"{adapter / CONFIG}: task_type is {config.get('task_type')!r}, wanted {TaskType.SEQ_CLS.value!r}"
        raise AdapterError(message)
    kind = config.get("peft_type")
    if kind not in PEFT_TYPE_TO_TUNER_MAPPING:
        message = f"{adapter / CONFIG}: peft_type is {kind!r}, which PEFT {peft.__version__} does not know"
        raise AdapterError(message)
    if not hasattr(PEFT_TYPE_TO_TUNER_MAPPING[kind], "merge_and_unload"):
        message = (
            f"{adapter / CONFIG}: peft_type is {kind!r}, which leaves the weights as they are and adds to what they "
            "are given at each message: there is nothing to merge, and no engine runs it. LoRA, (IA)3, OFT and others "
            "like them can be imported"
        )
        raise AdapterError(message)
    heads = [shape for name, shape in shapes.items() if name.endswith(_HEAD)]
    heads += [shape for file in files.weights(base) for name, shape in _shapes(file).items()
              if name == _HEAD]  # fmt: skip
    if not heads:
        message = f"{adapter / WEIGHTS}: no score head; save it with modules_to_save, as task_type SEQ_CLS does"
        raise AdapterError(message)
    return heads[0][0]


def is_served(adapter: Path) -> bool:
    """Whether the engines run it as it is, and merge it themselves when they load it."""
    return weights.takes(_config(adapter), _shapes(adapter / WEIGHTS))


def alone(adapter: Path, into: Path) -> Path:
    """The adapter's two files without what else lies beside them."""
    into.mkdir(parents=True)
    for name in (CONFIG, WEIGHTS):
        (into / name).write_bytes((adapter / name).read_bytes())
    return into


def merge(  # noqa: PLR0913, PLR0917 # plain values, each of its own
    adapter: Path,
    base: Path,
    labels: Sequence[str],
    rows: Sequence[int],
    tokens: Sequence[Sequence[int]],
    into: Path,
    *,
    quantised: bool,
    double: bool,
) -> dict[str, Path]:
    """Merge an adapter of any kind into its base, as training saw it: a bundle's folders "base" and "adapter".

    What is merged is float32; a tensor that the adapter leaves alone keeps its type. The adapter that is left holds the
    head and changes nothing else. `rows` are the head's that `labels` are of, in their order. `tokens` are messages
    that must be answered as they were before. Raises AdapterError.
    """
    config, given = _config(adapter), alone(adapter, into / "given")
    _check_start(adapter, config, quantised=quantised)
    bare = _load(base, labels, _shapes(adapter / WEIGHTS).get(_EMBEDDING))
    if quantised:
        for name, matrix in bare.named_parameters():
            if weights.is_linear(name):
                matrix.data = nf4.round_trip(matrix.data, double=double)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # PEFT's advice to those who train
        try:
            tuned, missing = _tuned(bare, given)
            before = _logits(tuned, tokens)
            merged = _unwrapped(tuned.merge_and_unload(safe_merge=True))
        except Exception as error:  # PEFT has no error of its own
            said = (str(error).splitlines() or [""])[0]
            message = f"{adapter}: PEFT cannot merge a {config['peft_type']} adapter like this into its base: {said}"
            raise AdapterError(message) from error
        if missing:
            message = f"{adapter / WEIGHTS}: what {missing[0]} asks for is not in it"
            raise AdapterError(message)
        difference = (_logits(merged, tokens) - before).abs().max().item()
    if not difference <= _TOLERANCE * max(1.0, before.abs().max().item()):
        message = (
            f"{adapter}: merged into its base, the {config['peft_type']} adapter answers differently from it unmerged "
            f"(logits differ by {difference:.2g}), so it cannot be imported"
        )
        raise AdapterError(message)
    merged.score.weight.data = merged.score.weight.data[list(rows)].contiguous()
    _save(merged, base, into / "base")
    _save_head(merged, into / "adapter")
    return {"base": into / "base", "adapter": into / "adapter"}


def digest(adapter: Path) -> str:
    """SHA-256 of its tensors' file."""
    with (adapter / WEIGHTS).open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def kind(adapter: Path) -> str:
    """Return what PEFT calls its kind."""
    return str(_config(adapter)["peft_type"])


def _config(adapter: Path) -> dict[str, Any]:
    path = adapter / CONFIG
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        message = f"{path}: not JSON ({error}); save or fetch it again"
        raise AdapterError(message) from None
    if not isinstance(found, dict):
        message = f"{path}: not a JSON object; save or fetch it again"
        raise AdapterError(message)
    return found


def _shapes(file: Path) -> Mapping[str, Sequence[int]]:
    try:
        with safe_open(file, framework="numpy") as tensors:
            return {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118 -- not a mapping
    except (SafetensorError, OSError) as error:
        message = f"{file}: not whole safetensors ({error}); save or fetch it again"
        raise AdapterError(message) from None


def _check_start(adapter: Path, config: Mapping[str, Any], *, quantised: bool) -> None:
    """Raise AdapterError where the base was changed as training began, by what nobody can work out again."""
    start = config.get("init_lora_weights")
    if not weights.moves_base(start) or (start in _REPEATABLE and not quantised):
        return
    message = (
        f"{adapter / CONFIG}: init_lora_weights is {start!r}, which changed the base as training began"
        f"{', before NF4 did' if start in _REPEATABLE else ''}: what it was then cannot be worked out again. Where "
        "training ran, PEFT's save_pretrained converts it (path_initial_model_for_weight_conversion)"
    )
    raise AdapterError(message)


def _load(base: Path, labels: Sequence[str], embedding: Sequence[int] | None) -> Any:  # noqa: ANN401 a classifier
    config = model.configured(base, None, labels, pad_token_id=None)
    bare = model.loaded(base, config=config, dtype=torch.float32).eval()
    if embedding is not None and embedding[0] != config.vocab_size:
        bare.resize_token_embeddings(embedding[0], mean_resizing=False)  # it was trained with tokens of its own
    return bare


def _tuned(bare: Any, adapter: Path) -> tuple[Any, list[str]]:  # noqa: ANN401
    """The model under the adapter, and which of the adapter's tensors were not there."""
    tuned = PeftModelForSequenceClassification(bare, PeftConfig.from_pretrained(str(adapter)))
    found = tuned.load_adapter(str(adapter), "default", is_trainable=False)
    if found.unexpected_keys:
        message = f"it holds {found.unexpected_keys[0]}, which has no place"
        raise AdapterError(message)
    return tuned.eval(), [name for name in found.missing_keys if ".default" in name]


def _unwrapped(merged: Any) -> Any:  # noqa: ANN401
    """The model with its trained head in its place, where merging (of norms, say) has left it beside the first one."""
    wrapped = [(name, each) for name, each in merged.named_modules() if isinstance(each, ModulesToSaveWrapper)]
    for name, each in wrapped:
        merged.set_submodule(name, each.modules_to_save["default"])
    return merged


def _logits(tuned: Any, tokens: Sequence[Sequence[int]]) -> Tensor:  # noqa: ANN401
    return torch.cat([tuned(input_ids=torch.tensor([row])).logits for row in tokens])


def _save(merged: Any, base: Path, into: Path) -> None:  # noqa: ANN401
    merged.config.save_pretrained(into)
    left = {name: tensor.contiguous() for name, tensor in merged.state_dict().items()}
    for file in files.weights(base):
        with safe_open(file, framework="pt") as stored:
            for name in left.keys() & set(stored.keys()):
                before = stored.get_tensor(name)
                if before.shape == left[name].shape and torch.equal(before.float(), left[name]):
                    left[name] = before
    save_file(left, into / "model.safetensors", metadata={"format": "pt"})


def _save_head(merged: Any, into: Path) -> None:  # noqa: ANN401
    """Keep the head in PEFT's own layout: under LoRA of rank 1 on one matrix, all of it zero."""
    nothing = LoraConfig(task_type=TaskType.SEQ_CLS, r=1, target_modules=["q_proj"], layers_to_transform=[0])
    headed = get_peft_model(merged, nothing)
    for name, tensor in headed.named_parameters():
        if "lora_" in name:
            tensor.data = torch.zeros_like(tensor)
    headed.peft_config["default"].base_model_name_or_path = None  # where it lay here is nobody's business
    headed.save_pretrained(str(into), save_embedding_layers=False)
