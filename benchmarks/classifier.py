"""The engine alone: token ids in, logits out, beside transformers and the machine's own roof in the same run.

python -m benchmarks.classifier                         a bundle on the CPU (models/nano), all of UCI's messages
python -m benchmarks.classifier --kinds bf16 fp8 nf4    TinyLlama's shape, random weights, on a GPU
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from benchmarks import budget, peers, roof
from benchmarks.power import Power
from benchmarks.texts import collection
from training.results import ROOT, Entry, record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray
    from torch import nn

    from worker.engine import Engine, Tokens
    from worker.engine.weights import Weights

BATCHES: Final = (256, 1024, 4224, 8448, 16_896)
"""Tokens that the engine computes in a call, on a GPU: a message's first, which all share, it does not."""
CPU_BATCH: Final = 1024
"""Messages a call on the CPU."""
EXACT: Final = 5000
"""Messages whose logits are held to transformers', one by one, on the CPU."""
SUSTAINED: Final = 4.0
"""Seconds that energy is measured for."""


def batches(tokens: Sequence[Tokens], size: int, shared: int = 0) -> list[Sequence[Tokens]]:
    """Messages in their order, in runs of at most `size` tokens, the first `shared` of each not counted."""
    runs: list[list[Tokens]] = [[]]
    held = 0
    for message in tokens:
        cost = len(message) - shared
        if held + cost > size and runs[-1]:
            runs.append([])
            held = 0
        runs[-1].append(message)
        held += cost
    return list(runs)


def judge_all(engine: Engine, runs: Sequence[Sequence[Tokens]]) -> None:
    """One run after the other, each begun before the one before it is waited for: as the worker does it."""
    ahead = None
    for run in runs:
        begun = engine.begin(run)
        if ahead is not None:
            ahead.logits()
        ahead = begun
    if ahead is not None:
        ahead.logits()


def messages_a_second(engine: Engine, runs: Sequence[Sequence[Tokens]], *, rounds: int = 3) -> tuple[float, float]:
    """Median and best over rounds of all runs, after one round to warm up."""
    rates = []
    for _ in range(rounds + 1):
        begun = time.perf_counter()
        judge_all(engine, runs)
        rates.append(sum(map(len, runs)) / (time.perf_counter() - begun))
    return statistics.median(rates[1:]), max(rates[1:])


def single_milliseconds(engine: Engine, tokens: Sequence[Tokens], count: int = 400) -> tuple[float, float]:
    """Median and 99th percentile of one message's own time."""
    times = []
    for message in tokens[: count + 20]:
        begun = time.perf_counter()
        engine.logits([message])
        times.append(1e3 * (time.perf_counter() - begun))
    p50, p99 = np.percentile(times[20:], (50, 99))
    return float(p50), float(p99)


def largest_difference(engine: Engine, model: nn.Module, tokens: Sequence[NDArray[np.int32]]) -> float:
    """Largest difference of the engine's logits, all messages shuffled in one call, to transformers' one at a time."""
    order = np.random.default_rng(0).permutation(len(tokens))
    ours = engine.logits([tokens[row] for row in order])
    with torch.inference_mode():
        alone = [model(input_ids=torch.from_numpy(tokens[row].astype(np.int64))[None]).logits[0] for row in order]
    return float(np.abs(ours - torch.stack(alone).numpy()).max())


def joules_a_thousand(engine: Engine, runs: Sequence[Sequence[Tokens]]) -> tuple[float, float]:
    """Energy of a thousand messages, and the watts drawn, when nothing else is asked of the GPU."""
    judged, begun = 0, time.perf_counter()
    with Power() as power:
        while time.perf_counter() - begun < SUSTAINED:
            judge_all(engine, runs)
            judged += sum(map(len, runs))
        seconds = time.perf_counter() - begun
    return 1e3 * power.watts * seconds / judged, power.watts


def on_gpu(kinds: Sequence[str], bundle: str, save: Callable[[list[Entry]], None], *, with_peers: bool) -> list[Entry]:
    """TinyLlama's shape by each kind, with the roof and the peers of this run; saved as it grows."""
    from benchmarks import tinyllama  # noqa: PLC0415

    tokens = tinyllama.tokens()
    roofs = {"bf16": roof.bf16(), "fp8": roof.fp8()}
    entries = roof.as_entries(roofs)
    for entry in entries:
        print(entry.name, entry.value, entry.range, flush=True)
    weights = tinyllama.random_weights("cuda")
    best = {}
    for kind in kinds:
        found, best[kind] = _one_kind(kind, weights, tokens, roofs["fp8" if kind == "fp8" else "bf16"])
        entries += found
        save(entries)
    del weights
    torch.cuda.empty_cache()
    for rival, rate, watts in _rivals(tokens) if with_peers else ():
        extra = {"joules_per_thousand": round(1e3 * watts / rate, 1), "watts": round(watts)}
        entries.append(Entry(f"peer/{rival}/messages-per-second", "messages/s", round(rate, 1), extra=extra))
        if name := {"transformers-padded-256": "vs-transformers-padded", "recipe-loop": "vs-recipe-loop"}.get(rival):
            for kind in kinds:
                ratio = round(best[kind] / rate, 2)
                entries.append(Entry(f"engine/{kind}/{name}", "ratio", ratio, extra={"peer": rival}))
        save(entries)
    entries += fp8_flips(bundle)
    save(entries)
    return entries


def _one_kind(kind: str, weights: Weights, tokens: Sequence[Tokens], ceiling: roof.Rate) -> tuple[list[Entry], float]:
    """Return one kind's figures and its best rate in messages a second."""
    from benchmarks import tinyllama  # noqa: PLC0415
    from worker.engine import Kind, loading  # noqa: PLC0415

    entries = []
    mean = float(np.mean([len(message) for message in tokens]))
    torch.cuda.reset_peak_memory_stats()
    begun = time.perf_counter()
    longest = max(map(len, tokens))
    engine = loading.on_gpu(weights, Kind(f"cuda-{kind}"), longest=longest, first=tinyllama.FIRST)
    print(f"{kind}: ready in {time.perf_counter() - begun:.1f} s", flush=True)
    rates = {}
    for size in BATCHES:
        some = tokens if size > 1024 else tokens[:1500]  # noqa: PLR2004 # small batches are slow
        runs = batches(some, size, engine.shared_tokens)
        median, best = messages_a_second(engine, runs)
        operations = median * float(np.mean([len(m) for run in runs for m in run])) * tinyllama.OPERATIONS_A_TOKEN
        share = operations / ceiling.burst
        rates[size] = median, share, operations / ceiling.sustained
        extra = {"batch_tokens": size, "share_of_roof": round(share, 4), "tokens_per_second": round(median * mean)}
        name = f"engine/{kind}/{size}-tokens/messages-per-second"
        entries.append(Entry(name, "messages/s", round(median, 1), f"best {best:.0f}", extra))
        print(f"{kind:5} {size:6} tokens a call: {median:8.0f} messages/s, {share:.3f} of the roof", flush=True)
    top = max(rates, key=lambda size: rates[size][0])
    p50, p99 = single_milliseconds(engine, tokens)
    joules, watts = joules_a_thousand(engine, batches(tokens, top, engine.shared_tokens))
    entries += [
        Entry(f"engine/{kind}/messages-per-second", "messages/s", round(rates[top][0], 1), extra={"batch_tokens": top}),
        _share(f"engine/{kind}/share-of-roof", top, rates[top]),
        _share(f"engine/{kind}/share-of-roof-1k", 1024, rates[1024]),
        Entry(f"engine/{kind}/single-p50-ms", "ms", round(p50, 3), f"p99 {p99:.3f}"),
        Entry(f"engine/{kind}/joules-per-thousand", "J", round(joules, 2), f"{watts:.0f} W"),
        Entry(f"engine/{kind}/peak-gib", "GiB", round(torch.cuda.max_memory_allocated() / 2**30, 2)),
    ]
    for size in (1024, 8448):
        entries += budget.entries(kind, engine, batches(tokens, size, engine.shared_tokens)[1], size)
    for entry in entries[-8:]:
        print(entry.name, entry.value, entry.range, entry.extra, flush=True)
    return entries, rates[top][0]


def _share(name: str, size: int, rates: tuple[float, float, float]) -> Entry:
    extra = {"batch_tokens": size, "share_of_sustained_roof": round(rates[2], 4)}
    return Entry(name, "share", round(rates[1], 4), extra=extra)


def fp8_flips(bundle: str) -> list[Entry]:
    """Number of the collection's messages that a trained bundle labels differently in fp8 than in bf16."""
    from worker.engine import Kind  # noqa: PLC0415
    from worker.model.classifier import Classifier  # noqa: PLC0415

    labels = {}
    for kind in (Kind.CUDA_BF16, Kind.CUDA_FP8, Kind.CUDA_NF4, Kind.CPU):
        classifier = Classifier.load(bundle, kind)
        labels[kind] = classifier.judge(classifier.prepare(list(collection()))).label
    flips = {kind: 100 * float(np.mean(labels[kind] != labels[Kind.CUDA_BF16])) for kind in labels}
    extra = {
        "bundle": classifier.bundle.model,
        "messages": len(labels[Kind.CPU]),
        "cpu_float32_against_bf16_percent": round(flips[Kind.CPU], 4),
        "nf4_against_bf16_percent": round(flips[Kind.CUDA_NF4], 4),
    }
    return [Entry("engine/fp8/verdict-flips-percent", "%", round(flips[Kind.CUDA_FP8], 4), extra=extra)]


def _rivals(tokens: Sequence[Tokens]) -> Iterator[tuple[str, float, float]]:
    """Each peer: its name, its messages a second, the watts drawn."""
    model = peers.tinyllama()
    rows = [list(map(int, message)) for message in tokens]

    def measure(name: str, model: nn.Module, count: int, size: int) -> tuple[str, float, float]:
        with Power() as power:
            rate = peers.messages_a_second(model, rows[:count], size, is_sorted="sorted" in name)
        print(f"{name:26} {rate:8.1f} messages/s, {power.watts:.0f} W", flush=True)
        return name, rate, power.watts

    yield measure("transformers-padded-256", model, 4096, 256)
    yield measure("transformers-padded-32", model, 1024, 32)
    yield measure("transformers-sorted-256", model, 4096, 256)
    yield measure("transformers-single", model, 60, 1)
    try:
        tuned = peers.recipe(model)
    except ImportError:
        print("bitsandbytes or peft is not here: the recipe's loop is not measured")
    else:
        yield measure("recipe-loop-unprepared", tuned, 60, 1)
        yield measure("recipe-padded-32", tuned, 256, 32)
        yield measure("recipe-loop", peers.prepared(tuned), 60, 1)


def on_cpu(bundle: str, threads: int) -> list[Entry]:
    """A bundle on this processor: all of the collection's messages, as the worker would prepare them."""
    from worker.engine import Kind  # noqa: PLC0415
    from worker.model.classifier import Classifier  # noqa: PLC0415

    classifier = Classifier.load(bundle, Kind.CPU, threads=threads)
    texts = list(collection())
    classifier.prepare(texts[:64])
    begun = time.perf_counter()
    prepared = classifier.prepare(texts)
    prepare_rate = len(texts) / (time.perf_counter() - begun)
    tokens = [message.tokens for message in prepared if not message.is_empty]
    runs = [tokens[first : first + CPU_BATCH] for first in range(0, len(tokens), CPU_BATCH)]
    p50, p99 = single_milliseconds(classifier.engine, tokens)
    model = peers.merged(classifier.bundle)
    difference = largest_difference(classifier.engine, model, tokens[:EXACT])
    rows = [message.tolist() for message in tokens[:1024]]
    rivals = {"padded-32": 0.0, "padded-256": 0.0, "sorted-32": 0.0}
    median = best = ceiling = 0.0
    for _ in range(3):  # in turns, the best of each: a neighbour on the machine then wrongs none of them more
        ceiling = max(ceiling, roof.cpu().burst)
        once, top = messages_a_second(classifier.engine, runs, rounds=2)
        median, best = max(median, once), max(best, top)
        for name in tuple(rivals):
            style, size = name.split("-")
            rate = peers.messages_a_second(model, rows, int(size), is_sorted=style == "sorted")
            rivals[name] = max(rivals[name], rate)
    products = sum(
        parameter.numel() for name, parameter in model.named_parameters() if parameter.dim() > 1 and "proj" in name
    )
    mean = float(np.mean([len(message) for message in tokens]))
    shared: dict[str, Any] = {
        "bundle": classifier.bundle.model, "threads": torch.get_num_threads(), "messages": len(tokens),
        "mean_tokens": round(mean, 2), "texts": "all of the UCI collection", "roof_gflops": round(ceiling / 1e9, 1),
        "peers_messages_per_second": {name: round(rate, 1) for name, rate in rivals.items()},
    }  # fmt: skip
    quickest_plain = max(rivals["padded-32"], rivals["padded-256"])
    return [
        Entry("engine/cpu/messages-per-second", "messages/s", round(median, 1), f"best {best:.0f}", shared),
        Entry("engine/cpu/vs-transformers-padded", "ratio", round(best / quickest_plain, 2), extra=shared),
        Entry("engine/cpu/share-of-roof", "share", round(best * mean * 2 * products / ceiling, 3), extra=shared),
        Entry("engine/cpu/single-p50-ms", "ms", round(p50, 3), f"p99 {p99:.3f}", shared),
        Entry(
            "engine/cpu/largest-logit-difference", "", float(f"{difference:.2g}"), extra=shared | {"messages": EXACT}
        ),
        Entry("worker/prepare/messages-per-second", "messages/s", round(prepare_rate, 1), extra=shared),
    ]


def main() -> None:
    """Measure, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="*", choices=["bf16", "fp8", "nf4"], default=[], help="on a GPU")
    parser.add_argument("--no-peers", action="store_true", help="leave transformers out, on a GPU")
    parser.add_argument("--bundle", default=str(ROOT / "models" / "nano"), help="a trained one")
    parser.add_argument("--threads", type=int, default=0, help="on the CPU; 0 is torch's own choice")
    arguments = parser.parse_args()
    device = torch.cuda.get_device_name() if arguments.kinds else None

    def save(entries: list[Entry]) -> None:
        record("classifier", entries, device=device)

    if arguments.kinds:
        entries = on_gpu(arguments.kinds, arguments.bundle, save, with_peers=not arguments.no_peers)
    else:
        entries = on_cpu(arguments.bundle, arguments.threads)
    for entry in entries:
        print(f"{entry.name:50} {entry.value:12} {entry.unit} {entry.range}")
    save(entries)


if __name__ == "__main__":
    main()
