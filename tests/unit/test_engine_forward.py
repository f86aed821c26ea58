"""The forward pass of the GPU, on reference operations on the CPU, against the CPU engine (held to transformers)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from worker.engine import UnsupportedModelError, reference
from worker.engine.cpu import CpuEngine
from worker.engine.forward import Forward, Fp8, Nf4, Plain
from worker.engine.nf4 import round_trip
from worker.engine.packing import SIZES, pack, places, sizes_for
from worker.engine.weights import Layer, Shape, Weights

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

CPU = torch.device("cpu")
SHAPE = Shape(
    vocabulary=90,
    width=64,
    layers=3,
    heads=4,
    key_heads=2,
    head=16,
    inner=96,
    labels=2,
    positions=128,
    epsilon=1e-5,
)


def random(*sizes: int) -> Tensor:
    return torch.randn(*sizes) / sizes[-1] ** 0.5


def weights(*, biased: bool = False) -> Weights:
    torch.manual_seed(4)
    wide = {"qkv": 128, "out": 64, "gate_up": 192, "down": 64} if biased else {}
    layers = [
        Layer(
            before_attention=torch.rand(64) + 0.5,
            qkv=random(128, 64),
            out=random(64, 64),
            before_mlp=torch.rand(64) + 0.5,
            gate_up=random(192, 64),
            down=random(64, 96),
            biases={name: torch.randn(rows) / 4 for name, rows in wide.items()},
        )
        for _ in range(SHAPE.layers)
    ]
    frequencies = 10000 ** -(torch.arange(0, 16, 2) / 16)
    return Weights(SHAPE, random(90, 64), layers, torch.rand(64) + 0.5, random(2, 64), frequencies)


def messages(count: int = 40) -> list[list[int]]:
    generator = np.random.default_rng(1)
    return [generator.integers(1, 90, generator.integers(1, 60)).tolist() for _ in range(count)]


def run(forward: Forward, batch: list[list[int]]) -> NDArray[np.float32]:
    logits = np.full((len(batch), SHAPE.labels), np.nan, dtype=np.float32)
    with torch.inference_mode():
        for packed in pack(batch, (32, 64, 128, 256)):
            tokens, starts, ends = (torch.from_numpy(part) for part in (packed.tokens, packed.starts, packed.ends))
            logits[packed.rows] = forward(tokens, starts, ends)[: len(packed.rows)].numpy()
    return logits


def test_plain_weights_give_what_the_cpu_engine_gives() -> None:
    made, batch = weights(), messages()

    np.testing.assert_allclose(
        run(Plain(made, CPU, reference, torch.float32), batch), CpuEngine(made).logits(batch), atol=1e-4
    )


FIRST = 7


def run_shared(forward: Forward, batch: list[list[int]]) -> NDArray[np.float32]:
    with torch.inference_mode():
        alone = forward.share(FIRST).numpy()
        logits = np.tile(alone, (len(batch), 1))
        for packed in pack(batch, (32, 64, 128, 256), shared=1):
            tokens, starts, ends = (torch.from_numpy(part) for part in (packed.tokens, packed.starts, packed.ends))
            logits[packed.rows] = forward(tokens, starts, ends)[: len(packed.rows)].numpy()
    return logits


def test_biases_are_added_where_the_cpu_engine_adds_them_and_fp8_has_no_place_for_them() -> None:
    batch, cpu = messages(), CpuEngine(weights(biased=True)).logits(messages())

    plain = Plain(weights(biased=True), CPU, reference, torch.float32)
    packed = Nf4(weights(biased=True), CPU, reference, torch.float32)

    np.testing.assert_allclose(run(plain, batch), cpu, atol=1e-4)
    assert np.abs(run(packed, batch) - cpu).max() < 0.5 < np.abs(CpuEngine(weights()).logits(batch) - cpu).max()
    with pytest.raises(UnsupportedModelError, match=r"cuda-fp8 .* biases"):
        Fp8(weights(biased=True), CPU, reference)


def test_a_first_token_that_all_share_is_left_out_of_batches_and_changes_no_answer() -> None:
    made, batch = weights(), [[FIRST, *message] for message in messages()] + [[FIRST]]

    ours = run_shared(Plain(made, CPU, reference, torch.float32), batch)

    np.testing.assert_allclose(ours, CpuEngine(made).logits(batch), atol=1e-4)


def test_fp8_bears_a_shared_first_token() -> None:
    made, batch = weights(), [[FIRST, *message] for message in messages()] + [[FIRST]]
    exact = CpuEngine(made).logits(batch)

    error = np.linalg.norm(run_shared(Fp8(made, CPU, reference), batch) - exact) / np.linalg.norm(exact)

    assert error < 0.2


def test_messages_are_packed_without_the_token_that_all_share() -> None:
    (packed,) = pack([[7, 5, 6], [7], [7, 8]], (32,), shared=1)

    assert packed.rows.tolist() == [0, 2]
    assert packed.tokens[:3].tolist() == [5, 6, 8]


def test_fp8_gives_it_to_its_few_bits() -> None:
    made, batch = weights(), messages()
    exact = CpuEngine(made).logits(batch)

    error = np.linalg.norm(run(Fp8(made, CPU, reference), batch) - exact) / np.linalg.norm(exact)

    assert 1e-4 < error < 0.2


def test_no_weights_however_scaled_leave_the_range_of_fp8() -> None:
    made, batch = weights(), messages()
    for layer in made.layers:
        layer.qkv[-32:] *= 3000  # values
        layer.out /= 3000
        layer.gate_up[96:] *= 3000  # the half that is not gated
        layer.down /= 3000
    exact = CpuEngine(made).logits(batch)

    error = np.linalg.norm(run(Fp8(made, CPU, reference), batch) - exact) / np.linalg.norm(exact)

    assert error < 0.2


def test_nf4_with_a_separate_adapter_gives_what_merging_gives() -> None:
    separate, merged, batch = weights(), weights(), messages()
    for kept, other in zip(separate.layers, merged.layers, strict=True):
        for name in ("qkv", "gate_up", "down"):
            matrix = getattr(kept, name)
            low, high = random(4, matrix.shape[1]), random(matrix.shape[0], 4)
            kept.updates[name] = (low, high)
            setattr(other, name, round_trip(matrix, double=False) + high @ low)
        other.out = round_trip(other.out, double=False)

    ours = run(Nf4(separate, CPU, reference, torch.float32), batch)

    np.testing.assert_allclose(ours, CpuEngine(merged).logits(batch), atol=1e-4)


def test_packing_lays_every_message_once_in_order() -> None:
    batch = messages(200)

    packs = list(pack(batch, (64, 256)))

    assert np.concatenate([packed.rows for packed in packs]).tolist() == list(range(200))
    for packed in packs:
        for place, row in enumerate(packed.rows):
            end = packed.ends[place]
            assert packed.tokens[packed.starts[end] : end + 1].tolist() == batch[row]


def test_what_fills_up_a_size_is_messages_of_one_token() -> None:
    (packed,) = pack([[5, 6, 7]], (32,))

    assert packed.tokens.tolist() == [5, 6, 7] + [0] * 29
    assert packed.starts.tolist() == [0, 0, 0, *range(3, 32)]
    assert packed.ends.tolist() == [2] + [0] * (places(32) - 1)


def test_the_smallest_size_that_holds_a_run_is_taken() -> None:
    assert [len(packed.tokens) for packed in pack([[1] * 60, [1] * 60, [1] * 60], (32, 64, 128))] == [128, 64]


def test_messages_beyond_a_sizes_places_go_to_the_next() -> None:
    packs = list(pack([[1]] * 40, (32, 64)))

    assert [len(packed.rows) for packed in packs] == [16, 16, 8]


def test_nothing_packs_to_nothing() -> None:
    assert list(pack([], (32,))) == []


@pytest.mark.parametrize("bad", [[], [1] * 65])
def test_a_message_that_fits_no_size_is_an_error(bad: list[int]) -> None:
    with pytest.raises(ValueError, match="allowed"):
        list(pack([[1], bad], (32, 64)))


@pytest.mark.parametrize(
    ("longest", "most", "sizes"),
    [(20, 100, (32, 64)), (300, 128, (32, 64, 128, 320)), (10, 5, (32,)), (278, 100_000, SIZES)],
)
def test_sizes_go_up_to_the_budget_but_hold_the_longest_message(
    longest: int, most: int, sizes: tuple[int, ...]
) -> None:
    assert sizes_for(longest, most) == sizes
