"""An adapter made elsewhere: what is wrong with it; and of a kind no engine runs, merged into its base by PEFT."""

from __future__ import annotations

import contextlib
import hashlib
import json
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import peft
import torch
from peft import LoraConfig, PeftConfig, PeftModelForSequenceClassification, TaskType, get_peft_model
from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
from peft.utils import ModulesToSaveWrapper
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from training.fit import model
from worker.engine import files, nf4, weights

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

CONFIG: Final = "adapter_config.json"
WEIGHTS: Final = "adapter_model.safetensors"
HEAD: Final = "score.weight"
_EMBEDDING: Final = "base_model.model.model.embed_tokens.weight"
_REPEATABLE: Final = ("pissa", "olora")
"""Ways to start LoRA that change the base by what PEFT works out again as it loads the adapter."""
_TOLERANCE: Final = 1e-3
"""How much logits may differ, relative to the largest if that is beyond 1: float32's rounding stays far below."""
_COARSE: Final = 0.1
"""The same where one of them computes in half precision; a head read at another token, or of another order, differs
by more."""


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
    config, shapes = settings_of(adapter), _shapes(adapter / WEIGHTS)
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
    heads = [shape for name, shape in shapes.items() if name.endswith(HEAD)]
    heads += [shape for file in files.weights(base) for name, shape in _shapes(file).items()
              if name == HEAD]  # fmt: skip
    if not heads:
        message = f"{adapter / WEIGHTS}: no score head; save it with modules_to_save, as task_type SEQ_CLS does"
        raise AdapterError(message)
    return heads[0][0]


def is_served(adapter: Path) -> bool:
    """Whether the engines run it as it is, and merge it themselves when they load it."""
    return weights.takes(settings_of(adapter), _shapes(adapter / WEIGHTS))


def alone(adapter: Path, into: Path, base: Path | None = None) -> Path:
    """The adapter's two files without what else lies beside them; with the base's head, where it brings none."""
    into.mkdir(parents=True)
    for name in (CONFIG, WEIGHTS):
        (into / name).write_bytes((adapter / name).read_bytes())
    if base is not None and not any(name.endswith(HEAD) for name in _shapes(adapter / WEIGHTS)):
        tensors = load_file(into / WEIGHTS) | {
            f"base_model.model.{HEAD}": files.tensors(files.places(base)[HEAD])[HEAD]
        }
        save_file(tensors, into / WEIGHTS, metadata={"format": "pt"})
        config = settings_of(into)
        config["modules_to_save"] = sorted({*(config.get("modules_to_save") or ()), HEAD.partition(".")[0]})
        (into / CONFIG).write_text(json.dumps(config, indent=1) + "\n")
    return into


@dataclass(frozen=True, slots=True)
class BaseAsTrained:
    """How training saw a base: through NF4 or not, with doubly quantised scales or not, and with which pad."""

    quantised: bool
    double: bool
    pad: int | None


def answers(  # noqa: PLR0913, PLR0917 # plain values, each of its own
    adapter: Path, base: Path, labels: Sequence[str], tokens: Sequence[Sequence[int]], seen: BaseAsTrained, into: Path
) -> NDArray[np.float32]:
    """Return PEFT's own logits [messages, labels], in the order of the adapter's head. Raises AdapterError."""
    given = alone(adapter, into, base)
    with _quiet():
        try:
            tuned, _ = _tuned(_load(base, labels, _shapes(adapter / WEIGHTS).get(_EMBEDDING), seen), given)
        except Exception as error:  # PEFT has no error of its own
            message = f"{adapter}: PEFT cannot load it onto its base: {_first_line(error)}"
            raise AdapterError(message) from error
        found: NDArray[np.float32] = _logits(tuned, tokens).numpy()
        return found


def require_same(adapter: Path, found: NDArray[np.float32], wanted: NDArray[np.float32], *, exact: bool) -> None:
    """Raise AdapterError where the worker's logits are not PEFT's; `exact` where both compute in float32."""
    difference, most = float(np.abs(found - wanted).max()), max(1.0, float(np.abs(wanted).max()))
    if not difference <= (_TOLERANCE if exact else _COARSE) * most:
        message = (
            f"{adapter}: answers otherwise than PEFT does under its own config (logits differ by {difference:.2g}), so "
            "it cannot be imported"
        )
        raise AdapterError(message)


def merge(  # noqa: PLR0913, PLR0917 # plain values, each of its own
    adapter: Path,
    base: Path,
    labels: Sequence[str],
    rows: Sequence[int],
    tokens: Sequence[Sequence[int]],
    seen: BaseAsTrained,
    into: Path,
) -> tuple[dict[str, Path], NDArray[np.float32]]:
    """Merge an adapter of any kind into its base, as training saw it: a bundle's folders "base" and "adapter".

    What is merged is float32; a tensor that the adapter leaves alone keeps its type. The adapter that is left holds the
    head and changes nothing else. `rows` are the head's that `labels` are of, in their order. `tokens` are messages
    that must be answered as they were before; those logits are given too. Raises AdapterError.
    """
    config, given = settings_of(adapter), alone(adapter, into / "given", base)
    _check_start(adapter, config, quantised=seen.quantised)
    bare = _load(base, labels, _shapes(adapter / WEIGHTS).get(_EMBEDDING), seen)
    with _quiet():
        try:
            tuned, missing = _tuned(bare, given)
            before = _logits(tuned, tokens)
            merged = _unwrapped(tuned.merge_and_unload(safe_merge=True))
        except Exception as error:  # PEFT has no error of its own
            kind = config["peft_type"]
            message = f"{adapter}: PEFT cannot merge a {kind} adapter like this into its base: {_first_line(error)}"
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
    return {"base": into / "base", "adapter": into / "adapter"}, before.numpy()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without PEFT's advice to those who train, and without gradients."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        yield


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]


def digest(adapter: Path) -> str:
    """SHA-256 of its tensors' file."""
    with (adapter / WEIGHTS).open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def kind(adapter: Path) -> str:
    """Return what PEFT calls its kind."""
    return str(settings_of(adapter)["peft_type"])


def settings_of(adapter: Path) -> dict[str, Any]:
    """Return its adapter_config.json. Raises AdapterError."""
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


def _load(base: Path, labels: Sequence[str], embedding: Sequence[int] | None, seen: BaseAsTrained) -> Any:  # noqa: ANN401
    """A classifier, its base as training saw it, in float32."""
    config = model.configured(base, None, labels, pad_token_id=None)
    bare = model.loaded(base, config=config, dtype=torch.float32).eval()
    if embedding is not None and embedding[0] != config.vocab_size:
        bare.resize_token_embeddings(embedding[0], mean_resizing=False)  # it was trained with tokens of its own
    bare.config.pad_token_id = seen.pad
    if seen.quantised:
        for name, matrix in bare.named_parameters():
            if weights.is_linear(name):
                matrix.data = nf4.round_trip(matrix.data, double=seen.double)
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
