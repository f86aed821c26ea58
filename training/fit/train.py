"""A flat page: make or load the base, quantise it, fit adapter and head, save. Seeded; resumable to the step."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from accelerate import Accelerator
from accelerate.utils import is_tensorboard_available

from training import whole
from training.data import split as data
from training.data.split import LABELS
from training.fit import batches, checkpoint, model, pretrain, runs, servable
from training.fit.epochs import Epochs, repeated, state_size
from training.fit.epochs import size as epoch_size
from training.fit.log import Log
from training.fit.passes import Learner
from training.fit.runs import Run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from training.data.split import Row
    from training.fit.recipe import Recipe


class BoardError(RuntimeError):
    """TensorBoard was asked for and is not installed."""


LEAST: Final = 20
"""Messages of each class below which nothing can be learnt, nor judged."""
_LOOK_EVERY: Final = 10
"""Steps after which losses are read, and looked at: a GPU that is asked after each step waits for the next."""
_SAVE_EVERY: Final = 50
_CLIP: Final = 1.0


def fit(  # noqa: C901, PLR0912, PLR0913, PLR0915 a training step is a flat page
    recipe: Recipe,
    rows: Sequence[Row],
    folder: Path,
    *,
    seed: int,
    progress: batches.ProgressCallback,
    labels: Sequence[str] = LABELS,
    board: Path | None = None,
    taught: Sequence[Row] = (),
) -> bool:
    """Train on these rows; leave `adapter/` (PEFT's layout), `tokenizer/` and, if made here, `base/`.

    `recipe.json` beside them says what was asked for, `training.json` what it cost, and the losses.
    What an interrupted run has left in the folder is taken up where it stopped, if recipe, seed and rows are the same;
    each step depends on them and its own number alone. Under `accelerate launch` each process takes its share of every
    step's messages, and the first one writes. `taught` are unlabelled rows with a teacher's probability of spam each,
    of which every epoch draws as many as the recipe says. `board` is a folder for TensorBoard.
    Returns whether this process is the first.
    Raises DataError, RunError, ModelError, DivergedError, NoRoomError, BoardError.
    """
    data.check(rows, least=LEAST)
    servable.check_recipe(recipe, labels)
    accelerator = _accelerator(board)
    is_first = bool(accelerator.is_main_process)
    if is_first:
        runs.begin(folder, Run(recipe, seed, data.digest((*rows, *taught)), tuple(labels)))
    if (folder / "adapter").exists():
        return is_first

    # --- load ---
    base: str | Path = recipe.base.id
    if recipe.pretraining:
        base = folder / "base"
        if is_first and not base.exists():
            making = checkpoint.fresh(folder / "making")
            kept = folder / "pretraining"
            pretrain.make_base(
                recipe, rows, making, seed=seed, progress=progress, labels=labels, kept=kept, taught=taught
            )
            whole.move(making / "tokenizer", folder / "tokenizer")
            whole.move(making / "base", base)
            shutil.rmtree(kept)
    accelerator.wait_for_everyone()
    recipe = runs.read(folder).pinned
    rows = repeated(rows, recipe.fit.repeated)
    tokenizer = model.load_tokenizer(folder / "tokenizer" if recipe.pretraining else base, recipe.base.revision)
    servable.check_base(recipe, base, tokenizer, labels)
    torch.manual_seed(seed)
    adapted: Any = model.build(recipe, base, labels, int(tokenizer.pad_token_id))
    guessed = recipe.fit.states if (values := state_size(rows, taught)) else 0.0
    if guessed:
        model.guess_states(adapted.get_base_model(), values)

    # --- build ---
    weights = {name: each for name, each in adapted.named_parameters() if each.requires_grad}
    optimizer = accelerator.prepare(_optimizer(recipe, weights))
    learner = Learner(adapted, accelerator, states=guessed)
    average = {name: each.detach().clone() for name, each in weights.items()} if recipe.fit.average else {}
    size = recipe.fit.batch * recipe.fit.accumulation
    per_epoch = math.ceil(epoch_size(rows, taught, recipe.fit) / size)
    steps = recipe.fit.epochs * per_epoch
    state = checkpoint.TrainingState(weights, average, optimizer)
    done = state.resume(folder)
    epochs = Epochs(recipe.fit, rows, taught, labels, tokenizer, seed)

    # --- fit ---
    log = Log(adapted, accelerator, done, steps)
    adapted.train()
    places = math.ceil(size / accelerator.num_processes)
    learner.warm_up(max(epochs[done // per_epoch], key=lambda step: sum(len(each.ids) for each in step)), places)
    for step in range(done, steps):
        epoch, place = divmod(step, per_epoch)
        messages = epochs[epoch][place]
        share = messages[accelerator.process_index :: accelerator.num_processes]
        torch.manual_seed(hash((seed, step, accelerator.process_index)))
        falling = batches.warm_then_fall(step, steps, recipe.fit.warmup_steps)
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * falling
        learner.learn(share, total=len(messages), places=places)
        if accelerator.num_processes > 1:
            learner.gradients.copy_(accelerator.reduce(learner.gradients, "sum"))
        accelerator.clip_grad_norm_(weights.values(), _CLIP)
        optimizer.step()
        if average:
            with torch.no_grad():
                torch._foreach_lerp_(list(average.values()), list(weights.values()), 1 - recipe.fit.average)
        tokens = sum(len(example.ids) for example in messages)
        log.add(step, learner.gradients[-1], tokens)
        if (step + 1) % _LOOK_EVERY == 0 or step in {done, steps - 1}:
            batches.require_finite(log.losses(), step)
        if is_first:
            progress(f"adapter, epoch {epoch + 1}/{recipe.fit.epochs}", step + 1, steps, log.last, tokens)
        if board:
            accelerator.log(
                {"loss": log.last, "learning_rate": optimizer.param_groups[0]["lr"], "tokens": tokens}, step
            )
        if is_first and (step + 1) % _SAVE_EVERY == 0:
            state.save(folder, step + 1)

    # --- save ---
    if is_first:
        with torch.no_grad():
            for name, mean in average.items():
                weights[name].copy_(mean)
        _save(adapted, tokenizer, recipe, folder, log)
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return is_first


def _save(adapted: Any, tokenizer: Any, recipe: Recipe, folder: Path, log: Log) -> None:  # noqa: ANN401 transformers is untyped
    making = checkpoint.fresh(folder / "making")
    adapted.save_pretrained(making / "adapter", save_embedding_layers=False)  # "auto" asks the hub
    _forget_where_the_base_was(making / "adapter", recipe)
    if not recipe.pretraining:
        tokenizer.save_pretrained(making / "tokenizer")
        whole.move(making / "tokenizer", folder / "tokenizer")
    whole.write(folder / "training.json", json.dumps(log.summary(), indent=1) + "\n")
    whole.move(making / "adapter", folder / "adapter")
    shutil.rmtree(making)
    checkpoint.forget(folder)


def require_board(board: Path | None) -> None:
    """Raise BoardError where TensorBoard's files are asked for and nothing that writes them is installed."""
    if board and not is_tensorboard_available():
        message = (
            "--tensorboard needs tensorboardX or tensorboard, and neither is installed: pip install tensorboardX "
            "(the extra `tensorboard`)"
        )
        raise BoardError(message)


def _accelerator(board: Path | None) -> Accelerator:
    """Products in half precision on a GPU, adapter and optimizer in float32; fp16 with loss scaling on a T4."""
    precision = {torch.bfloat16: "bf16", torch.float16: "fp16"}.get(model.compute_type(), "no")
    require_board(board)
    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(),
        mixed_precision=precision,
        log_with="tensorboard" if board else None,
        project_dir=board,
    )
    if board:
        accelerator.init_trackers("")
    return accelerator


def _optimizer(recipe: Recipe, weights: dict[str, Any]) -> torch.optim.Optimizer:
    learnt, rate = list(weights.values()), recipe.fit.learning_rate
    groups = [{"params": learnt, "initial_lr": rate}]
    return torch.optim.AdamW(groups, lr=rate, weight_decay=recipe.fit.weight_decay, fused=learnt[0].is_cuda)


def _forget_where_the_base_was(adapter: Path, recipe: Recipe) -> None:
    """PEFT writes the base's path as it was here, and a card with it; the id is what means something elsewhere."""
    path = adapter / "adapter_config.json"
    local = Path(recipe.base.id)
    name = local.resolve().name if local.is_dir() else recipe.base.id
    config = json.loads(path.read_text()) | {"base_model_name_or_path": name}
    config["target_modules"] = sorted(config["target_modules"])  # PEFT writes a set's order
    whole.write(path, json.dumps(config, indent=1, sort_keys=True) + "\n")
    (adapter / "README.md").unlink(missing_ok=True)
