"""A flat page: make or load the base, quantise it, fit adapter and head, save. Seeded; resumable to the step."""

from __future__ import annotations

import json
import math
import os
import random
import shutil
from typing import TYPE_CHECKING, Any, Final

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy

from training import batches, data, model, pretrain
from training.data import LABELS
from training.disguises import augment
from worker.text import normalise

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from training.data import Row
    from training.recipe import Recipe

LEAST: Final = 20
"""Messages of each class below which nothing can be learnt, nor judged."""
_SAVE_EVERY: Final = 50
_CLIP: Final = 1.0


def fit(  # noqa: PLR0915 a training step is a flat page
    recipe: Recipe, rows: Sequence[Row], folder: Path, *, seed: int, progress: batches.Progress
) -> None:
    """Train on these rows; leave `adapter/` (PEFT's layout), `tokenizer/`, `recipe.json` and, if made here, `base/`.

    What an interrupted run has left in the folder is taken up where it stopped, if recipe, seed and rows are the same;
    each step depends on them and its own number alone. Raises DataError, ModelError, DivergedError.
    """
    data.check(rows, least=LEAST)
    folder.mkdir(parents=True, exist_ok=True)
    _same_run(folder, {"recipe": recipe.resolved(), "seed": seed, "rows": data.digest(rows)})
    if (folder / "adapter").exists():
        return

    # --- load ---
    base: str | Path = recipe.base.id
    if recipe.pretraining:
        base = folder / "base"
        if not base.exists():
            making = _fresh(folder / "making")
            pretrain.make_base(recipe, rows, making, seed=seed, progress=progress)
            (making / "tokenizer").replace(folder / "tokenizer")
            (making / "base").replace(base)
    tokenizer = model.load_tokenizer(folder / "tokenizer" if recipe.pretraining else base, recipe.base.revision)
    torch.manual_seed(seed)
    adapted: Any = model.build(recipe, base, LABELS, int(tokenizer.pad_token_id))

    # --- build ---
    accelerator = Accelerator(cpu=not torch.cuda.is_available(), mixed_precision=_precision())
    weights = {name: each for name, each in adapted.named_parameters() if each.requires_grad}
    optimizer = torch.optim.AdamW(weights.values(), lr=recipe.fit.learning_rate, weight_decay=recipe.fit.weight_decay)
    adapted, optimizer = accelerator.prepare(adapted, optimizer)
    per_epoch = math.ceil(math.ceil(len(rows) / recipe.fit.batch) / recipe.fit.accumulation)
    steps = recipe.fit.epochs * per_epoch
    done = _resume(folder, weights, optimizer)
    ham = [normalise(row.text) for row in rows if row.label == LABELS[0]]

    # --- fit ---
    adapted.train()
    for step in range(done, steps):
        epoch, place = divmod(step, per_epoch)
        if place == 0 or step == done:
            # All of an epoch comes from the seed and its number, so that a resumed run sees what it would have seen.
            dice = random.Random(f"{seed}-{epoch}")
            texts = [_text(recipe, row, dice, ham) for row in rows]
            examples = batches.encode(tokenizer, texts, [row.label for row in rows], LABELS, recipe.fit.max_tokens)
            order = list(batches.by_length(examples, recipe.fit.batch, dice, pad=int(tokenizer.pad_token_id)))
        torch.manual_seed(hash((seed, step)))
        rate = recipe.fit.learning_rate * batches.warm_then_fall(step, steps, recipe.fit.warmup_steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        parts = order[place * recipe.fit.accumulation : (place + 1) * recipe.fit.accumulation]
        total = sum(len(part.labels) for part in parts)
        loss = 0.0
        for part in parts:
            ids, mask, labels = (each.to(accelerator.device) for each in (part.ids, part.mask, part.labels))
            with accelerator.autocast():
                logits = adapted(input_ids=ids, attention_mask=mask).logits
            share = cross_entropy(logits.float(), labels, reduction="sum") / total
            batches.require_finite(share, step)
            accelerator.backward(share)
            loss += share.item()
        accelerator.clip_grad_norm_(weights.values(), _CLIP)
        optimizer.step()
        optimizer.zero_grad()
        progress(f"adapter, epoch {epoch + 1}/{recipe.fit.epochs}", step + 1, steps, loss)
        if (step + 1) % _SAVE_EVERY == 0:
            _checkpoint(folder, weights, optimizer, step + 1)

    # --- save ---
    making = _fresh(folder / "making")
    accelerator.unwrap_model(adapted).save_pretrained(making / "adapter", safe_serialization=True)
    _forget_where_the_base_was(making / "adapter", recipe)
    if not recipe.pretraining:
        tokenizer.save_pretrained(making / "tokenizer")
        (making / "tokenizer").replace(folder / "tokenizer")
    (making / "adapter").replace(folder / "adapter")
    shutil.rmtree(making)
    shutil.rmtree(folder / "checkpoint", ignore_errors=True)


def _text(recipe: Recipe, row: Row, dice: random.Random, ham: Sequence[str]) -> str:
    # Serving normalises, so training does too, whatever the recipe.
    return augment(row.text, dice, ham, is_ham=row.label == LABELS[0]) if recipe.fit.augment else normalise(row.text)


def _precision() -> str:
    """Products in half precision on a GPU, adapter and optimizer in float32; fp16 with loss scaling on a T4."""
    return {torch.bfloat16: "bf16", torch.float16: "fp16"}.get(model.compute_type(), "no")


def _same_run(folder: Path, run: dict[str, Any]) -> None:
    """Refuse to go on with what another recipe, seed or data has begun."""
    path = folder / "recipe.json"
    if path.exists() and json.loads(path.read_text()) != run:
        message = f"{folder} holds a run of another recipe, seed or data; name another folder, or remove it"
        raise data.DataError(message)
    _write(path, json.dumps(run, indent=1, ensure_ascii=False) + "\n")


def _checkpoint(folder: Path, weights: dict[str, Any], optimizer: Any, step: int) -> None:  # noqa: ANN401
    """Weights, AdamW's two moments and the step, as tensors: nothing pickled, and whole or not at all."""
    tensors = {"step": torch.tensor(step)}
    for name, each in weights.items():
        state = optimizer.state[each]
        tensors |= {name: each.detach(), f"{name}#mean": state["exp_avg"], f"{name}#square": state["exp_avg_sq"]}
    making = _fresh(folder / "checkpoint-making")
    save_file({name: each.contiguous().cpu() for name, each in tensors.items()}, making / "state.safetensors")
    (folder / "checkpoint").mkdir(exist_ok=True)
    (making / "state.safetensors").replace(folder / "checkpoint" / "state.safetensors")
    making.rmdir()


def _resume(folder: Path, weights: dict[str, Any], optimizer: Any) -> int:  # noqa: ANN401
    """Put back what a checkpoint holds; returns the steps that are done."""
    path = folder / "checkpoint" / "state.safetensors"
    if not path.exists():
        return 0
    tensors = load_file(path)
    step = tensors["step"]
    with torch.no_grad():
        for name, each in weights.items():
            each.copy_(tensors[name])
            optimizer.state[each] = {
                "step": step.float(),
                "exp_avg": tensors[f"{name}#mean"].to(each.device),
                "exp_avg_sq": tensors[f"{name}#square"].to(each.device),
            }
    return int(step)


def _forget_where_the_base_was(adapter: Path, recipe: Recipe) -> None:
    """PEFT writes the base's path as it was here, and a card with it; the id is what means something elsewhere."""
    path = adapter / "adapter_config.json"
    config = json.loads(path.read_text()) | {"base_model_name_or_path": recipe.base.id}
    config["target_modules"] = sorted(config["target_modules"])  # PEFT writes a set's order
    _write(path, json.dumps(config, indent=1, sort_keys=True) + "\n")
    (adapter / "README.md").unlink(missing_ok=True)


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _write(path: Path, text: str) -> None:
    making = path.with_name(f".{path.name}.{os.getpid()}")
    making.write_text(text)
    making.replace(path)
