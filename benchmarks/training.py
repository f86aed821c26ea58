"""Training TinyLlama's true shape (random weights) beside the plain padded loop, in the same run, on a GPU.

python -m benchmarks.training TOKENIZER    a folder with TinyLlama's tokenizer
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import random
import shutil
import statistics
import tempfile
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import torch
from accelerate import Accelerator
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.tinyllama import CONFIG
from training.data import sources
from training.data import split as data
from training.fit import batches, model, packing, recipe, train
from training.fit.epochs import Epochs
from training.fit.passes import Learner
from training.results import Entry, record

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from training.data.split import Row
    from training.fit.batches import Example
    from training.fit.recipe import Recipe

SHARE: Final = 0.8
"""Of the collection's rows: 4,459, as the published recipe trains on."""
WARM, TIMED = 3, 20
"""Updates of the padded loop; the whole of it would take minutes."""
GIB: Final = 2**30


def make_base(folder: Path, tokenizer: Path) -> Path:
    """TinyLlama's shape with random weights, laid out as the hub has it: config, bf16 safetensors, tokenizer."""
    torch.manual_seed(0)
    config = LlamaConfig(**CONFIG)
    with torch.device("cuda"):
        made = LlamaForCausalLM(config)
    made.to(torch.bfloat16).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy2(tokenizer / name, folder)
    return folder


def rows() -> list[Row]:
    """The published share of the collection, drawn at random: what is timed here is not judged."""
    read, _ = sources.read(data.UCI, data.LABELS)
    drawn = [data.Row(data.repair(row.text), row.label) for row in read]
    random.Random(0).shuffle(drawn)
    return drawn[: int(SHARE * len(drawn))]


def ours(chosen: Recipe, base: Path, learnt: Sequence[Row]) -> dict[str, Any]:
    """The training module itself, from the base on the disk to an adapter on it."""
    folder = Path(tempfile.mkdtemp())
    _forget_peaks()
    begun = time.perf_counter()
    local = msgspec.structs.replace(chosen, base=recipe.RecipeBase(str(base)))
    train.fit(local, learnt, folder, seed=0, progress=lambda *_: None)
    log: dict[str, Any] = json.loads((folder / "training.json").read_text())
    shutil.rmtree(folder)
    print(f"{chosen.name}: {log['seconds']} s of {time.perf_counter() - begun:.1f} with loading,", short(log))
    return log


def short(log: dict[str, Any]) -> str:
    """A run's tokens a second, peak memory and last mean loss, in one line."""
    memory = f"peak {log['peak_gib']} GiB, reserved {log['peak_reserved_gib']} GiB"
    return f"{log['tokens_per_second']:,.0f} tokens/s, {memory}, loss {statistics.mean(log['losses'][-20:]):.4f}"


def steps_of(chosen: Recipe, base: Path, learnt: Sequence[Row]) -> list[list[Example]]:
    """The steps of the first epoch, the same for whoever asks."""
    return Epochs(chosen.fit, learnt, (), data.LABELS, model.load_tokenizer(base), 0)[0]


def padded(chosen: Recipe, base: Path, steps: Sequence[Sequence[Example]]) -> dict[str, Any]:
    """The plain loop: batches of 16 padded to their longest, two to an update, PEFT over bitsandbytes, autocast.

    The longest messages come first, so that its peak is that of the worst batch it can meet.
    """
    adapted, accelerator = _plain(chosen, base)
    weights = [each for each in adapted.parameters() if each.requires_grad]
    optimizer = accelerator.prepare(torch.optim.AdamW(weights, lr=chosen.fit.learning_rate))
    longest = sorted((example for step in steps for example in step), key=lambda example: -len(example.ids))
    size, losses, begun = chosen.fit.batch, [], 0.0
    _update(adapted, accelerator, weights, optimizer, longest[: 2 * size], size)
    for number, step in enumerate(steps[: WARM + TIMED]):
        if number == WARM:
            torch.cuda.synchronize()
            begun = time.perf_counter()
        losses.append(_update(adapted, accelerator, weights, optimizer, step, size))
    torch.cuda.synchronize()
    seconds = time.perf_counter() - begun
    tokens = sum(len(example.ids) for step in steps[WARM : WARM + TIMED] for example in step)
    found = {
        "seconds": seconds,
        "tokens_per_second": tokens / seconds,
        "losses": losses,
        "seconds_an_update": seconds / TIMED,
        "peak_gib": round(torch.cuda.max_memory_allocated() / GIB, 3),
        "peak_reserved_gib": round(torch.cuda.max_memory_reserved() / GIB, 3),
    }
    print(
        f"padded loop, {model.compute_type()}:", short(found), f"{1000 * found['seconds_an_update']:.0f} ms an update"
    )
    return found


def launched(chosen: Recipe, base: Path, steps: Sequence[Sequence[Example]]) -> float:
    """Packed passes without graphs: milliseconds an update, every kernel launched."""
    adapted: Any = model.build(chosen, base, data.LABELS, 2)
    adapted.train()
    learner = Learner(adapted, _accelerator(), graphs=False)
    times = []
    for step in steps[: WARM + TIMED // 2]:
        begun = time.perf_counter()
        learner.learn(step, total=len(step), places=len(step))
        torch.cuda.synchronize()
        times.append(time.perf_counter() - begun)
    median = 1000 * statistics.median(times[WARM:])
    print(f"packed, every kernel launched: {median:.1f} ms an update")
    return median


def _plain(chosen: Recipe, base: Path) -> tuple[Any, Accelerator]:
    """The same first weights as ours, prepared as PEFT prepares a model for k-bit training: what is left is float32."""
    _forget_peaks()
    torch.manual_seed(0)
    adapted: Any = model.build(chosen, base, data.LABELS, 2)
    adapted.get_base_model().set_attn_implementation("sdpa")
    for module in adapted.modules():
        vars(module).pop("forward", None)  # the norms that ours replaces
    for weights in adapted.parameters():
        if weights.is_floating_point() and type(weights).__name__ != "Params4bit":
            weights.data = weights.data.float()
    adapted.train()
    return adapted, _accelerator()


def _update(  # noqa: PLR0913, PLR0917 # a step of a plain loop
    adapted: Any,  # noqa: ANN401
    accelerator: Accelerator,
    weights: list[Any],
    optimizer: Any,  # noqa: ANN401
    step: Sequence[Example],
    size: int,
) -> float:
    loss = 0.0
    for start in range(0, len(step), size):
        batch = batches.collate(step[start : start + size], pad=2)
        ids, mask, labels = (each.cuda() for each in (batch.ids, batch.mask, batch.labels))
        with accelerator.autocast():
            logits = adapted(input_ids=ids, attention_mask=mask).logits
        share = cross_entropy(logits.float(), labels, reduction="sum") / len(step)
        accelerator.backward(share)
        loss += share.item()
    accelerator.clip_grad_norm_(weights, 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return loss


def _accelerator() -> Accelerator:
    return Accelerator(mixed_precision="bf16" if model.compute_type() == torch.bfloat16 else "fp16")


def _forget_peaks() -> None:
    from accelerate.state import AcceleratorState  # noqa: PLC0415 # the next run's type may differ

    AcceleratorState._reset_state(reset_partial_state=True)  # noqa: SLF001 # it is made for tests, and this is one
    gc.collect()  # PEFT's models are cycles: the last part's would count for this one's
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()


def as_on_a_t4() -> None:
    """From here on: fp16, and attention without the kernel that a T4 has not."""
    model.compute_type = lambda: torch.float16
    packing._FLASH = (99, 0)  # noqa: SLF001


def main() -> None:
    """Measure, print, record."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("tokenizer", type=Path)
    options.add_argument("--profile", action="store_true", help="also print what a pass spends its time on")
    chosen = options.parse_args()
    seed, best = recipe.load(Path("seed")), recipe.load(Path("tinyllama"))
    base, learnt = make_base(Path(tempfile.mkdtemp()), chosen.tokenizer), rows()
    torch.cuda.empty_cache()
    steps = steps_of(seed, base, learnt)
    entries: list[Entry] = []

    def keep(*more: Entry) -> None:
        """After each part, so that a run that is cut short has not been for nothing."""
        entries.extend(more)
        print(record("training", entries, device=torch.cuda.get_device_name()))

    def published() -> None:
        packed = ours(seed, base, learnt)
        keep(*_costs("nf4", packed))
        plain = padded(seed, base, steps)
        keep(*_rate("padded-bf16", seed, steps, plain), _gap(packed["losses"], plain["losses"]), _ratio(packed, plain))

    def without_graphs() -> None:
        keep(Entry("training/nf4/launched-ms-an-update", "ms", round(launched(seed, base, steps), 2)))

    def in_fp16() -> None:
        as_on_a_t4()
        keep(*_costs("seed-fp16", ours(seed, base, learnt)))
        keep(*_rate("padded-fp16", seed, steps, padded(seed, base, steps)))

    parts = [published, lambda: keep(*_costs("tinyllama", ours(best, base, learnt))), without_graphs]
    if chosen.profile:
        parts.append(lambda: profile(seed, base, steps))
    raise SystemExit(sum(not done(part) for part in (*parts, in_fp16)))


def done(part: Callable[[], None]) -> bool:
    """Whether a part ran to its end; a failure is printed, and the other parts still run."""
    try:
        part()
    except Exception:  # noqa: BLE001 # whatever it is
        traceback.print_exc()
        return False
    return True


def _costs(name: str, run: dict[str, Any]) -> list[Entry]:
    """Seconds of training, capturing included and loading not; memory is what was reserved, more than what was used."""
    kept = _kept(run)
    return [
        Entry(f"training/{name}/seconds", "s", round(run["seconds"], 2), extra=kept),
        Entry(f"training/{name}/peak-gib", "GiB", run["peak_reserved_gib"], extra=kept),
    ]


def _rate(name: str, chosen: Recipe, steps: Sequence[Any], run: dict[str, Any]) -> list[Entry]:
    kept = _kept(run) | {"updates_timed": TIMED}
    whole = chosen.fit.epochs * len(steps) * run["seconds_an_update"]
    return [
        Entry(f"training/{name}/seconds-of-a-run-at-this-rate", "s", round(whole, 1), extra=kept),
        Entry(f"training/{name}/peak-gib", "GiB", run["peak_reserved_gib"], extra=kept),
    ]


def profile(chosen: Recipe, base: Path, steps: Sequence[Sequence[Example]]) -> None:
    """Kernels of five passes, most expensive first."""
    adapted: Any = model.build(chosen, base, data.LABELS, 2)
    adapted.train()
    learner = Learner(adapted, _accelerator())
    for _ in range(3):
        learner.learn(steps[0], total=len(steps[0]), places=len(steps[0]))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as seen:
        for _ in range(5):
            learner.learn(steps[0], total=len(steps[0]), places=len(steps[0]))
        torch.cuda.synchronize()
    print(seen.key_averages().table(sort_by="self_cuda_time_total", row_limit=28, max_name_column_width=90))


def _ratio(packed: dict[str, Any], plain: dict[str, Any]) -> Entry:
    value = round(packed["tokens_per_second"] / plain["tokens_per_second"], 2)
    return Entry("training/nf4/vs-padded-loop", "ratio", value, extra={"packed": _kept(packed), "padded": _kept(plain)})


def _gap(packed: Sequence[float], plain: Sequence[float]) -> Entry:
    """Mean difference (nats) of the two loss curves, beside how much one moves; their dropout differs."""
    differences = [abs(one - other) for one, other in zip(packed, plain, strict=False)]
    moves = [abs(one - other) for one, other in itertools.pairwise(plain)]
    extra = {
        "updates": len(differences),
        "change_from_update_to_update": round(statistics.mean(moves), 4),
        "packed": packed[: len(differences)],
        "padded": [round(loss, 5) for loss in plain],
    }
    return Entry("training/nf4/loss-gap-to-padded-loop", "nats", round(statistics.mean(differences), 4), extra=extra)


def _kept(run: dict[str, Any]) -> dict[str, Any]:
    plain = {name: value for name, value in run.items() if name != "losses"}
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in plain.items()}


if __name__ == "__main__":
    main()
